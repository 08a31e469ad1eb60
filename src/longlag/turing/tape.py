"""What a Turing machine has written: tapes, and the whole configuration of a machine."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tape:
    """A tape that is infinite in both directions, as seen from the head.

    Equal tapes are equal values: what is only background is never part of ``left`` and ``right``.

    Args:
        left: the cells on the left of the head, the nearest first.
        right: the cell under the head and those on its right.
        left_background, right_background: what follows them without end, period by period, read
            away from the head.

    Attributes:
        cells: the written cells from left to right, as far as they are not background.

    Example:
        >>> Tape(("1", "0"), ("1", "0", "0"), ("0",), ("0",))
        Tape(left=('1',), right=('1',), left_background=('0',), right_background=('0',))
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    left_background: tuple[str, ...]
    right_background: tuple[str, ...]

    def __post_init__(self) -> None:
        for side in ("left", "right"):
            background = f"{side}_background"
            cells, period = _shortest(getattr(self, side), getattr(self, background))
            object.__setattr__(self, side, cells)
            object.__setattr__(self, background, period)

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells from the leftmost to the rightmost that is not background."""
        written, _ = _shortest((*reversed(self.right), *self.left), self.left_background)
        return _shortest(tuple(reversed(written)), self.right_background)[0]

    @property
    def scanned(self) -> str:
        """The symbol under the head."""
        return self.right[0] if self.right else self.right_background[0]

    def count(self) -> int:
        """How many written cells are not blank; with a blank background, its score."""
        blank = self.right_background[0]
        return sum(cell != blank for cell in self.cells)

    def around(self, reach: int) -> tuple[str, ...]:
        """The cells up to so many steps from the head, on both sides."""
        sides = ((self.left, self.left_background), (self.right, self.right_background))
        left, right = (_first(*side, reach + number) for number, side in enumerate(sides))
        return (*reversed(left), *right)

    def __str__(self) -> str:
        shown = [*self.around(max(len(self.left), len(self.right) - 1, 0))]
        head = len(shown) // 2
        first, last = head - len(self.left), head + max(len(self.right), 1)
        gap = "" if all(len(cell) == 1 for cell in shown) else " "
        left, right = (gap.join(part) for part in (shown[first:head], shown[head + 1 : last]))
        return f"{left}[{shown[head]}]{right}"


@dataclass(frozen=True)
class Configuration:
    """A machine between two steps: its control state and its tapes, seen from their heads."""

    state: str
    tapes: tuple[Tape, ...]
    halted: bool = False

    @property
    def tape(self) -> Tape:
        """The first tape."""
        return self.tapes[0]

    def __str__(self) -> str:
        return f"{self.state}: {'  '.join(map(str, self.tapes))}"


def _shortest(
    cells: Iterable[str], period: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The same cells and background with as few cells and as short a period as there can be."""
    written, period = list(cells), list(period)
    for length in range(1, len(period)):
        if len(period) % length == 0 and period == period[:length] * (len(period) // length):
            period = period[:length]
            break
    while written and written[-1] == period[-1]:
        period.insert(0, period.pop())
        written.pop()
    return tuple(written), tuple(period)


def _first(cells: Sequence[str], background: Sequence[str], count: int) -> list[str]:
    """So many cells, of the background where the written ones end."""
    return [cell for cell, _ in zip(endless(cells, background), range(count), strict=False)]


def endless(cells: Iterable[str], background: Sequence[str]) -> Iterator[str]:
    """The cells, then the background for ever."""
    yield from cells
    while True:
        yield from background
