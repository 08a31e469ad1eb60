"""Mean and scale: fitted once, applied and undone in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray

from longlag.data.errors import DataError
from longlag.data.records import closed, numbers, plain
from longlag.data.sequences import Array


@dataclass(frozen=True)
class Scaling:
    """z = (v - mean) / scale, for each of D columns.

    `scale` is the standard deviation, root of sum (v - mean)² / M, and 1 for a constant column.

    Args:
        mean: (D,), in the units of the column.
        scale: (D,), in the units of the column, positive.

    Raises:
        DataError: the two differ in size, or a scale is not positive and finite.

    Example:
        >>> import numpy as np
        >>> scaling = Scaling.fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
        >>> scaling
        Scaling(mean=(2.0, 7.0), scale=(1.0, 1.0))
        >>> scaling.restore(scaling.apply(np.array([[5.0, 8.0]]))).tolist()
        [[5.0, 8.0]]
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.scale):
            raise DataError(
                f"scaling: {len(self.mean)} means and {len(self.scale)} scales, expected as many"
            )
        if not all(0 < scale < np.inf for scale in self.scale):
            raise DataError(f"scaling: expected positive finite scales, got {self.scale}")
        if not np.isfinite(self.mean).all():
            raise DataError(f"scaling: expected finite means, got {self.mean}")

    @classmethod
    def fit(cls, values: Float[Array, "M D"]) -> Scaling:
        """The mean and scale of M rows; M is at least 1. Two passes in float64.

        Raises:
            DataError: a column spreads over more than float64 holds.
        """
        wide = values.astype(np.float64)
        low, high = wide.min(axis=0), wide.max(axis=0)
        with np.errstate(over="ignore"):
            spread = np.where(high > low, high - low, 1.0)
        if np.isinf(spread).any():
            raise DataError(
                f"column {int(np.argmax(spread))}: from {low[np.argmax(spread)]:g} to "
                f"{high[np.argmax(spread)]:g}, more than float64 holds; divide it by a constant"
            )
        # From the lowest value and in units of the spread, no sum and no square leaves float64.
        unit = (wide - low) / spread
        mean = unit.mean(axis=0)
        deviation = np.sqrt(np.square(unit - mean).mean(axis=0))
        constant = high == low
        scale = np.where(constant, 1.0, deviation * spread)
        centre = np.where(constant, low, low + mean * spread)
        return cls(tuple(centre.tolist()), tuple(scale.tolist()))

    @classmethod
    def identity(cls, columns: int) -> Scaling:
        """The scaling that changes nothing."""
        return cls((0.0,) * columns, (1.0,) * columns)

    def apply(self, values: NDArray[np.floating]) -> Float64[Array, "*M D"]:
        """The values (..., D) without units."""
        return (values.astype(np.float64) - np.array(self.mean)) / np.array(self.scale)

    def restore(self, values: NDArray[np.floating]) -> Float64[Array, "*M D"]:
        """The values (..., D) in the units of the columns."""
        return values.astype(np.float64) * np.array(self.scale) + np.array(self.mean)

    def take(self, columns: list[int]) -> Scaling:
        """The scaling of some of the columns."""
        return Scaling(tuple(self.mean[c] for c in columns), tuple(self.scale[c] for c in columns))

    def without(self, columns: list[int]) -> Scaling:
        """The same, but for some of the columns, which it leaves as they are."""
        kept = [c not in columns for c in range(len(self.mean))]
        return Scaling(
            tuple(mean if keep else 0.0 for mean, keep in zip(self.mean, kept, strict=True)),
            tuple(scale if keep else 1.0 for scale, keep in zip(self.scale, kept, strict=True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The scaling as JSON-able values, exactly."""
        return plain(self)

    @classmethod
    def from_dict(cls, record: object, where: str = "scaling") -> Scaling:
        """The scaling of `to_dict`. Raises `DataError` for anything else."""
        record = closed(record, ("mean", "scale"), where)
        return cls(
            numbers(record["mean"], f"{where}: mean"), numbers(record["scale"], f"{where}: scale")
        )
