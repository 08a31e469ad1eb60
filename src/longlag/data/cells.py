"""Cells of a table as numbers, and what to say of a cell that is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from longlag.data.errors import Problems
from longlag.data.sequences import Array

FLOAT32_MAX = float(np.finfo(np.float32).max)


def numbers(
    cells: Sequence[str],
    lines: Sequence[int] | Int64[Array, " R"],
    column: str,
    problems: Problems,
    limit: float = math.inf,
    empty: bool = False,
) -> Float64[Array, " R"]:
    """The cells (R,) as finite numbers up to `limit` in size; where `empty`, "" gives NaN."""
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
        if empty and not text:
            values[at] = math.nan
            continue
        value = _parse(text)
        wrong = _complaint(text, value, limit)
        if value is None or wrong is not None:
            problems.add(int(lines[at]), f"column {column!r}: expected a number, got {wrong}")
        else:
            values[at] = value
    return values


def _parse(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _complaint(text: str, value: float | None, limit: float) -> str | None:
    if not text:
        return "an empty cell; fill it in, or drop the row"
    if value is None:
        if text.count(",") == 1 and text.replace(",", "").lstrip("+-").isdigit():
            return f"{text!r}; write the decimal comma as a point, {text.replace(',', '.')}"
        return f"{text!r}; mend the cell, or give the column another role with Columns"
    if math.isnan(value):
        return f"{text!r} (NaN); fill the gap in, or drop the row"
    if math.isinf(value):
        return f"{text!r} (infinity); put a finite number, or drop the row"
    if abs(value) > limit:
        return f"{text!r}, more than float32 holds; divide the column by a constant"
    return None
