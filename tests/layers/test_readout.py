import math

import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.layers import Readout


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("direct", [None, 2])
@pytest.mark.parametrize(
    ("activation", "phi"),
    [("identity", lambda y: y), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh)],
)
def test_it_is_its_equation(activation, phi, direct, bias):
    readout = Readout(
        3, 4, direct_size=direct, bias=bias, activation=activation, dtype=torch.float64, seed=0
    )
    h, x = cases.random(5, 6, 3), cases.random(5, 6, 2, seed=1)
    expected = h @ readout.weight.T
    if direct:
        expected = expected + x @ readout.weight_direct.T
    if bias:
        expected = expected + readout.bias
    torch.testing.assert_close(readout(h, x if direct else None), phi(expected))
    assert (readout.bias is None) == (not bias)
    assert (readout.weight_direct is None) == (not direct)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 6), (2, 0, 6), (2, 5, 0)])
def test_replicas_are_that_many_readouts(shape):
    readout = Readout(3, 4, direct_size=2, replicas=2, dtype=torch.float64, seed=0)
    h, x = cases.random(*shape, 3), cases.random(*shape, 2, seed=1)
    output = readout(h, x)
    assert output.shape == (*shape, 4)
    for r in range(2):
        expected = h[r] @ readout.weight[r].T + x[r] @ readout.weight_direct[r].T + readout.bias[r]
        torch.testing.assert_close(output[r], expected)


def test_initial_values_are_within_the_fan_in_and_seeded():
    readout = Readout(60, 50, direct_size=40, seed=0)
    for parameter in readout.parameters():
        assert 0.09 < parameter.abs().max() <= 1 / math.sqrt(100)
    assert torch.equal(readout.weight, Readout(60, 50, direct_size=40, seed=0).weight)
    assert not torch.equal(readout.weight, Readout(60, 50, direct_size=40, seed=1).weight)
    three = Readout(6, 5, replicas=3, seed=0)
    assert torch.equal(three.weight[0], Readout(6, 5, seed=0).weight)
    assert not torch.equal(three.weight[0], three.weight[1])


def test_initial_values_by_an_initializer():
    readout = Readout(3, 3, direct_size=2, init=ll.init.Identity(0.5), seed=0)
    assert torch.equal(readout.weight, 0.5 * torch.eye(3))
    assert torch.equal(readout.weight_direct, 0.5 * torch.eye(3, 2))
    assert readout.bias.count_nonzero() == 0
