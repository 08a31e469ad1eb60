"""The next steps of series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from typing_extensions import Self

from longlag.arguments import check_whole
from longlag.data import Columns, DataError, SequenceData, ValuePredictions, from_arrays
from longlag.data.covariates import Future
from longlag.estimators.ahead import check_asked, named, nothing_new, places_of, rows_ahead
from longlag.estimators.base import Recurrent, worded
from longlag.estimators.inputs import Frame, arrays, is_ragged
from longlag.pipeline.backtest import Backtest, backtest
from longlag.pipeline.settings import Settings, SettingsError
from longlag.pipeline.threads import threads


@dataclass(frozen=True)
class _Form:
    """The axes that the values of a user have."""

    alone: bool  # one series, without an axis for several
    flat: bool  # one target, without an axis for several


@dataclass(eq=False, repr=False, kw_only=True)
class RecurrentForecaster(Recurrent):
    """Forecasts the next steps of one series or of many by one recurrent network.

    Does what ``longlag train --task forecasting`` does, by the same code: the network learns what
    goes beyond the season before, each series in units of its own; the last steps are held out to
    keep the best weights by, and for the intervals.

    y is an array (T,), one series; (N, T), several of one target; (N, T, D); a list of series (T,)
    or (T, D) of any length; or a frame in long form, a row a step, with a column that names the
    series, of which ``columns=Columns(target=...)`` says which columns to forecast (all, where it
    does not). X are further features that are known up to the last step, of as many series and
    steps: (T, C) for one series, (N, T, C) or a list for several; those of a frame are its other
    columns. Those of X that ``known`` names are known ahead too, such as a price or a holiday: at
    prediction ``X_future`` has them for the steps to forecast. A frame says so with
    ``columns=Columns(known=...)``, and has them in rows after the last target.

    There is no partial_fit: season, intervals and scales are found on all data, with a part held
    out. To go on as values come, give `predict` the longer past; the weights stay.

    Args:
        horizon: steps to forecast, >= 1.
        season: steps after which the series repeat themselves, 1 for never; None: found.
        relative: whether forecasts are relative to the season before; False: the values
            themselves, standardised, without intervals.
        quantiles: two or more levels in (0, 1), in order, of the quantiles that the network puts
            out for each value; None: none.
        gaussian: whether it puts out a mean and a standard deviation of each value.
        known: which features of X are known ahead, by their places, or "all"; None: none.
        window: the network is trained on stretches of so many steps; None: 100.
        validation_fraction: the share of the steps of each series that is held out, its last.
        refit: whether the network is then trained anew on all data; None: no.
        others: as of `RecurrentClassifier`.

    Attributes:
        season_: the season; None where the forecasts are not relative.
        n_features_in_, feature_names_in_, fitted_, settings_: as of `RecurrentClassifier`; the
            features are the targets and X.

    Raises:
        DataError, SettingsError, TrainingFailed: as of `RecurrentClassifier`.

    Example:
        >>> steps = np.arange(120)
        >>> y = np.sin(2 * np.pi * steps / 12) + 0.02 * steps
        >>> model = RecurrentForecaster(horizon=6, hidden=8, epochs=10, random_state=0).fit(y)
        >>> model.season_, model.predict().shape, model.predict(y[:90]).shape
        (12, (6,), (6,))

        What is known ahead, here whether a day is a holiday:

        >>> holiday = (np.random.default_rng(0).random(126) < 0.2).astype(float)
        >>> model.set_params(known="all").fit(y - holiday[:120], holiday[:120])
        RecurrentForecaster(...)
        >>> model.predict(X_future=holiday[120:]).shape
        (6,)
    """

    horizon: int = 1
    season: int | None = Settings.season
    relative: bool = Settings.relative
    quantiles: tuple[float, ...] | None = Settings.quantiles
    gaussian: bool = Settings.gaussian
    known: Sequence[int] | Literal["all"] | None = None

    _TASKS: ClassVar[tuple[str, ...]] = ("forecasting",)

    @property
    def _task(self) -> str:
        return "forecasting"

    @worded()
    def fit(self, y: Any, X: Any = None) -> Self:
        """Train on the past of series.

        Args:
            y: the series, as the class says.
            X: further features; None: none.
        """
        if self.known is not None and X is None:
            raise DataError(
                f"X: got None, but known={self.known!r} names features of it that are known ahead; "
                "give them, or of a frame say columns=Columns(known=...)"
            )
        data, form = self._past_of(y, X, new=True)
        self._train(data)
        self._past = data, form
        self._take_season()
        return self

    @worded()
    def predict(
        self,
        y: Any = None,
        X: Any = None,
        *,
        X_future: Any = None,
        horizon: int | None = None,
    ) -> Any:
        """The steps that follow.

        Args:
            y: the past of series, as in `fit`, which may be others; None: those of `fit`.
            X: their further features.
            X_future: the features that are known ahead, in their order, for the steps that follow,
                as many as the estimator's horizon or more: (horizon, K) for one series, (N,
                horizon, K) or a list for several; a frame has them in its rows.
            horizon: steps, at most those of the estimator; None: these.

        Returns:
            (horizon,) for one series, (N, horizon) for several; with D targets (horizon, D) or
            (N, horizon, D). The series of a frame are in the order of their first rows.

        Raises:
            ValueError: the horizon is longer than the network was trained for; y is None, and the
                estimator is from a file, which holds no data; X_future is missing, has fewer steps,
                or other features.
        """
        answers, form = self._ask(y, X, X_future)
        return self._formed(answers.values, form, horizon)

    @worded()
    def predict_interval(
        self,
        y: Any = None,
        X: Any = None,
        *,
        X_future: Any = None,
        horizon: int | None = None,
    ) -> tuple[Any, Any]:
        """The lower and the upper end of intervals that are to hold 80 % of the values.

        By split conformal prediction, from the errors on the part held out; see
        `longlag.pipeline.intervals.Intervals`.

        Args:
            y, X, X_future, horizon: as of `predict`.

        Returns:
            two arrays as `predict` gives one.

        Raises:
            ValueError: there are none: ``relative=False``, or too few steps held out.
        """
        answers, form = self._ask(y, X, X_future)
        if answers.low is None or answers.high is None:
            raise SettingsError(
                "predict_interval: this network has no intervals; they need relative=True and a "
                "part held out in which each step ahead is known"
            )
        return tuple(self._formed(end, form, horizon) for end in (answers.low, answers.high))  # pyright: ignore

    @worded()
    def predict_spread(
        self,
        y: Any = None,
        X: Any = None,
        *,
        X_future: Any = None,
        horizon: int | None = None,
    ) -> dict[str, Any]:
        """What the network says of the spread of each value.

        Args:
            y, X, X_future, horizon: as of `predict`.

        Returns:
            Arrays as `predict` gives one: with ``quantiles=(0.1, 0.9)`` those of "q0.1" and "q0.9";
            with ``gaussian=True`` the standard deviation "sd", beside the mean of `predict`.

        Raises:
            ValueError: the network puts out values alone.

        Example:
            >>> y = np.random.default_rng(0).normal(size=200)
            >>> quick = {"hidden": 4, "epochs": 2, "random_state": 0}
            >>> model = RecurrentForecaster(quantiles=(0.1, 0.9), **quick).fit(y)
            >>> spread = model.predict_spread()
            >>> sorted(spread), bool(spread["q0.1"][0] <= spread["q0.9"][0])
            (['q0.1', 'q0.9'], True)
        """
        answers, form = self._ask(y, X, X_future)
        if not answers.beside:
            raise SettingsError(
                "predict_spread: this network puts out values alone; make the estimator with "
                "quantiles=(0.1, 0.5, 0.9) or gaussian=True, and fit it"
            )
        beside = answers.beside.items()
        return {name: self._formed(values, form, horizon) for name, values in beside}

    @worded()
    def score(self, y: Any, X: Any = None) -> float:
        r"""How much better than the baseline, :math:`1 - e / e_b`: 1 is best, 0 as good.

        e is the mean absolute error of the forecasts within the series, from every step on, in
        units of each series (MASE) where they are relative; :math:`e_b` that of the season before,
        or of the last value. The mean over several targets.

        Args:
            y, X: as of `fit`; longer than the horizon.

        Raises:
            ValueError: no forecast can be compared with a value.
        """
        check_is_fitted(self, "fitted_")
        data, _ = self._past_of(y, X, new=False)
        if self.fitted_.preparation.known and data.future is None:
            horizon = self.fitted_.preparation.horizon or 1
            data = replace(data, future=nothing_new(data, horizon))  # no value there is compared
        reached = self._answers(data).score
        if reached is None:
            raise DataError(
                f"y: the longest series has {data.lengths.max()} steps, in which no forecast can "
                "be compared with a value; give longer ones"
            )
        errors = [one for one in reached.measures if one.name.startswith("MASE")]
        if not errors:
            errors = [one for one in reached.measures if one.name.startswith("mean absolute")]
        tiny = np.finfo(float).tiny
        return float(np.mean([1 - one.model / max(one.baseline, tiny) for one in errors]))

    @worded()
    def backtest(self, y: Any, X: Any = None, *, origins: int = 3, every: bool = True) -> Backtest:
        """How good its forecasts would have been from several times in the past.

        Networks are trained with its parameters up to each of them; it is neither used nor
        changed.

        Args:
            y, X: as of `fit`.
            origins: times to forecast from, >= 1, a horizon apart, the last one a horizon before
                the end.
            every: whether a network is trained for each; False: one, up to the first.

        Returns:
            the errors of the network and of simple forecasts: ``mase()``, ``rmsse()``,
            ``coverage()`` of the intervals.

        Raises:
            ValueError: a series is too short, or ``relative=False``.

        Cost: that of `fit` for each origin.
        """
        check_whole("origins", origins, 1)
        data, _ = self._past_of(y, X, new=True)
        with threads(self.threads):
            return backtest(
                data, self._settings(self._seed()), origins, share=self.validation_fraction,
                every=every, columns=self._columns_of(data),
            )  # fmt: skip

    def _ask(self, y: Any, X: Any, X_future: Any) -> tuple[ValuePredictions, _Form]:
        check_is_fitted(self, "fitted_")
        if y is not None:
            data, form = self._past_of(y, X, new=False)
        elif X is not None:
            raise DataError("X: got features without y, the past that they belong to; give both")
        elif self._past is None:
            raise DataError(
                "y: got None, but the estimator is from a file, which holds no data; give the "
                "series whose next steps are wanted"
            )
        else:
            data, form = self._past
        if self.known is not None or X_future is not None:
            data = replace(data, future=self._future_of(X_future, data, form))
        answers = self._answers(data).predictions
        assert isinstance(answers, ValuePredictions)
        return answers, form

    def _formed(self, values: NDArray[np.float64], form: _Form, horizon: int | None) -> Any:
        """The first steps of forecasts (N, horizon, D), with the axes of the user."""
        most = self.fitted_.preparation.horizon or 1
        if horizon is not None and check_whole("horizon", horizon, 1) > most:
            raise SettingsError(
                f"horizon: got {horizon}, but the network forecasts {most} steps; make the "
                f"estimator with horizon={horizon}, and fit it"
            )
        values = values[:, :horizon]
        values = values[..., 0] if form.flat else values
        return values[0] if form.alone else values

    def _past_of(self, y: Any, X: Any, *, new: bool) -> tuple[SequenceData, _Form]:
        """Series with their features, the targets first, and the axes that they came with."""
        if isinstance(y, Frame):
            if X is not None:
                raise DataError("X: got features beside a frame; put them into its columns")
            data = self._sequences(y, new=new)
            return data, _Form(False, len(data.target_names) == 1)
        alone, listed = False, is_ragged(y)
        if not listed:
            y = np.asarray(y)
            alone = y.ndim == 1
            if y.ndim == 2 and y.shape[1] == 1 and len(y) > 1:
                raise DataError(
                    f"y has shape {y.shape}, {len(y)} series of one step; for one series of "
                    f"{len(y)} steps give y[:, 0], expected (T,), (N, T), (N, T, D) or a list"
                )
        flat = np.ndim(y[0]) == 1 if listed else y.ndim < 3
        values, lengths = arrays(y[None] if alone else y, self.layout, "y", self)
        values = values[:, :, None] if values.ndim == 2 else values
        count = values.shape[2]
        if X is not None:
            values = np.concatenate([values, self._beside(X, values, lengths, alone)], axis=2)
        data = from_arrays(values, None, lengths, task=self._task, missing=self.missing != "error")
        names, features = data.target_names, None
        if self.known is not None:  # what is known ahead is known by its name
            targets = ["y"] if count == 1 else [f"y{d}" for d in range(count)]
            names = features = (*targets, *named(range(values.shape[2] - count)))
        return replace(data, feature_names=features, target_names=names[:count]), _Form(alone, flat)

    def _columns_of(self, data: SequenceData) -> Columns:
        columns = super()._columns_of(data)
        if self.known is None:
            return columns
        count = data.x.shape[2] - len(data.target_names)
        return replace(columns, known=named(places_of(self.known, count)))

    def _future_of(self, X_future: Any, data: SequenceData, form: _Form) -> Future:
        """What is known ahead, as rows after the last step of each series."""
        targets = len(data.target_names)
        places = places_of(self.known, data.x.shape[2] - targets)
        horizon = self.fitted_.preparation.horizon or 1
        check_asked(X_future, places, (() if form.alone else (len(data),)) + (horizon, len(places)))
        features, steps = self._features_of(X_future, "X_future", form.alone)
        return rows_ahead(data, features, steps, [targets + place for place in places], horizon)

    def _beside(
        self, X: Any, values: NDArray[Any], lengths: NDArray[Any] | None, alone: bool
    ) -> NDArray[Any]:
        """Further features (N, T, C) of series with these values."""
        features, steps = self._features_of(X, "X", alone)
        ends = [
            np.full(len(values), values.shape[1]) if one is None else one
            for one in (lengths, steps)
        ]
        if features.shape[:2] != values.shape[:2] or (ends[0] != ends[1]).any():
            raise DataError(
                f"X has {len(features)} series of at most {features.shape[1]} steps, expected "
                f"those of y, {len(values)} of at most {values.shape[1]}, each as long"
            )
        return features

    def _features_of(
        self, X: Any, name: str, alone: bool
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Features (N, T, C), and the steps of each series; None: T."""
        if alone and not is_ragged(X):
            X = np.asarray(X)
            X = X[None] if X.ndim < 3 else X
        features, steps = arrays(X, self.layout, name, self)
        return (features[:, :, None] if features.ndim == 2 else features), steps

    def _take_season(self) -> None:
        relative = self.fitted_.relative
        self.season_ = None if relative is None else relative.season

    @classmethod
    def _parameters_of(cls, fitted: Any) -> dict[str, Any]:
        horizon = fitted.preparation.horizon
        relative = fitted.relative is not None
        return {**super()._parameters_of(fitted), "horizon": horizon, "relative": relative}

    def _recall(self, record: Mapping[str, Any]) -> None:
        self._past = None
        self._take_season()
