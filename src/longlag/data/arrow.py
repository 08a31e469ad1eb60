"""Tables through Arrow: frames of pandas, polars and others, Parquet files, and CSV read quickly.

The one file that imports pyarrow (the extra `longlag[tables]`). Columns with a type are taken as
they are; all others go the way of the cells of a text, so that the answers and the messages are
the same.
"""

from __future__ import annotations

import codecs
import math
import mmap
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from pyarrow import csv, parquet

from longlag.data.cells import FLOAT32_MAX
from longlag.data.columns import Columns
from longlag.data.errors import DataError, Problems
from longlag.data.features import Feature, feature_of, is_text, joined
from longlag.data.long_form import (
    Answers,
    Rows,
    are_numbers,
    assemble,
    check_ids,
    factorise,
    many_values,
    read_answers,
)
from longlag.data.roles import Roles, find_roles
from longlag.data.room import check_room
from longlag.data.sequences import Array, SequenceData
from longlag.data.timestamps import Times, parse_times
from longlag.messages import on_one_line

PIECE = 1 << 18
"""Bytes of a text that are looked through at a time."""

_UNNAMED = "__index_level_"  # what pandas calls a part of an index that has no name


def read_frame(
    frame: object,
    task: str,
    columns: Columns,
    require_target: bool | None,
    missing: bool = False,
    tags: str = "auto",
) -> SequenceData:
    """The sequences of a frame. See `from_frame`."""
    try:
        table = pa.table(frame)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"frame: {type(frame).__name__} cannot be read as a table ({on_one_line(error)}); "
            "expected a DataFrame of pandas or polars or a table of pyarrow, each column of one "
            "type"
        ) from error
    names = [name for name in table.column_names if not name.startswith(_UNNAMED)]
    roles = find_roles("frame", "frame", names, columns, task, require_target, missing, tags)
    return _sequences(table, "frame", "frame", roles, table.nbytes)


def read_parquet(
    path: Path,
    task: str,
    columns: Columns,
    require_target: bool | None,
    missing: bool = False,
    tags: str = "auto",
) -> SequenceData:
    """The sequences of a Parquet file. See `read`."""
    try:
        with parquet.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if not name.startswith(_UNNAMED)]
            roles = find_roles(path, str(path), names, columns, task, require_target, missing, tags)
            rows, size = file.metadata.num_rows, path.stat().st_size
        check_room(
            path,
            f"{rows} rows of {len(roles.used)} columns",
            rows * 4 * len(roles.used),
            size,
            "split it, or read it in another way and give the frame to from_frame",
        )
        # A text that is in many rows stays one.
        texts = [name for name in (roles.series, roles.time, *roles.answers) if name is not None]
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read(columns=roles.used)
    except (OSError, pa.ArrowException) as error:  # the first where a page is damaged
        raise DataError(
            f"{path}: not a Parquet file that can be read ({on_one_line(error)})"
        ) from error
    return _sequences(table, path, path.stem, roles, size)


def read_csv_quickly(
    path: Path,
    names: Sequence[str],
    header_lines: int,
    roles: Roles,
    numeric: Collection[str] | None = None,
) -> SequenceData | None:
    """The sequences of a CSV file; None where anything is wrong, or only Python can read it.

    Args:
        path: the file.
        names: its columns.
        header_lines: how many lines the names take.
        roles: of the columns.
        numeric: the columns that are numbers; None: features, and targets of regression.
    """
    if numeric is None:
        numeric = {*roles.features, *(roles.answers if roles.task == "regression" else ())}
    types = {name: pa.float64() if name in numeric else pa.string() for name in names}

    def parsed(newlines: bool) -> pa.Table:
        return csv.read_csv(
            path,
            csv.ReadOptions(column_names=list(names), skip_rows=header_lines),
            csv.ParseOptions(newlines_in_values=newlines),
            csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False),
        )

    table = None
    try:
        with ThreadPoolExecutor(1) as beside:
            quotes = beside.submit(_quoted, path)
            with open(path, "rb") as file:
                known = b'"' in file.read(PIECE)
            if not known:  # then rarely later: it is parsed so while that is looked for
                with suppress(pa.ArrowException):
                    table = parsed(newlines=False)
            quoted = quotes.result()
        if quoted is None:
            return None
        if quoted or table is None:
            table = parsed(newlines=quoted)
        return _sequences(table, path, path.stem, roles, path.stat().st_size)
    except (DataError, pa.ArrowException):
        return None


def _quoted(path: Path) -> bool | None:
    """Whether cells are quoted; None where a quote does not open, close or double as it must.

    Arrow passes over such quotes, and over NUL, which Python refuses.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        some = False
        for start in range(0, len(text), PIECE):  # which the second look finds in a cache
            if text.find(b"\0", start, start + PIECE) >= 0:
                return None
            some = some or text.find(b'"', start, start + PIECE) >= 0
        if not some:
            return False
        at = np.flatnonzero(np.frombuffer(text, np.uint8) == ord('"'))
        opening, closing = at[::2], at[1::2]
        if len(opening) != len(closing):
            return None
        doubled = closing[:-1] + 1 == opening[1:]
        mark = codecs.BOM_UTF8
        first = opening[0] == (len(mark) if text[: len(mark)] == mark else 0)
        last = closing[-1] + 1 == len(text)
        around = np.frombuffer(text, np.uint8)[np.stack([opening - 1, (closing + 1) % len(text)])]
    opens, closes = np.isin(around, np.frombuffer(b",\r\n", np.uint8))
    opens |= np.append(first, doubled)
    closes |= np.append(doubled, last)
    return True if opens.all() and closes.all() else None


def _sequences(
    table: pa.Table, source: str | Path, alone: str, roles: Roles, size: int
) -> SequenceData:
    """The sequences of a table of so many bytes; `alone` names the series if it is one."""
    if table.num_rows == 0:
        raise DataError(f"{source}: no rows; expected one row per step")
    problems = Problems(source)
    lines = np.arange(table.num_rows)
    ids = [name for name in (roles.series, roles.time) if name is not None]
    with ThreadPoolExecutor() as threads:
        texts = dict(zip(ids, threads.map(lambda name: _factorise(table[name]), ids), strict=True))
        found = threads.map(lambda name: _feature_numbers(table[name], name, roles), roles.features)
    features = [
        feature_of(*_factorise(_without_booleans(table[name])), lines, name, roles, problems)
        if values is None
        else Feature(values)
        for name, values in zip(roles.features, found, strict=True)
    ]
    series, times = (np.zeros(len(lines), np.int64), [alone]), None
    if roles.series is not None:
        series = texts[roles.series]
        check_ids(*series, lines, roles.series, problems)
    if roles.time is not None:
        times = _times(table[roles.time], *texts[roles.time], lines, roles.time, problems)
    answers = [_answers(table[name], roles, lines, name, problems) for name in roles.answers]
    rows = Rows(*joined(features, roles), lines, *series, times, answers, size)
    return assemble(rows, roles, problems)


def _feature_numbers(
    column: pa.ChunkedArray, name: str, roles: Roles
) -> Float64[Array, " R"] | None:
    if is_text(name, roles):
        return None
    column = _without_booleans(column)
    return _numbers(column, FLOAT32_MAX, empty=roles.missing, nan=roles.missing)


def _without_booleans(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column


def _numbers(
    column: pa.ChunkedArray, limit: float = math.inf, empty: bool = False, nan: bool = False
) -> Float64[Array, " R"] | None:
    """The column as finite numbers up to `limit` in size; or None.

    There may be null, which becomes NaN, where `empty`, and NaN where `nan`.
    """
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    missing = None
    if column.null_count:
        missing = _array(column.is_null().cast(pa.uint8())) == 1
        column = column.cast(pa.float64(), safe=False).fill_null(math.nan)
    values = _array(column).astype(np.float64, copy=False)
    largest = min(limit, np.finfo(np.float64).max)
    if len(values) and values.min() >= -largest and values.max() <= largest:  # so none is NaN
        return values
    usable = np.isfinite(values) & (np.abs(values) <= limit)
    if empty and missing is not None:
        usable |= missing
    if nan:
        usable |= np.isnan(values)
    return values if usable.all() else None


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers without null, in NumPy; `to_numpy` would import pandas for it."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def _cells(column: pa.ChunkedArray) -> list[str]:
    """The column as a text would have it: "" for null, timestamps as ISO 8601, zoned in UTC."""
    if pa.types.is_timestamp(column.type):
        instants = _instants(column)
        whole = (instants.astype("datetime64[s]") == instants) | np.isnat(instants)
        texts = np.datetime_as_string(
            instants,
            unit="s" if whole.all() else column.type.unit,
            timezone="naive" if column.type.tz is None else "UTC",
        )
        return np.where(np.isnat(instants), "", texts).tolist()
    if column.type == pa.time64("ns"):  # of which Python cuts the nanoseconds
        column = column.cast(pa.string())
    return ["" if value is None else str(value).strip() for value in column.to_pylist()]


def _instants(column: pa.ChunkedArray) -> NDArray[np.datetime64]:
    counts = column.cast(pa.int64())
    if column.null_count:
        counts = counts.fill_null(np.iinfo(np.int64).min)
    return _array(counts).view(f"datetime64[{column.type.unit}]")


def _factorise(column: pa.ChunkedArray) -> tuple[Int64[Array, " R"], list[str]]:
    """A number for each distinct text, by first appearance: (codes, texts)."""
    if pa.types.is_dictionary(column.type):
        if column.type.value_type in (pa.string(), pa.large_string()):
            return _factorise_categories(column.unify_dictionaries())
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(column.type):
        return factorise(_cells(column))
    encoded = column.dictionary_encode(null_encoding="encode").unify_dictionaries()
    distinct = pa.chunked_array([encoded.chunk(0).dictionary])
    codes, texts = factorise(_cells(distinct))
    return codes[_array(pa.chunked_array([chunk.indices for chunk in encoded.chunks]))], texts


def _factorise_categories(column: pa.ChunkedArray) -> tuple[Int64[Array, " R"], list[str]]:
    """As `_factorise`, of texts that are in the memory once."""
    categories = column.chunk(0).dictionary
    indices = pa.chunked_array([chunk.indices for chunk in column.chunks]).cast(pa.int64())
    at = _array(indices.fill_null(len(categories)) if indices.null_count else indices)
    used, first, codes = np.unique(at, return_index=True, return_inverse=True)
    order = np.argsort(first)
    cells = [*_cells(pa.chunked_array([categories])), ""]
    distinct, texts = factorise([cells[place] for place in used[order]])
    code = np.empty(len(order), np.int64)
    code[order] = distinct
    return code[codes.reshape(-1)], texts


def _times(
    column: pa.ChunkedArray, codes: Int64[Array, " R"], texts: list[str],
    lines: Int64[Array, " R"], name: str, problems: Problems,
) -> tuple[Times, NDArray[np.object_]]:  # fmt: skip
    """Values that sort, and their text; a time that many series share is parsed once."""
    cells = np.array(texts, object)[codes]
    if pa.types.is_timestamp(column.type) and not column.null_count:
        instants = _instants(column)
        return Times(instants, instants), cells  # nanoseconds stay apart
    trial = Problems(name)
    values = parse_times(texts, np.arange(len(texts)), name, trial)
    if trial:
        return parse_times(cells.tolist(), lines, name, problems), cells
    return values.take(codes), cells


def _answers(
    column: pa.ChunkedArray, roles: Roles, lines: Int64[Array, " R"], name: str, problems: Problems
) -> Answers:
    values = None
    if roles.task != "classification":
        values = _numbers(_without_booleans(column), empty=True)
    if roles.task == "regression":
        if values is None:
            return read_answers(_cells(_without_booleans(column)), roles, lines, name, problems)
        return Answers.of_numbers(name, values)
    few = roles.tags == "auto" and values is not None and not many_values(values)
    if values is not None and roles.tags not in ("classes", "labels") and not few:
        return Answers.of_numbers(name, values)
    codes, texts = _factorise(column)
    if roles.task == "tagging" and are_numbers(texts, roles.tags):
        return read_answers([texts[code] for code in codes], roles, lines, name, problems)
    return Answers.of_labels(name, codes, texts, lines, problems)
