"""Rolling origins: how good a forecaster would have been at several times in the past."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from longlag.data import Columns, DataError, SequenceData
from longlag.messages import Setting
from longlag.pipeline.dataset import hold_out, judged, prepare, told_once
from longlag.pipeline.fitted import EVALUATED, Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.network import run_model
from longlag.pipeline.scores import guesses
from longlag.pipeline.settings import Settings, SettingsError


@dataclass(frozen=True, eq=False)
class Backtest:
    r"""The errors of forecasts from several origins, and of the ways to go on without a network.

    MASE is the mean of :math:`|e| / q`, RMSSE the root of the mean of :math:`e^2 / r`, with q and r
    the means of :math:`|y_t - y_{t-m}|` and its square over what was known of the series at the
    first origin, m the season.

    Attributes:
        names: of what forecasts: "model", "seasonal naive", ...
        horizon: steps ahead.
        origins: how many there were.
        absolute: e / q, (ways, places, horizon), NaN where nothing was known; a place is an origin
            and a target of a series.
        squared: e² / r, likewise.
        inside: whether the interval held the value: 1, 0, or NaN, (places, horizon).
        level: what the intervals were to hold.
    """

    names: tuple[str, ...]
    horizon: int
    origins: int
    absolute: NDArray[np.float64]
    squared: NDArray[np.float64]
    inside: NDArray[np.float64]
    level: float

    def mase(self, ahead: int | None = None) -> dict[str, float]:
        """The MASE of each way, so many steps ahead, or over all of them."""
        return self._means(self.absolute, ahead)

    def rmsse(self, ahead: int | None = None) -> dict[str, float]:
        """The RMSSE of each way, so many steps ahead, or over all of them."""
        return {name: mean**0.5 for name, mean in self._means(self.squared, ahead).items()}

    def coverage(self, ahead: int | None = None) -> float:
        """The share that the intervals held, so many steps ahead, or over all of them."""
        return float(np.nanmean(self.inside[:, _steps(ahead)]))

    def _means(self, values: NDArray[np.float64], ahead: int | None) -> dict[str, float]:
        parts = values[:, :, _steps(ahead)].reshape(len(self.names), -1)
        return dict(zip(self.names, np.nanmean(parts, axis=1).tolist(), strict=True))


def _steps(ahead: int | None) -> slice:
    return slice(None) if ahead is None else slice(ahead - 1, ahead)


def known_first(
    data: SequenceData, settings: Settings, origins: int, path: Path | None = None
) -> NDArray[np.int64]:
    """How many steps of each series are known at the first of several origins, (N,).

    Args:
        data, settings, origins, path: see `backtest`.

    Raises:
        DataError: a series is too short.
        SettingsError: of settings that are not those of a relative forecaster.
    """
    horizon = settings.steps_ahead or 1
    if not settings.forecasting or not settings.relative:
        raise SettingsError(
            Setting("backtest"), ": it is for forecasts relative to simple ones; use the task "
            "forecasting, and leave out ", Setting("relative"), " false",
        )  # fmt: skip
    known = data.lengths - origins * horizon
    short = np.flatnonzero(known < 2 * horizon + 2)
    if len(short):
        at = int(short[0])
        raise DataError(
            f"{'' if path is None else f'{path}: '}series {data.names[at]!r} has "
            f"{data.lengths[at]} steps, and {origins} origins with a horizon of {horizon} leave "
            f"{max(int(known[at]), 0)} before the first; expected at least {2 * horizon + 2}. Use ",
            "a smaller ", Setting("backtest"), " or ", Setting("horizon"), ", or longer series",
        )  # fmt: skip
    return known


def backtest(
    data: SequenceData,
    settings: Settings,
    origins: int,
    *,
    share: float = 0.2,
    every: bool = True,
    columns: Columns | None = None,
    path: Path | None = None,
) -> Backtest:
    """Forecast from several origins what is known by now, with only what was known then.

    The last origin lies a horizon before the end of each series, each other one a horizon before
    the next. From each one forecast is made, of a network that is trained as `Pipeline.fit` with
    `refit` does, its own validation part included.

    Args:
        data: the series.
        settings: of network and training, for forecasting.
        origins: how many, >= 1.
        share: of what is known at an origin that is the validation part.
        every: whether a network is trained for each origin; else the one of the first forecasts
            from all of them, its state going on over what has become known.
        columns: those that the data were read with.
        path: the file they come from, for messages.

    Raises:
        DataError: a series is too short.
        SettingsError: of settings that are not those of a relative forecaster.

    Cost: that of `origins` trainings, or of one.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = np.sin(np.arange(60) * np.pi / 3) + 0.1 * rng.normal(size=60)
        >>> data = SequenceData(
        ...     x.reshape(1, 60, 1).astype(np.float32), np.array([60]), None, ("a",), ("v",), ("v",)
        ... )
        >>> found = backtest(data, Settings("forecasting", horizon=3, hidden=4, epochs=2), 2)
        >>> found.names, found.absolute.shape
        (('model', 'seasonal naive', 'last value', 'drift', 'simple'), (5, 2, 3))
    """
    known = known_first(data, settings, origins, path)
    horizon = settings.steps_ahead or 1
    made = []
    fitted: Fitted | None = None
    for number in range(origins):
        begin = known + number * horizon
        if fitted is None or every:
            parts = hold_out(
                data.first(begin), "forecasting", share=share, seed=settings.seed, horizon=horizon,
                path=path,
            )  # fmt: skip
            with told_once() if number else nullcontext():
                fitted = Pipeline.of(parts, settings, columns).fit(progress=False, refit=True)
            assert fitted.relative is not None  # one season, so that all errors have one unit
            settings = replace(settings, season=fitted.relative.season)
        made.append(_from(fitted, data.first(begin + horizon), begin, known))
    assert fitted is not None
    assert fitted.intervals is not None
    names = made[0][0]
    absolute, squared, inside = (
        np.concatenate([one[at] for one in made], axis=-2) for at in (1, 2, 3)
    )
    return Backtest(names, horizon, origins, absolute, squared, inside, fitted.intervals.level)


def _from(
    fitted: Fitted, data: SequenceData, begin: NDArray[np.int64], known: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The errors of the forecasts from the last known step, and what the intervals held."""
    relative, intervals = fitted.relative, fitted.intervals
    assert relative is not None
    assert intervals is not None
    values = judged(prepare(fitted.preparation, data), begin)
    read = relative.apply(values, begin)
    outputs = run_model(fitted.model, read, EVALUATED)
    forecasts = relative.restore(fitted.puts_out.point(outputs), values, begin)
    ways = dict(guesses(relative, values))
    shape = next(iter(ways.values())).shape
    target = np.asarray(values.target, np.float64).reshape(shape)
    sizes, squares = (relative.size(values, known, power)[:, None, None] for power in (1, 2))
    rows = np.arange(len(data)), begin - 1

    def at_origin(array: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, T, horizon, D) at the origin, as (N * D, horizon)."""
        return np.moveaxis(array[rows], 2, 1).reshape(-1, shape[2])

    errors = [way - target for way in (forecasts.reshape(shape), *ways.values())]
    assert read.target is not None
    inside = intervals.inside((read.target, outputs), fitted.puts_out).reshape(shape)
    return (
        ("model", *ways),
        np.stack([at_origin(np.abs(error) / sizes) for error in errors]),
        np.stack([at_origin(error**2 / squares) for error in errors]),
        at_origin(inside),
    )


def by_step(found: Backtest, most: int = 24) -> Iterator[tuple[str, Sequence[float]]]:
    """The rows of a table: a step ahead, or "all", with the MASE of each way, then the RMSSE of
    model and first other way, and the share that the intervals held."""
    for ahead in (*range(1, min(found.horizon, most) + 1), None):
        rmsse = list(found.rmsse(ahead).values())[:2]
        yield (
            "all" if ahead is None else str(ahead),
            (*found.mase(ahead).values(), *rmsse, found.coverage(ahead)),
        )
