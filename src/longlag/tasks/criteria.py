"""When a task counts as learned: the published rule as data, and what measuring it gave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longlag.batch import IGNORED_CLASS


@dataclass(frozen=True)
class Rule:
    """A success criterion as its paper states it.

    Args:
        tolerance: a sequence is right if every error due in it is below this.
        sequences: how many sequences are looked at.
        source: the paper and the section that state it.
        wrong_below: the fraction of wrong sequences must be below this; None: none may be wrong.
        mean_error_below: the mean absolute error must be below this.
        mean_squared_error_below: the mean squared error must be below this.
    """

    tolerance: float
    sequences: int
    source: str
    wrong_below: Fraction | None = None
    mean_error_below: float = math.inf
    mean_squared_error_below: float = math.inf

    def met(
        self, wrong: int, sequences: int, mean_error: float, mean_squared_error: float = math.nan
    ) -> bool:
        """Whether `wrong` of `sequences` and such mean errors satisfy it."""
        few = wrong == 0 if self.wrong_below is None else wrong < self.wrong_below * sequences
        means = (
            (mean_error, self.mean_error_below),
            (mean_squared_error, self.mean_squared_error_below),
        )
        return few and all(math.isinf(below) or mean < below for mean, below in means)

    def __str__(self) -> str:
        share = "no sequence" if self.wrong_below is None else f"less than {self.wrong_below}"
        mean = "" if math.isinf(self.mean_error_below) else f", mean < {self.mean_error_below:g}"
        if not math.isinf(self.mean_squared_error_below):
            mean += f", mean square < {self.mean_squared_error_below:.3g}"
        return f"{share} wrong at |error| < {self.tolerance:g}{mean}; {self.source}"


WRONG_CLASSES_2013 = Rule(
    tolerance=0.5,  # a wrong class is an error of 1
    sequences=10_000,
    wrong_below=Fraction(1, 100),
    source="Pascanu, Mikolov & Bengio 2013",
)
"""Less than 1 % of 10,000 sequences have a wrong class."""


@dataclass(frozen=True)
class Criterion:
    """What a predictor reached against a rule.

    Attributes:
        success: whether the rule is met.
        wrong: number of sequences with an error at or above the rule's tolerance.
        sequences: number of sequences looked at.
        largest_error: largest absolute error due anywhere (classes: 1 for a wrong one, else 0).
        mean_error: mean over the sequences of their mean absolute error.
        mean_squared_error: mean over the sequences of their mean squared error.
        rule: the rule it was held against.
    """

    success: bool
    wrong: int
    sequences: int
    largest_error: float
    mean_error: float
    mean_squared_error: float
    rule: Rule

    def __str__(self) -> str:
        return (
            f"{'success' if self.success else 'no success'}: {self.wrong} of {self.sequences} "
            f"sequences wrong, largest error {self.largest_error:.3g}, "
            f"mean error {self.mean_error:.3g} ({self.rule})"
        )


@dataclass(frozen=True)
class Errors:
    """Absolute errors of N sequences: `value` (N, K) where `due` (N, K), and 0 elsewhere."""

    value: NDArray[np.float64]
    due: NDArray[np.bool_]

    @classmethod
    def of(cls, output: ArrayLike, target: NDArray) -> Errors:
        """Of real outputs against float targets (NaN: not due), or of scores against classes.

        A class is wrong, error 1, unless its score is the highest and all scores are finite.
        """
        scores = np.asarray(output, dtype=np.float64)
        rows, width = len(target), math.prod(target.shape[1:])
        if np.issubdtype(target.dtype, np.integer):
            due = np.not_equal(target, IGNORED_CLASS)
            right = (scores.argmax(axis=-1) == target) & np.isfinite(scores).all(axis=-1)
            value = np.where(due, ~right, False).astype(np.float64)
        else:
            due = ~np.isnan(target)
            value = scores - target
            value[~due] = 0.0
            np.abs(value, out=value)
        return cls(value.reshape(rows, width), due.reshape(rows, width))

    def within(self, tolerance: float) -> NDArray[np.bool_]:
        """Per sequence (N,): every error due is below `tolerance`, > 0; an error of NaN is not."""
        return self.largest() < tolerance

    def largest(self) -> NDArray[np.float64]:
        """Per sequence (N,): the largest error due; NaN if one is NaN."""
        return self.value.max(axis=1, initial=0.0)

    def mean(self, power: int = 1) -> NDArray[np.float64]:
        """Per sequence (N,): the mean over its errors due, each raised to `power`, 1 or 2."""
        value = self.value if power == 1 else np.square(self.value)
        return value.sum(axis=1) / np.maximum(np.count_nonzero(self.due, axis=1), 1)

    def by_sequence(self) -> BySequence:
        """What the rules look at."""
        return BySequence(self.largest(), self.mean(), self.mean(2))


class BySequence(NamedTuple):
    """Of each sequence (N,) its largest absolute error, its mean, and the mean of the squares."""

    largest: NDArray[np.float64]
    mean: NDArray[np.float64]
    mean_square: NDArray[np.float64]


def measure(parts: list[Errors], rule: Rule) -> Criterion:
    """Hold the errors of all sequences against the rule."""
    both = zip(*(part.by_sequence() for part in parts), strict=True)
    return judge(BySequence(*map(np.concatenate, both)), rule)


def judge(found: BySequence, rule: Rule) -> Criterion:
    """Hold what was found of all sequences against the rule."""
    wrong, sequences = int((~(found.largest < rule.tolerance)).sum()), len(found.largest)
    mean_error, mean_squared_error = float(found.mean.mean()), float(found.mean_square.mean())
    return Criterion(
        success=rule.met(wrong, sequences, mean_error, mean_squared_error),
        wrong=wrong,
        sequences=sequences,
        largest_error=float(found.largest.max()),
        mean_error=mean_error,
        mean_squared_error=mean_squared_error,
        rule=rule,
    )
