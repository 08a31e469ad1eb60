"""Values that a reader must refuse or keep, for it would change them in silence."""

from __future__ import annotations

import numpy as np
import polars
import pyarrow
import pyarrow.parquet
import pytest

from longlag.data import Columns, DataError, Preparation, Scaling, from_frame, read
from longlag.data.cells import MISSING
from longlag.data.errors import Problems
from longlag.data.long_form import Answers
from longlag.data.read_csv import read_csv

aeon = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:aeon"),
    pytest.mark.filterwarnings("ignore::FutureWarning:aeon"),
]
QUICK = pytest.mark.parametrize("quick", [True, False])
X = np.zeros((2, 2, 1))


def archive(folder, y, **arrays):
    np.savez(folder / "a.npz", x=X, y=y, **arrays)
    return folder / "a.npz"


@pytest.mark.parametrize("largest", [2**63, 2**64 - 1])
def test_a_label_beyond_int64_is_refused(tmp_path, largest):
    y = np.array([7, largest], np.uint64)
    message = rf"y\[1\] is {largest}, expected a label up to 9223372036854775807; use y.astype"
    with pytest.raises(DataError, match=message):
        read(archive(tmp_path, y), task="classification")
    tags = np.array([[7, 7], [largest, 7]], np.uint64)
    with pytest.raises(DataError, match=rf"y\[1, 0\] is {largest}"):
        read(archive(tmp_path, tags), task="tagging")
    padding = np.array([[7, largest], [7, 7]], np.uint64)
    data = read(archive(tmp_path, padding, lengths=[1, 2]), task="tagging")
    assert data.target is not None
    assert data.target.tolist() == [[7, 0], [7, 7]]


def test_large_labels_that_fit_and_those_written_as_text_are_kept(tmp_path, write):
    data = read(archive(tmp_path, np.array([2**63 - 1, 0], np.uint64)), task="classification")
    assert data.target is not None
    assert data.target.tolist() == [2**63 - 1, 0]
    large = str(2**64 - 1)
    path = write(f"series,time,f,target\na,1,0,{large}\nb,1,0,-1\n")
    data = read(path, task="classification")
    assert Preparation.fit(data, task="classification").classes == ("-1", large)


@pytest.mark.parametrize("classes", [("x", "x\0"), ("x\0", "y"), (1, 2**63), (-1, 2**64)])
def test_classes_that_numpy_would_change_are_refused(classes):
    with pytest.raises(DataError, match="all text or all integers of 64 bits"):
        Preparation("classification", Scaling.identity(1), ("y",), classes=classes)


def test_a_label_that_ends_with_nul_is_refused(tmp_path):
    frame = {"series": ["a", "b"], "f": [0.0, 0.0], "target": ["x", "x\0"]}
    columns = Columns(time=None)
    message = r"row 1, column 'target': the label 'x\\x00' ends with NUL, which NumPy drops"
    for task in ("classification", "tagging"):
        for table in (pyarrow.table(frame), polars.DataFrame(frame)):
            with pytest.raises(DataError, match=message):
                from_frame(table, task=task, columns=columns)
    pyarrow.parquet.write_table(pyarrow.table(frame), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.parquet", task="classification", columns=columns)
    problems = Problems("a.csv")  # the module csv of Python 3.10 refuses NUL itself
    Answers.of_labels("target", np.array([0, 1]), ["x", "x\0"], np.array([0, 1]), problems)
    with pytest.raises(DataError, match=message):
        problems.raise_any()
    frame["target"] = ["x\0y", "x"]
    data = from_frame(pyarrow.table(frame), task="classification", columns=columns)
    assert data.target is not None
    assert data.target.tolist() == ["x\0y", "x"]


@QUICK
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2024-03-01T12:00:00.000000001", "2024-03-01T12:00:00.000000002"),
        ("2024-03-01T12:00:00.1234567Z", "2024-03-01T13:00:00.12345671+01:00"),
        ("0001-01-01T00:00:00,9999999991", "0001-01-01T00:00:00.9999999992"),
        ("9007199254740993", "9007199254740993.5"),
        ("1700000000.000000001", "1700000000.000000002"),
        ("9" * 19 + "8", "9" * 20),
        ("0.1", "0.10000000000000000001"),
        ("0", "1e-400"),
    ],
)
def test_times_keep_every_digit(write, quick, first, second):
    path = write(f'series,time,f\na,"{second}",2\na,"{first}",1\n')
    data = read_csv(path, "forecasting", Columns(), True, quick)
    assert data.x.ravel().tolist() == [1, 2]
    assert data.times is not None
    assert data.times.tolist() == [[first, second]]


@QUICK
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2024-03-01T12:00:00.0000000010", "2024-03-01T12:00:00.000000001"),
        ("2024-03-01T12:00:00.500000000Z", "2024-03-01T13:00:00.5+01:00"),
        ("9007199254740993.50", "9007199254740993.5"),
        ("1e25", "1" + "0" * 25),
    ],
)
def test_equal_times_written_in_two_ways_are_still_twice_there(write, quick, first, second):
    path = write(f"series,time,f\na,{first},1\na,{second},2\n")
    with pytest.raises(DataError, match=r"has the time .* already in row 2"):
        read_csv(path, "forecasting", Columns(), True, quick)


def test_a_fraction_that_python_reads_as_something_else_is_refused(write):
    for cell in ("2024-03-01.123456789", "2024-03-01T12:00:00+01:00:00.1234567"):
        with pytest.raises(DataError, match="column 'time': expected a number or an ISO 8601"):
            read(write(f"series,time,f\na,{cell},1\n"), task="forecasting")


@pytest.mark.parametrize("wrap", [list, lambda cells: pyarrow.array(cells).dictionary_encode()])
def test_nanoseconds_of_a_frame_are_kept_whatever_the_type(wrap):
    cells = ["2024-03-01T12:00:00.000000002", "2024-03-01T12:00:00.000000001"]
    kinds = [wrap(cells), pyarrow.array(np.array(cells, "datetime64[ns]"))]
    for stamps in (*kinds, pyarrow.array(np.array(cells, "datetime64[ns]")).dictionary_encode()):
        table = pyarrow.table({"time": stamps, "f": [2.0, 1.0]})
        data = from_frame(table, task="forecasting", columns=Columns(series=None))
        assert data.times is not None
        assert data.times.tolist() == [cells[::-1]]


def test_nanoseconds_of_a_time_of_day_are_kept_in_a_label():
    labels = pyarrow.array([1, 2], pyarrow.time64("ns"))
    table = pyarrow.table({"series": ["a", "b"], "f": [0.0, 0.0], "target": labels})
    data = from_frame(table, task="classification", columns=Columns(time=None))
    assert data.target is not None
    assert data.target.tolist() == ["00:00:00.000000001", "00:00:00.000000002"]


@pytest.mark.parametrize("label", MISSING)
def test_a_missing_value_is_no_class(write, tmp_path, label):
    message = f"'{label}' stands for a missing value, expected a label; fill it in"
    path = write(f"series,time,f,target\na,1,0,up\nb,1,0,{label}\n")
    for quick in (True, False):
        for task in ("classification", "tagging"):
            with pytest.raises(DataError, match=rf"row 3, column 'target': {message}"):
                read_csv(path, task, Columns(), True, quick)
    for y, task in ((["up", label], "classification"), ([["a", "b"], [label, "b"]], "tagging")):
        with pytest.raises(DataError, match=rf"y\[1.*\]: {message}"):
            read(archive(tmp_path, np.array(y)), task=task)
    frame = {"series": ["a", "b"], "time": [1, 1], "f": [0, 0], "target": ["up", label]}
    with pytest.raises(DataError, match=rf"^frame, row 1, column 'target': {message}"):
        from_frame(pyarrow.table(frame), task="classification")


def test_nan_of_a_number_is_no_class_and_no_series():
    frame = {"series": [1.0, float("nan")], "time": [1, 1], "f": [0, 0], "target": [2.0, 3.0]}
    message = "row 1, column 'series': 'nan', which stands for a missing value, expected the id"
    with pytest.raises(DataError, match=message):
        from_frame(polars.DataFrame(frame), task="classification")
    frame["series"], frame["target"] = [1.0, 2.0], [float("nan"), 3.0]
    with pytest.raises(DataError, match="row 0, column 'target': 'nan' stands for a missing"):
        from_frame(polars.DataFrame(frame), task="classification")


@QUICK
def test_a_series_without_a_name_is_not_called_nan(write, quick):
    path = write("series,time,f\na,1,0\nNaN,1,0\nNaN,2,0\n")
    with pytest.raises(DataError, match=r"row 3, column 'series': 'NaN', .*\(and 1 more problem\)"):
        read_csv(path, "forecasting", Columns(), True, quick)


def test_texts_that_only_hold_nan_are_labels(write):
    path = write("series,time,f,target\nNANA,1,0,Nan\nnano,1,0,banana\n")
    data = read(path, task="classification")
    assert data.target is not None
    assert data.target.tolist() == ["Nan", "banana"]


HEAD = "@problemName t\n@univariate false\n@equalLength false\n"


class TestTs:
    pytestmark = aeon

    @pytest.mark.parametrize("tags", ["", "@targetLabel false\n", "# @classLabel false\n"])
    @pytest.mark.parametrize("task", ["forecasting", "classification", "regression"])
    def test_a_header_that_does_not_speak_of_classes_is_refused(self, write, tags, task):
        path = write(HEAD + tags + "@data\n1,2:3,4\n5,6:7,8\n", "a.ts")
        with pytest.raises(DataError, match=r"a\.ts: the header does not say whether each series"):
            read(path, task=task, require_target=False)

    def test_every_channel_is_kept_where_there_is_no_class(self, write):
        path = write(HEAD + "@classLabel false\n@data\n1,2:3,4\n5,6:7,8\n", "a.ts")
        data = read(path, task="forecasting")
        assert data.x.tolist() == [[[1, 3], [2, 4]], [[5, 7], [6, 8]]]

    @pytest.mark.parametrize("label", ["Cherry", "Bananas", "1", "U?p"])
    def test_a_class_that_the_header_lacks_is_refused(self, write, label):
        path = write(HEAD + f"@classLabel true Up Banana\n@data\n1:2:up\n1:2:{label}\n", "a.ts")
        message = rf"row 7, target of series 1: unknown class '{label}'; .* 'Up', 'Banana'"
        for required in (True, False):
            with pytest.raises(DataError, match=message.replace("?", r"\?")):
                read(path, task="classification", require_target=required)

    @pytest.mark.parametrize("label", ["?", "NaN", "nan", ""])
    @pytest.mark.parametrize("classes", ["Up", "Up NaN", "Up ?"])
    def test_a_missing_class_is_missing_whatever_the_header_names(self, write, label, classes):
        text = HEAD + f"@classLabel true {classes}\n@data\n1:2:Up\n1:2:{label}\n"
        with pytest.raises(DataError, match="row 7, target of series 1: it is missing"):
            read(write(text, "a.ts"), task="classification")
        none = write(text.replace("1:2:Up\n", ""), "none.ts")
        assert read(none, task="classification", require_target=False).target is None

    def test_classes_are_as_written_though_aeon_changes_them(self, write):
        path = write(HEAD + "@classLabel true a?b Nancy\n@data\n1:2:a?b\n1:2:NANCY\n", "a.ts")
        data = read(path, task="classification")
        assert data.target is not None
        assert data.target.tolist() == ["a?b", "Nancy"]

    @pytest.mark.parametrize("series", ["1:1_0:Up", "1_0:2:Up"])
    def test_an_underscore_is_no_part_of_a_number(self, write, series):
        path = write(HEAD + f"@classLabel true Up\n@data\n1:2:Up\n{series}\n", "a.ts")
        with pytest.raises(DataError, match=r"row 7, channel [01], step 0: '1_0', expected a num"):
            read(path, task="classification")
        path = write(HEAD + "@targetLabel true\n@data\n1:2:1_0\n", "b.ts")
        with pytest.raises(DataError, match="row 6, target: '1_0', expected a number"):
            read(path, task="regression")
