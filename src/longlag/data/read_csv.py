"""Tables in long form: one row per step of a series, comma-separated, UTF-8.

The file is read in blocks of rows. Text becomes numbers block by block; rows are sorted into
series once, at the end.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float64, Int64

from longlag.data.cells import FLOAT32_MAX, numbers
from longlag.data.columns import Columns
from longlag.data.errors import DataError, Problems, listing, suggestion
from longlag.data.long_form import Layout, factorise, gather_answers, read_answers
from longlag.data.sequences import Array, SequenceData
from longlag.data.timestamps import parse_times
from longlag.messages import Fix

_BLOCK = 1 << 14
_ROLES = Fix(
    "roles", "or say which column is what with Columns(series=, time=, features=, target=)"
)


def read_csv(path: Path, task: str, columns: Columns, require_target: bool) -> SequenceData:
    """The sequences of a table. See `read`.

    Cost: a few microseconds a row and cell; a sort of the rows.
    """
    targets = columns.targets(task)
    table = _Table(path, columns)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                features = table.find(next(reader, []), targets, task, require_target)
                table.fill(reader)
            except csv.Error as error:
                raise DataError(
                    f"{path}, row {table.row}: not a valid csv ({error}); expected commas between "
                    'cells, and a cell with commas, quotes or line ends as "a ""b"", c"'
                ) from error
    except UnicodeDecodeError as error:
        raise DataError(_not_utf8(path)) from error

    series, names = factorise(table.series)
    lines = np.concatenate(table.lines)
    if columns.series is None:
        series, names = np.zeros(len(lines), np.int64), [path.stem]
    elif "" in names:
        for at in np.flatnonzero(series == names.index("")):
            table.problems.add(
                int(lines[at]),
                f"column {columns.series!r}: an empty cell, expected the id of a series",
            )
    if columns.time is None:
        times = np.arange(len(lines))
    else:
        times = parse_times(table.times, lines, columns.time, table.problems)
    answers = [
        read_answers(cells, task, lines, name, table.problems)
        for name, cells in zip(targets or (), table.targets, strict=False)
    ]
    table.problems.raise_any()

    layout = Layout.of(series, times)
    layout.check_times(table.times, names, lines, columns.time, table.problems)
    if not require_target and all(not answer.given.any() for answer in answers):
        answers = []
    target = None
    if answers:
        target = gather_answers(answers, task, layout, names, lines, table.problems)
    table.problems.raise_any()
    values = np.concatenate(table.features).astype(np.float32)
    return SequenceData(
        x=layout.pad(values),
        lengths=layout.lengths,
        target=target,
        names=tuple(names),
        feature_names=features,
        target_names=features if targets is None else targets,
        times=None if columns.time is None else layout.pad(np.array(table.times)),
    )


def _not_utf8(path: Path) -> str:
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        return f"{path}, row {row}: not UTF-8 text (byte {byte:#04x}); save the file as UTF-8"
    return f"{path}: not UTF-8 text; save the file as UTF-8"


class _Reader(Protocol):
    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


class _Table:
    """The columns of the file that are used, in the order of its rows."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path = path
        self.columns = columns
        self.problems = Problems(path)
        self.row = 1  # the line at which the next row starts
        self.series: list[str] = []
        self.times: list[str] = []
        self.targets: list[list[str]] = []  # one list per target column found
        self.features: list[Float64[Array, "B C"]] = []  # one array per block
        self.lines: list[Int64[Array, " B"]] = []

    def find(
        self,
        header: Sequence[str],
        targets: tuple[str, ...] | None,
        task: str,
        require_target: bool,
    ) -> tuple[str, ...]:
        """Look up the columns in the header; the names of the features."""
        names = [name.strip() for name in header]
        self._check_header(names)
        named = [name for name in (self.columns.series, self.columns.time) if name is not None]
        answers = () if task == "forecasting" or targets is None else targets
        present = [name for name in answers if name in names]
        if require_target or present:
            named += answers
        features = self.columns.features
        if features is None:
            features = tuple(name for name in names if name not in named)
            if not features:
                raise DataError(
                    f"{self.path}, row 1: no column is left for the features; the columns are "
                    f"{listing(names)}, of which {listing(named)} have another role"
                )
        predicted = targets if task == "forecasting" and targets is not None else ()
        for name in (*named, *features, *predicted):
            if name not in names:
                raise DataError(
                    f"{self.path}, row 1: there is no column {name!r}; the columns are "
                    f"{listing(names)}. Rename it, ",
                    _ROLES,
                    suggestion(name, names),
                )
        for name in predicted:
            if name not in features:
                raise DataError(
                    f"{self.path}, column {name!r}: forecasting predicts features only; add it "
                    f"to features={listing(features)}"
                )
        self._names = names
        self._feature_at = [names.index(name) for name in features]
        self._target_at = [names.index(name) for name in answers] if present else []
        self.targets = [[] for _ in self._target_at]
        return features

    def _check_header(self, names: list[str]) -> None:
        if not any(names):
            raise DataError(f"{self.path}, row 1: expected the names of the columns, got nothing")
        if len(names) == 1:
            for separator in (";", "\t", "|"):
                if separator in names[0]:
                    raise DataError(
                        f"{self.path}, row 1: one column named {names[0]!r}; the cells seem to be "
                        f"separated by {separator!r}, expected commas"
                    )
        for at, name in enumerate(names):
            if not name:
                raise DataError(
                    f"{self.path}, row 1: column {at + 1} has no name; name it or drop it "
                    "(pandas writes such an index: use to_csv(..., index=False))"
                )
            if names.index(name) != at:
                raise DataError(
                    f"{self.path}, row 1: columns {names.index(name) + 1} and {at + 1} are both "
                    f"named {name!r}; rename one"
                )

    def fill(self, reader: _Reader) -> None:
        """Read all rows."""
        width = len(self._names)
        rows: list[list[str]] = []
        lines: list[int] = []
        self.row = reader.line_num + 1
        for row in reader:
            if len(row) == width:
                rows.append(row)
                lines.append(self.row)
                if len(rows) == _BLOCK:
                    self._take(rows, lines)
                    rows, lines = [], []
            elif row:  # a blank line is not a row
                self.problems.add(
                    self.row,
                    f"{len(row)} cells, expected {width} as in the header; the first cells are "
                    f"{listing(row[:3])}. Add or remove commas, or quote a cell with a comma in it",
                )
            self.row = reader.line_num + 1
        if rows:
            self._take(rows, lines)
        if not self.lines:
            self.problems.raise_any()
            raise DataError(f"{self.path}: no rows below the header; expected one row per step")

    def _take(self, rows: list[list[str]], lines: list[int]) -> None:
        block = np.empty((len(rows), len(self._feature_at)))
        for c, at in enumerate(self._feature_at):
            cells = list(map(itemgetter(at), rows))
            block[:, c] = numbers(cells, lines, self._names[at], self.problems, limit=FLOAT32_MAX)
        self.features.append(block)
        self.lines.append(np.array(lines, np.int64))
        for name, cells in ((self.columns.series, self.series), (self.columns.time, self.times)):
            if name is not None:
                cells.extend(map(str.strip, map(itemgetter(self._names.index(name)), rows)))
        for at, cells in zip(self._target_at, self.targets, strict=True):
            cells.extend(map(str.strip, map(itemgetter(at), rows)))
