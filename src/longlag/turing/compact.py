"""Two updates a step, and few units: 3 Q + 8 for Q states and two symbols."""

from fractions import Fraction

from longlag.turing.construction import Construction, State, top, weighted
from longlag.turing.equations import Form
from longlag.turing.rules import MachineError, Rule
from longlag.turing.tape import Configuration


class Compact(Construction):
    r"""One tape, two updates a step; (K + 1) Q + K + 6 units for K symbols and Q states.

    L is the number of what is left of the head, R that of the cell under it and all on its right
    (:class:`~longlag.turing.digits.Digits`, base B). Between two steps one unit of ``state q`` is
    1; L and R are sums of units of which one is not 0. The first update looks: from state and R to
    one unit for each state and symbol, and to the top of L. The second acts: next state, and for
    each side what it would be after a push and after a pop, of which the one that does not happen
    is kept below 0. The proof is in docs/turing.md.
    """

    name = "compact"
    updates = 2

    def build(self) -> None:  # noqa: D102
        machine, base, count, equations = (
            self.machine, self.digits.base, self.count, self.equations,
        )  # fmt: skip
        if machine.tapes != 1:
            raise MachineError(
                f"form: 'compact' is for one tape, and the machine has {machine.tapes}; use "
                "'real-time'"
            )
        moves = {rule.move[0] for rule in machine.rules.values()}
        left = Form.of("L", "L push", "L pop")
        right = Form.of("R", "R push", "R pop")
        if 0 in moves:
            left, right = left + Form.of("L keep"), right + Form.of("R put")

        def sees(state: str, a: int) -> str:
            least = ">=" if 0 < a < count - 1 else ""
            return f"{state} sees {least}{machine.symbols[a]}"

        # The first update: what is there.
        for state in machine.states:
            here = Form.of(f"state {state}")
            equations[sees(state, 0)] = 2 * here - base * right
            for a in range(1, count):
                margin = 2 * (count - a)
                equations[sees(state, a)] = base * right - (2 * a - 1) + margin * (here - 1)
        tops = top("L top", machine.symbols)
        for a, unit in enumerate(tops, 1):
            equations[unit] = base * left - (2 * a - 1)

        # What it means for the second: which rule is at work.
        rules: list[tuple[Form, Rule]] = []
        for state in machine.states:
            for a, symbol in enumerate(machine.symbols):
                form = Form.of(sees(state, a))
                if 0 < a < count - 1:
                    form = form - Form.of(sees(state, a + 1))
                rules.append((form, machine.rules[state, (symbol,)]))
        working = Form.sum(form for form, _ in rules)
        scanned = Form.of(*(sees(q, a) for q in machine.states for a in range(1, count)))
        equations["L"] = left - working
        equations["R"] = right - working

        def that(move: int) -> tuple[Form, Form]:
            """1 where the rule at work moves so; and what it then writes."""
            own = [(form, rule) for form, rule in rules if rule.move[0] == move]
            return Form.sum(form for form, _ in own), weighted(own, self.digits)

        # The second update: what becomes of it.
        for state in machine.states:
            equations[f"state {state}"] = Form.sum(f for f, rule in rules if rule.next == state)
        for state in machine.halting:
            halting = [f for f, rule in rules if rule.next == state]
            equations[f"halt {state}"] = Form.of(f"halt {state}") + Form.sum(halting)
        (goes_left, write_left), (goes_right, write_right) = that(-1), that(1)
        under, before = Form.of("R"), Form.of("L")
        popped = base * under - 2 * scanned
        equations["L push"] = before / base + 2 * write_right / base + goes_right - 1
        equations["L pop"] = base * before - 2 * Form.of(*tops) + goes_left - 1
        equations["R pop"] = popped + goes_right - 1
        equations["R push"] = (
            popped / base**2 + 2 * write_left / base**2 + 2 * Form.of(*tops) / base + goes_left - 1
        )
        if 0 in moves:
            stays, write = that(0)
            equations["L keep"] = before + stays - 1
            equations["R put"] = popped / base + 2 * write / base + stays - 1

    @property
    def halting(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(f"halt {state}" for state in self.machine.halting)

    def encode(self, configuration: Configuration) -> dict[str, Fraction]:  # noqa: D102
        left, right = self.sides(configuration.tape, 0)
        kind = "halt" if configuration.halted else "state"
        places = ("L", "R") if configuration.halted else ("L pop", "R pop")
        return {
            f"{kind} {configuration.state}": Fraction(1),
            **dict(zip(places, (left, right), strict=True)),
        }

    def decode(self, state: State) -> Configuration:  # noqa: D102
        left, right = (
            sum((state.get(f"{side}{slot}", Fraction(0)) for slot in slots), Fraction(0))
            for side, slots in (("L", ("", " push", " pop", " keep")),
                                ("R", ("", " push", " pop", " put")))
        )  # fmt: skip
        return self.configuration(state, (self.tape(left, right),))
