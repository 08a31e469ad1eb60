"""One update a step, for any number of tapes."""

from fractions import Fraction

from longlag.turing.construction import Construction, State, top, weighted
from longlag.turing.equations import Form
from longlag.turing.rules import MOVES, MachineError, Rule
from longlag.turing.tape import Configuration

Entry = tuple[str, tuple[int, ...]]
"""A state, and the move of each tape by which it is entered."""

_LETTER = {move: letter for letter, move in MOVES.items()}


class RealTime(Construction):
    r"""One update of the network is one step of the machine.

    A unit is 1 that tells the state, the moves by which it was entered, and the symbols under the
    heads. Entered by a move to the right, the machine sees the top of what was on its right, and
    so for the left: these tops are units too, so that to see is a conjunction of units that are 0
    or 1. A top of the next step is the second symbol of a stack that is popped, or what is pushed.
    For one tape, two symbols and Q states there are 8 units, and two for each direction in which a
    state is entered: 4 Q + 8 at the most, and 4 for each state in which the machine halts. The
    proof is in docs/turing.md.
    """

    name = "real-time"
    updates = 1

    def build(self) -> None:  # noqa: D102
        machine = self.machine
        into: dict[Entry, list[tuple[Form, Rule]]] = {}
        for rule in machine.rules.values():
            into.setdefault((rule.next, rule.move), [])
        if all(state != machine.start for state, _ in into):
            into[machine.start, (1,) * machine.tapes] = []
        self.entries = tuple(into)
        rules: list[tuple[Form, Rule]] = []
        for (state, read), rule in machine.rules.items():
            form = Form.of(*(self.sees(entry, read) for entry in into if entry[0] == state))
            rules.append((form, rule))
            into[rule.next, rule.move].append((form, rule))
        self.staying = {tape for tape in range(machine.tapes) if any(not rule.move[tape] for rule
                        in machine.rules.values())}  # fmt: skip

        for entry, own in into.items():
            for read in machine.readings():
                self._see(entry, read, own)
        for tape in range(machine.tapes):
            for move in (-1, 1):
                self._side(rules, tape, move)

    def sees(self, entry: Entry, read: tuple[str, ...]) -> str:
        """The name of the unit that is 1 in a state entered so, with these under the heads."""
        state, moves = entry
        return f"{state} {''.join(_LETTER[move] for move in moves)} sees {' '.join(read)}"

    def slots(self, tape: int, move: int) -> tuple[str, str, str]:
        """The units of which one is the number of a side: after a push, after a pop, kept."""
        name = ("L" if move < 0 else "R") + (f"{tape + 1}" if self.machine.tapes > 1 else "")
        return f"{name} push", f"{name} pop", f"{name} keep"

    def tops(self, tape: int, move: int) -> list[str]:
        """The units that tell the top of a side."""
        return top(self.slots(tape, move)[0].replace("push", "top"), self.machine.symbols)

    def _tops(self, tape: int, move: int) -> list[Form]:
        kept = ("", " kept") if tape in self.staying else ("",)
        return [Form.of(*(unit + more for more in kept)) for unit in self.tops(tape, move)]

    def _see(self, entry: Entry, read: tuple[str, ...], into: list[tuple[Form, Rule]]) -> None:
        state, moves = entry
        still = [tape for tape, move in enumerate(moves) if not move]
        own = [form for form, rule in into if all(rule.write[k] == read[k] for k in still)]
        unit, moving = self.sees(entry, read), len(moves) - len(still)
        form = Form.sum(own) - moving
        for tape, move in enumerate(moves):
            if move:
                tops, a = self._tops(tape, move), self.digits.index(read[tape])
                form = form + (tops[a - 1] if a else 1) - (tops[a] if a < len(tops) else 0)
        if state in self.machine.halting:
            form = form + (moving + 1) * Form.of(unit)
        self.equations[unit] = form

    def _side(self, rules: list[tuple[Form, Rule]], tape: int, move: int) -> None:
        """The stack that a move pops, and that the opposite move pushes."""
        base, count, equations, digits = self.digits.base, self.count, self.equations, self.digits
        pushing = [(form, rule) for form, rule in rules if rule.move[tape] == -move]
        pushes = Form.sum(form for form, _ in pushing)
        pops = Form.sum(form for form, rule in rules if rule.move[tape] == move)
        halted = Form.of(*self.halting)
        push, pop, keep = self.slots(tape, move)
        stack = Form.of(push, pop, keep)
        popped = base * stack - 2 * Form.sum(self._tops(tape, move))
        equations[push] = stack / base + 2 * weighted(pushing, digits, tape) / base + pushes - 1
        equations[pop] = popped + pops - 1 - (base - 1) * halted
        equations[keep] = stack - pops - pushes
        for a, unit in enumerate(self.tops(tape, move), 1):
            writes = [form for form, rule in pushing if digits.index(rule.write[tape]) >= a]
            equations[unit] = (
                base * popped - (2 * a - 1) + 2 * (count - a) * (pops - 1)
                + 2 * count * Form.sum(writes) - base**2 * halted
            )  # fmt: skip
            if tape in self.staying:
                equations[f"{unit} kept"] = Form.of(unit, f"{unit} kept") - pops - pushes

    @property
    def halting(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(
            self.sees(entry, read)
            for entry in self.entries if entry[0] in self.machine.halting
            for read in self.machine.readings()
        )  # fmt: skip

    def encode(self, configuration: Configuration) -> dict[str, Fraction]:  # noqa: D102
        entry = next((entry for entry in self.entries if entry[0] == configuration.state), None)
        if entry is None:
            raise MachineError(
                f"state {configuration.state!r}: the machine never comes to it; expected one of "
                f"{' '.join(dict.fromkeys(state for state, _ in self.entries))}"
            )
        read = tuple(tape.scanned for tape in configuration.tapes)
        state = {self.sees(entry, read): Fraction(1)}
        for number, tape in enumerate(configuration.tapes):
            for move, side in zip((-1, 1), self.sides(tape, 1), strict=True):
                state[self.slots(number, move)[2]] = side
                if not configuration.halted:
                    at_least = self.digits.base * side
                    for a, unit in enumerate(self.tops(number, move), 1):
                        state[unit] = Fraction(at_least >= 2 * a)
        return state

    def decode(self, state: State) -> Configuration:  # noqa: D102
        units = [
            (entry[0], read)
            for entry in self.entries
            for read in self.machine.readings()
            if state.get(self.sees(entry, read)) == 1
        ]
        if len(units) != 1:
            raise ValueError(
                f"state: {len(units)} units of the control states are 1, expected one; the network "
                "has left the states of a machine"
            )
        ((name, read),) = units
        tapes = []
        for number, symbol in enumerate(read):
            left, right = (
                sum(
                    (state.get(slot, Fraction(0)) for slot in self.slots(number, move)), Fraction(0)
                )
                for move in (-1, 1)
            )
            tapes.append(self.tape(left, right, symbol))
        return Configuration(name, tuple(tapes), name in self.machine.halting)
