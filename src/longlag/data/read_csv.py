"""Tables as text: one row per step of a series, comma-separated, UTF-8.

Arrow reads the file where it is installed and nothing is wrong. Otherwise Python does, cell by
cell: it knows the line and the column of whatever is wrong.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int64

from longlag.data.columns import Columns
from longlag.data.errors import DataError, Problems, listing, not_utf8
from longlag.data.features import Feature, feature_of, is_number, is_text, joined, numbers_of
from longlag.data.long_form import (
    Rows,
    are_numbers,
    assemble,
    check_ids,
    factorise,
    read_answers,
    read_weights,
)
from longlag.data.roles import Roles, find_roles
from longlag.data.sequences import Array, SequenceData
from longlag.data.timestamps import parse_times

_BLOCK = 1 << 14  # rows at a time, and cells where the rows are long
_CELLS = 1 << 20
_LOOKED_AT = 100  # rows, to see which features are text
_Block = list[str] | Float32[Array, " B"]


def read_csv(
    path: Path,
    task: str,
    columns: Columns,
    require_target: bool | None,
    quick: bool = True,
    missing: bool = False,
    tags: str = "auto",
) -> SequenceData:
    """The sequences of a table. See `read`; without `quick`, Python alone reads it.

    Cost: a fraction of a microsecond a row and cell, a few in Python; a sort of the rows.
    """
    problems = Problems(path)
    table = None
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                names = [name.strip() for name in next(reader, [])]
                if names and names[0].lower().startswith("sep="):
                    raise DataError(
                        f"{path}, row 1: {listing(names[:1])} tells a spreadsheet what separates "
                        "the cells; expected the names of the columns. Delete this row"
                    )
                roles = find_roles(
                    path, f"{path}, row 1", names, columns, task, require_target, missing, tags
                )
                data = _read_quickly(path, names, reader.line_num, roles) if quick else None
                if data is not None:
                    return data
                table = _Table(names, roles, problems)
                table.fill(reader)
            except csv.Error as error:
                raise DataError(
                    f"{path}, row {table.row if table else 1}: not a valid csv ({error}); expected "
                    "commas between cells, and a cell with commas, quotes or line ends as "
                    '"a ""b"", c"'
                ) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    if not table.lines:
        problems.raise_any()
        raise DataError(f"{path}: no rows below the header; expected one row per step")
    return assemble(table.rows(path.stem, path.stat().st_size), roles, problems)


def read_rows(
    source: str, names: Sequence[str], rows: list[list[str]], lines: list[int], roles: Roles
) -> SequenceData:
    """The sequences of some rows of a table, one or more, by their cells.

    Args:
        source: where they come from, for messages; and the series, where it is one.
        names: of the columns.
        rows, lines: the cells of each row, as many as names, and its line.
        roles: of the columns.

    Raises:
        DataError: as of `read`.
    """
    problems = Problems(source)
    table = _Table(names, roles, problems)
    table.take(rows, lines)
    return assemble(table.rows(source, sum(map(len, itertools.chain(*rows)))), roles, problems)


def _read_quickly(
    path: Path, names: Sequence[str], header_lines: int, roles: Roles
) -> SequenceData | None:
    try:
        from longlag.data.arrow import read_csv_quickly
    except ImportError:
        return None
    return read_csv_quickly(path, names, header_lines, roles, _numeric(path, names, roles))


def _numeric(path: Path, names: Sequence[str], roles: Roles) -> set[str]:
    """The columns that are numbers by what was said, or by their first cells."""
    answers = set(roles.answers) if roles.task == "regression" else set()
    numeric = {name for name in roles.features if not is_text(name, roles)} | answers
    first: dict[str, list[str]] = {name: [] for name in names}
    with open(path, encoding="utf-8-sig", newline="") as file, suppress(csv.Error):
        rows = csv.reader(file)
        next(rows)
        for row in islice(rows, _LOOKED_AT):
            for name, cell in zip(names, row, strict=False):
                first[name].append(cell.strip())
    numeric -= {name for name in roles.features if not all(map(is_number, first[name]))}
    numeric |= set() if roles.weight is None else {roles.weight}
    if roles.task == "tagging":
        numeric |= {name for name in roles.answers if are_numbers(first[name], roles.tags)}
    return numeric


class _Reader(Protocol):
    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


class _Table:
    """The columns of the file that are used: features as blocks of numbers, others as text."""

    def __init__(self, names: Sequence[str], roles: Roles, problems: Problems) -> None:
        self.row = 1  # the line at which the next row starts
        self.lines: list[Int64[Array, " B"]] = []
        self._at = {name: at for at, name in enumerate(names)}
        self._roles = roles
        self._problems = problems
        self._features: dict[str, list[_Block]] = {name: [] for name in roles.features}
        text = (roles.series, roles.time, *roles.answers, roles.weight)
        self._cells: dict[str, list[str]] = {name: [] for name in text if name is not None}

    def fill(self, reader: _Reader) -> None:
        """Read all rows."""
        width = len(self._at)
        block = max(1, min(_BLOCK, _CELLS // width))
        rows: list[list[str]] = []
        lines: list[int] = []
        self.row = reader.line_num + 1
        for row in reader:
            if len(row) == width:
                rows.append(row)
                lines.append(self.row)
                if len(rows) == block:
                    self.take(rows, lines)
                    rows, lines = [], []
            elif row:  # a blank line is not a row
                self._problems.add(
                    self.row,
                    f"{len(row)} cells, expected {width} as in the header; the first cells are "
                    f"{listing(row[:3])}. Add or remove commas, or quote a cell with a comma in it",
                )
            self.row = reader.line_num + 1
        if rows:
            self.take(rows, lines)

    def take(self, rows: list[list[str]], lines: list[int]) -> None:
        """Add some rows, with their lines."""
        for name, blocks in self._features.items():
            cells = list(map(itemgetter(self._at[name]), rows))
            trial = Problems(name)
            if not is_text(name, self._roles):
                values = numbers_of(cells, lines, name, self._roles, trial).astype(np.float32)
                if not trial:
                    blocks.append(values)
                    continue
            blocks.append([cell.strip() for cell in cells])
        self.lines.append(np.array(lines, np.int64))
        for name, cells in self._cells.items():
            cells.extend(map(str.strip, map(itemgetter(self._at[name]), rows)))

    def rows(self, name: str, size: int) -> Rows:
        """What was read, of so many bytes; the series has this name where it is one."""
        roles, problems = self._roles, self._problems
        lines = np.concatenate(self.lines)
        features = [self._feature(name, lines) for name in roles.features]
        series, times = (np.zeros(len(lines), np.int64), [name]), None
        if roles.series is not None:
            series = factorise(self._cells[roles.series])
            check_ids(*series, lines, roles.series, problems)
        if roles.time is not None:
            cells = self._cells[roles.time]
            times = parse_times(cells, lines, roles.time, problems), np.array(cells, object)
        answers = [
            read_answers(self._cells[name], roles, lines, name, problems) for name in roles.answers
        ]
        weights = None
        if roles.weight is not None:
            weights = read_weights(self._cells[roles.weight], lines, roles.weight, problems)
        return Rows(*joined(features, roles), lines, *series, times, answers, size, weights)

    def _feature(self, name: str, lines: Int64[Array, " R"]) -> Feature:
        """The column of a feature: numbers, or text where each block is text or empty."""
        blocks = self._features[name]
        texts = [block for block in blocks if isinstance(block, list)]
        arrays = [block for block in blocks if not isinstance(block, list)]
        if any(np.isfinite(block).any() for block in arrays) or not texts:
            values = []
            for block, at in zip(blocks, self.lines, strict=True):
                if isinstance(block, list):
                    block = numbers_of(block, at, name, self._roles, self._problems)
                values.append(block.astype(np.float32))
            return Feature(values)
        cells: list[str] = []
        for block in blocks:
            cells += block if isinstance(block, list) else [""] * len(block)
        return feature_of(*factorise(cells), lines, name, self._roles, self._problems)
