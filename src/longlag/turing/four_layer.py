"""Siegelmann and Sontag's own way, for comparison: four updates a step, four layers of units."""

from collections.abc import Sequence
from fractions import Fraction

from longlag.turing.construction import Construction, State
from longlag.turing.equations import Form
from longlag.turing.rules import MachineError
from longlag.turing.tape import Configuration

_SEEN = ("none", "0", "1")
"""What may be on top of a stack."""


class FourLayer(Construction):
    r"""Four updates a step, as in the paper; two symbols and one tape.

    The machine as one with two stacks, whose control state holds the symbol under the head: s of
    them, two for each state of the machine, those in which it halts included. The stack a_1 a_2 ...
    is :math:`\sum_i (2 a_i + 1) 4^{-i}`, 0 when empty. Layer by layer: what is on top; a unit for
    each control state and tops, 9 s; the next control state, and each stack after a push of 0, of
    1, a pop, and as it is; and their sums. That is 12 s + 22 units. The paper saves one in each
    layer of control states, as the others tell it.
    """

    name = "four-layer"
    updates = 4

    def build(self) -> None:  # noqa: D102
        machine, equations = self.machine, self.equations
        if machine.tapes != 1 or self.count != 2:
            raise MachineError(
                f"form: 'four-layer' is for one tape and two symbols, and the machine has "
                f"{machine.tapes} and {self.count}; use 'compact' or 'real-time'"
            )
        self.controls = [
            (state, a) for state in (*machine.states, *machine.halting) for a in (0, 1)
        ]
        for control in self.controls:
            equations[self._unit(control, 4)] = Form.of(self._unit(control))
        for side in "LR":
            stack = Form.of(side)
            equations[f"{side} top 4"] = 4 * stack - 2
            equations[f"{side} filled 4"] = 4 * stack
            equations[f"{side} 4"] = stack

        into: dict[tuple[str, int], list[Form]] = {control: [] for control in self.controls}
        doing: dict[str, list[Form]] = {}
        for control in self.controls:
            for left in _SEEN:
                for right in _SEEN:
                    unit = f"{self._unit(control)} {left} {right}"
                    equations[unit] = (
                        Form.of(self._unit(control, 4)) + _shows("L", left) + _shows("R", right) - 2
                    )
                    following, actions = self._step(control, left, right)
                    into[following].append(Form.of(unit))
                    for action in actions:
                        doing.setdefault(action, []).append(Form.of(unit))
        for side in "LR":
            for name in (f"{side} top", f"{side} filled", side):
                equations[f"{name} 3"] = Form.of(f"{name} 4")

        for control in self.controls:
            equations[self._unit(control, 2)] = Form.sum(into[control])
        for side in "LR":
            stack = Form.of(f"{side} 3")
            popped = 4 * stack - 2 * Form.of(f"{side} top 3") - Form.of(f"{side} filled 3")
            becomes = {
                "as it is": stack,
                "push 0": stack / 4 + Fraction(1, 4),
                "push 1": stack / 4 + Fraction(3, 4),
                "pop": popped,
            }
            for action, form in becomes.items():
                name = f"{side} {action}"
                equations[name] = form + Form.sum(doing.get(name, [])) - 1
            equations[side] = Form.of(*(f"{side} {action}" for action in becomes))
        for control in self.controls:
            equations[self._unit(control)] = Form.of(self._unit(control, 2))

    def _unit(self, control: tuple[str, int], layer: int | None = None) -> str:
        state, a = control
        return f"{state} on {self.machine.symbols[a]}" + ("" if layer is None else f" {layer}")

    def _step(
        self, control: tuple[str, int], left: str, right: str
    ) -> tuple[tuple[str, int], list[str]]:
        """The next control state, and what happens to both stacks."""
        state, a = control
        rule = self.machine.rules.get((state, (self.machine.symbols[a],)))
        if rule is None or rule.move == (0,):
            w = a if rule is None else self.digits.index(rule.write[0])
            return (state if rule is None else rule.next, w), ["L as it is", "R as it is"]
        pushed, popped, seen = ("L", "R", right) if rule.move == (1,) else ("R", "L", left)
        w = self.digits.index(rule.write[0])
        return (rule.next, int(seen == "1")), [f"{pushed} push {w}", f"{popped} pop"]

    @property
    def halting(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(self._unit((state, a)) for state in self.machine.halting for a in (0, 1))

    def encode(self, configuration: Configuration) -> dict[str, Fraction]:  # noqa: D102
        tape, blank = configuration.tape, (self.machine.blank,)
        if (tape.left_background, tape.right_background) != (blank, blank):
            raise MachineError("form: 'four-layer' has stacks that end; use 'compact'")
        control = configuration.state, self.digits.index(tape.scanned)
        return {
            self._unit(control): Fraction(1),
            "L": self._number(tape.left),
            "R": self._number(tape.right[1:]),
        }

    def _number(self, cells: Sequence[str]) -> Fraction:
        ones = Fraction((1 << 2 * len(cells)) - 1, 3 << 2 * len(cells))  # every digit is odd
        return self.digits.number(cells, (self.machine.blank,)) + ones

    def decode(self, state: State) -> Configuration:  # noqa: D102
        here = [control for control in self.controls if state.get(self._unit(control)) == 1]
        if len(here) != 1:
            raise ValueError(f"state: {len(here)} control states are 1, expected one")
        ((name, a),) = here
        left, right = (_without_ones(state.get(side, Fraction(0))) for side in "LR")
        tape = self.tape(left, right, self.machine.symbols[a])
        return Configuration(name, (tape,), name in self.machine.halting)


def _without_ones(number: Fraction) -> Fraction:
    """The number of the same stack in which every digit is one less."""
    size = number.denominator.bit_length() // 2  # the last digit is odd: it is over 4^size
    return number - Fraction((1 << 2 * size) - 1, 3 << 2 * size)


def _shows(side: str, seen: str) -> Form:
    top, filled = Form.of(f"{side} top 4"), Form.of(f"{side} filled 4")
    return {"none": -filled + 1, "0": filled - top, "1": top}[seen]
