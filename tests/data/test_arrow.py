"""Frames, Parquet files and the fast reader of CSV, against the reader that goes cell by cell."""

from __future__ import annotations

import csv
import os
import random
import re
import struct
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import longlag.data
from longlag.data import Columns, DataError, SequenceData, arrow, from_frame, read
from longlag.data.arrow import read_csv_quickly
from longlag.data.read_csv import read_csv
from longlag.data.roles import find_roles

WALKS = {
    "series": ["b", "a", "b", "a"],
    "time": [10, 2, 9, 1],
    "f0": [1.0, 3.0, 5.0, 7.0],
    "f1": [2.0, 4.0, 6.0, 8.0],
    "target": ["x", "y", "x", "y"],
}
FRAMES = [pandas.DataFrame, polars.DataFrame, pyarrow.table]
UTC = timezone.utc


def assert_same(data: SequenceData, expected: SequenceData) -> None:
    """Equal in every part, bit for bit."""
    assert data.names == expected.names
    assert data.feature_names == expected.feature_names
    assert data.target_names == expected.target_names
    assert data.x.dtype == expected.x.dtype
    assert data.x.tobytes() == expected.x.tobytes()
    np.testing.assert_array_equal(data.lengths, expected.lengths)
    for array, other in ((data.target, expected.target), (data.times, expected.times)):
        assert (array is None) == (other is None)
        if array is not None and other is not None:
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)


def answer(data: SequenceData) -> list:
    assert data.target is not None
    return data.target.tolist()


def times(data: SequenceData) -> list:
    assert data.times is not None
    return data.times.tolist()


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_gives_what_its_csv_gives(frame, write):
    rows = zip(*WALKS.values(), strict=True)
    text = "\n".join(",".join(map(str, row)) for row in [list(WALKS), *rows])
    expected = read(write(text), task="classification")
    assert_same(from_frame(frame(WALKS), task="classification"), expected)
    assert expected.names == ("b", "a")
    assert expected.x[0].tolist() == [[5, 6], [1, 2]]


@pytest.mark.parametrize("kind", [float, str, Decimal, bool, None])
def test_weights_of_a_frame(kind, tmp_path):
    weights = [1, 0, 1, 0] if kind is None else [None, kind(0), kind(1), None]
    walks = pyarrow.table({**WALKS, "w": weights})
    pyarrow.parquet.write_table(walks, tmp_path / "walks.parquet")
    if kind is str:
        walks = walks.set_column(5, "w", pyarrow.array(["", "0", "1", ""]))
    columns = Columns(weight="w")
    for data in (
        from_frame(walks, task="classification", columns=columns),
        read(tmp_path / "walks.parquet", task="classification", columns=columns),
    ):
        assert data.weights.tolist() == [1.0, 0.0]
        assert data.feature_names == ("f0", "f1")
    negative = walks.set_column(5, "w", pyarrow.array([1, 1, -1, 1]))
    with pytest.raises(DataError, match="frame, row 2, column 'w': the weight -1; expected"):
        from_frame(negative, task="classification", columns=columns)


@pytest.mark.parametrize("frame", FRAMES)
def test_roles_and_tasks_of_a_frame(frame):
    data = from_frame(
        frame({"who": [1, 1], "u": [0.1, 0.1], "f": [0.25, 1], "g": [2, 3], "v": [1e300, 1e300]}),
        task="regression",
        columns=Columns(series="who", time=None, features=("g", "f"), target=("v", "u")),
    )
    assert data.names == ("1",)
    assert data.x.tolist() == [[[2, 0.25], [3, 1]]]
    assert answer(data) == [[1e300, 0.1]]
    assert data.times is None
    river = from_frame(
        frame({"flow": [3, 1]}), task="forecasting", columns=Columns(series=None, time=None)
    )
    assert river.names == ("frame",)
    assert river.target_names == ("flow",)
    tags = from_frame(
        frame({"series": ["a", "a", "b"], "time": [2, 1, 1], "f": [0, 1, 2], "target": [5, 6, 7]}),
        task="tagging",
    )
    assert answer(tags) == [["6", "5"], ["7", ""]]
    absent = frame({"series": ["a"], "time": [1], "f": [2.0]})
    assert from_frame(absent, task="regression", require_target=False).target is None
    with pytest.raises(DataError, match=r"^frame: there is no column 'target'"):
        from_frame(absent, task="regression")


def column(values, kind: pyarrow.DataType | None = None, column: str = "f") -> SequenceData:
    """A table of one series with these values in one column."""
    table = {"time": range(len(values)), "f": [0.0] * len(values), "target": ["u"] * len(values)}
    table[column] = pyarrow.array(values, kind)
    return from_frame(pyarrow.table(table), task="classification", columns=Columns(series=None))


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, -2], pyarrow.int8(), [1, -2]),
        ([2**53 + 1, 2**63], pyarrow.uint64(), [2.0**53, 2.0**63]),
        ([0.1, 3.4028234663852886e38], pyarrow.float64(), [0.1, 3.4028234663852886e38]),
        ([0.1, 1e-45], pyarrow.float32(), [0.1, 1e-45]),
        (np.array([0.5, -0.0], np.float16), pyarrow.float16(), [0.5, -0.0]),
        ([True, False], pyarrow.bool_(), [1, 0]),
        ([" 1e3 ", "-.5"], pyarrow.string(), [1000, -0.5]),
        ([Decimal("0.10"), Decimal("7.25")], pyarrow.decimal128(5, 2), [0.1, 7.25]),
        (["2", "1"], pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), [2, 1]),
    ],
)
def test_features_of_every_type(values, kind, expected):
    assert column(values, kind).x.ravel().tobytes() == np.float32(expected).tobytes()


@pytest.mark.parametrize(
    ("values", "kind", "parts"),
    [
        ([1, None], pyarrow.int64(), ["row 1", "an empty cell; fill it in, or drop the row"]),
        ([True, None], pyarrow.bool_(), ["row 1", "an empty cell"]),
        ([None, None], pyarrow.null(), ["row 0", "an empty cell", "(and 1 more problem)"]),
        ([1, float("nan")], pyarrow.float64(), ["row 1", "(NaN)"]),
        ([float("-inf"), 0], pyarrow.float32(), ["row 0", "(infinity)"]),
        ([0, 1e39], pyarrow.float64(), ["row 1", "more than float32 holds"]),
        (["1", "warm"], pyarrow.string(), ["row 1", "expected a number, got 'warm'"]),
        ([timedelta(1)], pyarrow.duration("s"), ["row 0", "got '1 day, 0:00:00'"]),
        ([[1, 2]], pyarrow.list_(pyarrow.int8()), ["row 0", "got '[1, 2]'"]),
    ],
)
def test_a_feature_that_is_no_number_is_named_by_row_and_column(values, kind, parts):
    with pytest.raises(DataError, match=r"^frame, row \d, column 'f': expected a number") as caught:
        column(values, kind)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ([7, 7], "7"),
        ([1.5, 1.5], "1.5"),
        ([True, True], "True"),
        ([" up", "up "], "up"),
        ([date(2024, 3, 1)] * 2, "2024-03-01"),
        (pandas.Categorical(["b", "b"], ["a", "b"]), "b"),
    ],
)
def test_labels_of_every_type_are_their_text(values, label):
    assert answer(column(values, column="target")) == [label]


def test_a_label_may_be_in_the_last_row_only():
    assert answer(column([None, "up"], column="target")) == ["up"]
    with pytest.raises(DataError, match="row 1, column 'target': series 'frame' has no target"):
        column(["up", None], column="target")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_sort_and_are_written_as_iso(unit):
    stamps = [datetime(2024, 3, 1, 12, 30), datetime(2024, 2, 29)]
    data = column(stamps, pyarrow.timestamp(unit), "time")
    assert times(data) == [["2024-02-29T00:00:00", "2024-03-01T12:30:00"]]


def test_nanoseconds_stay_apart():
    data = column([10**18 + 1, 10**18], pyarrow.timestamp("ns"), "time")
    assert times(data) == [["2001-09-09T01:46:40.000000000", "2001-09-09T01:46:40.000000001"]]


def test_zones_are_compared_and_written_in_utc():
    noon = datetime(2024, 3, 1, 12, tzinfo=UTC)
    stamps = [noon + timedelta(minutes=30), noon]
    expected = [["2024-03-01T12:00:00Z", "2024-03-01T12:30:00Z"]]
    frame = {"time": stamps, "f": [0.0, 1.0]}
    local = pandas.DataFrame(frame)
    local["time"] = local["time"].dt.tz_convert("America/St_Johns")
    columns = Columns(series=None)
    for each in (local, polars.DataFrame(frame)):
        assert times(from_frame(each, task="forecasting", columns=columns)) == expected
    mixed = ["2024-03-01T13:30:00+01:00", "2024-03-01T12:00:00Z"]
    assert times(column(mixed, column="time")) == [mixed[::-1]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([date(2024, 3, 1), date(2024, 2, 29)], ["2024-02-29", "2024-03-01"]),
        ([10, 9], ["9", "10"]),
        ([2**62 + 1, 2**62], [str(2**62), str(2**62 + 1)]),
        ([1e3, 0.5], ["0.5", "1000.0"]),
        (["10", "9.5"], ["9.5", "10"]),
    ],
)
def test_times_of_other_types(values, expected):
    assert times(column(values, column="time")) == [expected]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([datetime(2024, 3, 1), None], "row 1, column 'time': expected an ISO 8601 timestamp"),
        ([1.0, None], "row 1, column 'time': expected a number, as in the first row, got an empty"),
        ([1, 2, 1], r"row 2, column 'time': series 'frame' has the time '1' already in row 0;"),
        ([datetime(2024, 3, 1)] * 2, "has the time '2024-03-01T00:00:00' already in row 0;"),
        (["x", "y", "y"], r"row 0, .* got 'x'; .* \(and 2 more problems\)$"),
    ],
)
def test_a_time_that_is_missing_or_twice_there_is_named(values, message):
    with pytest.raises(DataError, match=message):
        column(values, column="time")


def test_targets_of_regression_keep_float64_and_may_be_null():
    frame = {"series": ["a", "a"], "time": [1, 2], "f": [0, 0], "target": [None, 0.1]}
    for kind in FRAMES:
        assert answer(from_frame(kind(frame), task="regression")) == [[0.1]]
    frame["target"] = [float("nan"), 0.1]
    with pytest.raises(DataError, match=r"row 0, column 'target': .*\(NaN\)"):
        from_frame(polars.DataFrame(frame), task="regression")
    frame["target"] = [True, True]
    assert answer(from_frame(polars.DataFrame(frame), task="regression")) == [[1.0]]
    frame["target"] = ["high", "high"]
    with pytest.raises(DataError, match=r"row 0, column 'target': .*use the task classification"):
        from_frame(polars.DataFrame(frame), task="regression")


def test_a_missing_id_is_named():
    for kind in FRAMES:
        with pytest.raises(DataError, match="row 1, column 'series': an empty cell, expected"):
            from_frame(
                kind({"series": ["a", None], "time": [1, 2], "f": [0, 0]}), task="forecasting"
            )


def test_a_named_index_of_pandas_is_a_column_and_another_is_not():
    frame = pandas.DataFrame(WALKS)
    expected = from_frame(frame, task="classification")
    assert_same(from_frame(frame.set_index(["series", "time"]), task="classification"), expected)
    frame.index = pandas.Index([4, 3, 2, 1])
    assert_same(from_frame(frame, task="classification"), expected)


def test_categories_of_several_chunks_are_taken_by_first_appearance():
    first, second = (
        pyarrow.table({"series": pyarrow.array(ids).dictionary_encode(), "f": [0, 1]})
        for ids in (["b", "a"], ["c", "b"])
    )
    columns = Columns(time=None)
    table = pyarrow.concat_tables([first, second])
    data = from_frame(table, task="forecasting", columns=columns)
    assert data.names == ("b", "a", "c")
    assert data.x[:, 0, 0].tolist() == [0, 1, 0]
    part = from_frame(table.slice(1, 2), task="forecasting", columns=columns)
    assert part.names == ("a", "c")
    assert part.x.ravel().tolist() == [1, 0]


def test_categories_that_no_row_has_or_that_are_null_or_alike_without_spaces():
    ids = pyarrow.DictionaryArray.from_arrays([2, 4, 2, 0, 3], ["c", "unused", "a", "a ", "b"])
    chunks = pyarrow.chunked_array([ids.slice(0, 2), ids.slice(2, 0), ids.slice(2)])
    frame = pyarrow.table({"series": chunks, "f": [0, 1, 2, 3, 4]})
    data = from_frame(frame, task="forecasting", columns=Columns(time=None))
    assert data.names == ("a", "b", "c")
    assert data.lengths.tolist() == [3, 1, 1]
    assert data.x[0].ravel().tolist() == [0, 2, 4]
    labels = pyarrow.DictionaryArray.from_arrays([None, None, 1], ["unused", "up"])
    assert answer(column(labels, column="target")) == ["up"]
    labels = pyarrow.DictionaryArray.from_arrays([0, 0, 1], pyarrow.array([None, "up"]))
    assert answer(column(labels, column="target")) == ["up"]
    parts = pyarrow.chunked_array([["a", None], ["a"]])
    with pytest.raises(DataError, match="row 1, column 'series': an empty cell"):
        from_frame(pyarrow.table({"series": parts, "f": [0, 1, 2]}), task="forecasting",
                   columns=Columns(time=None))  # fmt: skip


def test_numbers_of_several_chunks_and_missing_ones_among_them():
    chunks = [[1.0, None], [], [float("nan"), 4.0]]
    frame = pyarrow.table({"f": pyarrow.chunked_array(chunks, pyarrow.float64())})
    columns = Columns(series=None, time=None)
    data = from_frame(frame, task="forecasting", columns=columns, missing=True)
    np.testing.assert_array_equal(data.x.ravel(), np.float32([1, np.nan, np.nan, 4]))
    with pytest.raises(DataError, match=r"row 1, column 'f': .*empty cell.* \(and 1 more problem"):
        from_frame(frame, task="forecasting", columns=columns)


def test_what_is_no_frame_or_holds_nothing_is_refused():
    with pytest.raises(DataError, match="frame: LazyFrame cannot be read as a table"):
        from_frame(polars.LazyFrame(WALKS), task="classification")
    twice = pandas.DataFrame([["a", 1, 2, 3]], columns=["series", "time", "f", "f"])
    with pytest.raises(DataError, match=r"frame: DataFrame cannot be read as a table.*'f'"):
        from_frame(twice, task="forecasting")
    mixed = pandas.DataFrame({"series": ["a", "a"], "time": [1, 2], "f": [object(), 1]})
    with pytest.raises(DataError, match="each column of one type"):
        from_frame(mixed, task="forecasting")
    for kind in FRAMES:
        with pytest.raises(DataError, match="frame: no rows; expected one row per step"):
            from_frame(kind({"series": [], "time": [], "f": []}), task="forecasting")
        with pytest.raises(DataError, match="frame: expected the names of the columns"):
            from_frame(kind({}), task="forecasting")


def test_a_very_wide_table(tmp_path):
    width = 5_000
    values = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    frame = polars.DataFrame(values, [f"f{c}" for c in range(width)])
    columns = Columns(series=None, time=None)
    data = from_frame(frame, task="forecasting", columns=columns)
    assert data.x[0].tobytes() == values.tobytes()
    frame.write_csv(tmp_path / "wide.csv")
    wide = read(tmp_path / "wide.csv", task="forecasting", columns=columns)
    assert wide.x.tobytes() == data.x.tobytes()


def test_parquet_is_read_as_the_frame(tmp_path):
    path = tmp_path / "walks.PARQUET"
    frame = pandas.DataFrame(WALKS, index=pandas.Index([4, 3, 2, 1]))
    frame.to_parquet(path)
    expected = from_frame(frame, task="classification")
    assert_same(read(path, task="classification"), expected)
    polars.DataFrame({"flow": [3.0, 1.0]}).write_parquet(tmp_path / "river.parquet")
    river = read(
        tmp_path / "river.parquet", task="forecasting", columns=Columns(series=None, time=None)
    )
    assert river.names == ("river",)


def test_what_is_wrong_in_parquet_names_the_file(write, tmp_path):
    with pytest.raises(DataError, match=r"text\.parquet: not a Parquet file"):
        read(write("series,time\n", "text.parquet"), task="forecasting")
    damaged = tmp_path / "damaged.parquet"
    polars.DataFrame(WALKS).write_parquet(damaged)
    content = damaged.read_bytes()
    for damage in (content[:-20], content[:4] + bytes(30) + content[34:]):  # its end, a page
        damaged.write_bytes(damage)
        with pytest.raises(DataError, match=r"damaged\.parquet: not a Parquet file that can be"):
            read(damaged, task="classification")
    path = tmp_path / "gap.parquet"
    pyarrow.parquet.write_table(pyarrow.table({**WALKS, "f1": [1.0, None, 2.0, 3.0]}), path)
    with pytest.raises(DataError, match=r"gap\.parquet, row 1, column 'f1': .*an empty cell"):
        read(path, task="classification")
    with pytest.raises(DataError, match=r"gap\.parquet: there is no column 'F0'.*mean 'f0'"):
        read(path, task="classification", columns=Columns(features=("F0",)))


def quickly(path: Path, task: str, columns: Columns) -> SequenceData | None:
    """What the fast reader alone makes of a file with its header in the first line."""
    names = path.read_bytes().splitlines()[0].decode().split(",")
    roles = find_roles(path, str(path), names, columns, task, True)
    return read_csv_quickly(path, names, 1, roles)


def test_the_fast_reader_reads_a_plain_file(vowels_csv):
    data = quickly(vowels_csv, "classification", Columns())
    assert data is not None
    assert_same(data, read_csv(vowels_csv, "classification", Columns(), True, quick=False))


@pytest.mark.parametrize(
    "rows",
    [
        'a,1,0,"u"v\n',  # text after a closing quote
        'a,1,0,u"v\n',
        'a,1,0, "u"\n',
        'a,1,0,"u""\n',
        'a,1,0,"u" "v"\n',
        "a,1,0,u\0v\n",
        "a,1,nan(1),u\n",
        "a,1,1e400,u\n",
        "a,1,0x10,u\n",
        "a,0x10,0,u\n",
        "a,1,,u\n",
        'a,1,"",u\n',
        "a,1,0\n",
        "a,1,0,u,\n",
        ",1,0,u\n",
        "\udcff,1,0,u\n",
    ],
)
def test_the_fast_reader_refuses_what_python_refuses_or_may_read_otherwise(tmp_path, rows):
    path = tmp_path / "odd.csv"
    path.write_text("series,time,f,target\nb,1,0,u\n" + rows, "utf-8", "surrogateescape")
    assert quickly(path, "classification", Columns()) is None


@pytest.mark.parametrize("note", ['"x, y"', '"x\ny"', 'x"y', '"x"y', '"x\ny,0', "x\0y"])
def test_a_quote_far_from_the_beginning_is_read_or_refused_as_by_python(tmp_path, note):
    rows = [f"a,{t},{t}.5,{note if t == 30_000 else 'none'}\n" for t in range(30_010)]
    path = tmp_path / "late.csv"
    path.write_text("series,time,f,note\n" + "".join(rows))
    assert path.stat().st_size > arrow.LOOKED_AT
    columns = Columns(features=("f",))  # the note has no role
    try:
        expected = read_csv(path, "forecasting", columns, True, quick=False)
    except DataError as error:
        with pytest.raises(DataError, match="^" + re.escape(str(error)) + "$"):
            read_csv(path, "forecasting", columns, True)
        assert quickly(path, "forecasting", columns) is None
        return
    assert_same(read_csv(path, "forecasting", columns, True), expected)


def test_numbers_have_the_bits_of_python(tmp_path):
    generator = random.Random(0)
    cells = []
    while len(cells) < 20_000:
        value = struct.unpack("d", generator.randbytes(8))[0]
        digits = "".join(generator.choices("0123456789", k=generator.randint(1, 40)))
        cells += [
            repr(value),
            f"{value:.{generator.randint(0, 30)}e}",
            f"{digits}.{digits[::-1]}",
            f"-.{digits}E+{generator.randint(0, 9)}",
        ]
    cells = [cell for cell in cells if np.isfinite(float(cell))]
    path = tmp_path / "digits.csv"
    path.write_text(
        "series,f,target\n" + "".join(f"{n},0,{cell}\n" for n, cell in enumerate(cells))
    )
    data = quickly(path, "regression", Columns(time=None))
    assert data is not None
    assert data.target is not None
    assert data.target.tobytes() == np.array(list(map(float, cells))).tobytes()


TIMES = [
    st.integers(-5, 5).map(str),
    st.sampled_from(["1", "1.0", "2e0", "-3.5", " 7 "]),
    st.sampled_from(["2024-03-01", "2024-02-29T12:30:00", "2024-02-29 12:30:00.000001"]),
    st.sampled_from(["2024-03-01T12:00:00Z", "2024-03-01T12:30:00+01:00"]),
    st.sampled_from(["2024-03-01T12:00:00.000000001", "2024-03-01T12:00:00.000000002"]),
    st.sampled_from(["9007199254740993.5", "9007199254740993.25", "9" * 20, "9" * 19 + "8"]),
    st.sampled_from(["", "noon", "1_0", "0x1", "٣", "1"]),
]
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.sampled_from([" 1 ", "+.5", "5.", "1E5", "0", "-0", "1e-400"]),
)
ODD_NUMBERS = st.sampled_from(["", "nan", "inf", "1e39", "1_0", "0x1", "٣", "1,5", "x", '"'])
LABELS = st.sampled_from(
    ["u", " u", "v", "ü", "", "1", "1.0", 'a"b', "a,b", "a\nb", "\x1cu", "NaN"]
)


@st.composite
def csv_texts(draw: st.DrawFn) -> str:
    """A table of a few rows, most of them in order, some odd in one place."""
    clock = draw(st.sampled_from(TIMES))
    odd = draw(st.booleans())
    number = st.one_of(*[NUMBERS] * 8, ODD_NUMBERS) if odd else NUMBERS
    row = st.tuples(
        st.sampled_from(["a", "b", " a", "é", "1", *["a"] * 9, "NaN"]),
        clock,
        number,
        number,
        LABELS,
    )
    rows = draw(st.lists(row, min_size=1, max_size=8))
    if draw(st.booleans()):  # one label and one time in each series, as most files have
        rows = [(f"s{at % 2}", str(at), *cells[2:4], f"l{at % 2}") for at, cells in enumerate(rows)]
    quote = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    header = ("series", "time", draw(st.sampled_from(["f", " f ", "f\ng"])), "g", "target")

    def line(cells: tuple[str, ...]) -> str:
        if quote == csv.QUOTE_NONE:
            return ",".join(cells)
        always = quote == csv.QUOTE_ALL
        return ",".join(
            f'"{cell.replace(chr(34), chr(34) * 2)}"' if always or set(cell) & set(',"\n') else cell
            for cell in cells
        )

    lines = [line(header), *map(line, rows)]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(1, len(lines))), "")
    return (
        draw(st.sampled_from(["", "\ufeff"])) + end.join(lines) + draw(st.sampled_from(["", end]))
    )


def outcome(path: Path, task: str, quick: bool) -> SequenceData | str:
    try:
        return read_csv(path, task, Columns(), True, quick)
    except DataError as error:
        return str(error)


@pytest.mark.slow
@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    csv_texts(),
    st.sampled_from(["classification", "regression", "tagging", "forecasting"]),
    st.sampled_from([4, arrow.LOOKED_AT]),  # in 4 bytes there is no quote, and later may be
    st.sampled_from([64, arrow.BLOCK]),  # of 64 bytes, with texts in each, there are several
)
def test_the_fast_reader_equals_the_other_on_any_text(
    tmp_path: Path, text: str, task: str, looked_at: int, block: int
):
    path = tmp_path / "any.csv"
    path.write_bytes(text.encode())
    expected = outcome(path, task, quick=False)
    with patch.multiple(arrow, LOOKED_AT=looked_at, BLOCK=block):
        data = outcome(path, task, quick=True)
    if isinstance(expected, str) or isinstance(data, str):
        assert data == expected
    else:
        assert_same(data, expected)


@pytest.mark.slow
def test_nothing_loads_arrow_before_it_is_needed_and_without_it_the_extra_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("series,time,f\na,1,2\n")
    (tmp_path / "a.parquet").write_bytes(b"")
    script = """
import sys
import longlag
from longlag.data import from_frame, read
assert not {"pyarrow", "pandas", "polars"} & set(sys.modules)
sys.modules["pyarrow"] = None
print(read("a.csv", task="forecasting").x.tolist())
for call in (lambda: read("a.parquet", task="forecasting"), lambda: from_frame(0, task="tagging")):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    source = str(Path(longlag.data.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    extra = 'needs pyarrow: pip install "longlag[tables]"'
    assert done.stdout.splitlines() == [
        "[[[2.0]]]",
        f"a.parquet: reading .parquet files {extra}",
        f"reading a frame {extra}",
    ]
