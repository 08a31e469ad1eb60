"""Columns that are known ahead, and columns that stay: what stands in rows beyond the last target,
and what stands in some rows of a series alone; its weight does so too."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from longlag.data.errors import Problems

Array = np.ndarray


class Future(NamedTuple):
    """The rows of N series after the last step whose targets are known.

    x (N, F, C) has the features in the units of the file, NaN where there is none; lengths (N,)
    says how many rows each series has, 0 to F.
    """

    x: Float32[Array, "N F C"]
    lengths: Int64[Array, " N"]

    @classmethod
    def split(
        cls, x: Float32[Array, "N T C"], lengths: Int64[Array, " N"], targets: list[int]
    ) -> tuple[Int64[Array, " N"], Future | None]:
        """How many steps each series has up to its last target, and what follows; None: nothing.

        A series without any target has 0 steps.

        Example:
            >>> nan = np.nan
            >>> x = np.array([[[1, 5], [2, 6], [nan, 7], [nan, 8]]], np.float32)
            >>> known, future = Future.split(x, np.array([4]), [0])
            >>> known.tolist(), future.x[0, :, 1].tolist()
            ([2], [7.0, 8.0])
        """
        steps = np.arange(x.shape[1])
        there = ~np.isnan(x[:, :, targets]).all(axis=2) & (steps < lengths[:, None])
        known = np.where(there, steps + 1, 0).max(axis=1).astype(np.int64)
        after = lengths - known
        longest = int(after.max())
        if longest == 0:
            return known, None
        at = known[:, None] + np.arange(longest)
        rows = x[np.arange(len(x))[:, None], np.minimum(at, x.shape[1] - 1)]
        rows[np.arange(longest) >= after[:, None]] = np.nan
        return known, cls(rows, after)


def spread(
    values: Float32[Array, " R"],
    series: Int64[Array, " R"],
    lines: Int64[Array, " R"],
    names: tuple[str, ...],
    column: str,
    problems: Problems,
) -> Float32[Array, " R"]:
    """The one value of each series in all of its rows; each row with another one is reported.

    Args:
        values: of each row, NaN where there is none.
        series: of each row, its position in `names`.
        lines: where each row stands.
        names: of the series.
        column: its name.
        problems: where they are reported.

    Example:
        >>> rows = np.array([3.0, np.nan, 4.0], np.float32), np.array([0, 0, 1])
        >>> spread(*rows, np.arange(3), ("a", "b"), "size", Problems("file")).tolist()
        [3.0, 3.0, 4.0]
    """
    one, first, others = _by_series(values, series, len(names))
    for row in others:
        problems.add(
            int(lines[row]),
            f"column {column!r}: series {names[int(series[row])]!r} has another value in row "
            f"{lines[first[series[row]]]}; expected one, as the column is static",
        )
    return one[series]


def weights_of(
    values: Float64[Array, " R"],
    series: Int64[Array, " R"],
    lines: Int64[Array, " R"],
    names: tuple[str, ...],
    column: str,
    problems: Problems,
) -> Float64[Array, " N"]:
    """What each series counts for; reported are rows that differ, series without one, and numbers
    below 0. The arguments are those of `spread`.

    Example:
        >>> rows = np.array([3.0, np.nan, 0.0]), np.array([0, 0, 1])
        >>> weights_of(*rows, np.arange(3), ("a", "b"), "trust", Problems("file")).tolist()
        [3.0, 0.0]
    """
    one, first, others = _by_series(values, series, len(names))
    expected = "expected one number, 0 or more, for each series, in all of its rows or in some"
    for row in np.flatnonzero(values < 0):
        problems.add(int(lines[row]), f"column {column!r}: the weight {values[row]:g}; {expected}")
    for row in others:
        own = series[row]
        problems.add(
            int(lines[row]),
            f"column {column!r}: series {names[int(own)]!r} has the weight {values[row]:g} here "
            f"and {one[own]:g} in row {lines[first[own]]}; {expected}",
        )
    starts = np.unique(series, return_index=True)[1]
    for own in np.flatnonzero(first < 0):
        row = starts[own]
        problems.add(
            int(lines[row]),
            f"column {column!r}: series {names[int(own)]!r} has no weight; {expected}",
        )
    if not one.any():  # NaN is some
        problems.add(
            int(lines[0]),
            f"column {column!r}: all weights are 0, so no series counts; expected some above 0",
        )
    return one


def _by_series(
    values: Array, series: Int64[Array, " R"], count: int
) -> tuple[Array, Int64[Array, " N"], Int64[Array, " G"]]:
    """Of each series the first value and its row, NaN and -1 without any; and the rows that have
    another one."""
    given = np.flatnonzero(~np.isnan(values))
    first = np.full(count, -1)
    first[series[given[::-1]]] = given[::-1]
    one = np.where(first >= 0, values[first], np.nan).astype(values.dtype)
    return one, first, given[values[given] != one[series[given]]]
