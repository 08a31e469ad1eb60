"""From rows to padded sequences: the sort by series and time, and the targets of the series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import NDArray

from longlag.data.cells import EMPTY, MISSING, numbers, parse
from longlag.data.covariates import spread, weights_of
from longlag.data.errors import Problems
from longlag.data.labels import label_fault
from longlag.data.roles import Roles
from longlag.data.room import check_room
from longlag.data.sequences import Array, SequenceData, blank
from longlag.data.task import FEW
from longlag.data.timestamps import Times
from longlag.messages import Fix

_FOR_WEIGHTS = Fix("weight column", "name another column with Columns(weight=)")
_FOR_LABELS = Fix("labels", "use the task classification for labels, or name another target column")


def factorise(cells: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """A number for each distinct text, by first appearance: (codes, texts)."""
    seen: dict[str, int] = {}
    codes = np.fromiter((seen.setdefault(cell, len(seen)) for cell in cells), np.int64, len(cells))
    return codes, list(seen)


@dataclass(frozen=True, eq=False)
class Rows:
    """The R rows of a table, in its order.

    `series` are positions in `names`; `lines` says where each row stands, for messages; `times`
    are there with their text, or None where the rows are in order; `size` is that of the file or
    frame in bytes; `categories` and `dates` are as of `SequenceData`; `weights` are what series
    count for, NaN where a cell is empty.
    """

    features: Float32[Array, "R C"]
    categories: dict[str, tuple[str, ...]]
    dates: tuple[str, ...]
    lines: Int64[Array, " R"]
    series: Int64[Array, " R"]
    names: Sequence[str]
    times: tuple[Times, NDArray[np.object_]] | None
    answers: Sequence[Answers]
    size: int
    weights: Float64[Array, " R"] | None = None


def assemble(rows: Rows, roles: Roles, problems: Problems) -> SequenceData:
    """The sequences of these rows.

    Raises:
        DataError: there are problems so far, a time is twice in a series, a target changes
            within one, or the arrays would take far more memory than the rows.
    """
    problems.raise_any()
    if rows.times is None:
        layout = Layout.of(rows.series, rows.lines)
    else:
        layout = Layout.of(rows.series, rows.times[0].keys)
        layout.check_times(rows.times[1], rows, roles.time, problems)
    answers, predicted = rows.answers, roles.target_names
    features = rows.features
    for name in roles.static:
        features = features.copy() if features is rows.features else features
        at, names = roles.features.index(name), tuple(rows.names)
        features[:, at] = spread(features[:, at], rows.series, rows.lines, names, name, problems)
    weights = None
    if rows.weights is not None and roles.weight is not None:
        of = rows.series, rows.lines, tuple(rows.names), roles.weight, problems
        weights = weights_of(rows.weights, *of)
    if not roles.require_target and all(not answer.given.any() for answer in answers):
        answers = []
    if answers and roles.has_label_sets:
        answers = label_sets(answers, roles, rows, problems)
        predicted = tuple(answer.column for answer in answers)
        problems.raise_any()
    check_answers(answers, roles.task, layout, rows, problems)
    problems.raise_any()
    _check_room(rows, answers, roles.task, layout, problems.source)
    target = gather_answers(answers, roles.task, layout) if answers else None
    if roles.task == "forecasting" and predicted == roles.features:  # every one that can be
        given = {*rows.categories, *rows.dates, *roles.known, *roles.static}
        predicted = tuple(name for name in predicted if name not in given) or predicted
    data = SequenceData(
        x=layout.pad(features),
        lengths=layout.lengths,
        target=target,
        names=tuple(rows.names),
        feature_names=roles.features,
        target_names=predicted,
        times=None if rows.times is None else layout.pad(rows.times[1]),
        gaps=None if rows.times is None else layout.gaps(rows.times[0].amounts),
        categories=rows.categories,
        dates=rows.dates,
        label_sets=bool(answers) and roles.has_label_sets,
        weights=weights,
    )
    return data.up_to_the_targets(problems.source) if roles.known else data


def check_ids(
    series: Int64[Array, " R"],
    names: Sequence[str],
    lines: Int64[Array, " R"],
    column: str,
    problems: Problems,
) -> None:
    """Report each row without the id of a series."""
    for code, name in enumerate(names):
        if name and name not in MISSING:
            continue
        came = f"{name!r}, which stands for a missing value" if name else "an empty cell"
        for at in np.flatnonzero(series == code):
            problems.add(int(lines[at]), f"column {column!r}: {came}, expected the id of a series")


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each of the R rows of the table goes in (N, T).

    `order` sorts the rows by series, then time, and is None where they come so; `series` says, in
    that order, where each row goes. The series are in order of first appearance.
    """

    order: Int64[Array, " R"] | None
    series: Int64[Array, " R"]
    lengths: Int64[Array, " N"]
    repeated: Bool[Array, " R"]  # in sorted order: this time is that of the row before

    @classmethod
    def of(cls, series: Int64[Array, " R"], times: NDArray[Any]) -> Layout:
        """The layout of rows with these series codes and times."""
        order, repeated = None, np.zeros(len(series), bool)
        same = series[1:] == series[:-1]
        if not (np.where(same, times[1:] >= times[:-1], series[1:] > series[:-1])).all():
            order = np.lexsort((times, series)).astype(np.int64)
            series, times = series[order], times[order]
            same = series[1:] == series[:-1]
        np.logical_and(same, times[1:] == times[:-1], out=repeated[1:])
        return cls(order, series, np.bincount(series).astype(np.int64), repeated)

    @property
    def starts(self) -> Int64[Array, " N"]:
        """Where each series begins, in sorted order."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def last(self) -> Int64[Array, " N"]:
        """The row of the last step of each series."""
        at = np.cumsum(self.lengths) - 1
        return at if self.order is None else self.order[at]

    def sorted(self, values: NDArray[Any]) -> NDArray[Any]:
        """(R, ...) in the order of series and time."""
        return values if self.order is None else values[self.order]

    def pad(self, values: NDArray[Any]) -> NDArray[Any]:
        """(R, ...) as (N, T, ...), with zeros or empty text beyond the end."""
        return self._padded(self.sorted(values))

    def _padded(self, ranked: NDArray[Any]) -> NDArray[Any]:
        count, longest = len(self.lengths), int(self.lengths.max())
        shape = (count, longest, *ranked.shape[1:])
        if len(ranked) == count * longest:
            return ranked.reshape(shape)
        padded = np.zeros((count * longest, *ranked.shape[1:]), ranked.dtype)
        if ranked.dtype == object:
            padded[:] = blank(ranked.dtype)
        step = np.arange(len(ranked)) - self.starts[self.series]
        padded[self.series * longest + step] = ranked
        return padded.reshape(shape)

    def gaps(self, amounts: NDArray[Any]) -> Float32[Array, "N T"]:
        """The time since the step before, in seconds where times are dates; 0 at the first."""
        ranked = self.sorted(amounts)
        since = np.zeros(len(ranked))
        if ranked.dtype.kind == "M":
            since[1:] = (ranked[1:] - ranked[:-1]) / np.timedelta64(1, "s")
        else:
            np.subtract(ranked[1:], ranked[:-1], out=since[1:])
        since[self.starts] = 0.0
        return self._padded(since.astype(np.float32))

    def check_times(
        self, cells: NDArray[np.object_], rows: Rows, column: str | None, problems: Problems
    ) -> None:
        """Report each time that a series has twice."""
        for at in np.flatnonzero(self.repeated):
            rows_at = (at - 1, at) if self.order is None else self.order[[at - 1, at]]
            first, second = sorted(int(row) for row in rows_at)
            problems.add(
                int(rows.lines[second]),
                f"column {column!r}: series {rows.names[int(self.series[at])]!r} has the time "
                f"{cells[second]!r} already in row {rows.lines[first]}; expected each time "
                "once in a series. Drop one of the rows, or give another series id",
            )


@dataclass(frozen=True, eq=False)
class Answers:
    """One target column: a value per row, where the cell is not empty."""

    column: str
    values: NDArray[Any]  # floats, or positions in labels
    given: Bool[Array, " R"]
    labels: Sequence[str] | None

    @classmethod
    def of_labels(
        cls,
        column: str,
        codes: Int64[Array, " R"],
        labels: Sequence[str],
        lines: Int64[Array, " R"],
        problems: Problems,
    ) -> Answers:
        """Labels by their position among the distinct ones, of which "" is none."""
        for code, label in enumerate(labels):
            fault = label_fault(label)
            if fault:
                for at in np.flatnonzero(codes == code):
                    problems.add(int(lines[at]), f"column {column!r}: {fault}")
        return cls(column, codes, np.array([label != "" for label in labels])[codes], labels)

    @classmethod
    def of_numbers(cls, column: str, values: Float64[Array, " R"]) -> Answers:
        """Numbers, of which NaN is none."""
        return cls(column, values, ~np.isnan(values), None)


_HOLDS = {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "": np.nan}


def label_sets(
    answers: Sequence[Answers], roles: Roles, rows: Rows, problems: Problems
) -> list[Answers]:
    """A column of 0 and 1 for each label that may hold, from such columns or from one of lists.

    A list of a series stands in each of its rows or in its last only; a series without any has no
    label. A list of a step is its own.
    """
    separator = roles.label_separator
    if separator is None:
        return [_of_zeros_and_ones(answer, rows, problems) for answer in answers]
    (answer,) = answers
    assert answer.labels is not None
    parts = [[part.strip() for part in text.split(separator)] for text in answer.labels]
    names = sorted({part for own in parts for part in own if part})
    table = np.array([[name in own for name in names] for own in parts], np.float64)
    given = answer.given.copy()
    some = np.bincount(rows.series[given], minlength=len(rows.names)) > 0
    given |= ~some[rows.series] | (roles.task == "tagging")
    values = np.where(given[:, None], table[answer.values], np.nan)
    return [Answers.of_numbers(name, values[:, d]) for d, name in enumerate(names)]


def _of_zeros_and_ones(answer: Answers, rows: Rows, problems: Problems) -> Answers:
    assert answer.labels is not None
    table = np.array([_HOLDS.get(text.lower(), -1.0) for text in answer.labels])
    values = table[answer.values]
    for at in np.flatnonzero(values < 0):
        problems.add(
            int(rows.lines[at]),
            f"column {answer.column!r}: {answer.labels[int(answer.values[at])]!r}, expected 0 or "
            "1, whether the label holds, in each of several target columns; name one target, or ",
            Fix("label cells", "give Columns(label_separator=) for cells that list labels"),
        )
    return Answers.of_numbers(answer.column, values)


def are_numbers(texts: Sequence[str], tags: str) -> bool:
    """Whether the distinct cells of a target of tagging are numbers of which errors are due.

    Whole numbers of few values are classes.
    """
    if tags != "auto":
        return tags == "numbers"
    values = [parse(text) for text in texts if text]
    return bool(values) and all(value is not None for value in values) and many_values(values)


def many_values(values: Sequence[Any] | NDArray[Any]) -> bool:
    """Whether numbers are too many for classes, or are none by a fraction.

    >>> many_values([1, 2, 1]), many_values([0.5, 1]), many_values(range(21))
    (False, True, True)
    """
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    return bool((array != np.rint(array)).any()) or len(np.unique(array)) > FEW


def read_answers(
    cells: Sequence[str], roles: Roles, lines: Int64[Array, " R"], column: str, problems: Problems
) -> Answers:
    """The cells of a target column, as labels or numbers."""
    numeric = roles.task == "regression"
    if roles.task == "tagging":
        numeric = are_numbers(list(dict.fromkeys(cells)), roles.tags)
    if numeric:
        values = numbers(
            cells, lines, column, problems, absent=EMPTY, for_text=_FOR_LABELS, for_missing=None
        )
        return Answers.of_numbers(column, values)
    return Answers.of_labels(column, *factorise(cells), lines, problems)


def read_weights(
    cells: Sequence[str], lines: Int64[Array, " R"], column: str, problems: Problems
) -> Float64[Array, " R"]:
    """The cells of a column of weights, NaN where one is empty."""
    return numbers(
        cells, lines, column, problems, absent=EMPTY, for_text=_FOR_WEIGHTS, for_missing=None
    )


def check_answers(
    answers: Sequence[Answers], task: str, layout: Layout, rows: Rows, problems: Problems
) -> None:
    """Report each row that lacks a target, or has another than its series."""
    for answer in answers:
        if task != "tagging":
            _check_constant(answer, layout, rows, problems)
            continue
        if answer.labels is None:  # where there is none no error is due
            if not answer.given.any():
                problems.add(int(rows.lines[0]), f"column {answer.column!r}: no cell has a number")
            continue
        if len(answers) > 1:
            problems.add(
                int(rows.lines[0]),
                f"column {answer.column!r}: labels, but tagging with {len(answers)} targets "
                "expects numbers in each; name one target, mend the cells that are no numbers, or ",
                Fix("label tags", "give tags='labels'"),
                " for labels that may hold at once, in cells of 0 and 1",
            )
        for at in np.flatnonzero(~answer.given):
            problems.add(
                int(rows.lines[at]),
                f"column {answer.column!r}: an empty cell; tagging expects a label in each row",
            )


def gather_answers(answers: Sequence[Answers], task: str, layout: Layout) -> NDArray[Any]:
    """The target: labels (N, T) for tagging, (N,) for classification; else floats (N, [T,] D)."""
    if task == "tagging" and answers[0].labels is None:
        return layout.pad(np.stack([answer.values for answer in answers], axis=1))
    if answers[0].labels is None:
        return np.stack([answer.values[layout.last] for answer in answers], axis=1)
    (answer,) = answers
    assert answer.labels is not None
    labels = np.array(answer.labels)
    if task == "tagging":
        return layout.pad(labels[answer.values])
    return labels[answer.values[layout.last]]


def _check_room(
    rows: Rows, answers: Sequence[Answers], task: str, layout: Layout, source: str | Path
) -> None:
    """Refuse arrays that padding, or the width of a label, makes far larger than the rows."""
    count, longest = len(layout.lengths), int(layout.lengths.max())
    step = 4 * rows.features.shape[1] + (12 if rows.times is not None else 0)
    name = rows.names[int(layout.lengths.argmax())]
    check_room(
        source,
        f"{count} series padded to the {longest} steps of series {name!r}",
        count * longest * step,
        rows.size,
        "cut the longest series, or put series of like length into a file of their own",
    )
    for answer in answers:
        if answer.labels is not None:
            width, entries = max(map(len, answer.labels)), count
            if task == "tagging":
                entries *= longest
            check_room(
                source,
                f"column {answer.column!r}: a label of {width} characters, which widens all "
                f"{entries} labels,",
                4 * width * entries,
                rows.size,
                "shorten the label, or name another target column",
            )


def _check_constant(answer: Answers, layout: Layout, rows: Rows, problems: Problems) -> None:
    """A target of a series is the same in all of its rows, or given in its last row only."""
    series, names, lines = rows.series, rows.names, rows.lines
    values, last, labels = answer.values, layout.last, answer.labels

    def told(at: int) -> object:
        return values[at].item() if labels is None else labels[int(values[at])]

    rule = "expected the same target in all rows of a series, or a target in its last row only"
    count = np.bincount(series[answer.given], minlength=len(names))
    partly = answer.given[last] & (count != 1) & (count != layout.lengths)
    absent = ~answer.given & partly[series]
    absent[last[~answer.given[last]]] = True
    for at in np.flatnonzero(absent):
        where = "its last row" if at == last[series[at]] else "this row, while others have one"
        problems.add(
            int(lines[at]),
            f"column {answer.column!r}: series {names[int(series[at])]!r} has no target in "
            f"{where}; {rule}",
        )
    differs = answer.given & answer.given[last][series] & (values != values[last][series])
    for at in np.flatnonzero(differs):
        end = last[series[at]]
        problems.add(
            int(lines[at]),
            f"column {answer.column!r}: series {names[int(series[at])]!r} has "
            f"{told(int(at))!r} here and {told(int(end))!r} in its last row {lines[end]}; "
            f"{rule}. For a label per step use the task tagging",
        )
