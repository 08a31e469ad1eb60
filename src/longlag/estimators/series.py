"""What a classifier and a regressor have in common: series with one answer, or one at each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from longlag.data import DataError, SequenceData
from longlag.data.errors import and_others
from longlag.estimators.base import Recurrent
from longlag.estimators.inputs import Array, Frame, is_ragged, one_by_one
from longlag.pipeline.settings import Settings


@dataclass(eq=False, repr=False, kw_only=True)
class OfSeries(Recurrent):
    """Parameters beside those of `Recurrent`.

    Args:
        per_step: whether each step has an answer, not each series one.
    """

    per_step: bool = False
    bidirectional: bool = Settings.bidirectional
    reduce: str | None = Settings.reduce

    @classmethod
    def _parameters_of(cls, fitted: Any) -> dict[str, Any]:
        at_steps = fitted.preparation.task == "tagging"
        return {**super()._parameters_of(fitted), "per_step": at_steps}

    def _with_target_of(self, X: Any, y: Any, *, new: bool = True) -> SequenceData:
        """Series of X; those of a frame without y with their targets."""
        if y is None and not isinstance(X, Frame):
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None; only a "
                "frame may have it among its columns"
            )
        return self._sequences(X, new=new, with_target=y is None)

    def _shaped(self, X: Any, values: NDArray[Any], lengths: Int64[Array, " N"]) -> Any:
        """Answers in the shape of what was asked: a list for each series, where X was none of one
        length."""
        if self.per_step and (isinstance(X, Frame) or is_ragged(X)):
            return one_by_one(values, lengths)
        return values

    def _weights(self, sample_weight: Any, data: SequenceData) -> NDArray[np.float64] | None:
        """Those of the answers, from those of the series."""
        weights = weighted(data, sample_weight).weights
        if weights is None or not self.per_step:
            return weights
        return np.repeat(weights, data.lengths)


def weighted(data: SequenceData, sample_weight: Any) -> SequenceData:
    """The series with what each of them counts for.

    Args:
        data: the series.
        sample_weight: (N,) numbers >= 0; None: they count the same.

    Raises:
        DataError: it is not that, or all are 0.
    """
    if sample_weight is None:
        return data
    if data.weights is not None:
        raise DataError("sample_weight: given, and so is Columns(weight=); expected one of them")
    weights = np.asarray(sample_weight)
    if weights.shape != (len(data),) or weights.dtype.kind not in "biuf":
        raise DataError(
            f"sample_weight: got shape {weights.shape} of {weights.dtype}, expected ({len(data)},) "
            "numbers, one for each series of X"
        )
    weights = weights.astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise DataError(
            f"sample_weight[{wrong[0]}] is {weights[wrong[0]]}, expected a finite number >= 0"
            f"{and_others(len(wrong))}"
        )
    if not weights.any():
        raise DataError(
            "sample_weight: all weights are zero, so no series counts; expected some > 0"
        )
    return replace(data, weights=weights)


def check_count(y: NDArray[Any], data: SequenceData) -> None:
    """One for each series.

    Raises:
        DataError: there are more or fewer.
    """
    if len(y) != len(data):
        raise DataError(
            f"y: inconsistent numbers of samples: {len(y)}, expected {len(data)}, the series of X"
        )
