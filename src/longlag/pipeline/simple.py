r"""Ways to go on without a network, and a mean of them: what a forecaster goes beyond.

With m the season, :math:`c_k = m \lceil k/m \rceil` and :math:`\ell_t` the mean of the last m
values, the forecasts of step t + k are

- the season before (seasonal naive), :math:`y_{t+k-c_k}`;
- that and a trend, :math:`y_{t+k-c_k} + c_k (y_t - y_{t-w}) / w`, for w = m, 4m and all steps;
- the seasons before, smoothed: the same of
  :math:`p_t = \alpha y_t + (1 - \alpha) p_{t-m}`, for :math:`\alpha` = 0.5 and 0.2;
- their shape at the level of now, :math:`\ell_t q_{t+k-c_k}`, with q smoothed likewise from
  :math:`y_t / \ell_t`; where a value so far was negative :math:`\ell_t +` that from
  :math:`y_t - \ell_t`.

Without a season, m = 1, only the first two are left. What lies before the first step is taken for
the last value.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SMOOTHING = (0.5, 0.2)
PRIOR = 0.5
"""The weight of the seasonal naive forecast before anything is known."""

_PLACES, _ROUNDS = 10_000, 300


def count(season: int) -> int:
    """How many simple forecasts there are."""
    return 8 if season > 1 else 4


def simple_forecasts(
    y: NDArray[np.float64], season: int, horizon: int
) -> Iterator[NDArray[np.float64]]:
    """One after the other, each (N, T, horizon, D); the seasonal naive one is first.

    Args:
        y: (N, T, D).
        season: m, 1 for none.
        horizon: steps ahead.

    Example:
        >>> y = np.array([1.0, 3.0, 2.0, 4.0]).reshape(1, 4, 1)
        >>> [one[0, 3, :, 0].tolist() for one in simple_forecasts(y, 2, 2)][:2]
        [[2.0, 4.0], [3.0, 5.0]]
    """
    naive = continued(y, season, horizon)
    yield naive
    ahead = np.arange(1, horizon + 1)
    cycles = (season * -(-ahead // season))[:, None]
    steps = y.shape[1]
    for width in (season, 4 * season, steps):
        yield naive + cycles * _slope(y, width)[:, :, None]
    if season == 1:
        return
    for alpha in SMOOTHING:
        yield continued(_smoothed(y, season, alpha), season, horizon)
    level = trailing(y, season)
    ratio = np.divide(y, level, out=np.zeros_like(y), where=level > 0)
    positive = (np.minimum.accumulate(y, axis=1) >= 0)[:, :, None]
    for alpha in SMOOTHING:
        times, plus = (
            continued(_smoothed(shape, season, alpha), season, horizon)
            for shape in (ratio, y - level)
        )
        yield np.where(positive, level[:, :, None] * times, level[:, :, None] + plus)


def continued(y: NDArray[np.float64], season: int, horizon: int) -> NDArray[np.float64]:
    """The values of the season before, of (N, T, D) at each step: (N, T, horizon, D)."""
    steps, ahead = np.arange(y.shape[1])[:, None], np.arange(1, horizon + 1)
    at = steps + ahead - season * -(-ahead // season)
    return y[:, np.where(at < 0, steps, at)]


def weights(
    y: NDArray[np.float64],
    target: NDArray[np.floating],
    sizes: NDArray[np.float64],
    lengths: NDArray[np.int64],
    season: int,
) -> tuple[tuple[float, ...], ...]:
    r"""For each target the weights of the simple forecasts in their mean.

    They minimise, among those of sum 1, the mean of the absolute errors in units of each series,
    as a share of that of the best single forecast, plus
    :math:`\sum_i w_i \log (w_i / u_i) / n`: u is one half for the season before and shares the
    other half among the others, n the number of stretches of a season, or of the horizon where that
    is longer. So few data move them little from the season before (PAC-Bayes).

    Args:
        y: (N, T, D), of the training part.
        target: what came ahead, (N, T, horizon, D), NaN where that is not known.
        sizes: the unit of each series, (N, D).
        lengths: (N,).
        season: m.

    Cost: some passes over all forecasts, and 300 over at most 10,000 of them.

    Source: J. Bates and C. Granger, The combination of forecasts, 1969; O. Catoni, PAC-Bayesian
    supervised classification, 2007.
    """
    horizon, number = target.shape[2], count(season)
    prior = np.full(number, (1 - PRIOR) / (number - 1))
    prior[0] = PRIOR
    stretches = max(float((lengths / max(season, horizon)).sum()), 1.0)
    due = np.isfinite(target)
    due[:, :season] = False
    places = []
    for d in range(y.shape[2]):
        at = np.flatnonzero(due[..., d])
        places.append(at[:: max(1, -(-len(at) // _PLACES))])
    errors: list[list[NDArray[np.float64]]] = [[] for _ in places]
    for forecast in simple_forecasts(y, season, horizon):
        off = (forecast - target) / sizes[:, None, None]
        for d, at in enumerate(places):
            errors[d].append(off[..., d].ravel()[at])
    return tuple(_fit(np.stack(one, axis=1), prior, stretches) for one in errors)


def _fit(
    errors: NDArray[np.float64], prior: NDArray[np.float64], stretches: float
) -> tuple[float, ...]:
    """By exponentiated gradient, averaged over its second half; errors are (M, count)."""
    best = np.abs(errors).mean(axis=0).min() if len(errors) else 0.0
    if not best > 0:
        return tuple(prior.tolist())
    w, total = prior.copy(), np.zeros_like(prior)
    for number in range(_ROUNDS):
        slope = (np.sign(errors @ w) @ errors) / (len(errors) * best)
        slope += np.log(np.maximum(w, 1e-30) / prior) / stretches
        rate = 0.5 / np.sqrt(number + 1) * min(1.0, 4.0 / max(float(np.ptp(slope)), 1e-9))
        w = w * np.exp(-rate * (slope - slope.min()))
        w /= w.sum()
        if number >= _ROUNDS // 2:
            total += w
    return tuple((total / total.sum()).tolist())


def _slope(y: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean change of a step over the last `width`, or all that there are."""
    steps = np.arange(y.shape[1])
    before = np.maximum(steps - width, 0)
    return (y - y[:, before]) / np.maximum(steps - before, 1)[:, None]


def trailing(y: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean of the last `width` values, or of all that there are."""
    padded = np.concatenate([np.zeros_like(y[:, :1]), np.cumsum(y, axis=1)], axis=1)
    ends = np.arange(1, y.shape[1] + 1)
    begins = np.maximum(ends - width, 0)
    return (padded[:, ends] - padded[:, begins]) / (ends - begins)[:, None]


def _smoothed(y: NDArray[np.float64], season: int, alpha: float) -> NDArray[np.float64]:
    smooth = y.copy()
    for start in range(season, y.shape[1], season):
        now = slice(start, min(start + season, y.shape[1]))
        before = smooth[:, start - season : now.stop - season]
        smooth[:, now] = alpha * y[:, now] + (1 - alpha) * before
    return smooth
