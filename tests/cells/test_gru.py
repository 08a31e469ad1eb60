import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import GRU


def equations(cell, x, s, p):
    """The four lines of the docstring: the reset after the product, on W_n h + b_hn, or before."""
    h = p.read(s["h"])
    r, z = (oracle.sigma(x @ p.U[g].T + h @ p.W[g].T + p.b[g]) for g in ("reset", "update"))
    if not cell.reset_after:
        m = r * s["h"]
        n = np.tanh(x @ p.U["new"].T + p.read(m) @ p.W["new"].T + p.b["new"])
        return {"h": (1 - z) * n + z * s["h"], "m": m}
    inner = h @ p.W["new"].T + p.unit.get("bias_hn", 0)
    n = np.tanh(x @ p.U["new"].T + p.b["new"] + r * inner)
    return {"h": (1 - z) * n + z * s["h"]}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("recurrent_bias", [True, False])
def test_it_is_its_equation(recurrent_bias, bias, backend):
    layer = oracle.layer_of(GRU(recurrent_bias), backend=backend, bias=bias)
    given = oracle.problem(layer.cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert ("bias_hn" in expected.gradients, "bias" in expected.gradients) == (recurrent_bias, bias)
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
def test_with_the_reset_before_the_product_it_is_its_equation(backend):
    layer = oracle.layer_of(GRU(reset_after=False), backend=backend)
    given = oracle.problem(layer.cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


def test_with_the_reset_before_the_product_it_is_that_of_keras():
    """keras.layers.GRU(reset_after=False), whose gates come as z, r, n, written as a loop."""
    layer = ll.GRU(3, 20, reset_after=False, seed=0, dtype=torch.float64)
    assert {name for name, _ in layer.named_parameters()} == {"weight_ih", "weight_hh", "bias"}
    r, z, n = (part.chunk(3) for part in (layer.weight_ih, layer.weight_hh, layer.bias))
    kernel, recurrent, bias = ((part[1], part[0], part[2]) for part in (r, z, n))
    x = torch.randn(7, 12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    h, outputs = torch.zeros(7, 20, dtype=torch.float64), []
    for step in x.unbind(1):
        x_z, x_r, x_h = (step @ k.T + b for k, b in zip(kernel, bias, strict=True))
        update = torch.sigmoid(x_z + h @ recurrent[0].T)
        reset = torch.sigmoid(x_r + h @ recurrent[1].T)
        new = torch.tanh(x_h + (reset * h) @ recurrent[2].T)
        h = update * h + (1 - update) * new
        outputs.append(h)
    output, state = layer(x)
    assert layer.backend_used == "cpu"
    expected = torch.stack(outputs, 1)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(state.h, h, rtol=0, atol=1e-13)
    weight = torch.randn(expected.shape, dtype=torch.float64)
    inputs = list(layer.parameters())
    ours = torch.autograd.grad((output * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-11)


def test_initial_values():
    layer = ll.GRU(3, 4)
    assert layer.bias.count_nonzero() == 0
    assert layer.bias_hn.shape == (4,)
    assert layer.bias_hn.count_nonzero() == 0


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, {"bias", "bias_hn"}),
        ({"bias": False}, set()),
        ({"recurrent_bias": False}, {"bias"}),
        ({"bias": False, "recurrent_bias": True}, {"bias_hn"}),
    ],
)
def test_the_second_bias_goes_with_the_first_unless_told(given, names):
    parameters = dict(ll.GRU(3, 4, **given).named_parameters())
    assert parameters.keys() == {"weight_ih", "weight_hh"} | names


def test_an_update_gate_of_one_keeps_the_state():
    layer = ll.GRU(2, 3)
    with torch.no_grad():
        layer.bias.split(3)[1].fill_(1e4)
    h = torch.tensor([[0.3, -0.2, 0.9]])
    output, _ = layer(torch.randn(1, 20, 2), h)
    torch.testing.assert_close(output, h.expand(1, 20, 3))
