import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import Elman

ACTIVATIONS = ("tanh", "sigmoid", "relu", "identity", "saturated", "positive")


def equations(cell, x, s, p):
    """h_t = phi(U x_t + W h_{t-1} + b)."""
    h = p.read(s["h"])
    a = x @ p.U["candidate"].T + h @ p.W["candidate"].T + p.b["candidate"]
    return {"h": oracle.PHI[cell.activation](a)}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_is_its_equation(activation, backend):
    layer = oracle.layer_of(Elman(activation), backend=backend)
    given = oracle.problem(layer.cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("constraint", ["orthogonal", "antisymmetric"])
def test_it_is_its_equation_of_a_matrix_that_is_kept(constraint, backend):
    layer = oracle.layer_of(Elman(constraint=constraint), backend=backend)
    problem = oracle.problem(layer.cell)
    expected = oracle.answer_of_equations(equations, layer, problem)
    assert not oracle.difference(oracle.answer_of_layer(layer, problem), expected)


def test_every_activation_is_another_network():
    x = torch.linspace(-3, 3, 24).reshape(1, 8, 3)
    outputs = [ll.Elman(3, 4, activation=name, seed=0)(x)[0] for name in ACTIVATIONS]
    for number, output in enumerate(outputs):
        assert all(not torch.allclose(output, other) for other in outputs[:number])


def test_without_bias_there_is_none():
    layer = oracle.layer_of(Elman(), bias=False)
    given = oracle.problem(layer.cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert "bias" not in expected.gradients
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


def test_initial_values():
    layer = ll.Elman(15, 16, seed=0)
    assert [tuple(p.shape) for p in layer.parameters()] == [(16, 15), (16, 16), (16,)]
    assert layer.bias.count_nonzero() == 0
    torch.testing.assert_close(layer.weight_hh @ layer.weight_hh.T, torch.eye(16))


def test_an_unknown_activation_is_refused():
    message = r"activation: got 'softmax', expected one of 'tanh', 'sigmoid', 'relu', 'identity'"
    with pytest.raises(ValueError, match=message):
        Elman("softmax")
