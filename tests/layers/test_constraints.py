"""Recurrent matrices that the cell keeps orthogonal or antisymmetric."""

import copy
import io
import pickle
from dataclasses import dataclass

import pytest
import torch
from tests.scan import cases
from torch import nn
from torch.nn.utils import parametrize

import longlag as ll
from longlag.recurrence import Cell, DeclarationError, Dense, sigmoid, tanh
from longlag.storage import ArchiveError

X = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Own(Cell):
    """Of two gates, one with a matrix of the kind that is asked for."""

    constraint: str | None = "orthogonal"
    gates = ("candidate", "gate")

    @property
    def wiring(self):
        return {"candidate": Dense(constraint=self.constraint)}

    def update(self, pre, state, unit):
        return {"h": tanh(pre.candidate) * sigmoid(pre.gate)}


LAYERS = {
    "orthogonal": lambda **o: ll.Elman(4, 5, constraint="orthogonal", **o),
    "antisymmetric": lambda **o: ll.Elman(4, 5, constraint="antisymmetric", **o),
    "Antisymmetric": lambda **o: ll.Antisymmetric(4, 5, **o),
    "own": lambda **o: ll.Recurrent(Own(), 4, 5, **o),
    "several": lambda **o: ll.Recurrent(cases.Kept(), 4, 6, **o),
}


def moved(layer):
    """The layer with every parameter somewhere else than it began."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return layer


def matrices(layer):
    """Each matrix with its constraint."""
    kept = [wire.constraint for wire in layer.recurrence.wires]
    return list(zip(kept, layer.weight_hh.detach().split(layer.hidden_size, -2), strict=True))


def assert_kept(layer, within):
    for constraint, matrix in matrices(layer):
        one = torch.eye(layer.hidden_size, dtype=matrix.dtype).expand_as(matrix)
        if constraint == "orthogonal":
            torch.testing.assert_close(matrix.mT @ matrix, one, rtol=0, atol=within)
        elif constraint == "antisymmetric":
            assert torch.equal(matrix, -matrix.mT)


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_wherever_training_goes_the_matrix_is_kept(name, replicas):
    layer = LAYERS[name](replicas=replicas, dtype=torch.float64)
    assert_kept(layer, 1e-12)
    before = layer.weight_hh.detach()
    assert_kept(moved(layer), 1e-12)
    assert not torch.allclose(layer.weight_hh, before)


SLOW = pytest.param("several", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["orthogonal", "Antisymmetric", SLOW])
def test_fifty_steps_of_training_keep_it(name):
    model = ll.SequenceModel(LAYERS[name](seed=0), 2, reduce=None, seed=1)
    target = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(1))
    before, losses = model.layer.weight_hh.detach(), []
    steps = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(50):
        steps.zero_grad()
        loss = nn.functional.mse_loss(model(X), target)
        losses.append(float(loss.detach()))
        loss.backward()
        steps.step()
    assert losses[-1] < losses[0]
    assert not torch.allclose(model.layer.weight_hh, before, atol=1e-3)
    assert_kept(model.layer, 1e-5)


def test_an_orthogonal_matrix_begins_as_it_is_drawn():
    free, kept = ll.Elman(4, 64, seed=0), ll.Elman(4, 64, constraint="orthogonal", seed=0)
    torch.testing.assert_close(kept.weight_hh, free.weight_hh, rtol=0, atol=1e-6)
    identity = ll.Elman(4, 5, constraint="orthogonal", weight_hh_init="identity")
    assert torch.equal(identity.weight_hh, torch.eye(5))
    kept.reset_parameters(3)
    free.reset_parameters(3)
    torch.testing.assert_close(kept.weight_hh, free.weight_hh, rtol=0, atol=1e-6)


def test_without_a_constraint_nothing_is_different():
    layer = ll.Elman(4, 5)
    assert list(layer.state_dict()) == ["weight_ih", "weight_hh", "bias"]
    assert repr(layer) == "Elman(4, 5, activation='tanh')"
    assert not hasattr(ll.Elman(4, 5), "weight_hh_raw")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_it_is_saved_and_loaded(name, replicas, dtype, tmp_path):
    layer = moved(LAYERS[name](replicas=replicas, dtype=dtype))
    layer.weight_hh_raw.requires_grad_(False)
    ll.save(layer, tmp_path / "model.longlag")
    loaded = ll.load(tmp_path / "model.longlag", cells=[Own, cases.Kept])
    assert type(loaded) is type(layer)
    assert loaded.cell == layer.cell or name == "several"
    assert not loaded.weight_hh_raw.requires_grad
    assert loaded.weight_ih.requires_grad
    assert torch.equal(loaded.weight_hh, layer.weight_hh)
    x = (X if replicas is None else X.expand(2, *X.shape)).to(dtype)
    assert torch.equal(loaded(x)[0], layer(x)[0])


def test_a_model_of_layers_that_are_kept_is_saved(tmp_path):
    stack = ll.Stack(ll.Bidirectional(LAYERS["orthogonal"]()), ll.Antisymmetric(10, 3))
    model = ll.SequenceModel(stack, 2)
    ll.save(model, tmp_path / "model.longlag")
    assert torch.equal(ll.load(tmp_path / "model.longlag")(X), model.eval()(X))


@pytest.mark.parametrize("other", [None, "antisymmetric"])
def test_a_cell_that_keeps_something_else_does_not_load_it(other, tmp_path):
    @dataclass(frozen=True)
    class Other(Own):
        """The same equations, and another constraint."""

        @property
        def wiring(self):
            return {"candidate": Dense(constraint=other)}

    Other.__name__ = "Own"
    ll.save(LAYERS["own"](), tmp_path / "model.longlag")
    with pytest.raises(ArchiveError, match="the equations of the cell 'Own' are not those"):
        ll.load(tmp_path / "model.longlag", cells=[Other])


@pytest.mark.parametrize("name", ["orthogonal", "Antisymmetric"])
def test_it_is_copied_and_pickled(name):
    layer = moved(LAYERS[name]())
    stored = io.BytesIO()
    torch.save(layer, stored)
    stored.seek(0)
    others = (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),  # noqa: S301 - our own bytes
        torch.load(stored, weights_only=False),
    )
    for other in others:
        assert torch.equal(other(X)[0], layer(X)[0])
        assert other.weight_hh_raw is not layer.weight_hh_raw


def test_both_directions_are_drawn_apart():
    both = ll.Bidirectional(ll.Elman(4, 5, constraint="orthogonal", seed=0), seed=1)
    assert_kept(both.backward_layer, 1e-6)
    assert not torch.allclose(both.forward_layer.weight_hh, both.backward_layer.weight_hh)


def test_layers_that_share_what_is_trained_share_w():
    one, other = LAYERS["orthogonal"](), LAYERS["orthogonal"]()
    other.weight_hh_raw, other.weight_hh_base = one.weight_hh_raw, one.weight_hh_base
    moved(one)
    assert torch.equal(one.weight_hh, other.weight_hh)
    sent = torch.autograd.grad(one(X)[0].sum() + other(X)[0].sum(), one.weight_hh_raw)[0]
    apart = [torch.autograd.grad(k(X)[0].sum(), k.weight_hh_raw)[0] for k in (one, other)]
    torch.testing.assert_close(sent, sum(apart))


METHODS = {
    "RTRL": ll.RTRL(),
    "CheckpointedBPTT": ll.CheckpointedBPTT(4),
    "TruncatedBPTT": ll.TruncatedBPTT(6),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["orthogonal", "Antisymmetric", SLOW])
def test_methods_that_look_inside_find_the_gradients_of_what_is_trained(name, method):
    layer = moved(LAYERS[name](dtype=torch.float64))
    model = ll.SequenceModel(layer, 2, reduce=None)
    arguments = (model, X.double(), torch.ones(3, 6, 2).double(), ll.training.mse)
    ours, theirs = METHODS[method].gradients(*arguments), ll.BPTT().gradients(*arguments)
    assert "layer.weight_hh_raw" in theirs
    assert ours.keys() == theirs.keys()
    for parameter, gradient in theirs.items():
        assert gradient.count_nonzero() > 0
        torch.testing.assert_close(ours[parameter], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["orthogonal", "antisymmetric"])
def test_the_gradient_of_omega_goes_on_to_what_is_trained(name):
    kept = ll.SequenceModel(moved(LAYERS[name](dtype=torch.float64)), 2, reduce=None, seed=1)
    free = ll.SequenceModel(ll.Elman(4, 5, dtype=torch.float64), 2, reduce=None, seed=1)
    values = {part: getattr(kept.layer, part) for part in ("weight_ih", "weight_hh", "bias")}
    free.layer.load_state_dict(values)
    data = X.double(), torch.ones(3, 6, 2).double(), ll.training.mse
    ours = ll.Omega().gradients(kept, *data)["layer.weight_hh_raw"]
    by_w = ll.Omega().gradients(free, *data)["layer.weight_hh"]
    (expected,) = torch.autograd.grad(kept.layer.weight_hh, kept.layer.weight_hh_raw, by_w)
    assert expected.count_nonzero() > 0
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_learners_that_change_weights_in_place_refuse_it_by_name():
    model = ll.SequenceModel(LAYERS["orthogonal"](), 2, reduce=None)
    with pytest.raises(ValueError, match="weight_hh of Elman is kept orthogonal by the cell, and"):
        ll.RTRL(online=True).start(model, 0.1)


@pytest.mark.parametrize("name", ["orthogonal", "Antisymmetric"])
def test_reports_are_of_the_matrix_as_it_is(name):
    layer = moved(LAYERS[name](dtype=torch.float64))
    model = ll.SequenceModel(layer, 2, reduce=None)
    report = ll.memory_report(model, X.double(), torch.ones(3, 6, 2).double(), lag=5)
    assert report.verdict.headline
    assert "weight_hh_raw" in dict(layer.named_parameters())


def test_torch_func_sees_what_is_trained():
    layer = LAYERS["orthogonal"](dtype=torch.float64)
    values = {name: p.detach() for name, p in moved(copy.deepcopy(layer)).named_parameters()}
    output, _ = torch.func.functional_call(layer, values, (X.double(),))
    expected, _ = moved(layer)(X.double())
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("init", ["glorot", ll.init.Orthogonal(0.9), ll.init.Uniform(0.0, 0.0)])
def test_an_initializer_that_draws_no_orthogonal_matrix_is_refused(init):
    with pytest.raises(
        ValueError, match=r"weight_hh_init: got .*, which draws a matrix that is not"
    ):
        ll.Elman(4, 5, constraint="orthogonal", weight_hh_init=init)
    ll.Elman(4, 5, constraint="antisymmetric", weight_hh_init=init)


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(
        ValueError, match="constraint: got 'unitary', expected None, 'orthogonal' or"
    ):
        ll.Elman(4, 5, constraint="unitary")
    with pytest.raises(DeclarationError, match=r"got pattern = .* and constraint = 'orthogonal'"):
        Dense(pattern=((1, 0), (0, 1)), constraint="orthogonal")
    with pytest.raises(
        ValueError, match=r"density: got 0\.5, expected None, as Elman keeps W ortho"
    ):
        ll.Elman(4, 5, constraint="orthogonal", density=0.5)
    with pytest.raises(ValueError, match=r"to_torch: .* it keeps no recurrent matrix orthogonal"):
        ll.layers.to_torch(ll.Elman(4, 5, constraint="orthogonal"))


@pytest.mark.parametrize("name", ["orthogonal", "Antisymmetric"])
def test_terms_by_lag_are_those_of_the_matrix_as_it_is(name):
    layer = moved(LAYERS[name](dtype=torch.float64))
    data = X.double(), torch.ones(3, 6, 5).double(), ll.training.mse
    terms = ll.gradients.gradient_by_lag(layer, *data, step="all").total()
    sent = torch.autograd.grad(layer.weight_hh, layer.weight_hh_raw, terms["weight_hh"])
    expected = ll.BPTT().gradients(layer, *data)["weight_hh_raw"]
    torch.testing.assert_close(sent[0], expected, rtol=1e-9, atol=1e-12)


def test_another_matrix_in_its_place_is_refused():
    layer = LAYERS["orthogonal"]()
    with pytest.raises(AttributeError, match="weight_hh: Elman keeps it orthogonal, so that it"):
        layer.weight_hh = nn.Parameter(torch.eye(5))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_what_is_trained_may_be_computed_in_its_turn(tmp_path):
    layer = moved(LAYERS["Antisymmetric"]())
    before = layer.weight_hh.detach()
    parametrize.register_parametrization(layer, "weight_hh_raw", Doubled())
    assert torch.equal(layer.weight_hh, 2 * before)
    assert layer.replaced == ("weight_hh_raw",)
    with pytest.raises(TypeError, match="weight_hh_raw is computed from other parameters"):
        ll.save(layer, tmp_path / "model.longlag")
    with pytest.raises(ValueError, match="weight_hh_raw: is computed from other parameters"):
        layer.reset_parameters()
