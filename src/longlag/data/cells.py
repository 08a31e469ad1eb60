"""Cells of a table as numbers, and what to say of a cell that is none."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from longlag.data.errors import Problems
from longlag.data.sequences import Array
from longlag.messages import Fix, Part

FLOAT32_MAX = float(np.finfo(np.float32).max)
MISSING = ("nan", "NaN", "<NA>", "NaT")  # what NumPy and pandas write where a value is missing
EMPTY = frozenset([""])
UNKNOWN = frozenset(["", "nan", "<na>", "nat", "na", "n/a", "null", "none"])
"""How files write, in small letters, that there is no number."""

FOR_MISSING = Fix("missing", "read with missing=True")
_FOR_TEXT = Fix("text feature", "give the column another role with Columns, such as categories")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def numbers(
    cells: Sequence[str],
    lines: Sequence[int] | Int64[Array, " R"],
    column: str,
    problems: Problems,
    limit: float = math.inf,
    absent: frozenset[str] = frozenset(),
    for_text: Fix = _FOR_TEXT,
    for_missing: Fix | None = FOR_MISSING,
) -> Float64[Array, " R"]:
    """The cells (R,) as finite numbers up to `limit` in size; those that are `absent` give NaN.

    `absent` is in small letters; `for_text` and `for_missing` say what to do, other than mend the
    cell, where it is text or empty.
    """
    try:
        if "_" not in "".join(cells):  # Python reads 1_0 as ten
            values = np.fromiter(map(float, cells), np.float64, len(cells))
            if np.isfinite(values).all() and np.abs(values).max(initial=0.0) <= limit:
                return values
    except ValueError:
        pass
    values = np.zeros(len(cells))
    for at, cell in enumerate(cells):
        text = cell.strip()
        if text.lower() in absent:
            values[at] = math.nan
            continue
        value = parse(text)
        wrong = _complaint(text, value, limit, for_text, for_missing)
        if value is None or wrong:
            problems.add(int(lines[at]), f"column {column!r}: expected a number, got ", *wrong)
        else:
            values[at] = value
    return values


def parse(text: str) -> float | None:
    """The number that a text is, also NaN and infinity, or None."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _complaint(
    text: str, value: float | None, limit: float, for_text: Fix, for_missing: Fix | None
) -> tuple[Part, ...]:
    may_miss = () if for_missing is None else (", or ", for_missing)
    if not text:
        return "an empty cell; fill it in, or drop the row", *may_miss
    if value is None:
        point, bare = text.replace(",", "."), text.replace(",", "")
        grouped, decimal = _GROUPED.fullmatch(text), _DECIMAL_COMMA.fullmatch(text)
        if grouped and decimal:
            return (
                f"{text!r}; write {bare} if the comma separates thousands, and {point} if it is a "
                "decimal comma",
            )
        if grouped:
            return (f"{text!r}; write it without the commas, {bare}",)
        if decimal:
            return (f"{text!r}; write the decimal comma as a point, {point}",)
        return f"{text!r}; mend the cell, or ", for_text
    if math.isnan(value):
        return f"{text!r} (NaN); fill the gap in, or drop the row", *may_miss
    if math.isinf(value):
        return (f"{text!r} (infinity); put a finite number, or drop the row",)
    if abs(value) > limit:
        return (f"{text!r}, more than float32 holds; divide the column by a constant",)
    return ()
