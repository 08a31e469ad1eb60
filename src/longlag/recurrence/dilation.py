"""Dilation: the same update, of which every step reads the states of d steps before."""

import functools
from dataclasses import replace
from typing import Any

from longlag.recurrence.program import DeclarationError
from longlag.recurrence.traced import Gate, Recurrence, held, real_symbol
from longlag.recurrence.wiring import Dense

LONGEST = 10_000
"""How many steps deep the state of a cell may be: each step is a state of its own."""


def depths_of(recurrence: Recurrence) -> dict[str, int]:
    """By declared state, how many steps of it are carried: 1 where no delay asks for more.

    >>> from longlag.cells import Skip
    >>> depths_of(Skip((1, 3)).recurrence)
    {'h': 3}
    """
    depths = {name: 1 for name in recurrence.states if name not in recurrence.delayed}
    for source, steps in recurrence.delayed.values():
        depths[source] = max(depths[source], steps + 1)
    return depths


@functools.lru_cache(maxsize=256)
def dilated(recurrence: Recurrence, dilation: int) -> Recurrence:
    """The recurrence that reads s_{t-d} wherever the given one reads s_{t-1}.

    A state that the update reads pointwise is held, so many steps back, by states like any other;
    for one that only matrices read, a delay is a view (see ``Recurrence.delayed``).

    Args:
        recurrence: the traced cell.
        dilation: d >= 1.

    Raises:
        DeclarationError: a further state would have the name of a declared one.

    >>> from longlag.cells import Elman, Skip
    >>> dilated(Elman().recurrence, 3).states == Skip((3,)).recurrence.states
    True
    """
    if dilation == 1:
        return recurrence
    depths = {name: depth * dilation for name, depth in depths_of(recurrence).items()}
    line = {
        held(source, steps): (source, steps)
        for source, depth in depths.items()
        for steps in range(1, depth)
    }
    for name, (source, steps) in line.items():
        if name in depths:
            raise DeclarationError(
                f"{recurrence.name}.state: {name!r} is also the name of the state that holds "
                f"{source!r} of {steps} step(s) before, which a dilation of {dilation} reads; "
                "choose another name"
            )
    farther = {
        real_symbol(f"state.{name}"): real_symbol(f"state.{held(name, dilation - 1)}")
        for name in depths
    }
    declared = {name: recurrence.equations[name] for name in depths}
    read = set().union(*(equation.free_symbols for equation in declared.values()))
    equations = {name: equation.xreplace(farther) for name, equation in declared.items()}
    for name, (source, steps) in line.items():
        equations[name] = real_symbol(f"state.{held(source, steps - 1)}")
    return replace(
        recurrence,
        gates=tuple(_farther(gate, dilation) for gate in recurrence.gates),
        states=(*depths, *line),
        equations=equations,
        delayed={
            name: origin for name, origin in line.items()
            if real_symbol(f"state.{origin[0]}") not in read
        },
        periods=(),  # a unit that rests keeps no row of the step before, but its value of d before
    )  # fmt: skip


def _farther(gate: Gate, dilation: int) -> Gate:
    def wire(wiring: Any) -> Any:
        if isinstance(wiring, Dense):
            return replace(wiring, delay=wiring.delay * dilation)
        return tuple(map(wire, wiring)) if isinstance(wiring, tuple) else wiring

    return replace(gate, wiring=wire(gate.wiring))
