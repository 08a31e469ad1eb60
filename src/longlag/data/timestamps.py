"""The time column: numbers, or ISO 8601 timestamps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from longlag.data.errors import Problems
from longlag.data.sequences import Array
from longlag.messages import Fix

_IN_ORDER = Fix("no time", "use Columns(time=None)")


def parse_times(
    cells: Sequence[str], lines: Int64[Array, " R"], column: str, problems: Problems
) -> NDArray[Any]:
    """The cells (R,) as values that sort in time: int64, float64 or microseconds.

    All are of the kind of the first: numbers, timestamps with a time zone, or without one.
    Integers stay exact, for times in nanoseconds.
    """
    try:
        if "_" not in "".join(cells):  # Python reads 1_0 as ten
            return np.array(list(map(int, cells)), np.int64)
    except (ValueError, OverflowError):
        pass
    parse, expected = _kind(cells[0])
    values: list[float | datetime | None] = []
    for at, cell in enumerate(cells):
        value = parse(cell)
        if value is None:
            came = repr(cell) if cell else "an empty cell"
            problems.add(
                int(lines[at]),
                f"column {column!r}: expected {expected}, got {came}; mend the cell, or ",
                _IN_ORDER,
                " if the rows are in order",
            )
        values.append(value)
    if any(value is None for value in values):
        return np.arange(len(cells))
    if parse is _number:
        return np.array(values, np.float64)
    return np.array(values, "datetime64[us]")


def _kind(cell: str) -> tuple[Callable[[str], float | datetime | None], str]:
    if _number(cell) is not None:  # first, for 20240301 is an ISO date too
        return _number, "a number, as in the first row"
    if _zoned(cell) is not None:
        return _zoned, "an ISO 8601 timestamp with a time zone, as in the first row"
    if _plain(cell) is not None:
        return _plain, "an ISO 8601 timestamp without a time zone, as in the first row"
    return _number, "a number or an ISO 8601 timestamp such as 2024-03-01T12:30:00"


def _number(cell: str) -> float | None:
    try:
        value = float(cell) if "_" not in cell else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _stamp(cell: str) -> datetime | None:
    try:  # Python 3.10 does not read the Z of UTC
        return datetime.fromisoformat(cell[:-1] + "+00:00" if cell.endswith("Z") else cell)
    except ValueError:
        return None


def _plain(cell: str) -> datetime | None:
    stamp = _stamp(cell)
    return stamp if stamp is not None and stamp.tzinfo is None else None


def _zoned(cell: str) -> datetime | None:
    stamp = _stamp(cell)
    offset = None if stamp is None else stamp.utcoffset()
    if stamp is None or offset is None:
        return None
    try:
        return stamp.replace(tzinfo=None) - offset
    except OverflowError:  # before the year 1 or after 9999
        return None
