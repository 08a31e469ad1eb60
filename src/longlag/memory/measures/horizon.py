"""From which lag on a signal is small for good."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


def horizon(curve: Tensor, fraction: float = 0.01, *, logarithmic: bool = False) -> int | None:
    """The first lag from which on a curve stays below a fraction of its value at lag 0.

    A curve that rises above it again later has not fallen for good: the lag after the last rise
    counts. What is no number is not below anything.

    Args:
        curve: (L,), values >= 0 by lag, from lag 0.
        fraction: > 0, of the value at lag 0. The precision of the numbers, as
            ``torch.finfo(torch.float32).eps``, gives the lag from which on the signal is lost in
            the rounding of what arises at lag 0.
        logarithmic: whether the curve holds natural logarithms, as those of `JacobianNorms`.

    Returns:
        The lag; None where the curve is not below at its end, so that within the lags seen there
        is no horizon, and where nothing is there at lag 0.

    Raises:
        ValueError: the curve is empty or has more than one axis; the fraction is not positive.

    >>> horizon(torch.tensor([1.0, 0.5, 0.001, 0.2, 0.005, 0.001]))
    4
    >>> horizon(torch.tensor([1.0, 0.5, 0.25])) is None
    True
    """
    if curve.dim() != 1 or not len(curve):
        raise ValueError(f"curve: got shape {tuple(curve.shape)}, expected (L,), L >= 1")
    lag = float(horizons(curve.unsqueeze(-1), fraction, logarithmic=logarithmic))
    return int(lag) if math.isfinite(lag) else None


def horizons(curves: Tensor, fraction: float = 0.01, *, logarithmic: bool = False) -> Tensor:
    """The :func:`horizon` of each of many curves.

    Args:
        curves: (L, ...), by lag; `fraction` and `logarithmic` as there.

    Returns:
        (...), in float64; inf where there is none within the lags seen.

    Raises:
        ValueError: there is no lag; the fraction is not positive.

    >>> horizons(torch.tensor([[1.0, 1.0], [0.1, 0.9], [0.0, 0.8]]), 0.5)
    tensor([1., inf], dtype=torch.float64)
    """
    if not fraction > 0:
        raise ValueError(f"fraction: got {fraction}, expected a number > 0, such as 0.01")
    if curves.dim() < 1 or not len(curves):
        raise ValueError(f"curves: got shape {tuple(curves.shape)}, expected (L, ...), L >= 1")
    begin = curves[:1].double()
    limit = begin + math.log(fraction) if logarithmic else begin * fraction
    below = curves.double() < limit
    lags = torch.arange(1, len(curves) + 1, device=curves.device, dtype=torch.float64)
    lags = lags.view(-1, *[1] * (curves.dim() - 1))
    first = torch.where(below, 0.0, lags).amax(0)  # the lag after the last that is not below
    return first.masked_fill(first == len(curves), math.inf)


DRAWS, LEVEL = 1000, 0.95
"""Resamplings of a bootstrap, and the share of them that an interval holds."""

FEWEST = 5
"""Sequences below which an interval over them would say nothing."""


class HorizonOverSequences(NamedTuple):
    """What :func:`horizon_over_sequences` finds.

    Attributes:
        median: the lag; None where it is not within the lags seen.
        interval: the lags between which the median of other such sequences is to be expected, each
            None for beyond the lags seen; None for the whole where there are fewer than 5.
        sequences: how many count.
    """

    median: int | None
    interval: tuple[int | None, int | None] | None
    sequences: int


def horizon_over_sequences(
    curves: Tensor, seen: Tensor, fraction: float = 0.01
) -> HorizonOverSequences:
    """The median of the horizons of many sequences, and an interval of 95 % for it.

    The median is the first lag at which half of the sequences that are so long are below for good.
    It is the same whatever the size of a sequence's error: of a trained network a few sequences
    have nearly all of it, and another draw has other ones. The interval is the bootstrap's, over
    sequences.

    Args:
        curves: (N, L), values >= 0 by lag, from lag 0; sequences with a 0 there do not count.
        seen: (N,), how many lags of each there are; what lies beyond is not looked at.
        fraction: as of :func:`horizon`.

    Source: B. Efron, Bootstrap methods: another look at the jackknife, 1979 (percentiles).

    >>> curves = 0.5 ** torch.arange(20.0).outer(torch.tensor([0.5, 1.0, 1.0, 1.0, 2.0])).T
    >>> horizon_over_sequences(curves, torch.full((5,), 20))
    HorizonOverSequences(median=7, interval=(4, 14), sequences=5)
    """
    counts = (seen > 0) & (curves[:, 0] > 0)
    curves, seen = curves[counts].double(), seen[counts]
    if not len(curves):
        return HorizonOverSequences(None, None, 0)
    lags = torch.arange(curves.shape[1], device=curves.device)
    there = lags < seen.unsqueeze(-1)
    each = horizons(curves.masked_fill(~there, 0.0).T, fraction)
    below = (there & (each.unsqueeze(-1) <= lags)).double()

    def median(weights: Tensor) -> Tensor:
        """(B,), the lag for each row of (B, N); L where there is none."""
        half = (weights @ below >= 0.5 * (weights @ there.double())) & (weights @ below > 0)
        beyond = torch.ones_like(half[:, :1])
        return torch.cat([half, beyond], 1).double().argmax(1)

    def as_lag(lag: Tensor) -> int | None:
        return int(lag) if int(lag) < len(lags) else None

    found = as_lag(median(torch.ones_like(seen).double().unsqueeze(0))[0])
    if len(curves) < FEWEST:
        return HorizonOverSequences(found, None, len(curves))
    low, high = interval(median(resampled(len(curves)).to(curves.device)))
    return HorizonOverSequences(found, (as_lag(low), as_lag(high)), len(curves))


def resampled(count: int) -> Tensor:
    """(DRAWS, count), how often each of so many stands in a resampling; always the same ones."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(count, (DRAWS, count), generator=generator)
    return torch.zeros(DRAWS, count, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(DRAWS, count, dtype=torch.float64)
    )


def interval(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of what resamplings gave, the numbers between which `LEVEL` of them lie."""
    ordered, out = values.sort().values, (1 - LEVEL) / 2
    return ordered[int(out * len(ordered))], ordered[-1 - int(out * len(ordered))]


def spread(longest: int, count: int) -> list[int]:
    """About so many lags from 1 to the longest, each the same factor longer than the one before.

    >>> spread(100, 16)
    [1, 2, 3, 5, 6, 9, 12, 16, 22, 29, 40, 54, 74, 100]
    """
    if longest < 1:
        return []
    return sorted({round(longest ** (k / (count - 1))) for k in range(count)})
