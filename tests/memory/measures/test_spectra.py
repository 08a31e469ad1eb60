"""spectral_facts against numbers known by hand."""

import pytest
import torch
from tests.scan.cases import Blocks, Delayed, Mixed, layer_of

import longlag as ll
from longlag.memory import spectral_facts
from longlag.recurrence import Absent, Cell, Dense, UnitParameter, exp, relu, sin, tanh

DOUBLE = {"dtype": torch.float64}


@pytest.mark.parametrize(
    ("activation", "gamma"),
    [("tanh", 1.0), ("sigmoid", 0.25), ("relu", 1.0), ("identity", 1.0), ("saturated", 1.0),
     ("bipolar", 0.5), ("double_bipolar", 1.0)],
)  # fmt: skip
def test_gamma_of_every_activation(activation, gamma):
    layer = ll.Elman(2, 5, activation=activation, seed=0, **DOUBLE)
    for scale in (0.99, 1.01):
        with torch.no_grad():
            layer.weight_hh.mul_(scale / gamma / torch.linalg.matrix_norm(layer.weight_hh, 2))
        facts = spectral_facts(layer)
        assert facts.gamma == pytest.approx(gamma, rel=1e-9)
        assert facts.critical == pytest.approx(1 / gamma)
        assert float(facts.step_bound) == pytest.approx(scale)
        assert bool(facts.vanishes) == (scale < 1)
        assert bool(facts.may_explode) == (scale > 1)
        assert float(facts.log_bound(torch.tensor([0, 10]))[1].exp()) == pytest.approx(scale**10)
        assert float(facts.log_bound(torch.tensor([0, 10]))[0]) == 0.0
    leaky = ll.Leaky(2, 5, leak=0.2, activation=activation, seed=0, **DOUBLE)
    assert spectral_facts(leaky).gamma == pytest.approx(gamma, rel=1e-9)


def test_norms_and_radius_by_gate():
    layer = ll.Elman(1, 2, **DOUBLE)
    with torch.no_grad():
        layer.weight_hh.copy_(torch.tensor([[0.5, 3.0], [0.0, -0.6]]))
    (facts,) = spectral_facts(layer).matrices.values()
    values = torch.linalg.svdvals(layer.weight_hh.detach())
    assert float(facts.radius) == pytest.approx(0.6)
    torch.testing.assert_close(facts.norm, values[0])
    torch.testing.assert_close(facts.smallest, values[1])
    gru = ll.GRU(2, 3, seed=0, **DOUBLE)
    matrices = spectral_facts(gru).matrices
    assert list(matrices) == ["reset", "update", "new"]
    torch.testing.assert_close(
        matrices["new"].norm, torch.linalg.matrix_norm(gru.weight_hh[6:].detach(), 2)
    )


def test_leaky_units():
    """(1 - a) + a gamma ||W||, with one a, trained or not; the least and the most of many."""
    for options in ({}, {"train_leak": True}, {"train_leak": True, "shared_leak": True}):
        layer = ll.Leaky(2, 5, leak=0.2, activation="sigmoid", seed=0, **options, **DOUBLE)
        norm = float(torch.linalg.matrix_norm(layer.weight_hh.detach(), 2))
        assert float(spectral_facts(layer).step_bound) == pytest.approx(0.8 + 0.2 * norm / 4)
    layer = ll.Leaky(2, 3, leak=(0.1, 0.5, 1.0), seed=0, **DOUBLE)
    scaled = torch.tensor([0.1, 0.5, 1.0], **DOUBLE).unsqueeze(1) * layer.weight_hh.detach()
    expected = 0.9 + float(torch.linalg.matrix_norm(scaled, 2))
    assert float(spectral_facts(layer).step_bound) == pytest.approx(expected)
    alone = spectral_facts(ll.Leaky(2, 3, leak=0.1, recurrent=False))
    assert float(alone.step_bound) == pytest.approx(0.9)
    assert alone.matrices == {}


def test_one_weight_for_each_unit():
    layer = ll.IndRNN(2, 3, **DOUBLE)
    with torch.no_grad():
        layer.weight_hh_diagonal.copy_(torch.tensor([0.3, -0.9, 0.5]))
    facts = spectral_facts(layer)
    assert float(facts.step_bound) == pytest.approx(0.9)
    assert float(facts.matrices["candidate"].radius) == pytest.approx(0.9)


class Own(Cell):
    """Half of the past, and a bump whose slope is steepest off 0, by a trained amount."""

    gates = ("g",)
    unit_parameters = {"k": UnitParameter(0.5)}

    def update(self, pre, state, unit):
        return {"h": state.h / 2 + 3 * unit.k * exp(-(pre.g**2))}


class Square(Cell):
    gates = ("g",)

    def update(self, pre, state, unit):
        return {"h": relu(pre.g) ** 2}


class Multiplied(Cell):
    gates = ("g",)

    def update(self, pre, state, unit):
        return {"h": state.h * sin(pre.g)}


class Steep(Cell):
    gates = ("g",)
    unit_parameters = {"k": UnitParameter(0.5)}

    def update(self, pre, state, unit):
        return {"h": tanh(unit.k * pre.g)}


class Truncated(Cell):
    gates = ("g",)
    wiring = {"g": Dense(truncated=True)}

    def update(self, pre, state, unit):
        return {"h": 0.25 * state.h + tanh(pre.g)}


class Input(Cell):
    gates = ("g",)
    wiring = {"g": Absent()}

    def update(self, pre, state, unit):
        return {"h": tanh(pre.g)}


def test_cells_of_ones_own():
    layer = ll.Recurrent(Own(), 2, 4, seed=0, **DOUBLE)
    facts = spectral_facts(layer)
    steepest = 3 * 2**0.5 * torch.exp(torch.tensor(-0.5)).item()
    assert facts.gamma == pytest.approx(steepest, rel=1e-6)
    norm = float(torch.linalg.matrix_norm(layer.weight_hh.detach(), 2))
    assert float(facts.step_bound) == pytest.approx(0.5 + 0.5 * steepest * norm, rel=1e-6)
    assert float(spectral_facts(ll.Recurrent(Truncated(), 2, 4)).step_bound) == 0.25
    nothing = spectral_facts(ll.Recurrent(Input(), 2, 4))
    assert nothing.log_bound(torch.tensor([0, 1])).tolist() == [0.0, -torch.inf]
    blocks = layer_of(Blocks(), 2, 6)
    matrix = blocks.weight_hh.detach().clone()
    matrix[2:, :2] = matrix[4:, 2:4] = 0
    norm = torch.linalg.matrix_norm(matrix, 2)
    torch.testing.assert_close(spectral_facts(blocks).step_bound, norm)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (ll.LSTM(2, 3), "LSTM has 2 states and 4 gates"),
        (ll.GRU(2, 3), "GRU has 1 state and 3 gates"),
        (ll.Recurrent(Delayed(), 2, 3), "Delayed has 3 states and 1 gate"),
        (ll.Recurrent(Mixed(), 2, 3), "Mixed has 3 states and 6 gates"),
        (ll.Recurrent(Square(), 2, 3), "Square: the slope of its activation has no upper limit"),
        (ll.Recurrent(Multiplied(), 2, 3), "Multiplied: its state and its activation multiply"),
        (ll.Recurrent(Steep(), 2, 3), "Steep: the slope of its activation depends on its unit"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_where_there_is_no_bound_there_is_a_reason(layer, reason):
    facts = spectral_facts(layer)
    assert facts.reason.startswith(reason)
    assert facts.matrices
    assert facts.step_bound is facts.vanishes is facts.may_explode is facts.gamma is None
    assert facts.log_bound(torch.tensor([1])) is None


def test_replicas_stand_in_front():
    layer = ll.Leaky(2, 3, replicas=2, seed=0, **DOUBLE)
    facts = spectral_facts(layer)
    norms = torch.linalg.matrix_norm(layer.weight_hh.detach(), 2)
    torch.testing.assert_close(facts.step_bound, 0.9 + 0.1 * norms)
    assert facts.log_bound(torch.arange(5)).shape == (2, 5)
    assert spectral_facts(ll.IndRNN(2, 3, replicas=2)).step_bound.shape == (2,)


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"layer: got Stack, expected one recurrent layer"):
        spectral_facts(ll.Stack(ll.Elman(2, 3)))
    with pytest.raises(TypeError, match=r"layer: got Linear, expected one recurrent layer"):
        spectral_facts(torch.nn.Linear(2, 2))


def test_weights_that_are_not_finite_make_numbers_that_are_none():
    layer = ll.Elman(2, 3, seed=0)
    with torch.no_grad():
        layer.weight_hh[0, 0] = torch.nan
    found = spectral_facts(layer)
    assert found.matrices["candidate"].norm.isnan()
    assert found.step_bound is not None
    assert found.step_bound.isnan()
    assert not found.vanishes
    assert not found.may_explode
