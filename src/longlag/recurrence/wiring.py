"""How the past reaches a gate: dense matrices, one weight per unit, or not at all."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from longlag.arguments import is_whole
from longlag.recurrence.program import DeclarationError


@dataclass(frozen=True)
class Uniform:
    """Initial values drawn from U[low, high), one per unit.

    >>> Uniform(0.0, 1.0)
    Uniform(low=0.0, high=1.0)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(
                f"Uniform: got low = {self.low} and high = {self.high}, expected low <= high"
            )


@dataclass(frozen=True)
class Groups:
    """One initial value for each of B equal groups of units, of which H is a multiple.

    >>> Groups((1.0, 2.0, 4.0)).values
    (1.0, 2.0, 4.0)
    """

    values: tuple[float, ...]


@dataclass(frozen=True)
class Geometric:
    """Initial values on a logarithmic scale: from the first unit to the last, each a constant
    factor from the one before, however many there are. A single unit has the first.

    >>> Geometric(1.0, 0.01)
    Geometric(first=1.0, last=0.01)
    """

    first: float
    last: float

    def __post_init__(self) -> None:
        for value in (self.first, self.last):
            if not 0 < value < float("inf"):
                raise ValueError(
                    f"Geometric: got first = {self.first} and last = {self.last}, expected finite "
                    "numbers above 0"
                )


Initial: TypeAlias = "float | tuple[float, ...] | Uniform | Groups | Geometric"
"""A number for all units, a number for each or for each group of them, a distribution, or a
scale."""


@dataclass(frozen=True)
class UnitParameter:
    """One number per unit that an update reads as ``unit.NAME``.

    Args:
        initial: its initial value: a number, one number per unit or per group of units
            (:class:`Groups`), a distribution, or a scale over the units (:class:`Geometric`).
        trained: a trained parameter, or a constant kept with the model.
        shared: one number for all units of the layer instead of one per unit.
        interval: open interval to which training confines the value. The layer then trains
            an unbounded number ``NAME_raw`` and the update reads
            low + (high - low) sigmoid(NAME_raw).

    >>> UnitParameter(0.1, interval=(0.0, 1.0)).trained
    True
    """

    initial: Initial = 0.0
    trained: bool = True
    shared: bool = False
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        initial = self.initial.values if isinstance(self.initial, Groups) else self.initial
        if self.shared and isinstance(initial, tuple) and len(initial) != 1:
            raise ValueError(
                f"UnitParameter: got shared=True with {len(initial)} initial values, "
                "expected one; give a number, or shared=False"
            )
        if self.shared and isinstance(self.initial, Geometric):
            raise ValueError(
                f"UnitParameter: got shared=True with {self.initial}, which has a value for each "
                "unit; give a number, or shared=False"
            )
        if self.interval is None:
            return
        low, high = self.interval
        if not low < high:
            raise ValueError(f"UnitParameter: got interval {self.interval}, expected low < high")
        match self.initial:
            case Uniform(low=first, high=last) | Geometric(first=first, last=last):
                values = (first, last)
            case Groups(values=values):
                pass
            case tuple() as values:
                pass
            case number:
                values = (number,)
        if not self.trained:
            return
        for value in values:
            if not low < value < high:
                raise ValueError(
                    f"UnitParameter: got initial value {value}, expected one strictly inside "
                    f"{self.interval}, where a trained value can move"
                )


Pattern: TypeAlias = tuple[tuple[int, ...], ...]
"""Which blocks of a recurrent matrix are there: B rows of B numbers, each 0 or 1."""


def block_diagonal(blocks: int) -> Pattern:
    """The pattern of heads: each group of units reads itself alone.

    Args:
        blocks: B, the number of equal groups.

    >>> block_diagonal(3)
    ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    """
    groups = range(_blocks("block_diagonal", blocks))
    return tuple(tuple(int(i == j) for j in groups) for i in groups)


def block_triangular(blocks: int) -> Pattern:
    """The pattern of a clockwork: group i reads itself and the groups after it, j >= i.

    Groups go from the fastest to the slowest, so slower ones feed faster ones and never the other
    way round.

    Args:
        blocks: B, the number of equal groups.

    Source: J. Koutnik, K. Greff, F. Gomez and J. Schmidhuber, A clockwork RNN, ICML 2014.

    >>> block_triangular(3)
    ((1, 1, 1), (0, 1, 1), (0, 0, 1))
    """
    groups = range(_blocks("block_triangular", blocks))
    return tuple(tuple(int(j >= i) for j in groups) for i in groups)


def _blocks(function: str, blocks: Any) -> int:
    if not is_whole(blocks, 1):
        raise DeclarationError(
            f"{function}: got blocks = {blocks!r}, expected a whole number of groups, at least 1"
        )
    return blocks


def numbers_of_steps(argument: str, value: Any) -> tuple[int, ...]:
    """What a cell takes as delays or periods: different whole numbers, at least 1.

    Raises:
        ValueError: for anything else, naming the argument.

    >>> numbers_of_steps("delays", [1, 10])
    (1, 10)
    """
    steps = tuple(value) if isinstance(value, (tuple, list)) else ()
    counts = steps and all(is_whole(step, 1) for step in steps)
    if not counts or len(set(steps)) < len(steps):
        raise ValueError(
            f"{argument}: got {value!r}, expected different whole numbers of steps, each at least "
            "1, such as (1, 10)"
        )
    return steps


def _pattern(value: Any) -> Pattern | None:
    """A pattern as tuples of 0 and 1; None where every block is there."""
    if value is None:
        return None
    rows: Any = value if isinstance(value, (tuple, list)) else ()
    wrong = "" if rows else "that is no tuple of rows"
    for number, row in enumerate(rows):
        if not isinstance(row, (tuple, list)) or len(row) != len(rows):
            wrong = f"row {number} is no row of {len(rows)}"
        elif not all(isinstance(entry, int) and entry in (0, 1) for entry in row):
            wrong = f"row {number} has something else than 0 and 1"
        if wrong:
            break
    if not wrong and not any(map(any, rows)):
        wrong = "no block is there; write Absent() for a gate that reads no past"
    if wrong:
        raise DeclarationError(
            f"Dense: got pattern = {value!r}, expected None, or B rows of B numbers 0 or 1 with "
            f"at least one 1, as block_diagonal(B) makes them; {wrong}"
        )
    if all(map(all, rows)):
        return None
    return tuple(tuple(int(entry) for entry in row) for row in rows)


CONSTRAINTS = ("orthogonal", "antisymmetric")
"""What training may keep a recurrent matrix: W^T W = I, or W^T = -W."""


def check_constraint(value: Any) -> None:
    """Raise a ValueError for what is neither None nor one of :data:`CONSTRAINTS`."""
    if value is not None and value not in CONSTRAINTS:
        known = " or ".join(map(repr, CONSTRAINTS))
        raise ValueError(f"constraint: got {value!r}, expected None, {known}")


@dataclass(frozen=True)
class Dense:
    r"""A matrix: :math:`r^g_t = W_g\, s_{t-d}` with :math:`W_g` of shape (H, H).

    A gate may have several, as a tuple; their products are summed:
    ``(Dense(), Dense(delay=5))`` is :math:`W_1 h_{t-1} + W_5 h_{t-5}`.

    Args:
        source: the state that is read; ``None`` is the cell's output.
        truncated: the error does not flow back through this product, though W_g is trained.
            Hochreiter and Schmidhuber (1997) truncate so in all nets of their LSTM.
        delay: d >= 0, how many steps back the state is read. It costs d - 1 further states, which
            hold the past: the layer's state names them after the declared ones, as h_1, h_2. With 0
            it is the new value of this step: the states that the gate makes are then found after
            the one that it reads, in a further stage of the step.
        pattern: which blocks of W_g are there: a B x B tuple of tuples of 0 and 1 over B equal
            groups of units, where row i tells what group i reads. The other blocks are zero and
            not trained. ``None``, or all ones, is the full matrix. H must be a multiple of B.
        constraint: what training keeps W_g, a full matrix: ``"orthogonal"``, as it then must be
            drawn; ``"antisymmetric"``, where what is drawn is an X, and W_g = X - X^T; or ``None``.
            The layer then trains ``weight_hh_raw``.

    Raises:
        DeclarationError: for a delay or a pattern that has no meaning, or a pattern of a matrix
            under a constraint.
        ValueError: for an unknown constraint.

    Source: T. Lin, B. G. Horne, P. Tino and C. L. Giles, Learning long-term dependencies in NARX
    recurrent neural networks, IEEE Transactions on Neural Networks 7(6), 1996 (delays).

    >>> Dense(delay=5, pattern=[[True, False], [True, True]]).pattern
    ((1, 0), (1, 1))
    """

    source: str | None = None
    truncated: bool = False
    delay: int = 1
    pattern: Pattern | None = None
    constraint: str | None = None

    def __post_init__(self) -> None:
        check_constraint(self.constraint)
        if isinstance(self.delay, bool) or not isinstance(self.delay, int) or self.delay < 0:
            raise DeclarationError(
                f"Dense: got delay = {self.delay!r}, expected a whole number of steps, at least 0; "
                "1 reads the state of the step before, 0 its new value in this step"
            )
        object.__setattr__(self, "pattern", _pattern(self.pattern))
        if self.pattern is not None and self.constraint is not None:
            raise DeclarationError(
                f"Dense: got pattern = {self.pattern} and constraint = {self.constraint!r}, "
                "expected one of the two, as only a full matrix can be kept so"
            )


@dataclass(frozen=True)
class Diagonal:
    r"""One weight per unit: :math:`r^g_t = w_g \odot s_{t-1}` with :math:`w_g` of shape (H,).

    Args:
        source: the state that is read; ``None`` is the cell's output.
        truncated: as for :class:`Dense`.
        initial: initial value of the weights.
    """

    source: str | None = None
    truncated: bool = False
    initial: Initial = Uniform(0.0, 1.0)


@dataclass(frozen=True)
class Absent:
    """No recurrent product: the gate reads the input only."""


Wiring: TypeAlias = Dense | tuple[Dense, ...] | Diagonal | Absent
