"""Tables through Arrow: frames of pandas, polars and others, Parquet files, and CSV read quickly.

The one file that imports pyarrow (the extra `longlag[tables]`). Columns with a type are taken as
they are; all others go the way of the cells of a text, so that the answers and the messages are
the same.
"""

from __future__ import annotations

import codecs
import math
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
from longlag.data.features import Feature, Pieces, feature_of, is_text, joined
from longlag.data.long_form import (
    Answers,
    Rows,
    are_numbers,
    assemble,
    check_ids,
    factorise,
    many_values,
    read_answers,
    read_weights,
)
from longlag.data.roles import Roles, find_roles
from longlag.data.room import check_room
from longlag.data.sequences import Array, SequenceData
from longlag.data.timestamps import Times, parse_times
from longlag.messages import on_one_line

LOOKED_AT = 1 << 18
"""Bytes of a text that are looked through for a quote before it is parsed."""

BLOCK = 1 << 22
"""Bytes of a text that are parsed at a time."""

_TEXTS = pa.dictionary(pa.int32(), pa.string())  # each text once, and which one a row has
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
    texts = {name: _TEXTS if name in roles.used else pa.string() for name in names}
    types = texts | dict.fromkeys(numeric, pa.float64())

    def parsed(quotes: bool) -> pa.Table:
        return csv.read_csv(
            path,
            csv.ReadOptions(column_names=list(names), skip_rows=header_lines, block_size=BLOCK),
            csv.ParseOptions(quote_char='"' if quotes else False, newlines_in_values=quotes),
            csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False),
        )

    table = None
    try:
        with open(path, "rb") as file:
            quotes = b'"' in file.read(LOOKED_AT)
        if not quotes:  # then rarely later: such a cell is no number, or a text that has it
            with suppress(pa.ArrowException):
                table = parsed(quotes=False)
        if table is None or any(_has_marks(table[n]) for n in names if n not in numeric):
            if not _well_quoted(path):
                return None
            table = parsed(quotes=True)
        return _sequences(table, path, path.stem, roles, path.stat().st_size)
    except (DataError, pa.ArrowException):
        return None


def _has_marks(column: pa.ChunkedArray) -> bool:
    """Whether a column of texts has a quote or a NUL in it."""
    for chunk in column.iterchunks():
        texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        data = texts.buffers()[2]
        content = b"" if data is None else data.to_pybytes()
        if b'"' in content or b"\0" in content:
            return True
    return False


def _well_quoted(path: Path) -> bool:
    """Whether cells are quoted, and each quote opens, closes or doubles as it must.

    Arrow passes over such quotes as do not, and over NUL, which Python refuses.
    """
    text = np.memmap(path, np.uint8, "r")
    at = np.flatnonzero(text == ord('"'))
    opening, closing = at[::2], at[1::2]
    if text.min() == 0 or len(at) == 0 or len(opening) != len(closing):
        return False
    doubled = closing[:-1] + 1 == opening[1:]
    mark = codecs.BOM_UTF8
    first = opening[0] == (len(mark) if text[: len(mark)].tobytes() == mark else 0)
    last = closing[-1] + 1 == len(text)
    around = text[np.stack([opening - 1, (closing + 1) % len(text)])]
    opens, closes = np.isin(around, np.frombuffer(b",\r\n", np.uint8))
    opens |= np.append(first, doubled)
    closes |= np.append(doubled, last)
    return bool(opens.all() and closes.all())


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
        if pieces is None
        else Feature(pieces)
        for name, pieces in zip(roles.features, found, strict=True)
    ]
    series, times = (np.zeros(len(lines), np.int64), [alone]), None
    if roles.series is not None:
        series = texts[roles.series]
        check_ids(*series, lines, roles.series, problems)
    if roles.time is not None:
        times = _times(table[roles.time], *texts[roles.time], lines, roles.time, problems)
    answers = [_answers(table[name], roles, lines, name, problems) for name in roles.answers]
    weights = None
    if roles.weight is not None:
        weights = _weights(table[roles.weight], lines, roles.weight, problems)
    rows = Rows(*joined(features, roles), lines, *series, times, answers, size, weights)
    return assemble(rows, roles, problems)


def _feature_numbers(column: pa.ChunkedArray, name: str, roles: Roles) -> Pieces | None:
    if is_text(name, roles):
        return None
    column = _without_booleans(column)
    return _numbers(column, FLOAT32_MAX, empty=roles.missing, nan=roles.missing)


def _without_booleans(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column


def _numbers(
    column: pa.ChunkedArray, limit: float = math.inf, empty: bool = False, nan: bool = False
) -> Pieces | None:
    """The column as finite numbers up to `limit` in size, in the pieces that it has; or None.

    There may be null, which becomes NaN, where `empty`, and NaN where `nan`.
    """
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    largest = min(limit, np.finfo(np.float64).max)
    pieces = []
    for chunk in column.iterchunks():
        missing = None
        if chunk.null_count:
            missing = np.from_dlpack(chunk.is_null().cast(pa.uint8())) == 1
            chunk = chunk.cast(pa.float64(), safe=False).fill_null(math.nan)
        values = np.from_dlpack(chunk).astype(np.float64, copy=False)
        pieces.append(values)
        if not len(values) or (values.min() >= -largest and values.max() <= largest):
            continue  # none is NaN
        usable = np.abs(values) <= largest
        if empty and missing is not None:
            usable |= missing
        if nan:
            usable |= np.isnan(values)
        if not usable.all():
            return None
    return pieces


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers without null, in NumPy; `to_numpy` would import pandas for it."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.iterchunks()])


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
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        nulls = any(chunk.dictionary.null_count for chunk in column.iterchunks())
        if nulls or kind not in (pa.string(), pa.large_string()):
            column = column.cast(kind)
    if pa.types.is_nested(kind):
        return factorise(_cells(column))
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    values = column.chunk(0).dictionary
    pieces = (chunk.indices for chunk in column.iterchunks())
    if column.null_count:
        pieces = (piece.cast(pa.int64()).fill_null(len(values)) for piece in pieces)
    at: NDArray[Any] = np.concatenate([np.from_dlpack(piece) for piece in pieces])
    first = np.full(len(values) + 1, len(at))
    first[at[::-1]] = np.arange(len(at))[::-1]  # the last that is written is the first row
    used = np.flatnonzero(first < len(at))
    used = used[np.argsort(first[used])]
    cells = [*_cells(pa.chunked_array([values])), ""]
    distinct, texts = factorise([cells[place] for place in used])
    codes = np.empty(len(cells), np.int64)
    codes[used] = distinct
    return codes[at], texts


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
    pieces = None
    if roles.task != "classification":
        pieces = _numbers(_without_booleans(column), empty=True)
    values = None if pieces is None else np.concatenate(pieces)
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


def _weights(
    column: pa.ChunkedArray, lines: Int64[Array, " R"], name: str, problems: Problems
) -> Float64[Array, " R"]:
    column = _without_booleans(column)
    pieces = _numbers(column, empty=True)
    if pieces is None:
        return read_weights(_cells(column), lines, name, problems)
    return np.concatenate(pieces)
