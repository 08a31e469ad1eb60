"""Predictions row by row, as the rows of a table come."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from longlag.batch import Batch
from longlag.data import Columns, DataError, SequenceData
from longlag.data.errors import listing
from longlag.data.predictions import rows_after
from longlag.data.read_csv import read_rows
from longlag.data.roles import Roles, find_roles
from longlag.layers import Stream
from longlag.messages import GuidedError, Setting
from longlag.pipeline.dataset import prepare
from longlag.pipeline.fitted import Fitted

SOURCE = "standard input"
"""What messages call the table."""


@dataclass
class _Series:
    """A series as far as it has come.

    Attributes:
        state: of the stream, after its last row.
        steps: how many rows it had.
        cells: of its last row; in place of those that were empty the last ones that were not.
        line: of its last row.
        x: what the network was given of it, before changes are added.
    """

    state: Any
    steps: int
    cells: list[str]
    line: int
    x: np.ndarray


class RowStream:
    """A network that reads the rows of a table one by one, and answers each.

    The answers are those that `Fitted.predict` gives of the series up to that row, to rounding. The
    rows of a series come in order; those of several may be mixed. Of each series the state is kept.

    Args:
        fitted: the network and its preparation.
        names: of the columns, those of the training, in any order; others are not looked at.

    Raises:
        DataError: a column is missing.
        GuidedError: the network needs more than the rows so far.

    Cost: about a millisecond a row, nearly all of it to read the cells.
    """

    def __init__(self, fitted: Fitted, names: list[str]) -> None:
        _check(fitted)
        self.fitted, self.names = fitted, names
        preparation = fitted.preparation
        columns = preparation.columns or Columns()
        self.roles: Roles = find_roles(
            SOURCE, f"{SOURCE}, row 1", names, columns, preparation.task, None,
            preparation.encoding.missing != "error", "classes",
        )  # fmt: skip
        self._at = {name: names.index(name) for name in self.roles.used}
        self._stream = Stream(fitted.model)
        self._series: dict[str, _Series] = {}
        self._open: str | None = None

    def take(self, cells: list[str], line: int) -> tuple[list[str], list[list[object]]]:
        """Read one row.

        Args:
            cells: of the row, one for each column.
            line: where it stands, for messages.

        Returns:
            The names of what is predicted, and the rows of it: one, or in forecasting one for each
            step ahead.

        Raises:
            DataError: a cell is wrong, or the row comes before one of its series that is there.
        """
        if len(cells) != len(self.names):
            raise DataError(
                f"{SOURCE}, row {line}: {len(cells)} cells, expected {len(self.names)} as in the "
                f"header; the first cells are {listing(cells[:3])}"
            )
        name = "" if self.roles.series is None else cells[self._at[self.roles.series]].strip()
        before = self._series.get(name)
        data = self._read(cells, line, before)
        x = prepare(self.fitted.preparation, data).x[0, -1]
        outputs = self._outputs(name, before, x)
        steps = 1 if before is None else before.steps + 1
        self._series[name] = _Series(None, steps, self._filled(cells, data, before), line, x)
        last = replace(
            data, x=data.x[:, -1:], lengths=np.array([1]),
            times=None if data.times is None else data.times[:, -1:],
            gaps=None if data.gaps is None else data.gaps[:, -1:],
        )  # fmt: skip
        shape = (1, -1) if self.fitted.preparation.reduce == "last" else (1, 1, -1)
        told = self.fitted.restore(outputs.reshape(shape), last.lengths)
        timed = data.times is not None
        when = data.times[0, -1] if data.times is not None else steps - 1
        return rows_after(last, told, when, timed=timed)

    def _read(self, cells: list[str], line: int, before: _Series | None) -> SequenceData:
        """The row, with the one before it in its series: for gaps, and values to go on."""
        rows, lines = [cells], [line]
        if before is not None:
            rows, lines = [before.cells, cells], [before.line, line]
        data = read_rows(SOURCE, self.names, rows, lines, self.roles)
        time = self.roles.time
        if before is not None and time is not None and data.times is not None:
            now, then = (row[self._at[time]].strip() for row in (cells, before.cells))
            if str(data.times[0, -1]) != now:
                raise DataError(
                    f"{SOURCE}, row {line}, column {time!r}: {now!r} comes after {then!r} of row "
                    f"{before.line}; the rows of a series must come in order"
                )
        return data

    def _filled(self, cells: list[str], data: SequenceData, before: _Series | None) -> list[str]:
        """The cells of a row, with earlier ones in place of those that are missing."""
        filled = list(cells)
        if before is not None:
            for name, value in zip(self.roles.features, data.x[0, -1].tolist(), strict=True):
                at = self._at[name]
                if np.isnan(value) or not cells[at].strip():
                    filled[at] = before.cells[at]
        return filled

    def _outputs(self, name: str, before: _Series | None, x: np.ndarray) -> np.ndarray:
        stream, steps = self._stream, 0 if before is None else before.steps
        if self._open != name:
            if self._open is not None:
                self._series[self._open].state = stream.state
            if before is None:
                stream.reset()
            else:
                stream.state, stream.steps = before.state, steps
            self._open = name
        changes = self.fitted.changes
        if changes is not None:
            pair = np.stack([x if before is None else before.x, x])[None]
            x = changes.apply(Batch(pair), first=steps - 1).x[0, -1]
        return np.asarray(stream(x))


def predict_rows(fitted: Fitted, lines: Iterable[str]) -> Iterator[list[list[object]]]:
    """What is predicted after each row of a table, as the rows come.

    Args:
        fitted: the network.
        lines: the table as text, the names of the columns first.

    Yields:
        Rows: at first the names of what is predicted, too.

    Raises:
        DataError, GuidedError: see `RowStream`.

    Example:
        >>> from longlag.pipeline.fitting import Pipeline
        >>> from longlag.pipeline.dataset import Parts
        >>> from longlag.pipeline.settings import Settings
        >>> x = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
        >>> target, names = np.array([[0.5], [2.0]]), ("a", "b")
        >>> data = SequenceData(x, np.array([3, 3]), target, names, ("heat",), ("life",))
        >>> columns = Columns(series="series", time=None)
        >>> fitted = Pipeline.of(Parts(data, data), Settings("regression"), columns).as_it_is()
        >>> for rows in predict_rows(fitted, ["series,heat", "p,1.5", "p,2.5"]):
        ...     print([row[:2] for row in rows])
        [['series', 'step'], ['p', 0]]
        [['p', 1]]
    """
    reader = csv.reader(lines, strict=True)
    stream, told, line = None, False, 1
    try:
        for cells in reader:
            if stream is None:
                stream = RowStream(fitted, [name.strip() for name in cells])
            elif cells:  # a blank line is no row
                names, rows = stream.take(cells, line)
                yield rows if told else [[*names], *rows]
                told = True
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{SOURCE}, row {line}: not a valid csv ({error})") from error
    if stream is None:
        raise DataError(f"{SOURCE}: it is empty; expected the names of the columns, then rows")


def _check(fitted: Fitted) -> None:
    """Raise `GuidedError` for a network whose answers need more than the rows so far."""
    if fitted.relative is not None:
        raise GuidedError(
            Setting("stream"), ": the network forecasts in units of the whole series, which are "
            "not there before its end; predict from a file, or train one that forecasts the values "
            "themselves, without ", Setting("relative"),
        )  # fmt: skip
    if not fitted.model.layer.causal:
        raise GuidedError(
            Setting("stream"), ": the network reads each series backward too, from its end, which "
            "is not there yet; predict from a file, or train one that reads forward alone",
        )  # fmt: skip
