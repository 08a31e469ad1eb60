"""What a cell's equations, written again in NumPy, say of a layer: values and all gradients.

Each test file of a cell has a function `equations(cell, x, s, p)` that gives the new states by
name from x (N, C), the states s at t - 1 (N, H) and the parameters p. It is run on complex numbers:
the derivative by a parameter is the imaginary part after a step of 1e-30 i, exact to rounding,
and nothing of longlag has a part in it. `stop` is the identity that drops the imaginary part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from longlag.layers import Recurrent
from longlag.recurrence import Cell, Dense, Diagonal

HIDDEN, INPUTS, STEPS, DROPOUT = 3, 2, 6, 0.4
LENGTHS = (6, 3, 0, 5)

Numbers = dict[str, np.ndarray]
Equations = Callable[[Any, np.ndarray, Numbers, "Parameters"], Numbers]


def sigma(z):
    return 1 / (1 + np.exp(-z))


def stop(z):
    return z.real + 0j


PHI = {
    "tanh": np.tanh,
    "sigmoid": sigma,
    "relu": lambda z: np.where(z.real > 0, z, 0),
    "identity": lambda z: z,
    "saturated": lambda z: np.where(z.real >= 1, 1, np.where(z.real > 0, z, 0)),
    "bipolar": lambda z: 2 * sigma(z) - 1,
    "double_bipolar": lambda z: 4 * sigma(z) - 2,
    "positive": lambda z: np.where(z.real >= 0, z + 0.5, sigma(z)),
}


@dataclass(frozen=True)
class Parameters:
    """By gate name, U, W, b and the diagonal w; by its own name, each unit parameter.

    A gate with several matrices has them as a tuple.
    """

    U: Numbers
    W: dict[str, Any]
    b: Numbers
    w: Numbers
    unit: Numbers
    mask: Any
    t: Any = None
    """The step within the sequence, (N, 1), for a cell that reads it."""

    def read(self, h):
        """The state as W reads it, under the recurrent dropout mask."""
        return h if self.mask is None else h * self.mask


@dataclass(frozen=True)
class Problem:
    """Inputs that leave nothing at zero or one, and the weights of a loss of all results."""

    x: np.ndarray
    state: Numbers
    lengths: np.ndarray
    resets: np.ndarray
    of_output: np.ndarray
    of_state: Numbers


def problem(cell: Cell, seed: int = 3) -> Problem:
    rng = np.random.default_rng(seed)
    count = len(LENGTHS)
    resets = np.zeros((count, STEPS), dtype=bool)
    resets[0, 3] = resets[1, 0] = resets[3, 2] = resets[1, 4] = resets[2, 1] = True
    state = {name: rng.normal(size=(count, HIDDEN)) for name in cell.recurrence.states}
    of_state = {name: rng.normal(size=(count, HIDDEN)) for name in cell.recurrence.states}
    if cell.recurrence.timed:
        state["t"], of_state["t"] = rng.integers(0, 9, (count, 1)) + 0.0, np.ones((count, 1))
    return Problem(
        x=rng.normal(size=(count, STEPS, INPUTS)),
        state=state,
        lengths=np.array(LENGTHS),
        resets=resets,
        of_output=rng.normal(size=(count, STEPS, HIDDEN)),
        of_state=of_state,
    )


def layer_of(cell: Cell, seed: int = 5, **options: Any) -> Recurrent:
    """A layer in float64 whose every parameter is random, also those that start at 0 or 1."""
    options = {"recurrent_dropout": DROPOUT if has_matrix(cell) else 0.0, **options}
    layer = Recurrent(cell, INPUTS, HIDDEN, dtype=torch.float64, **{"seed": seed, **options})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.7, generator=generator)
    return layer


def has_matrix(cell: Cell) -> bool:
    return bool(cell.recurrence.dense_gates)


@dataclass
class Answer:
    """Output, final states and the gradient of the loss by every tensor."""

    output: np.ndarray
    state: Numbers
    gradients: Numbers = field(default_factory=dict)


def answer_of_layer(layer: Recurrent, given: Problem) -> Answer:
    """What the layer says, with the same dropout mask in every call."""
    x = torch.tensor(given.x)
    padding = torch.arange(STEPS) >= torch.tensor(given.lengths).unsqueeze(-1)
    x[padding] = float("nan")
    x.requires_grad_()
    state = {name: torch.tensor(s, requires_grad=True) for name, s in given.state.items()}
    named = {"x": x, **{f"state.{name}": s for name, s in state.items()}}
    named |= dict(layer.named_parameters())
    with torch.random.fork_rng():
        torch.manual_seed(11)
        output, final = layer(
            x,
            tuple(state.values()),
            lengths=torch.tensor(given.lengths),
            resets=torch.tensor(given.resets),
        )
    loss = (output * torch.tensor(given.of_output)).sum()
    for name, weight in given.of_state.items():
        loss = loss + (getattr(final, name) * torch.tensor(weight)).sum()
    found = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    return Answer(
        output.detach().numpy(),
        {name: getattr(final, name).detach().numpy() for name in given.state},
        {name: g.numpy() for name, g in zip(named, found, strict=True)},
    )


def answer_of_equations(equations: Equations, layer: Recurrent, given: Problem) -> Answer:
    """What the equations say for the layer's parameters."""
    tensors = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    constants = {name: b.numpy() for name, b in layer.named_buffers()}
    tensors |= {"x": given.x} | {f"state.{name}": s for name, s in given.state.items()}
    mask = None
    if layer.training and layer.recurrent_dropout:
        with torch.random.fork_rng():
            torch.manual_seed(11)
            ones = torch.ones(len(LENGTHS), HIDDEN, dtype=torch.float64)
            mask = torch.nn.functional.dropout(ones, layer.recurrent_dropout).numpy()

    def run(values: Numbers) -> tuple[np.ndarray, Numbers, complex]:
        p = _parameters(layer, values | constants, mask)
        states = {name: values[f"state.{name}"] for name in given.state}
        if layer.recurrence.timed:
            states["t"] = stop(states["t"])  # a number of steps has no derivative
        output = []
        for t in range(STEPS):
            reset, active = given.resets[:, t, None], (t < given.lengths)[:, None]
            before = {name: np.where(reset, 0, s) for name, s in states.items()}
            clock = before.pop("t") if layer.recurrence.timed else None
            after = equations(layer.cell, values["x"][:, t], before, replace(p, t=clock))
            after |= {} if clock is None else {"t": clock + 1}
            output.append(np.where(active, after[layer.cell.output], 0))
            states = {name: np.where(active, after[name], s) for name, s in states.items()}
        out = np.stack(output, 1)
        loss = (out * given.of_output).sum()
        loss += sum((states[name] * weight).sum() for name, weight in given.of_state.items())
        return out, states, loss

    numbers = {name: value + 0j for name, value in tensors.items()}
    output, states, _ = run(numbers)
    gradients = {}
    for name, value in numbers.items():
        gradient = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            moved = value.copy()
            moved[index] += 1e-30j
            gradient[index] = run(numbers | {name: moved})[2].imag / 1e-30
        gradients[name] = gradient
    return Answer(output.real, {name: s.real for name, s in states.items()}, gradients)


def _kept(constraints: list[Any], blocks: list[np.ndarray], bases: list[Any]) -> list[Any]:
    """W from what is trained."""
    drawn, matrices = iter(bases), []
    for constraint, block in zip(constraints, blocks, strict=True):
        skew = block - block.T
        if constraint == "orthogonal":
            one = np.eye(HIDDEN)
            matrices.append(next(drawn) @ np.linalg.inv(one - skew) @ (one + skew))
        else:
            matrices.append(skew if constraint == "antisymmetric" else block)
    return matrices


def _parameters(layer: Recurrent, values: Numbers, mask: np.ndarray | None) -> Parameters:
    gates = layer.cell.gates
    wiring = {gate: layer.cell.wiring.get(gate, Dense()) for gate in gates}
    matrices = {
        gate: len(wire) if isinstance(wire, tuple) else 1
        for gate, wire in wiring.items()
        if isinstance(wire, (Dense, tuple))
    }
    diagonal = [gate for gate, wire in wiring.items() if isinstance(wire, Diagonal)]

    def split(name: str, names: list[str]) -> Numbers:
        if name not in values:
            return {gate: np.zeros(HIDDEN) for gate in names}
        return dict(zip(names, np.split(values[name], len(names)), strict=True))

    W = {}
    if matrices:
        kept = [wire.constraint for wire in layer.recurrence.wires]
        trained = values["weight_hh_raw" if any(kept) else "weight_hh"]
        count = max(1, kept.count("orthogonal"))
        bases = np.split(values.get("weight_hh_base", np.zeros(0)), count)
        blocks = iter(_kept(kept, np.split(trained, len(kept)), bases))
        for gate, count in matrices.items():
            several = tuple(itertools.islice(blocks, count))
            W[gate] = several if count > 1 else several[0]

    unit = {}
    for name, declared in layer.cell.unit_parameters.items():
        value = values[name] if name in values else values[f"{name}_raw"]
        if declared.trained and declared.interval is not None:
            low, high = declared.interval
            value = low + (high - low) * sigma(value)
        unit[name] = value
    return Parameters(
        U=split("weight_ih", list(gates)),
        W=W,
        b=split("bias", list(gates)),
        w=split("weight_hh_diagonal", diagonal) if diagonal else {},
        unit=unit,
        mask=mask,
    )


def difference(one: Answer, other: Answer) -> str:
    """The first thing that differs by more than rounding, or nothing."""
    pairs = {"output": (one.output, other.output)}
    pairs |= {f"final {name}": (one.state[name], other.state[name]) for name in one.state}
    pairs |= {
        f"gradient by {name}": (one.gradients[name], other.gradients[name])
        for name in one.gradients
    }
    for name, (ours, theirs) in pairs.items():
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-10, atol=1e-11):
            return f"{name}:\n{ours}\nexpected\n{theirs}"
    return ""
