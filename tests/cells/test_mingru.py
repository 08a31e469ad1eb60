import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import MinGRU


def equations(cell, x, s, p):
    """z_t = sigma(U_z x_t + b_z), h_t = (1 - z_t) h_{t-1} + z_t g(U_h x_t + b_h)."""
    a = {gate: x @ p.U[gate].T + p.b[gate] for gate in cell.gates}
    z = oracle.sigma(a["update"])
    return {"h": (1 - z) * s["h"] + z * oracle.PHI[cell.activation](a["candidate"])}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("activation", ["identity", "positive", "tanh"])
def test_it_is_its_equation(activation, backend):
    layer = oracle.layer_of(MinGRU(activation), backend=backend)
    problem = oracle.problem(layer.cell)
    expected = oracle.answer_of_equations(equations, layer, problem)
    assert not oracle.difference(oracle.answer_of_layer(layer, problem), expected)


def test_it_equals_the_parallel_form():
    """The prefix sums that the paper computes in logarithms, written in plain numbers."""
    layer = ll.MinGRU(2, 3, activation="positive", dtype=torch.float64, seed=0)
    x = torch.randn(4, 20, 2, dtype=torch.float64)
    update, candidate = torch.nn.functional.linear(x, layer.weight_ih, layer.bias).split(3, -1)
    z = torch.sigmoid(update)
    g = torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate))
    kept = torch.cumprod(1 - z, 1)
    start = torch.full((4, 3), 0.3, dtype=torch.float64)
    expected = kept * (start.unsqueeze(1) + torch.cumsum(z * g / kept, 1))
    torch.testing.assert_close(layer(x, start)[0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
def test_positive_has_the_derivative_of_its_right_side_at_zero(backend):
    """Where x and b are 0, as in a layer as it starts, the candidate's bias still learns."""
    layer = ll.MinGRU(1, 2, activation="positive", backend=backend, dtype=torch.float64)
    output, _ = layer(torch.zeros(1, 1, 1, dtype=torch.float64))
    output.sum().backward()
    assert output.tolist() == [[[0.25, 0.25]]]
    assert layer.bias.grad[2:].tolist() == [0.5, 0.5]


def test_the_state_is_a_mean_of_what_was_and_what_comes():
    layer = ll.MinGRU(1, 5, activation="sigmoid", seed=0)
    output, _ = layer(10 * torch.randn(3, 50, 1))
    assert ((output > 0) & (output < 1)).all()


def test_chrono_biases_spread_its_memories():
    layer = ll.MinGRU(1, 500, bias_init=ll.init.Chrono(100), dtype=torch.float64, seed=0)
    keep = 1 - torch.sigmoid(layer.bias[:500].detach())
    scales = 1 / (1 - keep)
    assert 2 <= scales.min() < 5
    assert 90 < scales.max() <= 100
    assert layer.bias[500:].count_nonzero() == 0


def test_a_unit_sees_only_its_own_past():
    layer = ll.MinGRU(2, 3, dtype=torch.float64, seed=0)
    h = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 10, 2, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(layer(x, h)[0][0, -1, 1], h)
    u, b = layer.weight_ih.detach().numpy()[1], float(layer.bias.detach()[1])
    expected = np.prod(1 - oracle.sigma(x[0].numpy() @ u + b))
    np.testing.assert_allclose(gradient.numpy(), [[0, expected, 0]], rtol=1e-12, atol=0)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match=r"activation: got 'softmax'.*'positive'"):
        MinGRU("softmax")
