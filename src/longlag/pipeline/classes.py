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

BINS = 10


def confusion(truth: Int64[Array, " M"], answers: Int64[Array, " M"], count: int) -> Array:
    """How often each class (rows) was taken for each (columns), (K, K).

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(truth * count + answers, minlength=count * count).reshape(count, count)


def recall(matrix: Array) -> Float[Array, " K"]:
    """The share of each class that was found; NaN where there is none of it."""
    return _share(np.diag(matrix), matrix.sum(axis=1))


def precision(matrix: Array) -> Float[Array, " K"]:
    """The share of the answers of each class that are right; NaN where there is no such answer."""
    return _share(np.diag(matrix), matrix.sum(axis=0))


def f1(matrix: Array) -> Float[Array, " K"]:
    """2 TP / (2 TP + FP + FN) of each class; NaN where it is in neither answers nor truth."""
    return _share(2 * np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def accuracy(probabilities: Float[Array, "M K"], truth: Int64[Array, " M"]) -> float:
    """The share of right answers."""
    return float((probabilities.argmax(axis=1) == truth).mean())


def balanced_accuracy(probabilities: Float[Array, "M K"], truth: Int64[Array, " M"]) -> float:
    """The mean of the recalls of the classes that there are.

    >>> balanced_accuracy(np.array([[0.9, 0.1]] * 4), np.array([0, 0, 0, 1]))
    0.5
    """
    return float(np.nanmean(recall(_matrix(probabilities, truth))))


def macro_f1(probabilities: Float[Array, "M K"], truth: Int64[Array, " M"]) -> float:
    """The mean of the F1 of the classes."""
    return float(np.nanmean(f1(_matrix(probabilities, truth))))


def auc(probabilities: Float[Array, "M K"], truth: Int64[Array, " M"]) -> float:
    """How often one of a class is given a larger probability of it than one of another class.

    The mean over the classes, of each against all others; ties count half. NaN where there is one
    class only.

    >>> auc(np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]]), np.array([0, 1, 1]))
    1.0
    """
    areas = []
    for k in range(probabilities.shape[1]):
        own = truth == k
        positive = int(own.sum())
        negative = len(truth) - positive
        if not positive or not negative:
            continue
        _, inverse, counts = np.unique(probabilities[:, k], return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks = (ends - (counts - 1) / 2)[inverse.reshape(-1)]
        total = ranks[own].sum() - positive * (positive + 1) / 2
        areas.append(total / (positive * negative))
    return float(np.mean(areas)) if areas else float("nan")


def log_loss(probabilities: Float[Array, "M K"], truth: Int64[Array, " M"]) -> float:
    """The mean of -log p(truth), in nats; no probability counts as less than 1e-15."""
    chosen = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-15)).mean())


def calibration_error(probabilities: Float[Array, "M K"], truth: Int64[Array, " M"]) -> float:
    """How far the probability of the answer is from the share of right ones, on average.

    >>> calibration_error(np.array([[0.8, 0.2]] * 5), np.array([0, 0, 0, 0, 1]))
    0.0
    """
    best = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((best * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    gaps = np.bincount(bins, right - best, BINS)
    return float(np.round(np.abs(gaps[counts > 0]).sum() / len(truth), 12))


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auc": auc,
}
"""What the best weights may be chosen by, beside the loss: more is better."""


def _matrix(probabilities: Float[Array, "M K"], truth: Int64[Array, " M"]) -> Array:
    return confusion(truth, probabilities.argmax(axis=1), probabilities.shape[1])


def _share(part: Array, whole: Array) -> Float[Array, " K"]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
