"""Sequences that count more or less than others: in updates, in validation, in readouts."""

import functools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torchmetrics.classification import MulticlassF1Score

import longlag as ll
from longlag.batch import Batch
from longlag.gradients.losses import cross_entropy, mae, mse
from longlag.gradients.weighted import OfWeightedSequences
from longlag.training import (
    Quantile,
    WeightedCrossEntropy,
    WeightedLogistic,
    fit,
    fit_replicas,
)

COUNT, STEPS = 24, 6


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(COUNT, STEPS, 2, generator=drawn())
WEIGHTS = 3 * torch.rand(COUNT, generator=drawn(1))
WEIGHTS[3] = 0
LENGTHS = torch.randint(1, STEPS + 1, (COUNT,), generator=drawn(2))


def numbers(*shape):
    return torch.randn(shape, generator=drawn(3))


def whole(most, *shape):
    return torch.randint(0, most, shape, generator=drawn(3))


CASES = {
    "classes": (whole(3, COUNT), None, "last", 3, None),
    "weighted classes": (whole(3, COUNT), WeightedCrossEntropy((1, 2, 5)), "mean", 3, None),
    "tags": (whole(3, COUNT, STEPS), None, None, 3, LENGTHS),
    "numbers": (numbers(COUNT, 2), "mse", "last", 2, None),
    "numbers at steps": (numbers(COUNT, STEPS, 2), "mae", None, 2, LENGTHS),
    "a quantile": (numbers(COUNT, 1), Quantile(0.8), "last", 1, None),
    "labels": (whole(2, COUNT, 5).float(), "logistic", "last", 5, None),
    "weighted labels": (
        whole(2, COUNT, STEPS, 17).float(), WeightedLogistic(tuple(np.linspace(0.5, 4, 17))), None,
        17, LENGTHS,
    ),
}  # fmt: skip


def trained(data, loss, reduce, outputs, **options):
    model = ll.SequenceModel(ll.GRU(2, 6, seed=0), outputs, reduce=reduce, seed=1)
    options = {"epochs": 3, "batch_size": 8, "progress": False, **options}
    return model, fit(model, data, validation=data, loss=loss, **options)


@pytest.mark.parametrize("case", CASES)
def test_compiled_updates_are_those_of_pytorch(case):
    target, loss, reduce, outputs, lengths = CASES[case]
    data = Batch(X, target, lengths, weights=WEIGHTS)
    methods = [ll.BPTT(), ll.TruncatedBPTT(4)] if reduce is None else [ll.BPTT()]
    for method in methods:
        (one, compiled), (other, eager) = (
            trained(data, loss, reduce, outputs, method=method, step=step)
            for step in ("compiled", "eager")
        )
        assert compiled.step == "compiled"
        np.testing.assert_allclose(compiled.losses, eager.losses, rtol=1e-5)
        validation = [history.records[-1].validation_loss for history in (compiled, eager)]
        assert validation[0] == pytest.approx(validation[1], rel=1e-5)
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_whole_weight_is_a_sequence_so_many_times(case):
    target, loss, reduce, outputs, lengths = CASES[case]
    often = torch.arange(COUNT) % 4
    again = torch.arange(COUNT).repeat_interleave(often)
    data = Batch(X, target, lengths, weights=0.3 * often)
    repeated = Batch(X, target, lengths).map(lambda part: part[again])
    whole = {"batch_size": 1000, "epochs": 2}
    (one, weighted), (other, plain) = (
        trained(some, loss, reduce, outputs, **whole) for some in (data, repeated)
    )
    np.testing.assert_allclose(weighted.losses, plain.losses, rtol=1e-5)
    assert weighted.records[-1].validation_loss == pytest.approx(
        plain.records[-1].validation_loss, rel=1e-5
    )
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_a_loss_of_ones_own_may_have_weights():
    def huber(output, target):
        return torch.nn.functional.huber_loss(output, target)

    target = numbers(COUNT, 2)
    model, history = trained(Batch(X, target, weights=WEIGHTS), huber, "last", 2)
    assert history.step == "eager"
    each = torch.stack([huber(y, t) for y, t in zip(model(X), target, strict=True)])
    expected = (WEIGHTS * each).sum() / WEIGHTS.sum()
    assert history.records[-1].validation_loss == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_loss_of_ones_own_may_select_and_branch():
    """One that picks the known places, as many do, is NaN of a sequence that has none."""

    def of_the_known(output, target):
        known = ~target.isnan()
        error = (output[known] - target[known]).square().mean()
        return error if not error.item() > 1e9 else 0 * error

    target = numbers(COUNT, STEPS, 1)
    target[::2, 2:] = target[4] = float("nan")
    data = Batch(X, target, weights=WEIGHTS)
    (one, own), (other, known) = (
        trained(data, loss, None, 1, step="eager") for loss in (of_the_known, "mse")
    )
    np.testing.assert_allclose(own.losses, known.losses, rtol=1e-5)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [1e-3, None])
@pytest.mark.parametrize("solver", ["auto", "svd"])
def test_ridge_regression_with_weights_is_that_of_repeated_rows(alpha, solver):
    """For cross-validation a row that is there twice is a new one: there it is left out."""
    often = torch.arange(COUNT) % (3 if alpha else 2)
    again = torch.arange(COUNT).repeat_interleave(often)
    target, readouts = X[:, -2] + 0.1 * numbers(COUNT, 2), []
    for data in (Batch(X, target, weights=7.0 * often), Batch(X[again], target[again])):
        model = ll.SequenceModel(ll.EchoState(2, 10, seed=0), 2, reduce="last").double()
        penalty = alpha
        if alpha and data.weights is None:  # weights are in units of their mean
            penalty = alpha * len(again) / int((often > 0).sum())
        method = ll.Ridge(penalty, solver=solver)
        history = fit(model, data.map(torch.Tensor.double), method=method, batch_size=5)
        readouts.append((model.readout.weight, model.readout.bias, history.losses[-1]))
    for one, other in zip(*readouts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_ridge_regression_weighs_classes():
    target = (torch.arange(COUNT) % 8 == 0).long()
    weights = torch.where(target == 1, 5.0, 1.0)
    models = []
    for loss, some in ((WeightedCrossEntropy((1, 5)), None), (None, weights)):
        model = ll.SequenceModel(ll.EchoState(2, 10, seed=0), 2, reduce="last")
        fit(model, Batch(X, target, weights=some), loss=loss, method=ll.Ridge(0.1))
        models.append(model.readout.weight)
    torch.testing.assert_close(*models)


def test_the_mean_over_sequences_of_unequal_length():
    output, target = torch.zeros(2, 3, 1), torch.tensor([[1.0, 1, 1], [4.0, 4, 4]]).unsqueeze(-1)
    target[1, 1:] = float("nan")
    loss = OfWeightedSequences(mse, torch.tensor([1.0, 2.0]))
    assert float(loss(output, target)) == pytest.approx((3 * 1 + 2 * 16) / 5)
    empty = torch.full((2, 1), float("nan"))
    assert float(OfWeightedSequences(mae, torch.ones(2))(empty, empty)) == 0
    with pytest.raises(ValueError, match=r"weights: there are 2, and the model's output has shape"):
        OfWeightedSequences(cross_entropy, torch.ones(2))(torch.zeros(3, 2), torch.zeros(3).long())


class Endless:
    """Batches without end, of which every other one counts for nothing."""

    def batch(self, index):
        target = X.sum((1, 2)).unsqueeze(-1)
        return Batch(X, target, weights=(WEIGHTS if index % 2 == 0 else torch.zeros(COUNT)))


def test_a_batch_may_count_for_nothing():
    model = ll.SequenceModel(ll.GRU(2, 6, seed=0), 1, reduce="last", seed=1)
    history = fit(model, Endless(), steps=4, progress=False)
    assert history.losses[1] == history.losses[3] == 0
    assert history.losses[0] > 0


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (torch.ones(3), r"got shape \(3,\)"),
        (-torch.ones(COUNT), "that of 0 is -1.0"),
        (torch.zeros(COUNT), "all are 0"),
        (WEIGHTS / 0, "that of 0 is inf"),
        (torch.where(torch.arange(COUNT) == 5, torch.nan, WEIGHTS), "that of 5 is nan"),
    ],
)
def test_weights_out_of_range_are_refused(weights, told):
    message = f"weights of data: {told}, expected {COUNT} finite numbers"
    with pytest.raises(ValueError, match=message):
        trained(Batch(X, numbers(COUNT, 2), weights=weights), None, "last", 2)


def r_score(output, target, weights):
    """The share of the spread that is explained, of rows that count by their weights."""
    mean = (weights @ target) / weights.sum()
    left = weights @ (output - target).square()
    return 1 - (left / (weights @ (target - mean).square())).mean()


def share_of_1(output, target, weights):
    return float((weights * (output.argmax(-1) == 1)).sum() / weights.sum())


@pytest.mark.parametrize("case", ["classes", "tags", "numbers", "numbers at steps"])
def test_metrics_follow_the_weights(case):
    target, loss, reduce, outputs, lengths = CASES[case]
    often = torch.arange(COUNT) % 3
    again = torch.arange(COUNT).repeat_interleave(often)
    data = Batch(X, target, lengths, weights=1.0 * often)
    repeated = data._replace(weights=torch.ones(COUNT)).map(lambda part: part[again])
    metrics = {"mse": "mse", "mae": "mae", "own": r_score}
    if not target.is_floating_point():
        metrics = {"accuracy": "accuracy", "own": share_of_1}
    found = []
    for held_out in (data, repeated, Batch(X, target, lengths)):
        model = ll.SequenceModel(ll.GRU(2, 6, seed=0), outputs, reduce=reduce, seed=1)
        some = metrics if held_out.weights is not None else [m for m in metrics if m != "own"]
        options = {"validation": held_out, "metrics": some, "loss": loss, "batch_size": 7}
        history = fit(model, data, epochs=1, progress=False, **options)
        found.append(history.records[-1].metrics)
    assert found[0] == {name: pytest.approx(value, rel=1e-5) for name, value in found[1].items()}
    assert all(found[0][name] != pytest.approx(value, rel=1e-3) for name, value in found[2].items())


@pytest.mark.parametrize("weighted", [True, False])
def test_a_metric_of_ones_own_is_told_that_there_are_no_weights(weighted):
    def asks(output, target, weights):
        return 0.0 if weights is None else float(weights.sum())

    def may(output, target, weights=None):
        return 3.0 if weights is None else float(weights.sum())

    data = Batch(X, whole(2, COUNT), weights=WEIGHTS if weighted else None)
    _, history = trained(data, None, "last", 2, metrics=[asks, may], epochs=1)
    total = float(WEIGHTS.sum())
    expected = {"asks": total, "may": total} if weighted else {"asks": 0.0, "may": 3.0}
    assert history.records[-1].metrics == pytest.approx(expected)


def test_a_metric_without_weights_says_so_before_anything_is_trained():
    data = Batch(X, whole(2, COUNT), weights=WEIGHTS)
    own = functools.partial(share_of_1, weights=torch.ones(2))  # of classes, it may be
    for metric in (MulticlassF1Score(2), lambda output, target: 0.0, own):
        for method in (ll.BPTT(), ll.Ridge()):
            model = ll.SequenceModel(ll.GRU(2, 6, seed=0), 2, reduce="last", seed=1)
            before = model.readout.weight.clone()
            options = {"validation": data, "metrics": {"own": metric}, "method": method}
            with pytest.raises(ValueError, match=r"metric 'own': the sequences .* have weights,"):
                fit(model, data, **options, **({} if method == ll.Ridge() else {"epochs": 1}))
            assert torch.equal(model.readout.weight, before)


def test_what_has_no_weights_says_so():
    data = Batch(X, numbers(COUNT, 2), weights=WEIGHTS)
    model = ll.SequenceModel(ll.EchoState(2, 5, seed=0), 2, reduce="last")
    lasso, classes = Lasso(), data._replace(target=whole(2, COUNT), weights=None)
    with pytest.raises(ValueError, match=r"weights of data: .* has none .* use ll.Ridge\(\)"):
        fit(model, data, method=lasso)
    with pytest.raises(ValueError, match=r"loss: got Weighted.* no weights for classes; use ll.Ri"):
        fit(model, classes, method=lasso, loss=WeightedCrossEntropy((1, 2)))
    labels = data._replace(target=whole(2, COUNT, 2).float(), weights=None)
    with pytest.raises(ValueError, match=r"loss: got WeightedLogistic.* all labels at once"):
        fit(model, labels, method=ll.Ridge(), loss=WeightedLogistic((1, 2)))
    with pytest.raises(ValueError, match="WeightedLogistic: has 3 weights"):
        WeightedLogistic((1, 2, 3))(torch.zeros(2, 2), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="a finite number > 0 for each label"):
        WeightedLogistic((1, 0))


def test_several_networks_have_the_weights_too():
    data = Batch(X, numbers(COUNT, 2), weights=WEIGHTS)
    network = ll.SequenceModel(ll.GRU(2, 4, seed=0), 2, reduce="last", seed=0)
    options = {"epochs": 2, "batch_size": 8, "progress": False}
    (model, *_), _ = fit_replicas(network, data, seeds=[0, 1], **options)
    (other, *_), _ = fit_replicas(network, Batch(X, data.target), seeds=[0, 1], **options)
    assert not torch.equal(model.readout.weight, other.readout.weight)
