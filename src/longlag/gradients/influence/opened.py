"""Recurrences made over, so that one backward pass says how each number of a step mattered."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sympy

from longlag.recurrence import Recurrence
from longlag.recurrence.functions import stop_gradient
from longlag.recurrence.traced import Gate, real_symbol
from longlag.recurrence.wiring import Absent, Dense, UnitParameter


def keeps_to_units(recurrence: Recurrence) -> bool:
    """Whether no error goes from one unit to another: every matrix is absent or truncated."""
    return all(wire.truncated for wire in recurrence.wires)


def opened(recurrence: Recurrence, gates: bool, units: Sequence[str]) -> Recurrence:
    r"""The same recurrence, with one more gate z for each number that stands for a parameter.

    .. math:: r^g_t \to r^g_t + z^g_t, \qquad \theta \to \theta + z^\theta_t

    With z = 0 the values are the same, and the gradient by z^g_t is the error of r^g_t, that by
    z^theta_t the error of the unit parameter at step t alone. So the gradient by the drive of all
    gates holds all that the gradients of the parameters are made of, step by step.

    Args:
        recurrence: a traced declaration.
        gates: whether to open the dense gates whose a and r are seen apart; of the others, the
            error of r is that of a.
        units: names of the unit parameters to open.

    Returns:
        A recurrence with further gates, without recurrent wires: first ``open.GATE`` by gate, then
        ``open.UNIT`` in the order of ``units``. It is made once, and kept with ``recurrence``.
    """
    split = [gate for gate in recurrence.dense_gates if gate.split and gates]
    numbers = [gate.from_state for gate in split] + [real_symbol(f"unit.{n}") for n in units]
    if not numbers:
        return recurrence
    key = (tuple(gate.name for gate in split), tuple(units))
    kept = recurrence.__dict__.setdefault("_opened", {})
    if key not in kept:
        further = [Gate(f"open.{name}", Absent(), False) for part in key for name in part]
        pairs = zip(numbers, further, strict=True)
        kept[key] = replace(
            recurrence,
            gates=(*recurrence.gates, *further),
            equations=_replaced(recurrence, {old: old + gate.from_input for old, gate in pairs}),
        )
    return kept[key]


def own_weight(wire: int) -> str:
    """The name, among the unit parameters, of the diagonal of a wire's matrix."""
    return f"own.{wire}"


def within_units(recurrence: Recurrence) -> Recurrence:
    r"""The same recurrence, whose errors stay within their unit.

    .. math:: W h \to W \operatorname{sg}(h) + \operatorname{diag}(W)
        \odot (h - \operatorname{sg}(h))

    sg is the identity that no error passes. The values are the same; of the product's Jacobian only
    the diagonal is left. A product that was truncated before lets no error pass still.

    Returns:
        A recurrence with truncated wires and, for each that was not, one more unit parameter
        :func:`own_weight`, for the diagonal of its matrix. Itself where there is none. It is made
        once, and kept with ``recurrence``.
    """
    if keeps_to_units(recurrence):
        return recurrence
    if "_within_units" not in recurrence.__dict__:
        recurrence.__dict__["_within_units"] = _within_units(recurrence)
    return recurrence.__dict__["_within_units"]


def _within_units(recurrence: Recurrence) -> Recurrence:
    units, (by_state, by_gate) = dict(recurrence.unit_parameters), recurrence.stages
    sums: dict[Any, Any] = {}
    equations: dict[str, Any] = {}
    for stage in range(1 + max(by_state)):
        for number, wire in enumerate(recurrence.wires):
            if wire.truncated or by_gate[wire.gate] != stage:
                continue
            name, source = own_weight(number), recurrence.state_symbols[wire.source]
            if wire.new:
                source = equations[recurrence.states[wire.source]]
            units[name] = UnitParameter()
            r = recurrence.dense_gates[wire.gate].from_state
            path = real_symbol(f"unit.{name}") * (source - stop_gradient(source))
            sums[r] = sums.get(r, r) + path
        replaced = _replaced(recurrence, sums)
        equations |= {
            name: replaced[name]
            for name, at in zip(recurrence.states, by_state, strict=True)
            if at == stage
        }
    return replace(
        recurrence,
        gates=tuple(replace(gate, wiring=_truncated(gate.wiring)) for gate in recurrence.gates),
        unit_parameters=units,
        equations={name: equations[name] for name in recurrence.equations},
    )


def _truncated(wiring: Any) -> Any:
    if isinstance(wiring, tuple):
        return tuple(_truncated(part) for part in wiring)
    return replace(wiring, truncated=True) if isinstance(wiring, Dense) else wiring


def _replaced(recurrence: Recurrence, symbols: dict[Any, Any]) -> dict[str, sympy.Expr]:
    return {name: equation.xreplace(symbols) for name, equation in recurrence.equations.items()}
