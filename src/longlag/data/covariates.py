"""Columns that are known ahead, and columns that stay: what stands in rows beyond the last target,
and what stands in some rows of a series alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

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
    given = np.flatnonzero(~np.isnan(values))
    first = np.full(len(names), -1)
    first[series[given[::-1]]] = given[::-1]
    one = np.where(first >= 0, values[first], np.nan).astype(np.float32)
    for row in given[values[given] != one[series[given]]]:
        problems.add(
            int(lines[row]),
            f"column {column!r}: series {names[int(series[row])]!r} has another value in row "
            f"{lines[first[series[row]]]}; expected one, as the column is static",
        )
    return one[series]
