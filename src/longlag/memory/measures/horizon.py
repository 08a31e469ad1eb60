"""From which lag on a signal is small for good."""

import math

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


def spread(longest: int, count: int) -> list[int]:
    """About so many lags from 1 to the longest, each the same factor longer than the one before.

    >>> spread(100, 16)
    [1, 2, 3, 5, 6, 9, 12, 16, 22, 29, 40, 54, 74, 100]
    """
    if longest < 1:
        return []
    return sorted({round(longest ** (k / (count - 1))) for k in range(count)})
