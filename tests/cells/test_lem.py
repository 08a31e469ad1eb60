import math

import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import LEM
from longlag.layers.to_torch_nn import to_torch

DOUBLE = {"dtype": torch.float64, "seed": 0}


def equations(cell, x, s, p):
    """The four lines of the paper: W_y reads the new z."""
    y, h = s["y"], p.read(s["y"])
    a = {g: x @ p.U[g].T + p.b[g] for g in p.U}
    u, v = (cell.step * oracle.sigma(a[g] + h @ p.W[g].T) for g in ("step_z", "step_y"))
    z = (1 - u) * s["z"] + u * np.tanh(a["candidate_z"] + h @ p.W["candidate_z"].T)
    new = np.tanh(a["candidate_y"] + p.read(z) @ p.W["candidate_y"].T)
    return {"y": (1 - v) * y + v * new, "z": z}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("cell", [LEM(), LEM(0.3)], ids=["whole steps", "short steps"])
def test_it_is_its_equation(cell, backend):
    layer = oracle.layer_of(cell, backend=backend)
    problem = oracle.problem(cell)
    expected = oracle.answer_of_equations(equations, layer, problem)
    assert not oracle.difference(oracle.answer_of_layer(layer, problem), expected)


def by_hand(layer, x, y, z):
    """The paper's loop, with its own names, gradients by PyTorch."""
    v1, v2, vz, vy = layer.weight_ih.chunk(4)
    w1, w2, wz, wy = layer.weight_hh.chunk(4)
    b1, b2, bz, by = layer.bias.chunk(4)
    dt, outputs = layer.cell.step, []
    for u in x.unbind(1):
        dt1 = dt * torch.sigmoid(y @ w1.T + u @ v1.T + b1)
        dt2 = dt * torch.sigmoid(y @ w2.T + u @ v2.T + b2)
        z = (1 - dt1) * z + dt1 * torch.tanh(y @ wz.T + u @ vz.T + bz)
        y = (1 - dt2) * y + dt2 * torch.tanh(z @ wy.T + u @ vy.T + by)
        outputs.append(y)
    return torch.stack(outputs, 1), y, z


@pytest.mark.parametrize("hidden", [5, 19])
def test_it_equals_the_loop_of_its_paper(hidden):
    layer = ll.LEM(3, hidden, step=0.7, **DOUBLE)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(9, 30, 3, dtype=torch.float64, generator=generator).requires_grad_()
    start = torch.randn(2, 9, hidden, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(9, 30, hidden, dtype=torch.float64, generator=generator)
    output, state = layer(x, tuple(start))
    assert layer.backend_used == "cpu"
    expected, y, z = by_hand(layer, x, *start)
    for mine, other in ((output, expected), (state.y, y), (state.z, z)):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    inputs = [x, start, *layer.parameters()]
    ours = torch.autograd.grad((output * weight).sum() + state.z.sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum() + z.sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.count_nonzero() > 0
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


def test_the_states_stay_within_one():
    layer = ll.LEM(2, 8, seed=0, weight_hh_init=ll.init.SpectralRadius(20.0))
    output, state = layer(100 * torch.randn(3, 200, 2, generator=torch.Generator().manual_seed(0)))
    assert max(output.abs().max(), state.z.abs().max()) <= 1


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_a_step_out_of_range_is_refused(step):
    with pytest.raises(ValueError, match=f"step: got {step}, expected a finite number greater"):
        LEM(step)


def test_torch_has_no_such_layer():
    with pytest.raises(ValueError, match="it has no LEM"):
        to_torch(ll.LEM(2, 3))
