"""The measures of classes, beside those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from longlag.pipeline import classes


def drawn(count: int, seed: int, rows: int = 200):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(count), rows).round(2) + 0.01  # with ties
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, rng.choice(count, rows, p=rng.dirichlet(np.ones(count) * 3))


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_those_of_scikit_learn(count, seed):
    probabilities, truth = drawn(count, seed)
    answers = probabilities.argmax(axis=1)
    there = np.unique(truth)
    recall = metrics.recall_score(truth, answers, labels=there, average="macro")
    for ours, theirs in (
        (classes.accuracy, metrics.accuracy_score(truth, answers)),
        (classes.balanced_accuracy, recall),
        (classes.macro_f1, metrics.f1_score(truth, answers, average="macro")),
        (classes.log_loss, metrics.log_loss(truth, probabilities, labels=range(count))),
    ):  # fmt: skip
        assert ours(probabilities, truth) == pytest.approx(theirs, rel=1e-6), ours.__name__
    areas = [metrics.roc_auc_score(truth == k, probabilities[:, k]) for k in there]
    assert classes.auc(probabilities, truth) == pytest.approx(np.mean(areas))
    matrix = classes.confusion(truth, answers, count)
    np.testing.assert_array_equal(
        matrix, metrics.confusion_matrix(truth, answers, labels=range(count))
    )


def test_calibration_is_that_of_its_definition():
    probabilities, truth = drawn(3, 5)
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    total = 0.0
    for low in np.arange(10) / 10:
        inside = (best >= low) & (best < low + 0.1) if low < 0.9 else best >= 0.9
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - best[inside].mean())
    assert classes.calibration_error(probabilities, truth) == pytest.approx(total, abs=1e-6)


def test_of_one_class_alone():
    probabilities, truth = np.array([[0.2, 0.8, 0.0]] * 3), np.array([1, 1, 1])
    assert np.isnan(classes.auc(probabilities, truth))
    assert classes.balanced_accuracy(probabilities, truth) == 1
    assert classes.macro_f1(probabilities, truth) == 1
    assert np.isnan(classes.precision(classes.confusion(truth, truth, 3))[0])
