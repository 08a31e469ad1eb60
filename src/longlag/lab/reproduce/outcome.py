"""What the trials of one row of an experiment came to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeAlias

__all__ = ["Outcome", "Progress", "spread"]

Progress: TypeAlias = Callable[[int, int], None]
"""`progress(presented, solved)`: sequences that each trial has had, trials that have succeeded."""


@dataclass(frozen=True)
class Outcome:
    """The trials of one row.

    Attributes:
        weights: of the network of one trial.
        sequences: for each trial how many sequences it had until it met the criterion; None where
            it did not within the budget.
        budget: how many sequences a trial could have.
        seconds: the whole row took.
        curve: points (sequences presented, least, median and largest value over the trials) of
            what `measure` names.
        measure: of the curve.
        notes: further facts, of JSON's kinds, by name.
    """

    weights: int
    sequences: tuple[int | None, ...]
    budget: int
    seconds: float
    curve: tuple[tuple[float, ...], ...] = ()
    measure: str = "largest error"
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        """How many there were."""
        return len(self.sequences)

    @property
    def solved(self) -> list[int]:
        """Sequences until success, of the trials that had it, least first."""
        return sorted(each for each in self.sequences if each is not None)

    @property
    def percent(self) -> float:
        """Of the trials that succeeded."""
        return 100 * len(self.solved) / self.trials

    @property
    def mean(self) -> float | None:
        """Sequences until success on average, over the trials that had it."""
        solved = self.solved
        return sum(solved) / len(solved) if solved else None

    @property
    def stopped(self) -> bool:
        """Whether the budget ended a trial that had not succeeded."""
        return len(self.solved) < self.trials


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, median and largest, to four digits behind the point.

    >>> spread([3.0, 1.0, 2.0])
    (1.0, 2.0, 3.0)
    """
    ordered = sorted(values)
    return round(ordered[0], 4), round(median(ordered), 4), round(ordered[-1], 4)
