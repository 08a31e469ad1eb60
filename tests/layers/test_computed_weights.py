"""Weights that something else computes: parametrizations, pruning, tensors put in their place."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import longlag as ll

X = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).double()
WEIGHTS = ("weight_ih", "weight_hh", "bias")


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Halved(nn.Module):
    def forward(self, weight):
        return 0.5 * weight


def replaced(layer, name):
    weight = nn.Parameter(getattr(layer, name).detach().clone())
    delattr(layer, name)
    layer.register_parameter(f"{name}_of_ours", weight)
    setattr(layer, name, 3 * weight)


WAYS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "own": lambda layer, name: parametrize.register_parametrization(layer, name, Doubled()),
    "two": lambda layer, name: (
        parametrize.register_parametrization(layer, name, Doubled()),
        parametrize.register_parametrization(layer, name, Halved()),
    ),
    "old weight_norm": weight_norm,
    "old spectral_norm": spectral_norm,
    "pruned": lambda layer, name: prune.l1_unstructured(layer, name, amount=0.3),
    "pruned at random": lambda layer, name: prune.random_unstructured(layer, name, amount=0.5),
    "a tensor": replaced,
}
QUICK = ("orthogonal", "old weight_norm", "a tensor")
SOME = [pytest.param(way, marks=() if way in QUICK else pytest.mark.slow) for way in WAYS]
LAYERS = {
    "Elman": lambda: ll.Elman(4, 6, dtype=torch.float64),
    "LSTM": lambda: ll.LSTM(4, 6, dtype=torch.float64),
    "GRU": lambda: ll.GRU(4, 6, dtype=torch.float64),
}


def prepared(name, way, weight):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    WAYS[way](layer, weight)
    if way == "old spectral_norm":
        for _ in range(20):
            layer(X)
    layer.eval()  # spectral_norm takes a step of its iteration in each call while training
    return layer


def allowed(way, weight):
    matrix = weight != "bias"
    return matrix or way in ("own", "two", "pruned", "pruned at random", "a tensor")


CASES = [
    pytest.param(name, way, weight, marks=() if name == "LSTM" else pytest.mark.slow)
    for name in LAYERS
    for way in WAYS
    for weight in WEIGHTS
    if allowed(way, weight)
]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(("name", "way", "weight"), CASES)
def test_the_weight_is_read_and_its_gradient_reaches_the_original(name, way, weight):
    layer = prepared(name, way, weight)
    plain = LAYERS[name]()
    output, state = layer(X)
    values = {own: getattr(layer, own).detach().clone() for own in WEIGHTS}
    plain.load_state_dict(values, strict=False)
    wanted, final = plain(X)
    assert torch.equal(output, wanted)
    assert torch.equal(state.h, final.h)
    trained = [p for p in layer.parameters() if p.requires_grad]
    sent = torch.autograd.grad(output.square().sum(), trained, allow_unused=True, retain_graph=True)
    (by_weight,) = torch.autograd.grad(wanted.square().sum(), [getattr(plain, weight)])
    value = getattr(layer, weight)
    if way.startswith("pruned") or way in ("old weight_norm", "old spectral_norm"):
        layer(X)  # the hook has made the weight anew, with a graph
        value = getattr(layer, weight)
    again = torch.autograd.grad(value, trained, by_weight, allow_unused=True)
    changed = 0
    for one, other in zip(sent, again, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
            changed += 1
    assert changed


@pytest.mark.slow
def test_training_through_a_parametrization_learns():
    torch.manual_seed(0)
    model = ll.SequenceModel(ll.Elman(4, 6, seed=0), 1, seed=1)
    parametrizations.orthogonal(model.layer, "weight_hh")
    x, y = X.float(), torch.ones(3, 1)
    history = ll.fit(model, (x, y), epochs=60, progress=False, batch_size=3)
    losses = [record.loss for record in history.records] if hasattr(history, "records") else None
    assert losses is None or losses[-1] < 0.5 * losses[0]
    matrix = model.layer.weight_hh
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(6), rtol=0, atol=1e-5)


METHODS = {
    "RTRL": ll.RTRL(),
    "SnAp1": ll.SnAp1(),
    "CheckpointedBPTT": ll.CheckpointedBPTT(4),
    "TruncatedBPTT": ll.TruncatedBPTT(5),
}


def mse(output, target):
    return nn.functional.mse_loss(output, target)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("method", ["RTRL", "CheckpointedBPTT", "TruncatedBPTT"])
@pytest.mark.parametrize("way", SOME)
def test_methods_that_look_inside_find_the_gradients_of_the_originals(way, method):
    model = ll.SequenceModel(prepared("Elman", way, "weight_hh"), 2, reduce=None, seed=1).double()
    model.eval()
    target = torch.ones(3, 5, 2).double()
    found = METHODS[method].gradients(model, X, target, mse)
    if way == "a tensor":  # its graph, which was made once, can be gone through once
        model.layer.weight_hh = 3 * model.layer.weight_hh_of_ours
    wanted = ll.BPTT().gradients(model, X, target, mse)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [ll.RTRL(online=True), ll.TruncatedBPTT(2)])
def test_training_window_by_window_moves_the_originals(method):
    torch.manual_seed(0)
    model = ll.SequenceModel(ll.GRU(4, 6, seed=0), 2, reduce=None, seed=1)
    parametrizations.weight_norm(model.layer, "weight_hh")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ll.fit(model, (X.float(), torch.ones(3, 5, 2)), epochs=2, method=method, progress=False)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(before)


@pytest.mark.parametrize("method", [ll.Omega(), ll.SnAp1()])
def test_biased_methods_take_the_chain_rule_too(method):
    torch.manual_seed(0)
    plain = ll.SequenceModel(ll.Elman(4, 6, dtype=torch.float64, seed=0), 2, reduce=None, seed=1)
    plain = plain.double()
    model = ll.SequenceModel(ll.Elman(4, 6, dtype=torch.float64, seed=0), 2, reduce=None, seed=1)
    model = model.double()
    with torch.no_grad():
        plain.layer.weight_hh.mul_(2)
    parametrize.register_parametrization(model.layer, "weight_hh", Doubled())
    target = torch.ones(3, 5, 2).double()
    found = method.gradients(model, X, target, mse)
    wanted = method.gradients(plain, X, target, mse)
    torch.testing.assert_close(
        found["layer.parametrizations.weight_hh.original"], 2 * wanted["layer.weight_hh"]
    )


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("way", SOME)
def test_measures_and_reports_are_of_the_weights_as_they_are(way):
    layer = prepared("Elman", way, "weight_hh")
    plain = LAYERS["Elman"]()
    plain.load_state_dict({own: getattr(layer, own).detach() for own in WEIGHTS})
    for measure in (
        lambda one: ll.state_jacobians(one, X),
        lambda one: ll.memory.spectral_facts(one).matrices["candidate"].norm,
        lambda one: ll.memory_report(one, X, torch.ones(3, 5, 6).double(), "mse").flow.loss,
    ):
        torch.testing.assert_close(measure(layer), measure(plain))
    with ll.watch(layer) as watched:
        layer(X)[0].sum().backward()
    (seen,) = watched.values()
    assert torch.isfinite(seen.norms().largest.mean[1:4]).all()


def test_an_old_weight_that_an_update_has_left_behind_is_made_anew():
    layer = prepared("Elman", "pruned", "weight_hh")
    with torch.no_grad():
        layer.weight_hh_orig.mul_(0.5)
    measured = ll.state_jacobians(layer, X)
    layer(X)
    plain = LAYERS["Elman"]()
    plain.load_state_dict({own: getattr(layer, own).detach() for own in WEIGHTS})
    torch.testing.assert_close(measured, ll.state_jacobians(plain, X))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("way", WAYS)
def test_what_no_file_can_hold_is_refused_and_nothing_written(way, tmp_path):
    layer = prepared("LSTM", way, "weight_hh")
    with pytest.raises(TypeError, match="weight_hh is computed from other parameters"):
        ll.save(layer, tmp_path / "layer.longlag")
    assert not list(tmp_path.iterdir())


def test_made_plain_again_it_is_saved(tmp_path):
    layer = prepared("LSTM", "spectral_norm", "weight_hh")
    parametrize.remove_parametrizations(layer, "weight_hh")
    ll.save(layer, tmp_path / "layer.longlag")
    assert torch.equal(ll.load(tmp_path / "layer.longlag")(X)[0], layer(X)[0])


def test_what_changes_weights_in_place_refuses_computed_ones():
    model = ll.SequenceModel(prepared("Elman", "own", "weight_hh"), 1, reduce=None)
    with pytest.raises(ValueError, match=r"weight_hh of Elman is computed .* RTRL changes weights"):
        ll.RTRL(online=True).start(model, learning_rate=0.1)


@pytest.mark.parametrize("way", ["weight_norm", "own", "pruned"])
def test_a_stack_and_two_directions(way):
    layers = [prepared("GRU", way, "weight_hh") for _ in range(2)]
    layers[0](X)
    stacks = [ll.Stack(layer, ll.Elman(6, 6, dtype=torch.float64)) for layer in layers]
    with pytest.raises(ValueError, match="backward_layer: expected a layer, as weight_hh"):
        ll.Bidirectional(stacks[0])
    module = ll.Bidirectional(*stacks)
    output, _ = module(X)
    output.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("way", [way for way in WAYS if way != "a tensor"])
def test_a_copy_computes_on_its_own(way):
    layer = prepared("Elman", way, "weight_hh")
    wanted, _ = layer(X)  # which leaves a tensor with a graph behind, where a hook makes it
    again = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    output, _ = again(X)
    assert torch.equal(output, wanted)
    output.sum().backward()
    assert all(p.grad is not None for p in again.parameters())


@pytest.mark.parametrize("way", ["weight_norm", "old spectral_norm", "pruned"])
def test_initial_values_are_not_drawn_past_what_computes_them(way):
    layer = prepared("LSTM", way, "weight_hh")
    with pytest.raises(ValueError, match="weight_hh: is computed from other parameters"):
        layer.reset_parameters()


def test_replicas():
    layer = ll.LSTM(4, 6, replicas=2, dtype=torch.float64)
    parametrize.register_parametrization(layer, "weight_ih", Doubled())
    output, _ = layer(X.expand(2, *X.shape))
    assert output.shape == (2, 3, 5, 6)


def test_functional_call_puts_tensors_in_the_place_of_parameters():
    layer = ll.Elman(4, 6, dtype=torch.float64)
    doubled = {name: 2 * p for name, p in layer.named_parameters()}
    output, _ = torch.func.functional_call(layer, doubled, (X,))
    plain = LAYERS["Elman"]()
    plain.load_state_dict({name: value.detach() for name, value in doubled.items()})
    assert torch.equal(output, plain(X)[0])
