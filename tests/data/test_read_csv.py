from __future__ import annotations

import csv
import string
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longlag.data import Columns, DataError, read
from longlag.data.cells import MISSING
from longlag.data.read_csv import read_csv

HEAD = "series,time,f0,f1,target\n"


def test_japanese_vowels_come_back_from_shuffled_rows(vowels_csv, vowels):
    series, speakers = vowels
    data = read(vowels_csv, task="classification")
    assert len(data) == 270
    assert data.names == tuple(f"utterance {n:03d}" for n in range(270))
    assert data.lengths.tolist() == [len(case) for case in series]
    assert data.target is not None
    assert data.target.tolist() == speakers
    assert data.feature_names == tuple(f"lpc{c}" for c in range(12))
    assert data.x.dtype == np.float32
    for x, case in zip(data.x, series, strict=True):
        np.testing.assert_array_equal(x[: len(case)], case.astype(np.float32))
        assert not x[len(case) :].any()


WEIGHED = Columns(weight="w")


def test_a_weight_stands_in_all_rows_of_a_series_or_in_some(write):
    path = write("series,time,f,target,w\nb,2,1,x,0.5\na,1,2,y,\na,2,3,y,3\nb,1,4,x,0.50\n")
    for quick in (True, False):
        data = read_csv(path, "classification", WEIGHED, True, quick=quick)
        assert data.weights.tolist() == [0.5, 3.0]
        assert data.feature_names == ("f",)
    data = read_csv(path, "classification", WEIGHED, False)  # to predict
    assert data.weights is None
    assert data.feature_names == ("f",)
    assert read(path, task="classification", missing=True).feature_names == ("f", "w")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("1", "2", "row 3, column 'w': series 'a' has the weight 2 here and 1 in row 2; expected"),
        ("-1", "-1", r"row 2, column 'w': the weight -1; expected one number, 0 or more.*1 more"),
        ("", "", "row 2, column 'w': series 'a' has no weight; expected one number, 0 or more"),
        ("high", "1", r"row 2, column 'w': expected a number, got 'high'; .* Columns\(weight=\)"),
        ("nan", "1", r"row 2, column 'w': expected a number, got 'nan' \(NaN\)"),
        ("inf", "1", r"row 2, column 'w': expected a number, got 'inf' \(infinity\)"),
    ],
)
def test_a_weight_that_cannot_be_is_told(write, first, second, message):
    path = write(f"series,time,f,target,w\na,1,1,x,{first}\na,2,2,x,{second}\nb,1,3,y,1\n")
    for quick in (True, False):
        with pytest.raises(DataError, match=message):
            read_csv(path, "classification", WEIGHED, True, quick=quick)


def test_weights_are_of_series_that_are_judged(write):
    path = write("series,time,f,target,w\na,1,1,x,0\nb,1,3,y,0\n")
    with pytest.raises(DataError, match="column 'w': all weights are 0, so no series counts"):
        read(path, task="classification", columns=WEIGHED)
    with pytest.raises(DataError, match="there is no column 'v'"):
        read(path, task="classification", columns=Columns(weight="v"))
    with pytest.raises(DataError, match=r"weight='w': what a series counts for is .* forecast"):
        read(path, task="forecasting", columns=WEIGHED)


def test_rows_are_sorted_by_time_and_series_by_first_appearance(write):
    path = write(HEAD + "b,10,1,2,x\na,2,3,4,y\nb,9,5,6,x\na,1,7,8,y\n")
    data = read(path, task="classification")
    assert data.names == ("b", "a")
    assert data.x[0].tolist() == [[5, 6], [1, 2]]
    assert data.x[1].tolist() == [[7, 8], [3, 4]]
    assert data.times is not None
    assert data.times.tolist() == [["9", "10"], ["1", "2"]]


def test_bom_quotes_line_ends_blank_lines_and_text_ids(write):
    text = (
        '\ufeff"series",time,f0,"target"\r\n"Ünit, ""A""",1,0.5,up\r\n\r\n x ,1, 2 ,"line\nend"\r\n'
    )
    data = read(write(text), task="classification")
    assert data.names == ('Ünit, "A"', "x")
    assert data.target is not None
    assert data.target.tolist() == ["up", "line\nend"]
    assert data.x.ravel().tolist() == [0.5, 2.0]


def test_a_target_only_on_the_last_row_in_time(write):
    path = write(HEAD + "a,2,1,1,7.5\na,1,1,1,\nb,1,1,1,-2\n")
    data = read(path, task="regression")
    assert data.target is not None
    assert data.target.tolist() == [[7.5], [-2.0]]


def test_several_regression_targets_keep_float64(write):
    path = write("series,time,f,u,v\na,1,0,0.1,1e300\n")
    data = read(path, task="regression", columns=Columns(target=("v", "u")))
    assert data.target is not None
    assert data.target.tolist() == [[1e300, 0.1]]
    assert data.feature_names == ("f",)
    assert data.target_names == ("v", "u")


def test_tagging_has_a_label_in_each_row(write):
    data = read(write(HEAD + "a,1,0,0,N\na,2,0,0,V\nb,1,0,0,N\n"), task="tagging")
    assert data.target is not None
    assert data.target.tolist() == [["N", "V"], ["N", ""]]


def test_forecasting_takes_every_feature_or_those_named(write):
    path = write(HEAD + "a,1,0,1,2\n")
    every = read(path, task="forecasting")
    assert every.feature_names == every.target_names == ("f0", "f1", "target")
    one = read(path, task="forecasting", columns=Columns(target="f1"))
    assert one.target is None
    assert one.target_names == ("f1",)
    assert one.feature_names == ("f0", "f1", "target")


def test_features_are_taken_in_the_order_asked_for(write):
    path = write(HEAD + "a,1,0.25,1,z\n")
    data = read(path, task="classification", columns=Columns(features=("f1", "f0")))
    assert data.x.ravel().tolist() == [1.0, 0.25]


def test_a_file_of_one_series_without_time(write):
    path = write("flow\n3\n1\n2\n", "river.csv")
    data = read(path, task="forecasting", columns=Columns(series=None, time=None))
    assert data.names == ("river",)
    assert data.x.ravel().tolist() == [3.0, 1.0, 2.0]
    assert data.times is None


def test_what_is_to_be_predicted_may_be_absent_or_wholly_empty(write):
    absent = write("series,time,f0\na,1,2\n", "absent.csv")
    assert read(absent, task="regression", require_target=False).target is None
    empty = write("series,time,f0,target\na,1,2,\nb,1,2,\n", "empty.csv")
    data = read(empty, task="regression", require_target=False)
    assert data.target is None
    assert data.feature_names == ("f0",)
    with pytest.raises(DataError, match="row 2, column 'target'"):
        read(empty, task="regression")
    partly = write("series,time,f0,target\na,1,2,4\nb,1,2,\n", "partly.csv")
    with pytest.raises(DataError, match=r"partly\.csv, row 3, column 'target'"):
        read(partly, task="regression", require_target=False)


CELLS = [
    ("a,1,,0,u\n", ["row 2", "'f0'", "an empty cell"]),
    ("a,1,0,0,u\na,2,0,nan,u\n", ["row 3", "'f1'", "NaN"]),
    ("a,1,-inf,0,u\n", ["row 2", "'f0'", "infinity"]),
    ("a,1,1e39,0,u\n", ["row 2", "'f0'", "1e39", "float32"]),
    ("a,1,warm,0,u\n", ["row 2", "'f0'", "expected a number", "'warm'"]),
    ("a,1,1_0,0,u\n", ["row 2", "'f0'", "'1_0'"]),
    ('a,1,"1,5",0,u\n', ["row 2", "'f0'", "decimal comma", "1.5"]),
    ('a,1,"-0,125",0,u\n', ["decimal comma as a point, -0.125"]),
    ('a,1,"1234,567",0,u\n', ["decimal comma as a point, 1234.567"]),
    ('a,1,"1,000",0,u\n', ["write 1000 if the comma separates thousands, and 1.000 if"]),
    ('a,1,"-12,345,678",0,u\n', ["without the commas, -12345678"]),
    ('a,1,"1,000.5",0,u\n', ["without the commas, 1000.5"]),
    ("a,1,0,0\n", ["row 2", "4 cells, expected 5"]),
    ("a,1,0,0,u,9\n", ["row 2", "6 cells, expected 5"]),
    ('a,1,0,0,"u\nv"\na,2,0,x,u\n', ["row 4", "'f1'"]),
    ("a,1,0,0,u\n\na,2,0,x,u\n", ["row 4", "'f1'"]),
    (",1,0,0,u\n", ["row 2", "'series'", "an empty cell"]),
    ("a,,0,0,u\n", ["row 2", "'time'", "an empty cell", "ISO 8601"]),
    ("a,noon,0,0,u\n", ["row 2", "'time'", "'noon'", "2024-03-01T12:30:00"]),
    ("a,1,0,0,u\na,2024-01-01,0,0,u\n", ["row 3", "'time'", "a number, as in the first row"]),
    ("a,1,0,0,u\na,inf,0,0,u\n", ["row 3", "'time'", "'inf'"]),
    ("a,1,0,0,u\nb,1,0,0,u\na,1.0,0,0,u\n", ["row 4", "'time'", "'a'", "row 2", "once"]),
    ("a,1,0,0,u\na,2,0,0,v\n", ["row 2", "'target'", "'u'", "'v'", "row 3", "tagging"]),
    ("a,1,0,0,u\na,2,0,0,\n", ["row 3", "'target'", "'a'", "last row"]),
    ("a,1,0,0,u\na,2,0,0,\na,3,0,0,u\n", ["row 3", "'target'", "others have one"]),
    ('a,1,0,0,u\na,2,0,0,"u\n', ["row 3", "not a valid csv"]),
]


@pytest.mark.parametrize(("rows", "parts"), CELLS)
def test_an_error_names_file_row_and_column(write, rows, parts):
    path = write(HEAD + rows)
    with pytest.raises(DataError) as caught:
        read(path, task="classification")
    message = str(caught.value)
    assert message.startswith(f"{path}, ")
    assert "more problem" not in message
    for part in parts:
        assert part in message


def test_regression_and_tagging_targets_are_checked(write):
    path = write(HEAD + "a,1,0,0,1\na,2,0,0,high\n")
    expected = (
        "row 3, column 'target': expected a number, got 'high'; mend the cell, or use the task "
        "classification for labels, or name another target column"
    )
    with pytest.raises(DataError, match=expected):
        read(path, task="regression")
    path = write(HEAD + "a,1,0,0,u\na,2,0,0,\n")
    with pytest.raises(DataError, match=r"row 3, column 'target': an empty cell; tagging"):
        read(path, task="tagging")
    path = write(HEAD + "a,1,0,0,1.0\na,2,0,0,1\na,3,0,0,2\na,4,0,0,1\n")
    with pytest.raises(DataError, match=r"row 4, column 'target': series 'a' has 2.0 here and 1.0"):
        read(path, task="regression")


def test_the_first_problem_by_row_is_shown_and_the_others_counted(write):
    path = write(HEAD + "a,1,0,0,u\na,x,0,0,u\na,3,0,y,u\na,4,0\na,5,,,u\n")
    with pytest.raises(DataError, match=r"row 3, column 'time'.*\(and 4 more problems\)$"):
        read(path, task="classification")
    path = write(HEAD + "a,1,0,z,u\na,2,0,y,u\n")
    with pytest.raises(DataError, match=r"row 2, column 'f1'.*\(and 1 more problem\)$"):
        read(path, task="classification")


HEADERS = [
    ("serie,time,f0,target\na,1,1,u\n", ["row 1", "no column 'series'", "did you mean 'serie'"]),
    ("series,time,f0\na,1,1\n", ["row 1", "no column 'target'", "'f0'"]),
    ("series,time,target\na,1,u\n", ["row 1", "no column is left for the features"]),
    (",series,time,f0,target\n0,a,1,1,u\n", ["row 1", "column 1 has no name", "index=False"]),
    ("series,time,f0,f0,target\na,1,1,1,u\n", ["row 1", "columns 3 and 4", "'f0'"]),
    ("series;time;f0;target\na;1;1;u\n", ["separated by ';', expected commas", "sep=';'"]),
    ("", ["row 1", "got nothing"]),
    (HEAD, ["no rows below the header"]),
    ('series,"time\n', ["row 1", "not a valid csv"]),
]


@pytest.mark.parametrize(("text", "parts"), HEADERS)
def test_an_unusable_header_is_explained(write, text, parts):
    path = write(text)
    with pytest.raises(DataError) as caught:
        read(path, task="classification")
    assert str(path) in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_named_columns_must_be_there_and_forecast_columns_be_features(write):
    path = write(HEAD + "a,1,0,0,u\n")
    with pytest.raises(DataError, match=r"no column 'F1'.*did you mean 'f1'"):
        read(path, task="classification", columns=Columns(features=("F1",)))
    with pytest.raises(DataError, match="column 'f1': forecasting predicts features only"):
        read(path, task="forecasting", columns=Columns(features=("f0",), target="f1"))


def test_text_that_is_not_utf8_is_located(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes(HEAD.encode() + b"a,1,0,0,u\n" + "b,1,0,0,größe\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv, row 3: not UTF-8 text \(byte 0xf6\)"):
        read(path, task="classification")


def test_a_problem_beyond_the_first_block_is_located(write):
    rows = "".join(f"a,{t},0,0,u\n" for t in range(40_000)) + "a,x,0,y,u\n"
    with pytest.raises(DataError, match=r"row 40002, column 'f1'.*1 more"):
        read(write(HEAD + rows), task="classification")


@pytest.mark.slow
def test_reading_is_not_quadratic(write):
    def seconds(rows: int) -> float:
        lines = "".join(f"{i % 7},{i},{i * 0.5},{-i},u\n" for i in range(rows))
        path = write(HEAD + lines)
        start = time.process_time()
        assert read(path, task="classification").lengths.sum() == rows
        return time.process_time() - start

    seconds(1_000)
    small = min(seconds(10_000) for _ in range(3))
    large = min(seconds(80_000) for _ in range(3))
    assert large < 24 * small  # eight times the rows; 64 times the time if it were quadratic


def texts(alphabet: str, size: int) -> st.SearchStrategy[str]:
    stripped = st.text(string.ascii_letters + alphabet, min_size=1, max_size=size).map(str.strip)
    return stripped.filter(lambda text: text and text not in MISSING)


labels = texts('äß ,"\n', 5)
ids = texts('0 ,"é', 4)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def ragged(draw: st.DrawFn) -> tuple[list[str], list[np.ndarray], list[str]]:
    names = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    width = draw(st.integers(1, 3))
    series = [
        np.array(
            draw(
                st.lists(st.lists(floats, min_size=width, max_size=width), min_size=1, max_size=6)
            ),
            np.float32,
        )
        for _ in names
    ]
    return names, series, [draw(labels) for _ in names]


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ragged(), st.randoms(use_true_random=False))
def test_random_ragged_data_come_back_bit_for_bit(tmp_path: Path, table, random):
    names, series, targets = table
    rows = [
        [name, 10 * t - 3, *map(float, step), target]
        for name, case, target in zip(names, series, targets, strict=True)
        for t, step in enumerate(case)
    ]
    random.shuffle(rows)
    path = tmp_path / "random.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        header = ["series", "time", *(f"f{c}" for c in range(series[0].shape[1])), "target"]
        csv.writer(file).writerows([header, *rows])
    data = read(path, task="classification")
    assert list(data.names) == list(dict.fromkeys(row[0] for row in rows))
    assert data.target is not None
    for name, case, target in zip(names, series, targets, strict=True):
        n = data.names.index(name)
        assert data.lengths[n] == len(case)
        assert data.target[n] == target
        assert data.x[n, : len(case)].tobytes() == case.tobytes()
        assert not data.x[n, len(case) :].any()


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("row", [2, 4])
def test_a_row_that_is_not_utf8_is_counted_with_any_line_ends(tmp_path, end, row):
    rows = [HEAD.strip(), "a,1,0,0,u", "b,1,0,0,u", "c,1,0,0,v"]
    rows[row - 1] = rows[row - 1][:-1] + "größe"
    path = tmp_path / "latin.csv"
    path.write_bytes(end.join(rows).encode("latin-1"))
    with pytest.raises(DataError, match=rf"latin\.csv, row {row}: not UTF-8 text \(byte 0xf6\)"):
        read(path, task="classification")


@pytest.mark.parametrize("note", ["sep=,", "SEP=,", "sep=;", "\ufeffsep=,"])
def test_a_note_for_spreadsheets_is_named(write, note):
    with pytest.raises(DataError, match=r"row 1: .*spreadsheet.*Delete this row"):
        read(write(f"{note}\n{HEAD}a,1,0,0,u\n"), task="classification")
