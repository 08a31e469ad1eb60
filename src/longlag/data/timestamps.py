"""The time column: numbers, or ISO 8601 timestamps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from longlag.data.errors import Problems
from longlag.data.sequences import Array
from longlag.messages import Fix

_IN_ORDER = Fix("no time", "use Columns(time=None)")
_FRACTION = re.compile(r"(.{10}[^+.,-]+)[.,]([0-9]+)(Z|[+-][0-9:]+)?")
_LONG_FRACTION = re.compile(r"[.,][0-9]{7}")
_START, _DAY = datetime(1970, 1, 1), timedelta(days=1)
_Stamp = tuple[datetime, str]  # to the microsecond, and the digits that follow


class Times(NamedTuple):
    """When each of the R rows is."""

    keys: NDArray[Any]
    """Values that sort: integers, floats, or dates of NumPy."""
    amounts: NDArray[Any]
    """What differences are taken of: the keys, but where these number the times in their order."""

    def take(self, codes: Int64[Array, " R"]) -> Times:
        """The times with these positions."""
        if self.amounts is self.keys:
            return Times(*(self.keys[codes],) * 2)
        return Times(self.keys[codes], self.amounts[codes])


def parse_times(
    cells: Sequence[str], lines: Int64[Array, " R"], column: str, problems: Problems
) -> Times:
    """The cells (R,) as values that sort in time: int64, float64 or microseconds.

    All are of the kind of the first: numbers, timestamps with a time zone, or without one.
    No digit is lost: integers stay exact, and times that float64 or microseconds do not tell
    apart are numbered in their order.
    """
    keys, amounts = _parse_times(cells, lines, column, problems)
    return Times(keys, keys if amounts is None else amounts)


def _parse_times(
    cells: Sequence[str], lines: Int64[Array, " R"], column: str, problems: Problems
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    try:
        if "_" not in "".join(cells):  # Python reads 1_0 as ten
            return np.array(list(map(int, cells)), np.int64), None
    except (ValueError, OverflowError):
        pass
    parse, expected = _kind(cells[0])
    if parse is _plain and (stamps := _whole_stamps(cells)):
        return np.array(stamps, "datetime64[us]"), None
    values: list[Any] = []
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
        return np.arange(len(cells)), None
    if parse is _number:
        exact = None if len(set(values)) == len(set(cells)) else _decimals(cells)
        amounts = np.array(values, np.float64)
        return (amounts, None) if exact is None else (_ranks(exact), amounts)
    amounts = np.array([stamp for stamp, _ in values], "datetime64[us]")
    if any(beyond for _, beyond in values):
        return _ranks(values), amounts
    return amounts, None


def days_since_1970(cells: Sequence[str]) -> list[float]:
    """Dates and timestamps (R,) as days since 1970-01-01, in UTC where they have a zone.

    NaN where a cell is none, or differs from the first one in having a zone.

    >>> days_since_1970(["1970-01-02", "1970-01-01 12:00", "soon"])
    [1.0, 0.5, nan]
    """
    days, zoned = [], None
    for cell in cells:
        stamp = _stamp(cell)
        when = None if stamp is None else stamp[0]
        has_zone = when is not None and when.tzinfo is not None
        if when is not None and zoned is None:
            zoned = has_zone
        if when is None or has_zone != zoned:
            days.append(math.nan)
            continue
        since = when - (_START if when.tzinfo is None else _START.replace(tzinfo=timezone.utc))
        days.append(since / _DAY)
    return days


def is_date(cell: str) -> bool:
    """Whether a time is read as a date or timestamp, and not as a number.

    >>> is_date("2024-03-01"), is_date("20240301")
    (True, False)
    """
    return _kind(cell)[0] is not _number


def duration(seconds: float) -> str:
    """So many seconds in the largest unit of which there is one, a day at most.

    >>> duration(604800), duration(5400), duration(60), duration(0.25)
    ('7 days', '1.5 hours', '1 minute', '0.25 seconds')
    """
    units = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}
    unit = next((unit for unit, size in units.items() if seconds >= size), "second")
    amount = f"{seconds / units[unit]:.4g}"
    return f"{amount} {unit}{'' if amount == '1' else 's'}"


def _ranks(values: Sequence[Any]) -> Int64[Array, " R"]:
    """The position of each value among the distinct ones in order."""
    rank: dict[Hashable, int] = {value: at for at, value in enumerate(sorted(set(values)))}
    return np.array([rank[value] for value in values], np.int64)


def _decimals(cells: Sequence[str]) -> list[Decimal] | None:
    try:
        return [Decimal(cell) for cell in cells]
    except InvalidOperation:  # an exponent of twenty digits
        return None


def _kind(cell: str) -> tuple[Callable[[str], float | _Stamp | None], str]:
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


def _stamp(cell: str) -> _Stamp | None:
    beyond = ""
    parts = _FRACTION.fullmatch(cell) if "." in cell or "," in cell else None
    if parts is not None:
        whole, digits, zone = parts.groups("")
        cell, beyond = f"{whole}.{digits[:6]:0<6}{zone}", digits[6:].rstrip("0")
    elif _LONG_FRACTION.search(cell):  # of the zone, which Python would cut
        return None
    try:  # Python 3.10 does not read the Z of UTC
        return datetime.fromisoformat(cell[:-1] + "+00:00" if cell.endswith("Z") else cell), beyond
    except ValueError:
        return None


def _whole_stamps(cells: Sequence[str]) -> list[datetime] | None:
    """Timestamps without fraction or time zone, as most are; None where one is another."""
    text = "".join(cells)
    if any(mark in text for mark in ".,Z"):
        return None
    try:
        stamps = list(map(datetime.fromisoformat, cells))
    except ValueError:
        return None
    return None if any(stamp.tzinfo for stamp in stamps) else stamps


def _plain(cell: str) -> _Stamp | None:
    stamp = _stamp(cell)
    return stamp if stamp is not None and stamp[0].tzinfo is None else None


def _zoned(cell: str) -> _Stamp | None:
    stamp = _stamp(cell)
    offset = None if stamp is None else stamp[0].utcoffset()
    if stamp is None or offset is None:
        return None
    try:
        return stamp[0].replace(tzinfo=None) - offset, stamp[1]
    except OverflowError:  # before the year 1 or after 9999
        return None
