"""How good answers of classes are: by NumPy alone, from probabilities and the classes that were.

Where a class is in neither answers nor truth it counts in no mean. Sources: T. Fawcett (2006), "An
introduction to ROC analysis" (AUC as a rank statistic); C. Guo et al. (2017), "On calibration of
modern neural networks" (the calibration error, of ten bins of equal width).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int64

Array = np.ndarray
Weights = Float[Array, " M"] | None
"""What each answer counts for; None: all the same."""

BINS = 10


def confusion(
    truth: Int64[Array, " M"], answers: Int64[Array, " M"], count: int, weights: Weights = None
) -> Array:
    """How often each class (rows) was taken for each (columns), (K, K).

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    places = truth * count + answers
    return np.bincount(places, weights, minlength=count * count).reshape(count, count)


def recall(matrix: Array) -> Float[Array, " K"]:
    """The share of each class that was found; NaN where there is none of it."""
    return _share(np.diag(matrix), matrix.sum(axis=1))


def precision(matrix: Array) -> Float[Array, " K"]:
    """The share of the answers of each class that are right; NaN where there is no such answer."""
    return _share(np.diag(matrix), matrix.sum(axis=0))


def f1(matrix: Array) -> Float[Array, " K"]:
    """2 TP / (2 TP + FP + FN) of each class; NaN where it is in neither answers nor truth."""
    return _share(2 * np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def accuracy(
    probabilities: Float[Array, "M K"], truth: Int64[Array, " M"], weights: Weights = None
) -> float:
    """The share of right answers."""
    return float(np.average(probabilities.argmax(axis=1) == truth, weights=weights))


def balanced_accuracy(
    probabilities: Float[Array, "M K"], truth: Int64[Array, " M"], weights: Weights = None
) -> float:
    """The mean of the recalls of the classes that there are.

    >>> balanced_accuracy(np.array([[0.9, 0.1]] * 4), np.array([0, 0, 0, 1]))
    0.5
    """
    return float(np.nanmean(recall(_matrix(probabilities, truth, weights))))


def macro_f1(
    probabilities: Float[Array, "M K"], truth: Int64[Array, " M"], weights: Weights = None
) -> float:
    """The mean of the F1 of the classes."""
    return float(np.nanmean(f1(_matrix(probabilities, truth, weights))))


def auc(
    probabilities: Float[Array, "M K"], truth: Int64[Array, " M"], weights: Weights = None
) -> float:
    """How often one of a class is given a larger probability of it than one of another class.

    The mean over the classes, of each against all others; ties count half. NaN where there is one
    class only.

    >>> auc(np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]), np.array([0, 1, 1]))
    1.0
    """
    areas = []
    for k in range(probabilities.shape[1]):
        own = truth == k
        _, inverse = np.unique(probabilities[:, k], return_inverse=True)
        mine, others = (
            np.bincount(inverse.reshape(-1), side if weights is None else side * weights)
            for side in (own, ~own)
        )
        pairs = mine.sum() * others.sum()
        if pairs > 0:
            below = np.cumsum(others) - others / 2
            areas.append((mine * below).sum() / pairs)
    return float(np.mean(areas)) if areas else float("nan")


def log_loss(
    probabilities: Float[Array, "M K"], truth: Int64[Array, " M"], weights: Weights = None
) -> float:
    """The mean of -log p(truth), in nats; no probability counts as less than 1e-15."""
    chosen = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(np.average(-np.log(np.maximum(chosen, 1e-15)), weights=weights))


def calibration_error(
    probabilities: Float[Array, "M K"], truth: Int64[Array, " M"], weights: Weights = None
) -> float:
    """How far the probability of the answer is from the share of right ones, on average.

    >>> calibration_error(np.array([[0.8, 0.2]] * 5), np.array([0, 0, 0, 0, 1]))
    0.0
    """
    best = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    each = np.ones(len(truth)) if weights is None else weights
    bins = np.minimum((best * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, (right - best) * each, BINS)
    return float(np.round(np.abs(gaps).sum() / each.sum(), 12))


def f1_of_label(
    probabilities: Float[Array, "M 2"], truth: Int64[Array, " M"], weights: Weights = None
) -> float:
    """2 TP / (2 TP + FP + FN) of the second of two classes; 0 where it is nowhere."""
    matrix = confusion(truth, (probabilities[:, 1] >= 0.5).astype(np.int64), 2, weights)
    return float(np.nan_to_num(f1(matrix)[1]))


def all_right(
    probabilities: Float[Array, "M D"], truth: Float[Array, "M D"], weights: Weights = None
) -> float:
    """The share of the answers of which each of D labels is right."""
    right = ((probabilities >= 0.5) == (truth > 0.5)).all(axis=1)
    return float(np.average(right, weights=weights))


METRICS: dict[str, Callable[[Array, Array, Weights], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auc": auc,
}
"""What the best weights may be chosen by, beside the loss: more is better."""

_OF_LABEL = {**METRICS, "macro_f1": f1_of_label}


def of_labels(
    metric: str,
    probabilities: Float[Array, "M D"],
    truth: Float[Array, "M D"],
    weights: Weights = None,
) -> float:
    """A key of `METRICS` where each of D labels may hold: the mean over the labels of what it is of
    a label's two sides, but for the accuracy, which wants all labels of an answer right.

    >>> shares, truth = np.array([[0.9, 0.2], [0.8, 0.7]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> of_labels("accuracy", shares, truth), of_labels("auc", shares, truth)
    (0.5, 1.0)
    """
    if metric == "accuracy":
        return all_right(probabilities, truth, weights)
    function = _OF_LABEL[metric]
    each = [
        function(np.stack([1 - p, p], 1), t.astype(np.int64), weights)
        for p, t in zip(probabilities.T, truth.T, strict=True)
    ]
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def _matrix(
    probabilities: Float[Array, "M K"], truth: Int64[Array, " M"], weights: Weights
) -> Array:
    return confusion(truth, probabilities.argmax(axis=1), probabilities.shape[1], weights)


def _share(part: Array, whole: Array) -> Float[Array, " K"]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
