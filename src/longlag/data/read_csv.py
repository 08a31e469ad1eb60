"""Tables as text: one row per step of a series, comma-separated, UTF-8.

Arrow reads the file where it is installed and nothing is wrong. Otherwise Python does, cell by
cell: it knows the line and the column of whatever is wrong.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int64

from longlag.data.cells import FLOAT32_MAX, numbers
from longlag.data.columns import Columns
from longlag.data.errors import DataError, Problems, listing, not_utf8
from longlag.data.long_form import Rows, assemble, check_ids, factorise, read_answers
from longlag.data.roles import Roles, find_roles
from longlag.data.sequences import Array, SequenceData
from longlag.data.timestamps import parse_times

_BLOCK = 1 << 14  # rows at a time, and cells where the rows are long
_CELLS = 1 << 20


def read_csv(
    path: Path, task: str, columns: Columns, require_target: bool, quick: bool = True
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
                roles = find_roles(path, f"{path}, row 1", names, columns, task, require_target)
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
    return assemble(table.rows(path), roles, problems)


def _read_quickly(
    path: Path, names: Sequence[str], header_lines: int, roles: Roles
) -> SequenceData | None:
    try:
        from longlag.data.arrow import read_csv_quickly
    except ImportError:
        return None
    return read_csv_quickly(path, names, header_lines, roles)


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
        self._features: list[Float32[Array, "B C"]] = []
        text = (roles.series, roles.time, *roles.answers)
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
                    self._take(rows, lines)
                    rows, lines = [], []
            elif row:  # a blank line is not a row
                self._problems.add(
                    self.row,
                    f"{len(row)} cells, expected {width} as in the header; the first cells are "
                    f"{listing(row[:3])}. Add or remove commas, or quote a cell with a comma in it",
                )
            self.row = reader.line_num + 1
        if rows:
            self._take(rows, lines)

    def _take(self, rows: list[list[str]], lines: list[int]) -> None:
        block = np.empty((len(rows), len(self._roles.features)), np.float32)
        for c, name in enumerate(self._roles.features):
            cells = list(map(itemgetter(self._at[name]), rows))
            block[:, c] = numbers(cells, lines, name, self._problems, limit=FLOAT32_MAX)
        self._features.append(block)
        self.lines.append(np.array(lines, np.int64))
        for name, cells in self._cells.items():
            cells.extend(map(str.strip, map(itemgetter(self._at[name]), rows)))

    def rows(self, path: Path) -> Rows:
        """What was read; the file names the series where it is one."""
        roles, problems = self._roles, self._problems
        lines = np.concatenate(self.lines)
        series, times = (np.zeros(len(lines), np.int64), [path.stem]), None
        if roles.series is not None:
            series = factorise(self._cells[roles.series])
            check_ids(*series, lines, roles.series, problems)
        if roles.time is not None:
            cells = self._cells[roles.time]
            times = parse_times(cells, lines, roles.time, problems), np.array(cells, object)
        answers = [
            read_answers(self._cells[name], roles.task, lines, name, problems)
            for name in roles.answers
        ]
        size = path.stat().st_size
        return Rows(np.concatenate(self._features), lines, *series, times, answers, size)
