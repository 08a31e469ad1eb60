import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import IndRNN


def equations(cell, x, s, p):
    """h_t = phi(U x_t + w * h_{t-1} + b)."""
    a = x @ p.U["candidate"].T + p.w["candidate"] * s["h"] + p.b["candidate"]
    return {"h": oracle.PHI[cell.activation](a)}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "identity", "saturated"])
def test_it_is_its_equation(activation, backend):
    layer = oracle.layer_of(IndRNN(activation), backend=backend)
    given = oracle.problem(layer.cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


def test_initial_values():
    w = ll.IndRNN(2, 4000, initial_low=0.25, initial_high=0.75, seed=0).weight_hh_diagonal
    assert w.shape == (4000,)
    assert 0.25 <= w.min() < 0.26
    assert 0.74 < w.max() <= 0.75
    assert abs(w.mean() - 0.5) < 0.01


def test_a_unit_sees_only_its_own_past():
    layer = ll.IndRNN(2, 3, activation="identity", dtype=torch.float64, seed=0)
    h = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    output, _ = layer(torch.ones(1, 10, 2, dtype=torch.float64), h)
    (gradient,) = torch.autograd.grad(output[0, -1, 1], h)
    expected = torch.zeros(1, 3, dtype=torch.float64)
    expected[0, 1] = layer.weight_hh_diagonal[1].detach() ** 10
    torch.testing.assert_close(gradient, expected)


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match="activation: got 'softmax'"):
        IndRNN("softmax")
    with pytest.raises(ValueError, match=r"got low = 1.0 and high = 0.5, expected low <= high"):
        IndRNN(initial_low=1.0, initial_high=0.5)
