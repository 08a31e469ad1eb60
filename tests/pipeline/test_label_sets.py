"""Several labels a series or a step: trained by the logistic loss, judged label by label, saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from longlag.data import SequenceData
from longlag.data.labels import expit
from longlag.gradients.losses import WeightedLogistic
from longlag.messages import GuidedError
from longlag.pipeline.choosing import choose
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.network import run_model
from longlag.pipeline.settings import Settings


def data(*, each_step=False, seed=0, count=120):
    """Whether the mean is high, and whether the values are wide; both, one, or none hold."""
    rng = np.random.default_rng(seed)
    level, wide = rng.normal(size=(count, 1)), rng.random((count, 1)) < 0.4
    x = (level + rng.normal(size=(count, 12)) * np.where(wide, 3.0, 0.3)).astype(np.float32)
    target = np.concatenate([level > 0, wide], 1).astype(float)
    if each_step:
        target = np.repeat(target[:, None], 12, axis=1)
        target[:, :2] = np.nan
    names = tuple(map(str, range(count)))
    lengths = np.full(count, 12)
    return SequenceData(
        x[:, :, None], lengths, target, names, ("v",), ("high", "wide"), label_sets=True
    )


@pytest.mark.parametrize("each_step", [False, True])
@pytest.mark.parametrize("cell", ["gru", "echo"])
def test_labels_are_learnt_saved_and_judged(tmp_path, each_step, cell):
    task = "tagging" if each_step else "classification"
    options = {"hidden": 12, "epochs": 25, "learning_rate": 0.02}
    if cell == "echo":
        options = {"hidden": 200, "alpha": 0.1}
    parts = hold_out(data(each_step=each_step), task, share=0.25, seed=0)
    pipeline = Pipeline.of(parts, Settings(task, cell=cell, **options))
    fitted = pipeline.fit(progress=False)
    if cell == "gru":
        assert fitted.history.step == "compiled"
    fitted.save(tmp_path / "labels.longlag")
    again = Fitted.load(tmp_path / "labels.longlag")
    new = data(each_step=each_step, seed=1)
    answers, score = again.predict(new)
    np.testing.assert_array_equal(
        answers.probabilities, fitted.predict(new).predictions.probabilities
    )
    found = {measure.name: measure for measure in score.measures}
    known = ~np.isnan(new.target[..., 0])
    truth, shares = new.target[known].reshape(-1, 2), answers.probabilities[known].reshape(-1, 2)
    right = (shares >= 0.5) == (truth == 1)
    assert found["labels right"].model == pytest.approx(right.mean())
    assert found["labels right"].model > 0.7 > found["labels right"].baseline
    assert found["all labels right"].model == pytest.approx(right.all(axis=1).mean())
    for d, name in enumerate(("high", "wide")):
        one, p = truth[:, d], shares[:, d]
        assert found[f"F1 of {name}"].model == pytest.approx(f1_score(one, p >= 0.5))
        assert found[f"AUC of {name}"].model == pytest.approx(roc_auc_score(one, p))
    assert found["macro F1"].model == pytest.approx(f1_score(truth, shares >= 0.5, average="macro"))
    assert found["logarithmic loss of a label"].model == pytest.approx(
        log_loss(truth.ravel(), shares.ravel())
    )
    assert score.places == truth.size
    assert score.is_better


def test_a_rare_label_is_answered_where_it_weighs_more():
    rare = data(count=200)
    target = rare.target.copy()
    target[:, 0] = rare.x[:, :, 0].mean(1) > 1.2
    parts = hold_out(replace(rare, target=target), "classification", share=0.25, seed=0)
    shares = []
    for weights in ("none", "balanced", {"high": 50.0}):
        settings = Settings("classification", hidden=4, epochs=3, class_weights=weights)
        pipeline = Pipeline.of(parts, settings)
        fitted = pipeline.fit(progress=False)
        shares.append(fitted.predict(rare).predictions.holds[:, 0].mean())
        assert fitted.history.step == "compiled"
    holds = parts.train.target[:, 0]
    assert isinstance(pipeline.loss, WeightedLogistic)
    assert pipeline.loss.weights == (50.0, 1.0)
    balanced = Pipeline.of(parts, replace(settings, class_weights="balanced")).loss
    assert balanced.weights[0] == pytest.approx((1 - holds).sum() / holds.sum())
    assert shares[0] <= shares[1] <= shares[2]
    assert shares[0] < shares[2]


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auc"])
def test_the_best_weights_are_chosen_by_what_is_asked_for(metric):
    parts = hold_out(data(), "classification", share=0.25, seed=0)
    settings = Settings("classification", hidden=4, epochs=8, learning_rate=0.02, metric=metric)
    pipeline = Pipeline.of(parts, settings)
    history = pipeline.fit(progress=False).history
    best = max(history.records, key=lambda record: record.metrics[metric])
    assert history.best_step == best.step
    truth = pipeline.held_out.target
    shares = expit(run_model(pipeline.model, pipeline.held_out, 64))
    functions = {
        "accuracy": lambda t, p: (t == (p >= 0.5)).all(1).mean(),
        "balanced_accuracy": lambda t, p: np.mean(
            [balanced_accuracy_score(a, b >= 0.5) for a, b in zip(t.T, p.T, strict=True)]
        ),
        "macro_f1": lambda t, p: f1_score(t, p >= 0.5, average="macro"),
        "auc": lambda t, p: roc_auc_score(t, p),
    }
    assert best.metrics[metric] == pytest.approx(functions[metric](truth, shares))


def test_a_network_is_chosen_for_labels():
    parts = hold_out(data(count=60), "classification", share=0.25, seed=0)
    settings, tried = choose(parts, Settings("classification", cell="auto"))
    assert settings.cell == "echo"
    best = next(one for one in tried if one.settings == settings)
    assert best.accuracy > 0.6
    assert best.error < 0.5  # that of 1/2 for both labels


def test_what_labels_cannot_have_is_refused():
    parts = hold_out(data(), "classification", share=0.25, seed=0)
    with pytest.raises(GuidedError, match="none of them can have weights of its own; leave it out"):
        Pipeline.of(parts, Settings("classification", cell="echo", class_weights="balanced"))
    with pytest.raises(GuidedError, match=r"'hgh' is none of the labels .*; did you mean 'high'"):
        Pipeline.of(parts, Settings("classification", class_weights={"hgh": 2.0}))
