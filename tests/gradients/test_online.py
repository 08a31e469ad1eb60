"""Learners that read step by step: against windows of RTRL, and the chunker's own nets."""

import numpy as np
import pytest
import torch
from tests.gradients.models import CELLS, make

import longlag as ll
from longlag.chunker import OnlineBPTT, OnlineRTRL
from longlag.gradients import OnlineLearner, OnlineMethod

RATE = 0.3
FREE = [name for name in CELLS if not getattr(ll.cells, name)().recurrence.constrained]
"""The cells whose weights are parameters, which a learner changes in place."""


def half_square(y, target):
    return 0.5 * (y - target).square().sum()


def stream(steps, rows, model, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(steps, rows, model.input_size)), rng.normal(
        size=(steps, rows, model.output_size)
    )


def copy_of(model, **options):
    """The same weights in another model."""
    other = make(**options)
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.slow
@pytest.mark.every_cell("slow")
@pytest.mark.parametrize("method", [ll.RTRL(online=True), ll.SnAp1(online=True)])
@pytest.mark.parametrize("kind", [*FREE, "stack", "replicas"])
def test_a_step_is_a_window_of_one_step_and_a_descent(kind, method):
    model = make(kind)
    other = copy_of(model, kind=kind)
    rows = model.layer.replicas or 1
    x, target = stream(6, rows, model)
    learner, carry = method.start(model, RATE), None
    for now, due in zip(x, target, strict=True):
        said = learner.step(now, due)
        other.zero_grad()
        shape = (1, 1, -1) if model.layer.replicas is None else (rows, 1, 1, -1)
        whole = method.accumulate_window(
            other, torch.tensor(now).view(shape), torch.tensor(due).view(shape), half_square,
            torch.Tensor.backward, carry=carry,
        )  # fmt: skip
        carry = whole.carry
        np.testing.assert_allclose(said, whole.output.view(rows, -1), rtol=1e-11, atol=1e-13)
        with torch.no_grad():
            for weight in other.parameters():
                if weight.grad is not None:
                    weight -= RATE * weight.grad
    for name, weight in model.named_parameters():
        torch.testing.assert_close(
            weight, other.get_parameter(name), rtol=1e-10, atol=1e-12, msg=name
        )


@pytest.mark.parametrize("reference", [OnlineRTRL(), OnlineBPTT(12)])
def test_it_is_the_chunkers_learner_for_some_rows_at_a_time(reference):
    """Weights that hardly move: then a window that holds all steps has the same gradient."""
    rate, near = (RATE, 1e-10) if isinstance(reference, OnlineRTRL) else (1e-9, 1e-6)
    options = {"replicas": 3, "dtype": torch.float64, "activation": "tanh"}
    models = [
        ll.SequenceModel(ll.Elman(3, 4, seed=1, **options), 2, reduce=None, direct=True, seed=2)
        for _ in range(2)
    ]
    begin = {name: weight.detach().clone() for name, weight in models[0].named_parameters()}
    learners = [
        method.start(model, rate)
        for method, model in zip((ll.RTRL(online=True), reference), models, strict=True)
    ]
    rng = np.random.default_rng(3)
    everyone = np.arange(3)
    for t in range(12):
        rows = everyone if t % 3 == 0 else np.sort(rng.permutation(3)[:2])
        late = rows if t % 4 else rows[:1]
        x, due = rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
        for learner in learners:
            learner.read(rows, x[rows])
            (said,) = learner.outputs()
            learner.learn(late, [said - due])
            if t == 6:
                learner.reset(everyone[1:2])
        np.testing.assert_allclose(*(one.hidden() for one in learners), rtol=near, atol=near)
        np.testing.assert_allclose(*(one.outputs()[0] for one in learners), rtol=near, atol=near)
    for name, first in begin.items():
        ours, theirs = ((model.get_parameter(name) - first) / rate for model in models)
        assert ours.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)


def test_other_rows_stay_bit_for_bit():
    model = make("replicas")
    learner = ll.RTRL(online=True).start(model, RATE)
    x, target = stream(4, 2, model)
    for now, due in zip(x[:3], target[:3], strict=True):
        learner.step(now, due)
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    hidden, said = learner.hidden().copy(), learner.outputs()[0].copy()
    learner.read(np.array([1]), x[3, 1:])
    learner.learn(np.array([1]), [learner.outputs()[0] - target[3]])
    for name, weight in model.named_parameters():
        assert torch.equal(weight[0], weights[name][0])
        assert not torch.equal(weight[1], weights[name][1])
    assert np.array_equal(learner.hidden()[0], hidden[0])
    assert np.array_equal(learner.outputs()[0][0], said[0])
    assert not np.array_equal(learner.hidden()[1], hidden[1])


def test_symbols_targets_that_are_not_due_and_frozen_weights():
    model, vectors = make("GRU"), make("GRU")
    for one in (model, vectors):
        one.layer.bias.requires_grad_(False)
    bias = model.layer.bias.clone()
    by_symbol, by_vector = (ll.RTRL(online=True).start(each, RATE) for each in (model, vectors))
    nothing = np.full((1, 2), np.nan)
    before = model.layer.weight_hh.clone()
    by_symbol.step(np.array([0]), nothing)
    by_vector.step(np.eye(3)[:1], nothing)
    assert torch.equal(model.layer.weight_hh, before)
    for symbol in (2, 1, 0):
        due = np.array([[0.3, np.nan]])
        said = by_symbol.step(np.array([symbol]), due)
        assert np.array_equal(said, by_vector.step(np.eye(3)[[symbol]], due))
    assert not torch.equal(model.layer.weight_hh, before)
    assert torch.equal(model.layer.bias, bias)


def test_every_online_method_says_so():
    for method in (ll.RTRL(online=True), ll.SnAp1(), OnlineRTRL(), OnlineBPTT(2)):
        assert isinstance(method, OnlineMethod)
        assert isinstance(method.start(ll.Elman(2, 3), 0.1), OnlineLearner)
    assert not isinstance(ll.BPTT(), OnlineMethod)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (make("GRU", reduce="last"), ValueError, "one output a sequence"),
        (ll.Bidirectional(ll.Elman(2, 3)), ValueError, "cannot be had for a bidirectional"),
        (ll.Elman(2, 3, input_dropout=0.5), ValueError, "drops out units"),
        (torch.nn.GRU(2, 3, batch_first=True), TypeError, "RTRL sees into"),
    ],
)
def test_models_that_cannot_learn_online(model, error, message):
    with pytest.raises(error, match=message):
        ll.RTRL(online=True).start(model, 0.1)
