"""How far a forecast may be off: intervals from the errors on data that were not trained on."""

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
    short parts the share scatters.

    Args:
        level: in (0, 1).
        low, high: of each step ahead and target, (horizon * D), in the units of the outputs.

    Raises:
        DataError: they do not fit each other.

    Source: V. Vovk et al., Algorithmic learning in a random world, 2005.

    Example:
        >>> Intervals.fit(np.arange(1.0, 10.0).reshape(9, 1), level=0.8)
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
    def fit(cls, errors: NDArray[np.floating], level: float = LEVEL) -> "Intervals | None":
        """From errors (..., horizon * D), NaN where there is none; None where a step has none."""
        columns = [column[np.isfinite(column)] for column in errors.reshape(-1, errors.shape[-1]).T]
        if not all(len(column) for column in columns):
            return None
        ends = []
        for column in columns:
            ordered, count = np.sort(column.astype(np.float64)), len(column)
            rank = min(int(np.ceil((count + 1) * (1 + level) / 2)), count)
            ends.append((float(ordered[count - rank]), float(ordered[rank - 1])))
        low, high = zip(*ends, strict=True)
        return cls(level, low, high)

    def hold(self, errors: NDArray[np.floating]) -> float:
        """The share of errors (..., horizon * D) that lie within; NaN where there is none."""
        known = np.isfinite(errors)
        inside = (errors >= np.array(self.low)) & (errors <= np.array(self.high))
        return float(inside[known].mean()) if known.any() else float("nan")

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
    intervals = Intervals.fit(np.where(first[:, :, None], errors, np.nan))
    if intervals is None:
        return None
    held = intervals.hold(np.where(first[:, :, None], np.nan, errors))
    return held if np.isfinite(held) else None
