"""A traced recurrence: its equations over symbols, and the programs derived from them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sympy

from longlag.recurrence.functions import Expression, multiple
from longlag.recurrence.program import DeclarationError, Program, compile_program
from longlag.recurrence.wiring import Dense, Groups, Pattern, UnitParameter, Wiring


def real_symbol(name: str) -> sympy.Symbol:
    """The real symbol of a name such as ``pre.GATE``, ``state.NAME`` or ``unit.NAME``."""
    return sympy.Symbol(name, real=True)


CLOCK = real_symbol("clock.t")
"""The step within the sequence, which an update reads as ``state.t``."""

TICKS = multiple(CLOCK, real_symbol("unit.period"))
"""1 where a unit of a recurrence with ``periods`` takes the step, 0 where it rests."""


def held(source: str, steps: int) -> str:
    """The state that holds ``source`` as it was some steps before: itself for 0."""
    return f"{source}_{steps}" if steps else source


@dataclass(frozen=True)
class Wire:
    """One dense matrix of a traced recurrence: H rows of the recurrent matrix.

    Attributes:
        gate: number, among the dense gates, of the gate that it drives.
        source: number of the state that it reads; for a delay, of the one that holds the past.
        truncated: whether error is kept from flowing back through it.
        pattern: which of its blocks are there; None where all are.
        constraint: what training keeps it; None where it is free.
        new: whether it reads the value that the state gets in this step.
    """

    gate: int
    source: int
    truncated: bool
    pattern: Pattern | None
    constraint: str | None = None
    new: bool = False


@dataclass(frozen=True)
class Gate:
    """One gate of a traced recurrence.

    Attributes:
        name: its name.
        wiring: how the past reaches it, its source made explicit.
        split: whether ``update`` sees a and r apart; else only their sum.
    """

    name: str
    wiring: Wiring
    split: bool

    @property
    def matrices(self) -> tuple[Dense, ...]:
        """Its dense matrices, in the order of their rows; none where it has no such wiring."""
        if isinstance(self.wiring, Dense):
            return (self.wiring,)
        return self.wiring if isinstance(self.wiring, tuple) else ()

    @property
    def dense(self) -> bool:
        """Whether the gate has rows in the recurrent matrix."""
        return bool(self.matrices)

    @property
    def from_input(self) -> sympy.Symbol:
        """The symbol that holds a of the gate: a + r where they are not seen apart."""
        return real_symbol(f"input.{self.name}" if self.split else f"pre.{self.name}")

    @property
    def from_state(self) -> sympy.Symbol:
        """The symbol that holds r of the gate: a + r where they are not seen apart."""
        return real_symbol(f"recurrent.{self.name}" if self.split else f"pre.{self.name}")


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A traced declaration: equations over symbols, and the programs derived from them.

    Attributes:
        name: the cell's class name.
        gates: the gates, in the order of their rows in the input matrix.
        states: names of the states: those declared, then those that hold the past for delays.
        output: the state that is put out.
        units: names of the unit parameters; ``diagonal.GATE`` are the weights of a
            :class:`~longlag.recurrence.Diagonal` gate.
        unit_parameters: the declarations behind ``units``, by name.
        initial_bias: initial bias by gate.
        latex_symbols: how gates, states and unit parameters are written, where declared.
        equations: by state, its new value as an expression of ``symbols``.
        delayed: by name of a state that holds the past: which state, as it was how many steps
            before. Their equations only hand on, so a backend may keep a delay line instead.
        periods: by equal group of units, of how many steps it takes one, the first among them, and
            rests in the others; empty where no unit rests.
    """

    name: str
    gates: tuple[Gate, ...]
    states: tuple[str, ...]
    output: str
    unit_parameters: Mapping[str, UnitParameter]
    initial_bias: Mapping[str, float]
    latex_symbols: Mapping[str, str]
    equations: Mapping[str, Expression]
    delayed: Mapping[str, tuple[str, int]]
    periods: tuple[int, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recurrence":
        return self  # nothing in it changes

    @cached_property
    def key(self) -> str:
        """A name that is the same for the same declaration, in every process."""
        parts = (self.gates, self.states, self.output, self.units, sorted(self.equations.items()))
        parts += (self.periods,) if self.periods else ()
        return f"{self.name}-{hashlib.sha256(str(parts).encode()).hexdigest()[:16]}"

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the unit parameters, in order."""
        return tuple(self.unit_parameters)

    @cached_property
    def dense_gates(self) -> tuple[Gate, ...]:
        """The gates that have rows in the recurrent matrix, in the order of those rows."""
        return tuple(gate for gate in self.gates if gate.dense)

    @cached_property
    def wires(self) -> tuple[Wire, ...]:
        """The dense matrices in the order of their H rows each: gates, then as declared."""
        numbers = {name: number for number, name in enumerate(self.states)}
        return tuple(
            Wire(number, numbers[held(dense.source or "", max(0, dense.delay - 1))],
                 dense.truncated, dense.pattern, dense.constraint, dense.delay == 0)
            for number, gate in enumerate(self.dense_gates)
            for dense in gate.matrices
        )  # fmt: skip

    @cached_property
    def stages(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """By state, and by dense gate, in which stage of a step it is found.

        A gate that reads a new value comes one stage after the state that it reads, and a state in
        the stage of the latest of its gates. Without such gates all are in stage 0.

        Raises:
            DeclarationError: a gate reads a new value that is made of the gate itself.
        """
        states, gates = [0] * len(self.states), [0] * len(self.dense_gates)
        for _ in range(len(gates) + 1):
            before = (*states, *gates)
            for wire in self.wires:
                if wire.new:
                    gates[wire.gate] = max(gates[wire.gate], 1 + states[wire.source])
            for number, name in enumerate(self.states):
                read = sympy.sympify(self.equations[name]).free_symbols
                stages = [
                    stage
                    for gate, stage in zip(self.dense_gates, gates, strict=True)
                    if gate.from_state in read
                ]
                states[number] = max(stages, default=0)
            if before == (*states, *gates):
                return tuple(states), tuple(gates)
        last = self.dense_gates[max(range(len(gates)), key=gates.__getitem__)]
        sources = [dense.source for dense in last.matrices if dense.delay == 0]
        raise DeclarationError(
            f"{self.name}.wiring[{last.name!r}] reads the new value of {sources[0]!r} (delay=0), "
            "which is made of this gate itself; read the step before, with delay=1"
        )

    @cached_property
    def materialised(self) -> "Recurrence":
        """The same, with the states that hold the past as states like the others: for what looks
        at each of them, at a cost that grows with the delay."""
        return replace(self, delayed={}) if self.delayed else self

    @cached_property
    def awake(self) -> "Recurrence":
        """The same where no unit ever rests, for a backend that keeps the states of those that do:
        itself where there are none, or where the equations say anything else of them."""
        equations = dict(self.equations)
        for name in equations if self.periods else ():
            if name not in self.delayed:
                awake = equations[name].xreplace({TICKS: sympy.Integer(1)})
                resting = TICKS * awake + (1 - TICKS) * real_symbol(f"state.{name}")
                if self.equations[name] != resting:
                    return self
                equations[name] = awake
        return replace(self, equations=equations) if self.periods else self

    @cached_property
    def patterned(self) -> bool:
        """Whether some dense matrix has blocks that are not there."""
        return any(wire.pattern is not None for wire in self.wires)

    @cached_property
    def constrained(self) -> str:
        """What training keeps its dense matrices, as words; empty where all are free."""
        kept = dict.fromkeys(wire.constraint for wire in self.wires if wire.constraint)
        return " and ".join(kept)

    @cached_property
    def groupings(self) -> tuple[int, ...]:
        """Into how many equal groups patterns and unit parameters divide the units."""
        initial = [declared.initial for declared in self.unit_parameters.values()]
        groups = [wire.pattern for wire in self.wires if wire.pattern]
        groups += [part.values for part in initial if isinstance(part, Groups)]
        return tuple(sorted(set(map(len, groups))))

    @cached_property
    def drive_symbols(self) -> tuple[sympy.Symbol, ...]:
        """The symbols that the matrix products fill: a + r by gate, or a and r apart.

        Those that no recurrent product reaches come first; then, for the dense gates in order,
        the one symbol that W reaches. So what W^T sends back is one block.
        """
        apart = [gate.from_input for gate in self.gates if gate.split or not gate.dense]
        return (*apart, *(gate.from_state for gate in self.dense_gates))

    @cached_property
    def state_symbols(self) -> tuple[sympy.Symbol, ...]:
        """The states at t - 1."""
        return tuple(real_symbol(f"state.{name}") for name in self.states)

    @cached_property
    def unit_symbols(self) -> tuple[sympy.Symbol, ...]:
        """The unit parameters."""
        return tuple(real_symbol(f"unit.{name}") for name in self.units)

    @cached_property
    def symbols(self) -> tuple[sympy.Symbol, ...]:
        """What an error can arrive at, in order: drives, states, unit parameters."""
        return self.drive_symbols + self.state_symbols + self.unit_symbols

    @cached_property
    def timed(self) -> bool:
        """Whether the update reads the step within the sequence, ``state.t``."""
        return any(CLOCK in equation.free_symbols for equation in self.equations.values())

    @property
    def carried(self) -> tuple[str, ...]:
        """Names of what a layer carries from call to call: the states, and t where it is read."""
        return (*self.states, "t") if self.timed else self.states

    @cached_property
    def inputs(self) -> tuple[sympy.Symbol, ...]:
        """All inputs of the programs, in order: ``symbols``, then t where it is read."""
        return (*self.symbols, CLOCK) if self.timed else self.symbols

    @cached_property
    def dependency_order(self) -> tuple[str, ...]:
        """The states, those first whose new value occurs in the equations of others."""
        names = list(self.equations)
        formed = [name for name in names if not self.equations[name].is_Atom]

        def uses(name: str) -> int:
            others = (self.equations[other] for other in formed if other != name)
            return sum(self.equations[name].has(other) for other in others)

        latest_first = names[::-1]
        return tuple(sorted(latest_first, key=uses))

    @cached_property
    def forward(self) -> Program:
        """The update: one output per state, in the order of ``states``."""
        return compile_program(self.inputs, [self.equations[name] for name in self.states])

    @cached_property
    def partials(self) -> Mapping[tuple[str, sympy.Symbol], Expression]:
        """The pointwise derivatives of each new state by each input; zeros are left out."""
        derivatives = {}
        order = {symbol: place for place, symbol in enumerate(self.symbols)}
        for name in self.states:
            read = self.equations[name].free_symbols
            for by in sorted(read & order.keys(), key=order.__getitem__):
                derivative = sympy.diff(self.equations[name], by)
                # SymPy's derivative of sign; as for step, what is not there at 0 is left out.
                derivative = derivative.replace(sympy.DiracDelta, lambda *_: sympy.Integer(0))
                if derivative != 0:
                    derivatives[name, by] = derivative
        return derivatives

    @cached_property
    def linearisation(self) -> Program:
        """The partials as one program; outputs in the order of ``partials``."""
        return compile_program(self.inputs, self.partials.values())
