import math

import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import Antisymmetric


def equations(cell, x, s, p):
    """h_t = h + step tanh((W - W^T - diffusion I) h + U x_t + b)."""
    h = s["h"]
    turned = p.read(h) @ p.W["candidate"].T - cell.diffusion * h
    inside = turned + x @ p.U["candidate"].T + p.b["candidate"]
    return {"h": h + cell.step * np.tanh(inside)}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("cell", [Antisymmetric(), Antisymmetric(0.7, 0.2)], ids=["own", "large"])
def test_it_is_its_equation(cell, backend):
    layer = oracle.layer_of(cell, backend=backend)
    problem = oracle.problem(cell)
    expected = oracle.answer_of_equations(equations, layer, problem)
    assert not oracle.difference(oracle.answer_of_layer(layer, problem), expected)


def test_it_equals_a_plain_loop_with_the_papers_w():
    """Written with W, V and b as in the paper, gradients by PyTorch."""
    layer = ll.Antisymmetric(3, 5, step=0.3, diffusion=0.1, dtype=torch.float64, seed=0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 30, 3, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(4, 30, 5, dtype=torch.float64, generator=generator)
    w, v, b = layer.weight_hh_raw, layer.weight_ih, layer.bias
    h, outputs = torch.zeros(4, 5, dtype=torch.float64), []
    for t in range(30):
        matrix = w - w.T - 0.1 * torch.eye(5, dtype=torch.float64)
        h = h + 0.3 * torch.tanh(h @ matrix.T + x[:, t] @ v.T + b)
        outputs.append(h)
    expected, (output, _) = torch.stack(outputs, 1), layer(x)
    assert layer.backend_used == "cpu"
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    inputs = [x, *layer.parameters()]
    ours = torch.autograd.grad((output * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.count_nonzero() > 0
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


def test_what_is_drawn_is_the_papers_w():
    layer = ll.Antisymmetric(3, 6, weight_hh_init=ll.init.Normal(0.3), seed=0)
    free = ll.Elman(3, 6, weight_hh_init=ll.init.Normal(0.3), seed=0)
    assert torch.equal(layer.weight_hh_raw, free.weight_hh)
    assert torch.equal(layer.weight_hh, free.weight_hh - free.weight_hh.T)


def test_error_keeps_its_size_where_that_of_an_elman_network_is_gone():
    """Over 500 steps, without input."""
    sizes = {"input_size": 1, "hidden_size": 16, "dtype": torch.float64, "seed": 0}
    layers = (
        ll.Antisymmetric(step=0.01, diffusion=0.001, **sizes),
        ll.Elman(weight_hh_init=ll.init.SpectralRadius(0.95), **sizes),
    )
    norms = []
    for layer in layers:
        h = torch.full((1, 16), 0.01, dtype=torch.float64, requires_grad=True)
        output, _ = layer(torch.zeros(1, 500, 1, dtype=torch.float64), h)
        (gradient,) = torch.autograd.grad(output[0, -1].sum(), h)
        norms.append(float(gradient.norm()) / 4)
    assert 0.5 < norms[0] < 2
    assert norms[1] < 1e-6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step": 0.0}, "step: got 0.0, expected a number greater than 0"),
        ({"step": math.nan}, "step: got nan, expected a number greater than 0"),
        ({"diffusion": -0.1}, "diffusion: got -0.1, expected a number of at least 0"),
        ({"diffusion": math.inf}, "diffusion: got inf, expected a number of at least 0"),
    ],
)
def test_what_is_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Antisymmetric(**fields)
