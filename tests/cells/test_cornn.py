import math

import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import CoRNN

CELLS = {"of the paper": CoRNN(), "slow and little damped": CoRNN(0.5, 2.0, 0.3)}


def equations(cell, x, s, p):
    """z_t = z + D (tanh(U x_t + W y + W' z + b) - gamma y - epsilon z); y_t = y + D z_t."""
    w_y, w_z = p.W["candidate"]
    y, z = s["y"], s["z"]
    inside = x @ p.U["candidate"].T + p.read(y) @ w_y.T + p.read(z) @ w_z.T + p.b["candidate"]
    z = z + cell.step * (np.tanh(inside) - cell.gamma * y - cell.epsilon * z)
    return {"y": y + cell.step * z, "z": z}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_it_is_its_equation(cell, backend):
    layer = oracle.layer_of(cell, backend=backend)
    problem = oracle.problem(cell)
    expected = oracle.answer_of_equations(equations, layer, problem)
    assert not oracle.difference(oracle.answer_of_layer(layer, problem), expected)


def test_replicas_equal_the_layers_one_by_one():
    both = ll.CoRNN(2, 3, replicas=2, seed=0, dtype=torch.float64)
    x = torch.randn(2, 4, 7, 2, dtype=torch.float64)
    output, state = both(x)
    for replica in range(2):
        one = ll.CoRNN(2, 3, seed=0, dtype=torch.float64)
        one.load_state_dict({name: p[replica] for name, p in both.state_dict().items()})
        alone, final = one(x[replica])
        torch.testing.assert_close(output[replica], alone, rtol=0, atol=1e-14)
        torch.testing.assert_close(state.z[replica], final.z, rtol=0, atol=1e-14)


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_without_input_and_coupling_it_is_a_damped_oscillator(epsilon):
    """In small steps y follows the solution of y'' = -gamma y - epsilon y', from y = 1 at rest."""
    step, gamma = 0.001, 4.0
    layer = ll.CoRNN(1, 1, step=step, gamma=gamma, epsilon=epsilon, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh.zero_()
    one, rest = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    output, _ = layer(torch.zeros(1, 5000, 1, dtype=torch.float64), (one, rest))
    time = step * torch.arange(1, 5001, dtype=torch.float64)
    omega = math.sqrt(gamma - epsilon**2 / 4)
    wave = torch.cos(omega * time) + epsilon / (2 * omega) * torch.sin(omega * time)
    expected = torch.exp(-epsilon / 2 * time) * wave
    torch.testing.assert_close(output[0, :, 0], expected, rtol=0, atol=3e-3)


def test_gradients_last_where_those_of_an_elman_network_are_gone():
    """The paper's bound: for small steps no exponential in the number of them."""
    sizes = {"hidden_size": 16, "input_size": 1, "seed": 0, "dtype": torch.float64}
    slow = ll.CoRNN(step=0.01, gamma=1.0, epsilon=0.1, **sizes)
    elman = ll.Elman(weight_hh_init=ll.init.SpectralRadius(0.9), **sizes)
    norms = []
    for layer in (slow, elman):
        x = torch.ones(1, 1000, 1, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(x)[0][0, -1].sum(), x)
        norms.append(float(gradient[0, 0].abs() / gradient.abs().max()))
    assert norms[0] > 1e-3
    assert norms[1] < 1e-12


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step": 0.0}, "step: got 0.0, expected a number greater than 0"),
        ({"step": math.nan}, "step: got nan, expected a number greater than 0"),
        ({"gamma": -1.0}, "gamma: got -1.0, expected a number greater than 0"),
        ({"epsilon": -0.1}, "epsilon: got -0.1, expected a number of at least 0"),
        ({"step": 0.2}, "step: got 0.2 with gamma = 66.0 .* would grow by themselves"),
    ],
)
def test_what_is_out_of_range_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        CoRNN(**fields)


def test_the_bound_on_the_step_is_that_of_the_oscillator():
    """Just inside it the free motion decays; outside, the same recursion grows."""
    inside = CoRNN(0.1, 199.0, 10.0)
    for gamma, decays in ((inside.gamma, True), (201.0, False)):
        motion = np.array([[1 - 0.01 * gamma, 0.1 * 0.0], [-0.1 * gamma, 0.0]])
        assert (abs(np.linalg.eigvals(motion)).max() < 1) == decays
    with pytest.raises(ValueError, match="take a smaller step"):
        CoRNN(0.1, 201.0, 10.0)
