"""Cells of every kind, and one run of a layer with all its gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from longlag import cells
from longlag.layers import Recurrent
from longlag.recurrence import (
    Absent,
    Cell,
    Dense,
    Diagonal,
    Uniform,
    UnitParameter,
    block_diagonal,
    block_triangular,
    modulo,
    sigmoid,
    sin,
    step,
    tanh,
)

BACKENDS = ("reference", "derived", "cpu")


class Mixed(Cell):
    """Two matrices with different sources, one truncated; a split gate of each kind; an output
    that is not the first state; a state that is only handed on."""

    state = ("c", "h", "old")
    output = "h"
    gates = ("a", "b", "d", "k", "s", "v")
    wiring = {
        "b": Dense("c", truncated=True),
        "d": Absent(),
        "k": Diagonal("c", initial=Uniform(-1.0, 1.0)),
        "s": Dense("c"),
        "v": Diagonal("h", truncated=True),
    }
    unit_parameters = {
        "alpha": UnitParameter(0.3, interval=(0.0, 1.0)),
        "beta": UnitParameter(0.7, trained=False),
        "gamma": UnitParameter(-0.4, shared=True),
    }

    def update(self, pre, state, unit):
        split = tanh(pre.from_input("s")) + unit.gamma * pre.from_state("s")
        gated = sigmoid(pre.v) * pre.from_state("v")
        c = (1 - unit.alpha) * state.c + unit.alpha * tanh(pre.a + pre.d * pre.b) + gated
        h = unit.beta * sin(pre.k) * c + split / (1 + state.old**2)
        return {"c": c, "h": h, "old": state.h}


class Staged(Cell):
    """Three stages: products and the update read new values, one state is read old, new and from
    further back, one gate is in all stages, and one has a and r apart."""

    state = ("h", "u", "v")
    gates = ("a", "b", "c", "d")
    unit_parameters = {"k": UnitParameter(0.3)}
    wiring = {
        "b": (Dense("u", delay=0), Dense("u"), Dense("h", delay=3)),
        "c": (Dense("v", delay=0), Dense("u", delay=0, truncated=True)),
    }

    def update(self, pre, state, unit):
        d = sigmoid(pre.d)
        u = d * tanh(pre.a + state.v) + unit.k * state.u
        v = tanh(pre.from_input("b") + d * pre.from_state("b")) * u + sigmoid(state.h)
        return {"h": d * tanh(pre.c) * v + unit.k * state.h, "u": u, "v": v}


class Lone(Cell):
    """One gate that no state reaches, and a state that forgets everything."""

    gates = ("a",)
    wiring = {"a": Absent()}

    def update(self, pre, state, unit):
        return {"h": tanh(pre.a)}


class Delayed(Cell):
    """One gate that reads the past of one step and of three."""

    gates = ("candidate",)
    wiring = {"candidate": (Dense(), Dense(delay=3))}

    def update(self, pre, state, unit):
        return {"h": tanh(pre.candidate)}


class Blocks(Cell):
    """Three groups of units, each of which reads itself and the slower ones."""

    gates = ("candidate",)
    wiring = {"candidate": Dense(pattern=block_triangular(3))}

    def update(self, pre, state, unit):
        return {"h": tanh(pre.candidate)}


class Wired(Cell):
    """Delays of two states, of a whole gate and of a split one; patterns of two sizes, one shared
    by gates; matrices of one gate that differ in nothing but the pattern; a truncated delay."""

    state = ("h", "c")
    gates = ("input", "forget", "new")
    wiring = {
        "input": (
            Dense("h", pattern=block_triangular(3)),
            Dense("c", delay=2),
            Dense("h", truncated=True, delay=4),
        ),
        "forget": (Dense("c", delay=2), Dense("c", delay=2, pattern=((0, 1), (1, 0)))),
        "new": (Dense("h", delay=3, pattern=block_diagonal(3)), Dense(pattern=block_triangular(3))),
    }
    unit_parameters = {"k": UnitParameter(0.5)}

    def update(self, pre, state, unit):
        new = tanh(pre.from_input("new") + unit.k * pre.from_state("new"))
        c = sigmoid(pre.forget) * state.c + sigmoid(pre.input) * new
        return {"h": sin(c) + 0.1 * state.h, "c": c}


class Timed(Cell):
    """A gate that opens with the steps, one that comes and goes, and a delay beside."""

    gates = ("candidate", "late")
    wiring = {"late": Dense(delay=2)}
    unit_parameters = {"pace": UnitParameter(0.7)}

    def update(self, pre, state, unit):
        opened = sigmoid(unit.pace * state.t - 2)
        h = opened * tanh(pre.candidate) + step(modulo(state.t, 3)) * tanh(pre.late)
        return {"h": h + 0.1 * state.h}


class Resting(Cell):
    """Groups of units that rest, of two states, with a delay."""

    state = ("h", "c")
    gates = ("candidate", "other")
    wiring = {"candidate": (Dense(), Dense(delay=3, pattern=block_triangular(3)))}
    periods = (1, 2, 3)

    def update(self, pre, state, unit):
        c = 0.5 * state.c + sigmoid(pre.other)
        return {"h": tanh(pre.candidate) * c, "c": c}


class Kept(Cell):
    """Matrices that are free, orthogonal and antisymmetric, one of them delayed, one patterned."""

    gates = ("candidate", "other")
    wiring = {
        "candidate": (Dense(constraint="orthogonal"), Dense(delay=2, pattern=block_diagonal(3))),
        "other": (Dense(constraint="antisymmetric"), Dense(delay=3, constraint="orthogonal")),
    }

    def update(self, pre, state, unit):
        return {"h": tanh(pre.candidate) * sigmoid(pre.other)}


CELLS: dict[str, Cell] = {
    **{name: getattr(cells, name)() for name in cells.__all__},
    "Elman sigmoid": cells.Elman("sigmoid"),
    "Elman relu": cells.Elman("relu"),
    "Elman saturated": cells.Elman("saturated"),
    "Elman orthogonal": cells.Elman(constraint="orthogonal"),
    "Elman identity": cells.Elman("identity"),
    "Leaky": cells.Leaky(leak=0.3),
    "Leaky trained": cells.Leaky(leak=0.3, train_leak=True),
    "Leaky shared": cells.Leaky(leak=0.3, train_leak=True, shared_leak=True),
    "Leaky of time scales": cells.Leaky(time_scales=(2, 40), train_leak=True),
    "Leaky without W": cells.Leaky(leak=0.3, recurrent=False),
    "MinGRU positive": cells.MinGRU("positive"),
    "Skip": cells.Skip((3, 2)),
    "Clockwork": cells.Clockwork((1, 3)),
    "LSTM with peepholes": cells.LSTM(peepholes=True),
    "LSTM1997 of 2a": cells.LSTM1997(False, False, "sigmoid", "identity"),
    "GRU without b_hn": cells.GRU(recurrent_bias=False),
    "IndRNN tanh": cells.IndRNN("tanh"),
    "Mixed": Mixed(),
    "GRU before": cells.GRU(reset_after=False),
    "Staged": Staged(),
    "Lone": Lone(),
    "Delayed": Delayed(),
    "Blocks": Blocks(),
    "Wired": Wired(),
    "Timed": Timed(),
    "Resting": Resting(),
    "Kept": Kept(),
}


PAIRS = [(name, backend) for name in CELLS for backend in BACKENDS]
"""Names of cells, each with every backend."""


def hidden_of(cell: Cell, least: int) -> int:
    """The first number of units that the cell's patterns divide into equal groups."""
    sizes = [len(wire.pattern) for wire in cell.recurrence.wires if wire.pattern]
    groups = math.lcm(*sizes, len(cell.recurrence.periods) or 1)
    return -(-least // groups) * groups


def layer_of(cell: Cell, inputs: int, hidden: int, seed: int = 0, **options: Any) -> Recurrent:
    """A layer in float64 with every parameter random, nothing at 0 or 1."""
    layer = Recurrent(cell, inputs, hidden, **{"dtype": torch.float64, "seed": seed, **options})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            parameter.copy_(0.7 * noise)
    return layer


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def states_of(cell: Cell, front: Sequence[int], hidden: int, seed: int = 0) -> list[Tensor]:
    """What a layer of the cell may begin with: random states, and a t of 5 where it has one."""
    count = len(cell.recurrence.states)
    states = [random(*front, hidden, seed=seed + number) for number in range(count)]
    clock = [torch.full((*front, 1), 5.0, dtype=torch.float64)] if cell.recurrence.timed else []
    return states + clock


def run(
    layer: Recurrent,
    x: Tensor,
    state: Sequence[Tensor] | None = None,
    backend: str = "derived",
    seed: int = 0,
    **schedule: Any,
) -> dict[str, Tensor]:
    """Output, final states and the gradient of a random loss of them, by name."""
    layer.backend = backend
    x = x.detach().requires_grad_()
    named = {"x": x, **dict(layer.named_parameters())}
    if state is not None:
        state = tuple(part.detach().requires_grad_() for part in state)
        named |= {f"initial {number}": part for number, part in enumerate(state)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        output, final = layer(x, state, **schedule)
    results = {"output": output, **final._asdict()}
    loss = output.new_zeros(())
    for number, result in enumerate(results.values()):
        loss = loss + (result * random(*result.shape, seed=number + 1).to(result.dtype)).sum()
    found = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    results |= {f"gradient by {name}": g for name, g in zip(named, found, strict=True)}
    return {name: result.detach() for name, result in results.items()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], within: float = 1e-12) -> None:
    """Equal by name, relative to the largest number of each."""
    assert ours.keys() == theirs.keys()
    for name, mine in ours.items():
        expected = theirs[name]
        scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
        torch.testing.assert_close(
            mine,
            expected,
            rtol=0,
            atol=within * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )
