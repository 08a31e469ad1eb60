"""What is learnt of errors on data that were not trained on: how far to go, how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.data import DataError
from longlag.data.records import closed, numbers

LEVEL = 0.8
"""The share of the values that the intervals are to hold."""


@dataclass(frozen=True)
class Intervals:
    r"""What is added to a forecast for the lower and the upper end of its interval.

    Split conformal prediction: of the n errors :math:`e = y - \hat y` that a step ahead had on the
    part held out, the ends are those of rank :math:`(n + 1)(1 \mp level) / 2`, rounded outwards. If
    errors to come are as those were, the interval holds the value with a probability of at least
    the level, whatever their distribution; errors of one series follow one another, so that of
    short parts the share scatters. Where there are errors from earlier origins too, those of each
    weigh half as much as those of the next, and ranks are sums of weights.

    Args:
        level: in (0, 1).
        low, high: of each step ahead and target, (horizon * D), in the units of the outputs.

    Raises:
        DataError: they do not fit each other.

    Source: V. Vovk et al., Algorithmic learning in a random world, 2005; R. Barber et al.,
    Conformal prediction beyond exchangeability, 2023 (weights).

    Example:
        >>> Intervals.fit([np.arange(1.0, 10.0).reshape(9, 1)], level=0.8)
        Intervals(level=0.8, low=(1.0,), high=(9.0,))
    """

    level: float
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        ordered = all(low <= high for low, high in zip(self.low, self.high, strict=False))
        if not (0 < self.level < 1) or len(self.low) != len(self.high) or not ordered:
            raise DataError(
                f"intervals: expected a level in (0, 1), and as many upper ends as lower ones, "
                f"none below its own, got {self.level}, {self.low} and {self.high}"
            )

    @classmethod
    def fit(
        cls, errors: Sequence[NDArray[np.floating]], level: float = LEVEL
    ) -> "Intervals | None":
        """From the errors (..., horizon * D) of each origin, the last one last, NaN where there is
        none; None where a step has none."""
        rows = [one.reshape(-1, one.shape[-1]).astype(np.float64) for one in errors]
        weights = np.concatenate(
            [np.full(len(one), 0.5**age) for age, one in enumerate(reversed(rows))][::-1]
        )
        ends = []
        for column in np.concatenate(rows).T:
            known = np.isfinite(column)
            if not known.any():
                return None
            there, share = column[known], weights[known]
            share = share / (share.sum() + share.max())
            ends.append(tuple(
                sign * _quantile(sign * there, share, (1 + level) / 2) for sign in (-1, 1)
            ))  # fmt: skip
        low, high = zip(*ends, strict=True)
        return cls(level, low, high)

    def inside(self, errors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Which errors (..., horizon * D) lie within: 1 or 0; NaN where there is none."""
        within = (errors >= np.array(self.low)) & (errors <= np.array(self.high))
        return np.where(np.isfinite(errors), within, np.nan)

    def hold(self, errors: NDArray[np.floating]) -> float:
        """The share of errors (..., horizon * D) that lie within; NaN where there is none."""
        inside = self.inside(errors)
        return float(np.nanmean(inside)) if np.isfinite(inside).any() else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"level": self.level, "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_dict(cls, record: object, size: int) -> "Intervals":
        """That of `to_dict`, for so many outputs.

        Raises:
            DataError: it is none, or of another size.
        """
        record = closed(record, ("level", "low", "high"), "intervals")
        (level,) = numbers([record["level"]], "intervals: level")
        low, high = (numbers(record[name], f"intervals: {name}") for name in ("low", "high"))
        if len(low) != size:
            raise DataError(f"intervals: {len(low)} lower ends, expected {size}")
        return cls(level, low, high)


def _quantile(values: NDArray[np.float64], shares: NDArray[np.float64], level: float) -> float:
    """The smallest value whose share, with those of all below, is at least the level."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(shares[order]) >= level - 1e-12
    at = int(np.argmax(reached)) if reached.any() else len(values) - 1
    return float(values[order[at]])


def blend(pairs: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]) -> float:
    """The share of what a network says beyond the simple forecasts that is best taken, 0 to 1.

    It is the one, in steps of 0.05, with the least mean absolute error over all places, so that a
    forecaster is seldom worse than the simple forecasts that it starts from.

    Args:
        pairs: (..., horizon * D) each: what was to come, NaN where that is not known, and what the
            network put out, both in the units that it puts out.

    Example:
        >>> blend([(np.array([1.0, -1.0]), np.array([2.0, -1.5])), (np.array([0.5]), np.ones(1))])
        0.5
    """
    known = [np.isfinite(target) for target, _ in pairs]
    target, output = (
        np.concatenate([pair[at][mask] for pair, mask in zip(pairs, known, strict=True)])
        for at in (0, 1)
    )
    shares = np.linspace(0, 1, 21)
    errors = [np.abs(target - share * output).mean() for share in shares]
    return float(shares[int(np.argmin(errors))])


def coverage(
    errors: NDArray[np.floating], known: NDArray[np.int64] | None, lengths: NDArray[np.int64]
) -> float | None:
    """The share that intervals from the first half of the judged steps hold in the second.

    Args:
        errors: (N, T, horizon * D), NaN where there is none.
        known: steps of each series before the judged ones; None: none.
        lengths: of the series.
    """
    begin = np.zeros_like(lengths) if known is None else known - 1
    first = np.arange(errors.shape[1]) < ((begin + lengths) // 2)[:, None]
    intervals = Intervals.fit([np.where(first[:, :, None], errors, np.nan)])
    if intervals is None:
        return None
    held = intervals.hold(np.where(first[:, :, None], np.nan, errors))
    return held if np.isfinite(held) else None
