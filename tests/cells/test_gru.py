import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import GRU


def equations(cell, x, s, p):
    """The four lines of the docstring: the reset after the product, on W_n h + b_hn."""
    h = p.read(s["h"])
    r, z = (oracle.sigma(x @ p.U[g].T + h @ p.W[g].T + p.b[g]) for g in ("reset", "update"))
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
