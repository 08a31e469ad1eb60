"""What is learnt of errors on data that were not trained on: how far to go, how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.data import DataError
from longlag.data.records import closed, numbers
from longlag.pipeline.outputs import POINT, Outputs

Pair = tuple[NDArray[np.floating], NDArray[np.floating]]
"""What was to come, and what was put out."""


@dataclass(frozen=True)
class Intervals:
    r"""What is added to a forecast for the lower and the upper end of its interval.

    Or to what else its ends are measured from, in units of that; see `longlag.pipeline.outputs`.

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
        >>> Intervals.fit([(np.arange(1.0, 10.0).reshape(9, 1), np.zeros((9, 1)))])
        Intervals(level=0.8, low=(1.0,), high=(9.0,))
    """

    level: float
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (0 < self.level < 1) or len(self.low) != len(self.high):
            raise DataError(
                f"intervals: expected a level in (0, 1), and as many upper ends as lower ones, "
                f"got {self.level}, {self.low} and {self.high}"
            )

    @classmethod
    def fit(cls, pairs: Sequence[Pair], puts_out: Outputs = POINT) -> "Intervals | None":
        """From what came and what was put out at each origin, the last one last; None where a step
        has no error.

        Args:
            pairs: of each origin the values (..., horizon * D), NaN where there is none, and the
                outputs.
            puts_out: what the outputs are.
        """
        errors = [puts_out.errors(target, outputs) for target, outputs in pairs]
        ages = range(len(pairs) - 1, -1, -1)
        weights = np.concatenate(
            [
                np.full(low[..., 0].size, 0.5**age)
                for (low, _), age in zip(errors, ages, strict=True)
            ]
        )
        below, above = puts_out.tails
        ends: list[tuple[float, ...]] = []
        for at, sign, level in ((0, -1, 1 - below), (1, 1, above)):
            rows = np.concatenate([one[at].reshape(-1, one[at].shape[-1]) for one in errors])
            column_ends = []
            for column in rows.astype(np.float64).T:
                known = np.isfinite(column)
                if not known.any():
                    return None
                share = weights[known] / (weights[known].sum() + weights[known].max())
                column_ends.append(sign * _quantile(sign * column[known], share, level))
            ends.append(tuple(column_ends))
        return cls(above - below, *ends)

    def inside(self, pair: Pair, puts_out: Outputs = POINT) -> NDArray[np.float64]:
        """Which values (..., horizon * D) lie within, 1 or 0; NaN where there is none."""
        lower, upper = puts_out.errors(*pair)
        within = (lower >= np.array(self.low)) & (upper <= np.array(self.high))
        return np.where(np.isfinite(lower), within, np.nan)

    def hold(self, pair: Pair, puts_out: Outputs = POINT) -> float:
        """The share of the values that lie within; NaN where there is none."""
        inside = self.inside(pair, puts_out)
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


def blend(pairs: Sequence[Pair]) -> float:
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
    pair: Pair,
    known: NDArray[np.int64] | None,
    lengths: NDArray[np.int64],
    puts_out: Outputs = POINT,
) -> float | None:
    """The share that intervals from the first half of the judged steps hold in the second.

    Args:
        pair: the values (N, T, horizon * D), NaN where there is none, and the outputs.
        known: steps of each series before the judged ones; None: none.
        lengths: of the series.
        puts_out: what the outputs are.
    """
    target, outputs = pair
    begin = np.zeros_like(lengths) if known is None else known - 1
    first = (np.arange(target.shape[1]) < ((begin + lengths) // 2)[:, None])[:, :, None]
    intervals = Intervals.fit([(np.where(first, target, np.nan), outputs)], puts_out)
    if intervals is None:
        return None
    held = intervals.hold((np.where(first, np.nan, target), outputs), puts_out)
    return held if np.isfinite(held) else None
