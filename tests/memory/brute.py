"""Jacobians by automatic differentiation of one step at a time, and their products."""

import torch
from tests.scan.cases import CELLS, hidden_of, layer_of, random
from torch.autograd.functional import jacobian

import longlag as ll
from longlag import cells

BATCH, STEPS, INPUTS = 3, 6, 2

ALL = {
    **CELLS,
    "Elman bipolar": cells.Elman("bipolar"),
    "Elman double_bipolar": cells.Elman("double_bipolar"),
    "LSTM1997 without recurrence": cells.LSTM1997(recurrent=False),
}


def made(name):
    """A layer in float64 with random parameters."""
    cell = ALL[name]
    return layer_of(cell, INPUTS, hidden_of(cell, 3), seed=3)


def stacked():
    """Three layers of different kinds, with a split gate and a truncated one above the first."""
    double = {"dtype": torch.float64}
    layers = (
        ll.Recurrent(cells.LSTM(), INPUTS, 3, seed=1, **double),
        ll.Recurrent(cells.GRU(), 3, 2, seed=2, **double),
        ll.Recurrent(cells.LSTM1997(), 2, 2, seed=3, **double),
    )
    return ll.Stack(*layers)


def batch(seed=0):
    """x, lengths and resets: ragged, one sequence empty, resets inside and at the first step."""
    x = random(BATCH, STEPS, INPUTS, seed=seed)
    resets = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    resets[0, 3] = resets[1, 0] = resets[1, 2] = True
    return x, torch.tensor([6, 4, 0]), resets


def leaves(state):
    return (
        [state] if isinstance(state, torch.Tensor) else [t for part in state for t in leaves(part)]
    )


def sizes_of(layer):
    if isinstance(layer, ll.Stack):
        return [sizes_of(part) for part in layer.layers]
    return [layer.hidden_size] * len(layer.recurrence.states) + [1] * layer.recurrence.timed


def counted(layer):
    """Which numbers of the joint state are a state's, and not t."""
    if isinstance(layer, ll.Stack):
        return torch.cat([counted(part) for part in layer.layers])
    states = layer.hidden_size * len(layer.recurrence.states)
    return torch.tensor([True] * states + [False] * layer.recurrence.timed)


def as_state(sizes, parts):
    """A flat list of tensors as the nested state that a module takes."""
    if isinstance(sizes, int):
        return parts.pop(0)
    return tuple(as_state(each, parts) for each in sizes)


def step_jacobians(layer, x, lengths=None, resets=None, state=None):
    """J_t of every step, (N, T, S, S): zero in the padding and at resets."""
    for module in layer.modules():
        if isinstance(module, ll.Recurrent):
            module.backend = "reference"
    sizes = sizes_of(layer)
    flat_sizes = _flat(sizes)
    found = x.new_zeros(len(x), x.shape[1], sum(flat_sizes), sum(flat_sizes))
    for n in range(len(x)):
        joint = x.new_zeros(sum(flat_sizes))
        if state is not None:
            joint = torch.cat([part[n] for part in leaves(state)])
        for t in range(x.shape[1] if lengths is None else int(lengths[n])):
            if resets is not None and resets[n, t]:
                joint = torch.zeros_like(joint)

            def step(vector, n=n, t=t):
                parts = [part.unsqueeze(0) for part in vector.split(flat_sizes)]
                _, after = layer(x[n : n + 1, t : t + 1], as_state(sizes, parts))
                return torch.cat([part.squeeze(0) for part in leaves(after)])

            if resets is None or not resets[n, t]:
                found[n, t] = jacobian(step, joint)
            joint = step(joint).detach()
    for module in layer.modules():
        if isinstance(module, ll.Recurrent):
            module.backend = "auto"
    places = counted(layer).nonzero().squeeze(1)
    return found[..., places, :][..., places]


def _flat(sizes):
    return [sizes] if isinstance(sizes, int) else [n for part in sizes for n in _flat(part)]


def assert_relative(mine, expected, within=1e-8):
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(mine, expected, rtol=0, atol=within * max(scale, 1e-12))
