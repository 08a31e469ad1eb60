"""After how many steps series repeat themselves, found in the series."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SURE = 20
"""Of so many sets of series without a season, a season is found in less than one."""

LEAST = 0.3
"""The correlation that a season has to make in the changes or in the values."""

ALIKE, WITHIN = 0.9, 0.5
"""How near the best one a shorter season must be: this share of it, less so many of its errors."""

TEETH = 4
"""A season shows at once, twice, ... so many times its length."""

LONGEST = 1000
"""The longest season that is looked for."""


def find_season(
    values: NDArray[np.floating], lengths: NDArray[np.int64], longest: int = LONGEST
) -> int:
    r"""The number of steps after which the series repeat themselves; 1 where they do not.

    With :math:`\rho_k` the correlation of the changes of the series with those k steps before, over
    all series and targets, a season of m steps shows as

    .. math:: c_m = \frac{1}{n} \sum_{j=1}^{n} \rho_{jm}, \quad n \le 4

    as far as series are long enough. It is taken where :math:`c_m` is a peak, is more than the
    largest of as many numbers of its standard error would be by chance, and is at least 0.3, or
    the correlation of the values themselves, without their linear trends, is: a smooth season makes
    small changes, which noise can hide. Of peaks that are nearly as high the first is the season;
    it is at most a third of the longest series.

    The variance of a correlation over M pairs is :math:`(1 + 2 \rho_1^2) / M` (Bartlett), for
    independent series; else it is as many times that as the sums over series that end together
    vary more than those of independent ones would.

    Args:
        values: (N, T, D).
        lengths: (N,).
        longest: the longest season.

    Source: M. S. Bartlett (1946), "On the theoretical specification and sampling properties of
    autocorrelated time-series".

    Example:
        >>> steps = np.arange(60.0)
        >>> values = (np.sin(2 * np.pi * steps / 12) + 0.1 * steps).reshape(1, 60, 1)
        >>> find_season(values, np.array([60]))
        12
    """
    most = min(int(lengths.max(initial=0)) // 3, longest)
    if most < 2:
        return 1
    columns = [
        column
        for series, length in zip(values, lengths.tolist(), strict=True)
        for column in series[:length].astype(np.float64).T
    ]
    changes = _correlations((_centred(np.diff(column)) for column in columns), 2 * most + 2)
    levels = _correlations((_without_trend(column) for column in columns), 2 * most + 2)
    spread = changes.shared * (1 + 2 * changes.known[1] ** 2)
    lags = np.arange(1, most + 2)
    comb, variance, count = (np.zeros(most + 2) for _ in range(3))
    for tooth in range(1, TEETH + 1):
        at = lags[lags * tooth < len(changes.known)]
        at = at[changes.pairs[at * tooth] > 0]
        comb[at] += changes.known[at * tooth]
        variance[at] += spread / changes.pairs[at * tooth]
        count[at] += 1
    comb /= np.maximum(count, 1)
    error = np.sqrt(variance) / np.maximum(count, 1)
    inner = slice(2, most + 1)
    found = (comb[inner] >= comb[1:most]) & (comb[inner] >= comb[3 : most + 2])
    enough = np.sqrt(2 * np.log(SURE * most))  # for a normal number, of the largest of so many
    found &= (comb[inner] > 0) & (comb[inner] >= enough * error[inner])
    found &= (comb[inner] >= LEAST) | (levels.known[inner] >= LEAST)
    peaks = 2 + np.flatnonzero(found)
    if not len(peaks):
        return 1
    best = peaks[comb[peaks].argmax()]
    # Half a season shows at every second tooth, which its first one is not.
    least = np.minimum(comb, changes.known[: most + 2])[peaks]
    return int(peaks[(least >= ALIKE * comb[best] - WITHIN * error[best]) | (peaks == best)][0])


class _Correlations(NamedTuple):
    """Of columns, with themselves some steps before.

    Attributes:
        known: by lag; 0 where there is none.
        pairs: how many numbers it is from.
        shared: how much the sum over columns that end together varies more than that of
            independent ones: 1 for those, N for N equal ones.
    """

    known: NDArray[np.float64]
    pairs: NDArray[np.float64]
    shared: float


def _correlations(columns: Iterator[NDArray[np.float64]], size: int) -> _Correlations:
    """Those of columns of mean 0, for so many lags, each as far as two thirds of the column."""
    total, pairs = np.zeros(size), np.zeros(size)
    sums, there = np.zeros(0), np.zeros(0)
    for column in columns:
        power = float(column @ column)
        if not power > 0:
            continue
        length = len(column)
        spectrum = np.fft.rfft(column, 2 * length)
        products = np.fft.irfft(spectrum * spectrum.conj())[:length] / power
        lags = np.arange(min(2 * length // 3, size - 1) + 1)
        # Each lag has fewer pairs than the one before.
        total[lags] += products[lags] * length
        pairs[lags] += length - lags
        if length > len(sums):
            sums, there = (np.pad(part, (length - len(part), 0)) for part in (sums, there))
        sums[-length:] += column * np.sqrt(length / power)
        there[-length:] += 1
    known = np.divide(total, pairs, out=np.zeros(size), where=pairs > 0)
    shared = float(np.mean(np.square(sums) / there)) if len(sums) else 1.0
    return _Correlations(known, pairs, max(1.0, shared))


def _centred(column: NDArray[np.float64]) -> NDArray[np.float64]:
    return column - column.mean() if len(column) else column


def _without_trend(column: NDArray[np.float64]) -> NDArray[np.float64]:
    steps, column = _centred(np.arange(len(column), dtype=np.float64)), _centred(column)
    power = float(steps @ steps)
    return column - steps * (float(steps @ column) / power) if power else column
