"""One column of features: numbers, true and false, dates, or the names of categories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from longlag.data.cells import FLOAT32_MAX, FOR_MISSING, MISSING, UNKNOWN, numbers, parse
from longlag.data.errors import DataError, Problems
from longlag.data.roles import Roles
from longlag.data.sequences import Array
from longlag.data.timestamps import days_since_1970
from longlag.messages import Fix, Part

FOUND = 100
"""Categories of a column that was not named as one, at the most."""

DECLARED = 1000
"""Categories of any column, at the most: each is an input of the network."""

_TRUTH = {"true": 1.0, "false": 0.0}
_NOUNS = {"truth": "true or false", "date": "a date or timestamp", "category": "a category"}
_NO_DATE = Fix("no date", "leave the column out of dates")
_CUT = re.compile(r"^([+-]?[0-9]+)\.0+$")
"""Whole numbers that a frame has made floats of, because others are missing."""


Pieces = Sequence[Float[Array, " P"]]
"""A column of numbers, piece after piece."""


@dataclass(frozen=True, eq=False)
class Feature:
    """A column of features: a value a row, NaN where it is missing.

    `categories` are the names of those of which the values are positions; `is_date` where the
    values are days.
    """

    values: Pieces
    categories: tuple[str, ...] | None = None
    is_date: bool = False


def joined(
    features: Sequence[Feature], roles: Roles
) -> tuple[Float32[Array, "R C"], dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The values of all columns side by side, the names of categories, and which are dates."""
    named = dict(zip(roles.features, features, strict=True))
    rows = sum(map(len, features[0].values))
    values = np.empty((rows, len(features)), np.float32)

    def fill(c: int) -> None:
        np.concatenate(features[c].values, out=values[:, c], casting="same_kind")

    with ThreadPoolExecutor() as threads:
        list(threads.map(fill, range(len(features))))
    return (
        values,
        {name: f.categories for name, f in named.items() if f.categories is not None},
        tuple(name for name, f in named.items() if f.is_date),
    )


def is_text(name: str, roles: Roles) -> bool:
    """Whether this column was said to hold no numbers."""
    return name in (roles.categories or ()) or name in (roles.dates or ())


def is_number(text: str) -> bool:
    """Whether a cell is a number, or missing."""
    return text.lower() in UNKNOWN or parse(text) is not None


def numbers_of(
    cells: Sequence[str],
    lines: Sequence[int] | Int64[Array, " R"],
    name: str,
    roles: Roles,
    problems: Problems,
) -> Float64[Array, " R"]:
    """The cells of a column of numbers, NaN for those that may be missing."""
    absent = UNKNOWN if roles.missing else frozenset()
    return numbers(cells, lines, name, problems, limit=FLOAT32_MAX, absent=absent)


def feature_of(
    codes: Int64[Array, " R"],
    texts: Sequence[str],
    lines: Int64[Array, " R"],
    name: str,
    roles: Roles,
    problems: Problems,
) -> Feature:
    """The column whose cells are `texts[codes]`, of the kind that was said, or is found.

    Problems are reported with the lines of their rows.
    """
    kind = _kind(codes, texts, name, roles)
    if kind == "number":
        trial = Problems(name)
        values = numbers_of(texts, np.arange(len(texts)), name, roles, trial)
        if trial:
            numbers_of([texts[int(code)] for code in codes], lines, name, roles, problems)
        return Feature([values[codes]])
    categories = None
    if kind == "truth":
        values = np.array([_TRUTH.get(text.lower(), np.nan) for text in texts])
    elif kind == "date":
        values = np.array(days_since_1970(texts))
    else:
        named = [_CUT.sub(r"\1", text) for text in texts]
        categories = tuple(dict.fromkeys(text for text in named if text and text not in MISSING))
        position = {text: at for at, text in enumerate(categories)}
        values = np.array([position.get(text, np.nan) for text in named], np.float64)
        _check_count(categories, name, problems)
    for code in np.flatnonzero(np.isnan(values)):
        wrong = _complaint(texts[int(code)], kind, roles)
        if wrong:
            for row in np.flatnonzero(codes == code):
                problems.add(int(lines[row]), f"column {name!r}: expected {_NOUNS[kind]}, got ",
                             *wrong)  # fmt: skip
    return Feature([values[codes]], categories, kind == "date")


def _kind(codes: Int64[Array, " R"], texts: Sequence[str], name: str, roles: Roles) -> str:
    if name in (roles.categories or ()):
        return "category"
    if name in (roles.dates or ()):
        return "date"
    known = [text.lower() not in UNKNOWN for text in texts]
    there = [text for text, given in zip(texts, known, strict=True) if given]
    if not there or any(parse(text) is not None for text in there):
        return "number"
    if all(text.lower() in _TRUTH for text in there):
        return "truth"
    if roles.dates is None and not any(np.isnan(days_since_1970(there))):
        return "date"
    rows = int(np.bincount(codes, minlength=len(texts))[known].sum())
    if roles.categories is None and len(there) <= min(FOUND, rows // 2):
        return "category"
    return "number"


def _complaint(text: str, kind: str, roles: Roles) -> tuple[Part, ...]:
    if text.lower() in UNKNOWN if kind != "category" else not text or text in MISSING:
        came = f"{text!r}, which stands for a missing value" if text else "an empty cell"
        return () if roles.missing else (f"{came}; fill it in, or drop the row, or ", FOR_MISSING)
    if kind == "date":
        return (f"{text!r}; mend the cell, or ", _NO_DATE)
    return (f"{text!r}; mend the cell",)


def _check_count(categories: Sequence[str], name: str, problems: Problems) -> None:
    if len(categories) > DECLARED:
        raise DataError(
            f"{problems.source}, column {name!r}: {len(categories)} categories, expected at "
            f"most {DECLARED}; name coarser ones in the file, or ",
            Fix("text feature", "give the column another role with Columns"),
        )
