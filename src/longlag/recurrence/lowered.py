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
        new: whether the value of this step is read, and not that of the step before.
        stage: of the gates, where the new value is read; else 0.
    """

    source: int
    truncated: bool
    pattern: Pattern | None
    gates: tuple[int, ...]
    wires: tuple[int, ...]
    new: bool = False
    stage: int = 0


class Stage(NamedTuple):
    """A part of a step, between which matrix products stand: forward, the first comes first.

    Attributes:
        states: places, among the stored states, of those that it finds.
        earlier: of those that the stages before have found.
        drives: numbers of the drives that it fills.
        forward: its part of the update: outputs are its states; inputs those of the whole, then the
            new states of ``earlier``.
        residuals: of what it stores, the place among the residuals and the number of the value.
        errors: numbers of the backward program's outputs that are found in its stage of the
            backward step, where the error of its states is known, and of those of later stages.
        backward: its part of the backward program, with ``errors`` as outputs.
        kept: places of the states whose error an earlier stage reads again.
    """

    states: tuple[int, ...]
    earlier: tuple[int, ...]
    drives: tuple[int, ...]
    forward: Program
    residuals: tuple[tuple[int, int], ...]
    errors: tuple[int, ...]
    backward: Program
    kept: tuple[int, ...]


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
        wires, (_, stages) = self.recurrence.wires, self.recurrence.stages
        groups: dict[tuple[int, bool, bool, Pattern | None, int], list[int]] = {}
        for number, wire in enumerate(wires):
            stage = stages[wire.gate] if wire.new else 0
            key = (wire.source, wire.new, wire.truncated, wire.pattern, stage)
            groups.setdefault(key, []).append(number)
        return tuple(
            Product(
                source, truncated, pattern,
                tuple(wires[number].gate for number in numbers), tuple(numbers), new, stage,
            )
            for (source, new, truncated, pattern, stage), numbers in groups.items()
        )  # fmt: skip

    @cached_property
    def inner(self) -> tuple[Product, ...]:
        """The products within a step, which read new values, in the order of their stages."""
        products = (product for product in self.products if product.new)
        return tuple(sorted(products, key=lambda product: product.stage))

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """The block patterns that occur in the recurrent matrix, each once."""
        patterns = dict.fromkeys(product.pattern for product in self.products)
        return tuple(pattern for pattern in patterns if pattern is not None)

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """Numbers of the states that the recurrent matrix reads as they were."""
        return tuple(sorted({product.source for product in self.products if not product.new}))

    @cached_property
    def inner_sources(self) -> tuple[int, ...]:
        """Numbers of the states whose new values it reads."""
        return tuple(sorted({product.source for product in self.inner}))

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
    def stages(self) -> tuple[Stage, ...]:
        """The stages of a step; one, which is all of it, where no product reads a new value."""
        forward, residuals, states = self.forward, self.residuals, range(len(self.stored))
        drives, backward = range(len(self.drives)), residuals.program
        by_state = [self.recurrence.stages[0][number] for number in self.stored]
        count = 1 + max(by_state)
        if count == 1:
            errors = tuple(range(len(backward.outputs)))
            stored = tuple(enumerate(residuals.values))
            return (Stage(tuple(states), (), tuple(drives), forward, stored, errors, backward, ()),)
        first_error = len(backward.inputs) - len(states)
        left, parts = dict(enumerate(residuals.values)), []
        reach = [  # by output of the backward program, the states whose errors it reads
            [n - first_error for n in backward.part([output]).program.reads if n >= first_error]
            for output in backward.outputs
        ]
        found_in = [min((by_state[k] for k in read), default=count - 1) for read in reach]
        for stage in range(count):
            mine = tuple(k for k in states if by_state[k] == stage)
            earlier = tuple(k for k in states if by_state[k] < stage)
            known = [forward.outputs[k] for k in earlier]
            program, numbers = forward.part([forward.outputs[k] for k in mine], known)
            there = program.reads | set(numbers.values()) - set(range(len(program.inputs)))
            stored = tuple((p, numbers[v]) for p, v in left.items() if numbers.get(v) in there)
            left = {place: v for place, v in left.items() if place not in dict(stored)}
            errors = tuple(n for n, at in enumerate(found_in) if at == stage)
            part = backward.part([backward.outputs[n] for n in errors]).program
            kept = tuple(
                k for k in mine if any(k in reach[n] for n, at in enumerate(found_in) if at < stage)
            )
            read = tuple(number for number in drives if number in program.reads)
            parts.append(Stage(mine, earlier, read, program, stored, errors, part, kept))
        assert not left
        return tuple(parts)

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
