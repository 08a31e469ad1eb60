"""Series that count more or less than others: in scores, in baselines, in the choice of a network;
and the weights of classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from longlag.data import DataError, SequenceData
from longlag.messages import GuidedError
from longlag.pipeline import choosing, classes
from longlag.pipeline.choosing import cross_validate
from longlag.pipeline.dataset import Parts, hold_out
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import Settings

OFTEN = np.arange(30) % 3


def data(kind, weights=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5, 1)).astype(np.float32)
    total = x.sum((1, 2))
    target, sets = np.where(total > 0.5, "up", "down"), False
    if kind == "numbers":
        target = total.astype(np.float64)[:, None]
    elif kind == "numbers at steps":
        target = np.cumsum(x, axis=1).astype(np.float64)
        target[::4, 1] = np.nan
    elif kind == "tags":
        target = (np.cumsum(x, axis=1)[:, :, 0] > 0).astype(np.int64)
    elif kind == "labels":
        target, sets = np.stack([total > 0, x[:, 0, 0] > 0], 1).astype(float), True
    lengths = np.full(30, 5)
    names = tuple(map(str, range(30)))
    count = target.shape[-1] if target.dtype.kind == "f" else 1
    named = tuple(f"y{d}" for d in range(count))
    return SequenceData(
        x, lengths, target, names, None, named, label_sets=sets, weights=weights
    )  # fmt: skip


TASKS = {
    "classes": "classification", "numbers": "regression", "numbers at steps": "tagging",
    "tags": "tagging", "labels": "classification",
}  # fmt: skip


@pytest.mark.parametrize("kind", TASKS)
def test_a_score_with_weights_is_that_of_repeated_series(kind):
    repeated = data(kind).select(np.arange(30).repeat(OFTEN))
    settings = Settings(TASKS[kind], hidden=3, epochs=1)
    fitted = Pipeline.of(Parts(data(kind), data(kind)), settings).fit(progress=False)
    weighted = fitted.predict(data(kind, 0.7 * OFTEN)).score
    plain = fitted.predict(repeated).score
    for one, other in zip(weighted.measures, plain.measures, strict=True):
        assert one.name == other.name
        assert one.model == pytest.approx(other.model, rel=1e-6), one.name
        assert one.baseline == pytest.approx(other.baseline, rel=1e-6), one.name


@pytest.mark.parametrize("kind", TASKS)
def test_the_guess_without_a_network_has_the_weights_too(kind):
    settings = Settings(TASKS[kind], hidden=3)
    repeated = data(kind).select(np.arange(30).repeat(OFTEN))
    guesses = [
        Pipeline.of(Parts(some, some), settings).as_it_is().baseline
        for some in (data(kind, 0.7 * OFTEN), repeated)
    ]
    assert guesses[0] == (guesses[1] if kind in ("classes", "tags") else pytest.approx(guesses[1]))


def test_the_best_weights_are_kept_by_the_weighted_measure():
    parts = hold_out(data("classes", 1.0 * OFTEN), "classification", share=0.4, seed=0)
    settings = Settings("classification", hidden=3, epochs=4, metric="balanced_accuracy")
    pipeline = Pipeline.of(parts, settings)
    fitted = pipeline.fit(progress=False)
    best = max(fitted.history.records, key=lambda record: record.metrics["balanced_accuracy"])
    found = {measure.name: measure.model for measure in fitted.score.measures}
    assert best.metrics["balanced_accuracy"] == pytest.approx(found["balanced accuracy"])
    assert fitted.history.best_step == best.step


def test_balanced_weights_of_classes_count_the_weights_of_series():
    weights = np.where(data("classes").target == "up", 1.0, 3.0)
    settings = Settings("classification", hidden=3, class_weights="balanced")
    both = []
    for some in (
        data("classes", weights),
        data("classes").select(np.repeat(range(30), weights.astype(int))),
    ):
        both.append(Pipeline.of(Parts(some, some), settings).loss)
    assert both[0] == both[1]
    named = replace(settings, class_weights={"up": 4})
    assert Pipeline.of(Parts(some, some), named).loss.weights == (1.0, 4.0)
    unknown = replace(settings, class_weights={"upp": 4})
    with pytest.raises(GuidedError, match=r"class_weights: 'upp' is none of the classes .* 'down'"):
        Pipeline.of(Parts(some, some), unknown).fit(progress=False)


def test_a_reservoir_has_weights_of_classes():
    some = data("classes")
    shares = []
    for weight in (0.01, 1.0, 100.0):
        settings = Settings("classification", cell="echo", hidden=5, class_weights={"up": weight})
        fitted = Pipeline.of(Parts(some, some), settings).fit(progress=False)
        shares.append(fitted.predict(some).predictions.probabilities[:, 1].mean())
    assert shares[0] < shares[1] < shares[2]


def test_series_without_weight_do_not_judge():
    some = data("classes", np.ones(30))
    settings = Settings("classification", cell="echo", hidden=20)
    assert cross_validate(some, settings) == cross_validate(data("classes"), settings)
    other = cross_validate(replace(some, weights=1.0 + OFTEN), settings)
    assert other != cross_validate(some, settings)


@pytest.mark.parametrize("asked", [{"up": 3.0}, "balanced"])
def test_folds_judge_by_the_weights_of_classes(asked):
    """As by weights of the series that are as those of their classes."""
    some = data("classes")
    up = some.target == "up"
    of_classes = (3.0, 1.0) if asked != "balanced" else (1 / up.sum(), 1 / (~up).sum())
    own = np.where(up, *of_classes)
    settings = Settings("classification", cell="echo", hidden=20, alpha=0.1, class_weights=asked)
    right, error = cross_validate(some, settings)
    plain = replace(settings, class_weights="none")
    _, expected = cross_validate(replace(some, weights=own), plain)
    # Balanced weights are those of each fold's training part: equal here, as classes are in turn.
    assert error == pytest.approx(expected, rel=1e-6 if asked != "balanced" else 0.05)
    assert error != pytest.approx(cross_validate(some, plain)[1], rel=1e-3)
    assert 0 < right < 1


def test_a_network_is_chosen_with_weights_of_classes(monkeypatch):
    def two(settings):
        for hidden in (5, 20):
            yield str(hidden), replace(settings, cell="echo", hidden=hidden, alpha=0.1)

    monkeypatch.setattr(choosing, "candidates", two)
    some = data("classes")
    asked = Settings("classification", cell="auto", class_weights={"up": 9.0})
    settings, tried = choosing.choose(Parts(some, some), asked)
    assert settings.class_weights == {"up": 9.0}
    assert [one.settings.class_weights for one in tried] == [{"up": 9.0}] * 2
    assert next(choosing.candidates(asked))[1].class_weights == {"up": 9.0}
    labels = data("labels")
    named = replace(asked, class_weights={"y0": 2.0})
    with pytest.raises(GuidedError, match="class_weights: an echo state network has the readouts"):
        choosing.choose(Parts(labels, labels), named)


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 1.0, 0.0]])
def test_what_has_no_fold_is_refused(weights):
    alike = ["p", "p", "q", "q"] if weights else ["p", "q", "r", "s"]
    some = replace(
        data("classes").select(np.arange(4)),
        target=np.array(alike), weights=None if weights is None else np.array(weights),
    )  # fmt: skip
    settings = Settings("classification", cell="echo", hidden=5)
    with pytest.raises(DataError, match="train: got 4 series, no two of them of one class and wi"):
        cross_validate(some, settings)
    with pytest.raises(GuidedError, match=r"task: got 'regression', but folds .*'classif"):
        cross_validate(some, Settings("regression", cell="echo"))


def test_the_area_under_the_curve_with_ties_and_weights():
    rng = np.random.default_rng(0)
    shares, truth = rng.integers(0, 5, 40) / 5, rng.integers(0, 2, 40)
    weights = rng.integers(0, 4, 40)
    both = np.stack([1 - shares, shares], 1)
    again = np.arange(40).repeat(weights)
    assert classes.auc(both, truth, weights) == pytest.approx(
        classes.auc(both[again], truth[again])
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"weights: expected \(30,\) of floats"),
        (np.full(30, -1.0), r"weights\[0\] is -1.0, expected a finite number, 0 or more"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        data("classes", weights)
