"""Networks that go side by side, each in a lane of its own, are what they are alone."""

import gc
from typing import ClassVar

import numpy as np
import pytest
import torch
from tests.training.compiled.test_compiled import CASES as KNOWN
from tests.training.compiled.test_compiled import HIDDEN, INPUTS, data, frozen, model, stacked
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import SGD, Adam

import longlag as ll
from longlag.batch import Batch
from longlag.gradients import BPTT
from longlag.recurrence import Cell, UnitParameter, sigmoid, tanh
from longlag.training import fit, fit_replicas
from longlag.training.compiled import networks
from longlag.training.compiled.lanes import networks_at_once
from longlag.training.compiled.network import network_of
from longlag.training.compiled.outputs import Outputs


class Own(Cell):
    """A cell of one's own."""

    gates = ("a", "b")
    unit_parameters: ClassVar = {"k": UnitParameter(0.5, trained=True)}

    def update(self, pre, state, unit):
        return {"h": sigmoid(pre.a) * state.h + tanh(pre.b) * unit.k}


CASES = KNOWN | {
    "share, whole": (
        frozen(ll.Elman),
        lambda p: SGD(p, 0.1),
        {"reduce": "share_max"},
    ),
    "own": (
        lambda *sizes, **options: ll.Recurrent(Own(), *sizes, **options),
        lambda p: SGD(p, 1e-2, momentum=0.9, weight_decay=0.1),
        {"loss": "mse", "each_step": True},
    ),
}
FEW = ["elman", "weights"]
FURTHER = [
    "share, whole",
    "gru", "lstm", "leaky", "stack", "reset before", "logistic of many", "lion", "quantile",
    "indrnn", "1997", "mean", "attention, whole", "direct", "own",
]  # fmt: skip


def close(one, other, tolerance):
    one, other = (torch.as_tensor(part).detach() for part in (one, other))
    assert one.shape == other.shape
    assert float((one - other).abs().max()) <= tolerance * max(1.0, float(one.abs().max()))


@pytest.fixture
def at_once(monkeypatch):
    """How many networks went side by side, each time that it was asked."""
    found = []

    def ask(*arguments):
        found.append(networks_at_once(*arguments))
        return found[-1]

    monkeypatch.setattr(networks, "networks_at_once", ask)
    return found


@pytest.mark.parametrize(
    "case", [*FEW, *(pytest.param(n, marks=pytest.mark.long) for n in FURTHER)]
)
@pytest.mark.parametrize(
    "dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.long)]
)
def test_after_1_10_and_100_updates_each_is_what_it_is_alone(case, dtype, at_once):
    kind, optimizer, options = CASES[case]
    given = data(dtype, **{n: options[n] for n in {"outputs", "each_step", "loss"} & set(options)})
    described = {n: options[n] for n in set(options) - {"clip_norm", "loss"}}

    def made(seed):
        layer = stacked(dtype) if kind is None else kind(INPUTS, HIDDEN, seed=seed, dtype=dtype)
        return model(layer, **described, dtype=dtype)

    common = {"loss": options.get("loss"), "batch_size": 5, "progress": False}
    clips, tolerance = [options.get("clip_norm"), 0.05], 1e-10 if dtype == torch.float64 else 1e-4
    for steps in (1, 10, 100):
        models, histories = fit_replicas(
            made, given, seeds=[1, 2], steps=steps, optimizer=optimizer, clip_norm=clips, **common
        )
        for seed, one, history, clip_norm in zip([1, 2], models, histories, clips, strict=True):
            alone = made(seed)
            expected = fit(
                alone, given, seed=seed, steps=steps, optimizer=optimizer, clip_norm=clip_norm,
                step="compiled", **common,
            )  # fmt: skip
            close(history.losses, expected.losses, tolerance)
            close(history.gradient_norms, expected.gradient_norms, tolerance)
            for ours, theirs in zip(one.parameters(), alone.parameters(), strict=True):
                close(ours, theirs, tolerance)
    assert at_once
    assert min(at_once) > 1


def make(seed):
    layer = ll.Elman(INPUTS, HIDDEN, seed=seed, dtype=torch.float64)
    return ll.SequenceModel(layer, 3, seed=seed)


class Trained:
    """Some of 11 networks, each with an order, a rate and a largest norm of its own."""

    def __init__(self, *, broken=None):
        models = [make(seed) for seed in range(11)]
        optimizers = [Adam(models[0].parameters(), 1e-2 / (n + 1)) for n in range(11)]
        starts = [dict(one.named_parameters()) for one in models]
        self.networks = networks.Networks(
            models[0], "cross_entropy", optimizers, starts, range(11), 1
        )
        self.data, self.broken = Batch(*data()).map(torch.clone), broken
        self.data.x[-1] = float("nan")
        self.data.target[-1] = 0

    def run(self, numbers, first, stop):
        orders = [np.random.default_rng(n).integers(0, 22, (20, 5))[first:stop] for n in numbers]
        if self.broken in numbers:
            orders[list(numbers).index(self.broken)][1, 0] = 22
        table = [self.networks.coefficients_of(n, stop - first) for n in numbers]
        clips = [0.1 * (n + 1) for n in numbers]
        return self.networks.run(self.data, numbers, orders, table, clips)


def test_bits_do_not_depend_on_how_many_there_are_or_which_are_beside():
    all_of_them, some, one = Trained(), Trained(), Trained()
    losses, _ = all_of_them.run(range(11), 0, 10)
    further, norms = all_of_them.run([9, 1, 4], 10, 20)
    others, _ = some.run([4, 1], 0, 10)
    np.testing.assert_array_equal(others, losses[[4, 1]])
    own = one.run([4], 0, 20)
    np.testing.assert_array_equal(own[0][0], [*losses[4], *further[2]])
    np.testing.assert_array_equal(own[1][0][10:], norms[2])
    assert torch.equal(one.networks.rows[4], all_of_them.networks.rows[4])
    assert not torch.equal(all_of_them.networks.rows[9], some.networks.rows[9])


def test_one_whose_loss_is_not_finite_stops_and_the_others_go_on():
    broken, whole = Trained(broken=4), Trained()
    losses, norms = broken.run(range(11), 0, 10)
    expected, expected_norms = whole.run(range(11), 0, 10)
    others = [n for n in range(11) if n != 4]
    np.testing.assert_array_equal(losses[others], expected[others])
    np.testing.assert_array_equal(norms[others], expected_norms[others])
    assert losses[4, 0] == expected[4, 0]
    assert np.isnan(losses[4, 1:]).all()
    assert broken.networks.updates[:, 0].tolist() == [10] * 4 + [1] + [10] * 6
    short = Trained()
    short.run([4], 0, 1)
    assert torch.equal(broken.networks.rows[4], short.networks.rows[4])
    assert torch.equal(broken.networks.rows[others], whole.networks.rows[others])


def test_frozen_parameters_stay_and_go_on_later(monkeypatch):
    name, found = "layer.weight_hh", []
    start = dict(make(5).named_parameters())[name]
    for at_once in (networks_at_once, lambda *_: 1):
        monkeypatch.setattr(networks, "networks_at_once", at_once)
        one = Trained()
        one.networks.freeze([name])
        one.run([2, 5], 0, 4)
        assert torch.equal(one.networks.parameters_of(5)[name], start)
        one.networks.freeze([])
        one.run([2, 5], 4, 8)
        assert not torch.equal(one.networks.parameters_of(5)[name], start)
        found.append(one.networks.rows[[2, 5]])
    close(*found, 1e-10)


@pytest.mark.parametrize(
    ("layer", "options", "size", "expected"),
    [
        (ll.Elman, {}, 1, True),
        (ll.Elman, {"recurrent_dropout": 0.5}, 1, False),
        (ll.Elman, {"hidden_size": 40}, 1, False),
        (ll.Elman, {"hidden_size": 16}, 3, True),
        (ll.Elman, {"hidden_size": 16}, 4, False),
        (ll.LSTM, {"hidden_size": 10}, 8, True),
        (ll.LSTM, {"hidden_size": 16}, 1, False),
        (ll.Elman, {"hidden_size": 22}, 1, True),
        (ll.Elman, {"hidden_size": 22, "reduce": "attention"}, 1, False),
    ],
)
def test_which_go_side_by_side_is_a_matter_of_their_form(layer, options, size, expected):
    options = {"input_size": 2, "hidden_size": 12, "seed": 0, **options}
    reduce = options.pop("reduce", "last")
    whole = ll.SequenceModel(layer(**options), 3, reduce=reduce)
    network = network_of(whole, "cross_entropy", BPTT())
    x, target = torch.zeros(8, 100, 2), torch.zeros(8, dtype=torch.int64)
    assert (networks_at_once(network, Batch(x, target), size) > 1) == expected
    ragged = Batch(x, target, torch.full((8,), 100))
    assert networks_at_once(network, ragged, size) == 1


def test_a_training_that_is_over_holds_no_memory(monkeypatch):
    made, begin = [], Outputs.__init__

    def noted(self, *arguments):
        begin(self, *arguments)
        made.append(StorageWeakRef(self.order.untyped_storage()))

    monkeypatch.setattr(Outputs, "__init__", noted)
    network, x = ll.SequenceModel(ll.Elman(2, 3, seed=0), 1, seed=1), torch.randn(8, 5, 2)
    assert fit(network, (x, x[:, 0, :1]), epochs=2, progress=False).step == "compiled"
    gc.collect()
    assert made
    assert all(each.expired() for each in made)
