"""Networks of saturated-linear units without rounding, on integers of any length.

What is computed is h = sat(W h + b) of every unit, with the weights as they stand in the layer.
Few units are ever neither 0 nor 1; the number of such a unit is n / (D 2^e) with an integer n, and
D the same odd number for all. For each pattern (which units are 1, which are such numbers) and the
leading bits of these numbers, a plan says what each unit becomes: 0, 1, or one linear form of the
numbers. It is made once, by evaluating the recurrence on intervals of rational numbers, and serves
whenever pattern and bits come again; where an interval does not decide, the update is evaluated on
the numbers themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Any

import torch
from typing_extensions import Self

from longlag.recurrence import Program
from longlag.recurrence.arithmetic import EXACT


class _Undecided(Exception):
    """An interval in which the update is not linear."""


@dataclass(frozen=True)
class _Interval:
    """A linear form of numbers, and between which values it is."""

    constant: Fraction
    weights: tuple[tuple[int, Fraction], ...]
    low: Fraction
    high: Fraction

    @classmethod
    def plain(cls, value: Any) -> Self:
        number = Fraction(value)
        return cls(number, (), number, number)

    def saturate(self) -> "_Interval":
        if self.high <= 0:
            return self.plain(0)
        if self.low >= 1:
            return self.plain(1)
        if self.low >= 0 and self.high <= 1:
            return self
        raise _Undecided


_ON_INTERVALS = {"constant": _Interval.plain, "saturate": _Interval.saturate}
"""What the operations of a program are on intervals: those of saturated-linear units."""


_Term = tuple[int, int, int]
"""(place, n, p): the number at a place, times n 2^-p."""


@dataclass
class _Plan:
    """What an update does: the pattern after it, and a form for each of its numbers.

    A form is its first term, a constant c 2^-p with p >= 0, of which c is already times D, and its
    further terms, of which there are none in the networks of this room.
    """

    then: "_Pattern"
    forms: list[tuple[_Term, int, int, tuple[_Term, ...]]]


@dataclass
class _Pattern:
    """Which units are 1, and which are numbers."""

    ones: tuple[int, ...]
    numbers: tuple[int, ...]
    halts: bool
    plans: dict[tuple[int, ...], _Plan] = field(default_factory=dict)


class ExactRun:
    """The exact states of a network, one after another.

    Args:
        layer: an :class:`~longlag.Elman` with ``activation="saturated"`` that no input reaches.
        start: by unit, its number where it is not 0.
        halting: units of which none is 1 until it stops.
        window: of how many leading bits of a number the plans know.

    """

    def __init__(
        self,
        layer: Any,
        start: Mapping[int, Fraction],
        halting: Sequence[int] = (),
        window: int = 8,
    ) -> None:
        self.program: Program = layer.recurrence.forward
        if {operation.name for operation in self.program.operations} - _ON_INTERVALS.keys():
            raise ValueError(f"layer: got {layer}, expected Elman(0, H, activation='saturated')")
        matrix = layer.recurrent_matrix().detach().double().cpu()
        bias = torch.zeros(len(matrix)) if layer.bias is None else layer.bias.detach().cpu()
        rows = [Fraction(number) for number in bias.double().tolist()]
        columns = [
            [(row, Fraction(column[row].item())) for row in column.nonzero().flatten().tolist()]
            for column in matrix.T
        ]
        # Weights and biases as integers over one power of two.
        self.scale = lcm(*(x.denominator for x in rows), *(w.denominator for c in columns
                         for _, w in c))  # fmt: skip
        self.bias = [int(number * self.scale) for number in rows]
        self.columns = [[(row, int(w * self.scale)) for row, w in column] for column in columns]
        self.constants: dict[int, _Interval] = {}
        self.halting = frozenset(halting)
        self.window = window
        self.patterns: dict[tuple[tuple[int, ...], tuple[int, ...]], _Pattern] = {}
        self.go_to(start, 0)

    def go_to(self, state: Mapping[int, Fraction], updates: int) -> None:
        """Go on from a state, which was there after so many updates.

        Raises:
            ValueError: a number is not in [0, 1].
        """
        if not all(0 <= number <= 1 for number in state.values()):
            raise ValueError("state: got a number outside [0, 1], which no unit has")
        self.patterns.clear()  # what they know holds for one D
        self.odd = lcm(*(n // (n & -n) for n in (x.denominator for x in state.values())))
        self._at = (*self._split(state), updates)

    def _split(self, state: Mapping[int, Fraction]) -> tuple[_Pattern, list[tuple[int, int]]]:
        """The pattern of a state, and its numbers as (n, e)."""
        ones = tuple(sorted(unit for unit, number in state.items() if number == 1))
        numbers = tuple(sorted(unit for unit, x in state.items() if x not in (0, 1)))
        values = []
        for unit in numbers:
            below = state[unit].denominator
            power = (below & -below).bit_length() - 1
            values.append((int(state[unit] * (self.odd << power)), power))
        return self._pattern(ones, numbers), values

    def _pattern(self, ones: tuple[int, ...], numbers: tuple[int, ...]) -> _Pattern:
        key = ones, numbers
        if key not in self.patterns:
            halts = not self.halting.isdisjoint(ones)
            self.patterns[key] = _Pattern(ones, numbers, halts)
        return self.patterns[key]

    @property
    def state(self) -> dict[int, Fraction]:
        """By unit its number, where it is not 0."""
        return self._join(*self._at[:2])

    def _join(self, pattern: _Pattern, values: list[tuple[int, int]]) -> dict[int, Fraction]:
        known = dict.fromkeys(pattern.ones, Fraction(1))
        for unit, (n, power) in zip(pattern.numbers, values, strict=True):
            if n:
                known[unit] = Fraction(n, self.odd << power)
        return known

    @property
    def updates(self) -> int:
        """How many there were."""
        return self._at[2]

    @property
    def halted(self) -> bool:
        """Whether a halting unit is 1."""
        return self._at[0].halts

    def run(self, updates: int) -> int:
        """Make updates until so many are done or a halting unit is 1; how many there were.

        Interrupted, it is where it was before the call.
        """
        (pattern, values, before), window = self._at, self.window
        done = 0
        while done < updates and not pattern.halts:
            leading = tuple(
                [n >> power - window if power > window else n << window - power
                 for n, power in values]
            )  # fmt: skip
            plan = pattern.plans.get(leading)
            if plan is None:
                try:
                    plan = pattern.plans[leading] = self._plan(pattern, leading)
                except _Undecided:
                    pattern, values = self._split(self._next(self._join(pattern, values)))
                    done += 1
                    continue
            after = []
            for (place, factor, shift), constant, least, more in plan.forms:
                n, power = values[place]
                power += shift
                if factor != 1:
                    n *= factor
                if power >= least:
                    n += constant << power - least
                else:
                    n = (n << least - power) + constant
                    power = least
                for term in more:
                    n, power = _add(n, power, term, values)
                after.append((n, power))
            pattern, values = plan.then, after
            done += 1
        self._at = pattern, values, before + done
        return done

    def _drives(self, inputs: Mapping[int, int], below: int = 1) -> dict[int, int]:
        """W h + b by row for h = inputs / below, times below and ``scale``."""
        drives = {row: number * below for row, number in enumerate(self.bias)}
        for unit, number in inputs.items():
            for row, weight in self.columns[unit]:
                drives[row] += weight * number
        return drives

    def _evaluate(self, table: Mapping[str, Any], drive: Any) -> Any:
        """The update of one unit. It reads the drive alone, and no state before."""
        return self.program.evaluate(table, [drive] * len(self.program.inputs))[0]

    def _next(self, state: Mapping[int, Fraction]) -> dict[int, Fraction]:
        """The state after one update, on the numbers themselves."""
        below = lcm(*(number.denominator for number in state.values()))
        whole = {unit: int(number * below) for unit, number in state.items()}
        drives = self._drives(whole, below)
        return {
            row: Fraction(self._evaluate(EXACT, Fraction(drive, self.scale * below)))
            for row, drive in drives.items()
        }

    def _plan(self, pattern: _Pattern, leading: tuple[int, ...]) -> _Plan:
        """The update for all numbers with these leading bits."""
        drives = self._drives(dict.fromkeys(pattern.ones, 1))
        weights: dict[int, list[tuple[int, Fraction]]] = {}
        for place, unit in enumerate(pattern.numbers):
            for row, weight in self.columns[unit]:
                weights.setdefault(row, []).append((place, Fraction(weight, self.scale)))
        width = self.odd << self.window
        ends = [(Fraction(w, width), Fraction(w + 1, width)) for w in leading]
        ones, numbers, forms = [], [], []
        for row, drive in drives.items():
            own = tuple(weights.get(row, ()))
            if own:
                constant = Fraction(drive, self.scale)
                low = constant + sum(w * ends[place][w < 0] for place, w in own)
                high = constant + sum(w * ends[place][w > 0] for place, w in own)
                result = self._evaluate(_ON_INTERVALS, _Interval(constant, own, low, high))
            else:
                result = self._constant(drive)
            if result.weights:
                numbers.append(row)
                first, *more = [(place, *_dyadic(weight)) for place, weight in result.weights]
                c, power = _dyadic(result.constant)
                least = max(power, 0)
                forms.append((first, (c << least - power) * self.odd, least, tuple(more)))
            elif result.constant == 1:
                ones.append(row)
            elif result.constant:
                raise _Undecided  # a constant of its own is no form of the numbers
        return _Plan(self._pattern(tuple(ones), tuple(numbers)), forms)

    def _constant(self, drive: int) -> _Interval:
        """The update of a unit that no number reaches: few drives occur."""
        if drive not in self.constants:
            plain = _Interval.plain(Fraction(drive, self.scale))
            self.constants[drive] = self._evaluate(_ON_INTERVALS, plain)
        return self.constants[drive]


def _dyadic(number: Fraction) -> tuple[int, int]:
    """(n, p) with n 2^-p the number, n odd or 0."""
    if not number:
        return 0, 0
    n, below = number.numerator, number.denominator
    twos = (n & -n).bit_length() - 1
    return n >> twos, below.bit_length() - 1 - twos


def _add(n: int, power: int, term: _Term, values: list[tuple[int, int]]) -> tuple[int, int]:
    """n 2^-power and a term, over one power of two."""
    place, factor, shift = term
    other, of_other = values[place][0] * factor, values[place][1] + shift
    most = max(power, of_other)
    return (n << most - power) + (other << most - of_other), most
