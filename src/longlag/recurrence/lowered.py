"""A recurrence lowered: all that a backend must know of it, and nothing of a processor.

The matrix products of a step, what fills each drive of the update, the update itself, and the
backward step with the residuals that it reads. A backend adds where numbers lie and how they are
multiplied.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from longlag.recurrence.adjoint import derive_adjoint
from longlag.recurrence.program import Program
from longlag.recurrence.residuals import Residuals, find_residuals
from longlag.recurrence.traced import Recurrence, held
from longlag.recurrence.wiring import Pattern


class Drive(NamedTuple):
    """One drive of the update, in the order of ``drive_symbols``.

    Attributes:
        gate: number of the gate whose a = U x + b is in it; None where it is r alone.
        dense: number, among the dense gates, of the one whose r is in it; None where it is a alone.
    """

    gate: int | None
    dense: int | None


@dataclass(frozen=True)
class Product:
    """Wires that read one state in one way, so that one matrix product serves them.

    Attributes:
        source: number of the state that is read.
        truncated: whether error is kept from flowing back through the product.
        pattern: which blocks of its matrices are there; None where all are.
        gates: by wire, the number of its gate among the dense gates.
        wires: their numbers: which H rows of the recurrent matrix each has.
    """

    source: int
    truncated: bool
    pattern: Pattern | None
    gates: tuple[int, ...]
    wires: tuple[int, ...]


class Lowered:
    """See the module; :func:`lower` makes it once for each recurrence.

    States that hold the past for delays are not stored: what they hold is a row of the path of the
    state that they hold, D + T + 1 rows of which the first D are the past before the first step.

    Attributes:
        recurrence: the traced cell.
        output: place, among the stored states, of the one that is put out.
    """

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        self.output = self.stored.index(recurrence.states.index(recurrence.output))

    @cached_property
    def stored(self) -> tuple[int, ...]:
        """Numbers of the states that have a path of their own."""
        names, delayed = self.recurrence.states, self.recurrence.delayed
        return tuple(number for number, name in enumerate(names) if name not in delayed)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """By stored state D, how far back it is held beside its present value."""
        names, delayed = self.recurrence.states, self.recurrence.delayed.values()
        return tuple(
            max((steps for source, steps in delayed if source == names[number]), default=0)
            for number in self.stored
        )

    @cached_property
    def origins(self) -> tuple[tuple[int, int], ...]:
        """By state: place of the stored state that has it, and how many steps before."""
        names, delayed = self.recurrence.states, self.recurrence.delayed
        places = {names[number]: place for place, number in enumerate(self.stored)}
        sources = [delayed.get(name, (name, 0)) for name in names]
        return tuple((places[source], steps) for source, steps in sources)

    def held_number(self, state: int, steps: int) -> int:
        """The number of the state that holds another as it was so many steps before."""
        names = self.recurrence.states
        return names.index(held(names[state], steps))

    @cached_property
    def delays(self) -> tuple[int, ...]:
        """How many steps back products read, each once; 1 among them."""
        return tuple(sorted({1, *(self.origins[state][1] + 1 for state in self.sources)}))

    @cached_property
    def core(self) -> Recurrence:
        """The recurrence of the stored states alone, whose wires are not to be asked for."""
        recurrence = self.recurrence
        if not recurrence.delayed:
            return recurrence
        names = tuple(recurrence.states[number] for number in self.stored)
        equations = {name: recurrence.equations[name] for name in names}
        return replace(recurrence, states=names, equations=equations, delayed={})

    @property
    def forward(self) -> Program:
        """The update; inputs are drives, stored states at t - 1, unit parameters, and t where it
        is read; outputs the new stored states."""
        return self.core.forward

    @cached_property
    def drives(self) -> tuple[Drive, ...]:
        """What fills each drive: those that no recurrent product reaches first."""
        gates, dense_gates = self.recurrence.gates, self.recurrence.dense_gates
        numbers = {gate.name: number for number, gate in enumerate(gates)}
        apart = [Drive(numbers[gate.name], None) for gate in gates if gate.split or not gate.dense]
        dense = [
            Drive(None if gate.split else numbers[gate.name], number)
            for number, gate in enumerate(dense_gates)
        ]
        return (*apart, *dense)

    @cached_property
    def apart(self) -> int:
        """How many drives no recurrent product reaches."""
        return len(self.drives) - len(self.recurrence.dense_gates)

    @cached_property
    def drive_of_gate(self) -> tuple[int, ...]:
        """By gate, the number of the drive that has its U x + b."""
        symbols = self.recurrence.drive_symbols
        return tuple(symbols.index(gate.from_input) for gate in self.recurrence.gates)

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """The matrix products: wires by what they read, and how."""
        wires = self.recurrence.wires
        groups: dict[tuple[int, bool, Pattern | None], list[int]] = {}
        for number, wire in enumerate(wires):
            groups.setdefault((wire.source, wire.truncated, wire.pattern), []).append(number)
        return tuple(
            Product(*key, tuple(wires[number].gate for number in numbers), tuple(numbers))
            for key, numbers in groups.items()
        )

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """The block patterns that occur in the recurrent matrix, each once."""
        patterns = dict.fromkeys(product.pattern for product in self.products)
        return tuple(pattern for pattern in patterns if pattern is not None)

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """Numbers of the states that the recurrent matrix reads."""
        return tuple(sorted({product.source for product in self.products}))

    @cached_property
    def propagating(self) -> tuple[Product, ...]:
        """The products through which error flows back."""
        return tuple(product for product in self.products if not product.truncated)

    @cached_property
    def propagating_wires(self) -> tuple[int, ...]:
        """Numbers of W's blocks of rows through which error flows back."""
        return tuple(sorted(wire for product in self.propagating for wire in product.wires))

    @cached_property
    def residuals(self) -> Residuals:
        """What the forward step stores for the backward step, and the backward step itself."""
        return find_residuals(self.core, derive_adjoint(self.core))

    @cached_property
    def carried(self) -> tuple[bool, ...]:
        """By stored state, whether any error reaches it pointwise, from the states after it."""
        program, drives = self.residuals.program, len(self.drives)
        outputs = program.outputs[drives : drives + len(self.stored)]
        return tuple(not program.is_zero(value) for value in outputs)


def lower(recurrence: Recurrence) -> Lowered:
    """The recurrence as backends want it: made at its first use, and kept with it."""
    lowered = recurrence.__dict__.get("_lowered")
    if lowered is None:
        lowered = recurrence.__dict__["_lowered"] = Lowered(recurrence)
    return lowered
