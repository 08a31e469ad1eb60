"""Features that a forecaster knows for the steps that it is to forecast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.data import DataError, SequenceData
from longlag.data.covariates import Future
from longlag.pipeline.settings import SettingsError


def named(places: Iterable[int]) -> tuple[str, ...]:
    """The names of features of X."""
    return tuple(f"x{place}" for place in places)


def places_of(known: Sequence[int] | str | None, count: int) -> list[int]:
    """Which of so many features of X are known ahead.

    Raises:
        SettingsError: there are no such features.

    >>> places_of("all", 2), places_of((1,), 2), places_of(None, 2)
    ([0, 1], [1], [])
    """
    if known is None:
        return []
    places = list(range(count)) if known == "all" else []
    if not isinstance(known, str):
        places = [int(place) for place in known]
    if not places or len(set(places)) < len(places) or not set(places) <= set(range(count)):
        raise SettingsError(
            f"known: got {known!r}, expected 'all', or places of features of X, 0 to {count - 1}, "
            "each once"
        )
    return places


def check_asked(X_future: Any, places: list[int], shape: tuple[int, ...]) -> None:
    """Refuse a future that is missing, or that no feature has.

    Args:
        X_future: what came.
        places: of the features that are known ahead.
        shape: what is expected.

    Raises:
        DataError: it is so.
    """
    if not places:
        raise DataError(
            "X_future: got features, but none is known ahead; make the estimator with known=(0,), "
            "the places of such in X, and fit it; of a frame put them into its rows"
        )
    if X_future is None:
        raise DataError(
            f"X_future: got None, but features {places} of X are known ahead; give them for the "
            f"steps to forecast, {shape}"
        )


def rows_ahead(
    data: SequenceData,
    features: NDArray[Any],
    steps: NDArray[Any] | None,
    places: list[int],
    horizon: int,
) -> Future:
    """Rows after the last step of each series, of which some features are known.

    Args:
        data: the series.
        features: what is known ahead, (N, F, K).
        steps: how many there are of each; None: F.
        places: of the K features among those of the data.
        horizon: rows that are needed.

    Raises:
        DataError: series, steps or features are not as many.
    """
    least = features.shape[1] if steps is None else int(steps.min())
    if len(features) != len(data) or features.shape[2] != len(places) or least < horizon:
        raise DataError(
            f"X_future has {len(features)} series of {least} steps or more and "
            f"{features.shape[2]} features, expected {len(data)} of {horizon} steps, the horizon, "
            f"or more, and {len(places)} features, those known ahead"
        )
    x = np.full((len(data), horizon, data.x.shape[2]), np.nan, np.float32)
    x[:, :, places] = features[:, :horizon]
    return Future(x, np.full(len(data), horizon))


def nothing_new(data: SequenceData, horizon: int) -> Future:
    """The last step of each series, again and again."""
    last = data.x[np.arange(len(data)), data.lengths - 1][:, None]
    return Future(np.repeat(last, horizon, axis=1), np.full(len(data), horizon))
