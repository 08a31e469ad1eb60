"""Numbers of each series, or of each of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_array, check_is_fitted
from typing_extensions import Self

from longlag.data import SequenceData, ValuePredictions
from longlag.data.arrays import with_target
from longlag.estimators.base import worded
from longlag.estimators.inputs import at_steps
from longlag.estimators.series import OfSeries, check_count, weighted


@dataclass(eq=False, repr=False, kw_only=True)
class RecurrentRegressor(RegressorMixin, OfSeries):
    """Finds a number of series by a recurrent network, several, or some at each step.

    Does what ``longlag train --task regression`` does (with ``per_step`` tagging with numbers), by
    the same code: the same data and seed give the same network.

    X is as of `RecurrentClassifier`. y has a number for each series (N,), or several (N, D); with
    ``per_step`` it is an array (N, T) or (N, T, D), or a list of arrays (T,) or (T, D), NaN where
    none is known. A frame may have it as columns, then y is None.

    Args:
        per_step: whether each step has numbers, not each series.
        others: as of `RecurrentClassifier`.

    Attributes:
        n_features_in_, feature_names_in_, fitted_, settings_: as of `RecurrentClassifier`.

    Raises:
        DataError, SettingsError, TrainingFailed: as of `RecurrentClassifier`.

    Example:
        >>> random = np.random.default_rng(0)
        >>> X = [random.normal(size=(steps, 2)) for steps in random.integers(5, 12, 40)]
        >>> y = [series[:, 0].mean() for series in X]
        >>> model = RecurrentRegressor(hidden=8, epochs=20, random_state=0).fit(X, y)
        >>> model.predict(X[:3]).shape
        (3,)
    """

    _TASKS: ClassVar[tuple[str, ...]] = ("regression", "tagging of numbers")

    @property
    def _task(self) -> str:
        return "tagging" if self.per_step else "regression"

    @property
    def _tags(self) -> Literal["numbers"]:
        return "numbers"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @worded()
    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Train on series and their numbers.

        Args:
            X: series, as the class says.
            y: their numbers; None: they are in the frame X.
            sample_weight: as of `RecurrentClassifier.fit`.
        """
        data, flat = self._with_numbers(X, y)
        self._train(weighted(data, sample_weight))
        self._flat = flat
        return self

    @worded()
    def partial_fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Train further: one pass over some series; see `RecurrentClassifier.partial_fit`."""
        first = "fitted_" not in self.__dict__
        data, flat = self._with_numbers(X, y, new=first)
        self._train_further(weighted(data, sample_weight))
        if first:
            self._flat = flat
        return self

    @worded()
    def predict(self, X: Any) -> Any:
        """The numbers of each series, or with ``per_step`` of each step.

        Args:
            X: series with the features of those in `fit`, of any length.

        Returns:
            (N,) or (N, D), as y was in `fit`; with ``per_step`` (N, T) or (N, T, D), or a list with
            an array for each series where X is a list or frame.
        """
        check_is_fitted(self, "fitted_")
        data = self._sequences(X)
        return self._shaped(X, self._ask(data), data.lengths)

    @worded()
    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """R², the share of the variance that is explained; the mean over several targets.

        Args:
            X, y: as of `fit`; steps without a known number do not count.
            sample_weight: of each series.
        """
        check_is_fitted(self, "fitted_")
        data, _ = self._with_numbers(X, y, new=False)
        assert data.target is not None
        count = data.target.shape[-1]
        values = self._ask(replace(data, target=None)).reshape(*data.target.shape)
        target, weights = data.target, self._weights(sample_weight, data)
        if self.per_step:
            target, values = target[data.valid], values[data.valid]
        target, values = target.reshape(-1, count), values.reshape(-1, count)
        known = ~np.isnan(target).any(axis=1)
        weights = None if weights is None else weights[known]
        return float(r2_score(target[known], values[known], sample_weight=weights))

    def _ask(self, data: SequenceData) -> Any:
        answers = self._answers(data).predictions
        assert isinstance(answers, ValuePredictions)
        return answers.values[..., 0] if self._flat else answers.values

    def _with_numbers(self, X: Any, y: Any, *, new: bool = True) -> tuple[SequenceData, bool]:
        """Series with their numbers, and whether those have no axis for several targets."""
        data = self._with_target_of(X, y, new=new)
        if y is None:
            assert data.target is not None
            return data, data.target.shape[-1] == 1
        if self.per_step:
            values = at_steps(y, data.lengths)
            flat = values.ndim == 2
        else:
            values = check_array(y, ensure_2d=False, dtype="numeric", input_name="y", allow_nd=True)
            flat = values.ndim == 1
        check_count(values, data)
        return with_target(data, values, task=self._task, tags="numbers"), flat

    def _remembered(self) -> dict[str, Any]:
        return {"flat": self._flat}

    def _recall(self, record: Mapping[str, Any]) -> None:
        alone = len(self.fitted_.preparation.target_names) == 1
        self._flat = bool(record.get("flat", True)) and alone
