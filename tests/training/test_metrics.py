import math

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn.metrics import f1_score, r2_score
from tests.training.helpers import Net, signs, sums
from torchmetrics.classification import BinaryF1Score, MulticlassF1Score

from longlag.training import fit
from longlag.training.metrics import make_meters

NAN = float("nan")


def measure(metrics, batches):
    meters = make_meters(metrics)
    for meter in meters.values():
        meter.reset()
        for output, target in batches:
            meter.update(output, target)
    return {name: meter.compute() for name, meter in meters.items()}


def classes(seed=0):
    """Three unequal batches of steps, some without a class, and everything that is due at once."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for size in (5, 1, 3):
        output = torch.randn(size, 4, 3, generator=generator)
        target = torch.randint(0, 3, (size, 4), generator=generator)
        target[torch.rand(size, 4, generator=generator) < 0.4] = -100
        batches.append((output, target))
    right = np.concatenate([output.argmax(-1).numpy().ravel() for output, _ in batches])
    wanted = np.concatenate([target.numpy().ravel() for _, target in batches])
    return batches, right[wanted != -100], wanted[wanted != -100]


def test_accuracy_is_that_of_the_whole_set():
    batches, found, wanted = classes()
    assert measure("accuracy", batches)["accuracy"] == pytest.approx((found == wanted).mean())


def test_a_metric_that_is_no_mean_is_that_of_the_whole_set():
    batches, found, wanted = classes()
    value = measure(MulticlassF1Score(num_classes=3, average="macro"), batches)
    expected = f1_score(wanted, found, average="macro")
    assert value == {"MulticlassF1Score": pytest.approx(expected)}


def test_errors_are_means_over_due_entries():
    generator = np.random.default_rng(0)
    output, target = generator.normal(size=(2, 7, 2)).astype(np.float32)
    target[[0, 3, 3], [1, 0, 1]] = np.nan
    cuts = (slice(0, 4), slice(4, 7))
    batches = [(torch.from_numpy(output[c]), torch.from_numpy(target[c])) for c in cuts]
    values = measure(["mse", "mae"], batches)
    assert values["mse"] == pytest.approx(np.nanmean((output - target) ** 2), rel=1e-5)
    assert values["mae"] == pytest.approx(np.nanmean(np.abs(output - target)), rel=1e-5)


def test_rows_with_a_nan_are_left_out_for_other_metrics():
    generator = np.random.default_rng(0)
    output, target = generator.normal(size=(2, 9, 2)).astype(np.float32)
    target[4, 1] = np.nan
    cuts = (slice(0, 4), slice(4, 9))
    batches = [(torch.from_numpy(output[c]), torch.from_numpy(target[c])) for c in cuts]
    kept = np.arange(9) != 4
    metric = torchmetrics.R2Score(multioutput="uniform_average")
    values = measure({"r2": metric, "worst": lambda o, t: (o - t).abs().max()}, batches)
    assert values["r2"] == pytest.approx(r2_score(target[kept], output[kept]), rel=1e-5)
    assert values["worst"] == pytest.approx(np.abs(output - target)[kept].max())


def test_a_callable_sees_the_whole_set_once():
    calls = []

    def median(output, target):
        calls.append((output.shape, target.shape))
        return (output[:, 0] - target).median()

    batches = [
        (torch.zeros(2, 3), torch.tensor([1, -100])),
        (torch.zeros(3, 3), torch.ones(3).long()),
    ]
    assert measure(median, batches) == {"median": -1.0}
    assert calls == [((4, 3), (4,))]


@pytest.mark.parametrize("metric", ["accuracy", MulticlassF1Score(3), lambda o, t: 0.0])
def test_nothing_due_is_nan(metric):
    batches = [(torch.zeros(2, 3), torch.full((2,), -100))]
    (value,) = measure(metric, batches).values()
    assert math.isnan(value)


def test_meters_start_anew():
    meters = make_meters(["accuracy", lambda output, target: len(target)])
    for _ in range(2):
        values = []
        for meter in meters.values():
            meter.reset()
            meter.update(torch.eye(3), torch.arange(3))
            values.append(meter.compute())
        assert values == [1.0, 3.0]


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ("auc", ValueError, "metric 'auc' is unknown; expected 'accuracy', 'mse', 'mae'"),
        (["mse", "mse"], ValueError, "'mse' comes twice; give names"),
        (3, TypeError, "metric is a int; expected a name"),
    ],
)
def test_what_is_no_metric_is_refused(metrics, error, message):
    with pytest.raises(error, match=message):
        make_meters(metrics)


def test_a_metric_must_give_one_number_and_fit_the_target():
    per_class = MulticlassF1Score(3, average=None)
    with pytest.raises(ValueError, match=r"'MulticlassF1Score' gave a tensor of shape \(3,\)"):
        measure(per_class, [(torch.eye(3), torch.arange(3))])
    odd = r"'BinaryF1Score' cannot take output \(3, 2\) of .* with target \(3,\) of torch\.int64 \("
    with pytest.raises(ValueError, match=odd):
        measure(BinaryF1Score(), [(torch.eye(3)[:, :2], torch.tensor([0, 1, 0]))])
    with pytest.raises(ValueError, match="'accuracy' needs a target of int64 classes"):
        measure("accuracy", [(torch.zeros(2, 1), torch.zeros(2, 1))])
    with pytest.raises(ValueError, match=r"output has shape \(2,\) and target \(2, 1\)"):
        measure("mse", [(torch.zeros(2), torch.zeros(2, 1))])


def test_fit_measures_the_whole_validation_set():
    """The last batch is smaller, so a mean over batches would be another number."""
    model, held_out = Net(outputs=2), signs(37, seed=1)
    history = fit(model, signs(), validation=held_out, metrics="accuracy", epochs=2, progress=False)
    with torch.no_grad():
        output = model.eval()(torch.from_numpy(held_out[0]))
    target = torch.from_numpy(held_out[1])
    record = history.records[-1]
    assert record.metrics == {
        "accuracy": pytest.approx((output.argmax(1) == target).float().mean())
    }
    expected = torch.nn.functional.cross_entropy(output, target).item()
    assert record.validation_loss == pytest.approx(expected, rel=1e-6)


def test_the_validation_loss_weighs_due_entries_alike():
    x, target = sums(37, seed=1)
    target[:20] = np.nan  # the first batch of 32 has 12 that are due, the second has 5
    model = Net()
    history = fit(model, sums(), validation=(x, target), epochs=1, progress=False)
    with torch.no_grad():
        output = model.eval()(torch.from_numpy(x)).numpy()
    expected = np.nanmean((output - target) ** 2)
    assert history.records[0].validation_loss == pytest.approx(expected, rel=1e-5)
