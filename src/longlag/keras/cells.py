"""The equations of Keras' SimpleRNN, LSTM and GRU, with its activations and its order of gates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from sympy import exp

from longlag.recurrence import Cell, Dense, UnitParameter, activation, relu, sigmoid
from longlag.recurrence.functions import saturate


def _softsign(x: Any) -> Any:
    return x / (1 + relu(x) + relu(-x))


_IN_KERAS: Mapping[str, Callable[[Any], Any]] = {
    "exponential": exp,
    "hard_sigmoid": lambda x: saturate(x / 6 + 0.5),
    "linear": activation("identity"),
    "relu": relu,
    "relu6": lambda x: 6 * saturate(x / 6),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "softsign": _softsign,
    "tanh": activation("tanh"),
}
"""The activations that the equations can express, by their name in Keras."""


_NAMES = {getattr(keras.activations, name): name for name in _IN_KERAS}


def name_of(function: Any) -> str | None:
    """The name of an activation that the equations can express; None for another one."""
    return _NAMES.get(function)


@dataclass(frozen=True)
class SimpleRNNCell(Cell):
    """The cell of ``keras.layers.SimpleRNN``."""

    activation: str

    state = ("h",)
    gates = ("candidate",)

    def update(self, pre, state, unit):  # noqa: D102
        return {"h": _IN_KERAS[self.activation](pre.candidate)}


@dataclass(frozen=True)
class _Gated(Cell):
    """A cell with gates, each of which may read the state through a dropout mask of its own.

    Args:
        activation: of the candidate (and of the memory of an LSTM).
        recurrent_activation: of the gates.
        masked: whether there are masks. They are then states that never change, and what a gate
            reads is a state too: its mask times h.
    """

    activation: str
    recurrent_activation: str
    masked: bool = False

    memory: ClassVar[tuple[str, ...]]

    @property
    def state(self):  # type: ignore[override]
        masks = [f"mask_{gate}" for gate in self.gates] if self.masked else ()
        read = [f"seen_{gate}" for gate in self.gates] if self.masked else ()
        return (*self.memory, *masks, *read)

    @property
    def wiring(self):
        return {gate: Dense(f"seen_{gate}") for gate in self.gates} if self.masked else {}

    def _with_masks(self, new: dict[str, Any], state: Any) -> dict[str, Any]:
        for gate in self.gates if self.masked else ():
            mask = getattr(state, f"mask_{gate}")
            new |= {f"mask_{gate}": mask, f"seen_{gate}": mask * new["h"]}
        return new


class LSTMCell(_Gated):
    """The cell of ``keras.layers.LSTM``."""

    memory = ("h", "c")
    gates = ("input", "forget", "candidate", "output")

    def update(self, pre, state, unit):  # noqa: D102
        phi, gate = _IN_KERAS[self.activation], _IN_KERAS[self.recurrent_activation]
        c = gate(pre.forget) * state.c + gate(pre.input) * phi(pre.candidate)
        return self._with_masks({"h": gate(pre.output) * phi(c), "c": c}, state)


@dataclass(frozen=True)
class GRUCell(_Gated):
    """The cell of ``keras.layers.GRU``; with the reset before the product it has one state more."""

    use_bias: bool = True
    reset_after: bool = True

    gates = ("update", "reset", "new")

    @property
    def memory(self):  # type: ignore[override]  # noqa: D102
        return ("h",) if self.reset_after else ("h", "m")

    @property
    def wiring(self):  # noqa: D102
        before = {} if self.reset_after else {"new": Dense("m", delay=0)}
        return {**super().wiring, **before}

    @property
    def unit_parameters(self):  # noqa: D102
        return {"recurrent_bias": UnitParameter()} if self.use_bias and self.reset_after else {}

    def update(self, pre, state, unit):  # noqa: D102
        phi, gate = _IN_KERAS[self.activation], _IN_KERAS[self.recurrent_activation]
        z, r = gate(pre.update), gate(pre.reset)
        if not self.reset_after:
            read = state.seen_new if self.masked else state.h
            return self._with_masks(
                {"h": z * state.h + (1 - z) * phi(pre.new), "m": r * read}, state
            )
        recurrent = pre.from_state("new")
        if self.use_bias:
            recurrent = recurrent + unit.recurrent_bias
        new = phi(pre.from_input("new") + r * recurrent)
        return self._with_masks({"h": z * state.h + (1 - z) * new}, state)
