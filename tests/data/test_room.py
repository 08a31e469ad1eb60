"""What a small file may grow to: refused before it is allocated, or kept as small as its data."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from longlag.data import (
    ClassPredictions,
    Columns,
    DataError,
    Preparation,
    Scaling,
    SequenceData,
    from_frame,
    read,
)
from longlag.data.read_csv import read_csv
from longlag.data.room import GROWTH, ROOM, check_room

LONG = "u" * 100_000


@pytest.fixture
def small_room(monkeypatch):
    """10 MB, so that the test need not write more."""
    monkeypatch.setattr("longlag.data.room.ROOM", 10_000_000)


def peak(call: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy hold meanwhile."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def labelled(label: str, series: int, steps: int) -> str:
    """Series whose last rows have a label, that of the first series the one given."""
    rows = (
        f"s{n},{t},1,{(label if n == 0 else 'v') if t == steps - 1 else ''}\n"
        for n in range(series)
        for t in range(steps)
    )
    return "series,time,f,target\n" + "".join(rows)


def test_the_bound_is_a_fixed_room_or_a_multiple_of_the_data():
    check_room("a.csv", "x", ROOM, 1, "split it")
    check_room("a.csv", "x", 2 * ROOM, 2 * ROOM // GROWTH, "split it")
    with pytest.raises(DataError, match=r"a\.csv: x would take 2\.15 GB .* 64 times .*; split it"):
        check_room("a.csv", "x", 2 * ROOM, 2 * ROOM // GROWTH - 1, "split it")


@pytest.mark.parametrize("quick", [True, False])
def test_a_long_label_of_one_series_costs_its_own_length(write, quick):
    path = write(labelled(LONG, 4, 5_000))
    data: list[SequenceData] = []
    taken = peak(lambda: data.append(read_csv(path, "classification", Columns(), True, quick)))
    assert taken < 50e6  # a width of 100,000 characters in each of the rows would take 8 GB
    assert data[0].target is not None
    assert data[0].target.tolist() == [LONG, "v", "v", "v"]


def test_a_label_that_widens_all_others_beyond_the_bound_is_refused(write, tmp_path):
    message = "column 'target': a label of 100000 characters, which widens all 3000 labels, would"
    path = write(labelled(LONG, 3_000, 1))
    with pytest.raises(DataError, match=message):
        read(path, task="classification")
    tags = "series,time,f,target\n" + "".join(
        f"s,{t},1,{LONG if t == 7 else 'v'}\n" for t in range(3_000)
    )
    with pytest.raises(DataError, match=message):
        read(write(tags), task="tagging")
    table = pyarrow.table(
        {
            "series": [f"s{n}" for n in range(3_000)],
            "f": [0.0] * 3_000,
            "target": pyarrow.array([LONG, *["v"] * 2_999]).dictionary_encode(),
        }
    )
    columns = Columns(time=None)
    with pytest.raises(DataError, match=f"^frame: {message}"):
        from_frame(table, task="classification", columns=columns)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"a\.parquet: {message}"):
        read(tmp_path / "a.parquet", task="classification", columns=columns)


def test_a_long_label_in_answers_is_bounded_too():
    preparation = Preparation(
        "tagging", Scaling.identity(1), ("target",), classes=(LONG, "v"), feature_names=("f",)
    )
    outputs = np.zeros((1, 3_000, 2), np.float32)
    one = preparation.restore(outputs[:, :2], np.array([2]))
    assert isinstance(one, ClassPredictions)
    assert one.labels.tolist() == [[LONG, LONG]]
    with pytest.raises(DataError, match=r"restore: a label of 100000 characters.*fewer series"):
        preparation.restore(outputs, np.array([3_000]))


@pytest.mark.parametrize("quick", [True, False])
def test_a_long_text_of_one_time_costs_its_own_length(write, quick):
    rows = "".join(f"s{n},{'0' * 100_000 if n == 0 else ''}1.5,1\n" for n in range(3_000))
    path = write("series,time,f\n" + rows)
    assert peak(lambda: read_csv(path, "forecasting", Columns(), True, quick)) < 50e6


def ragged(count: int, longest: int, features: int) -> str:
    """Series of one step, and one of many."""
    names = ",".join(f"f{c}" for c in range(features))
    cells = ",".join("0" * features)
    rows = [f"long,{t},{cells}\n" for t in range(longest)]
    rows += [f"s{n},0,{cells}\n" for n in range(count - 1)]
    return f"series,time,{names}\n" + "".join(rows)


@pytest.mark.parametrize("quick", [True, False])
def test_times_are_not_padded_as_text(write, quick):
    stamps = "".join(f"long,2024-03-01T12:{t // 60:02d}:{t % 60:02d},0\n" for t in range(3_000))
    path = write("series,time,f0\n" + stamps + "".join(f"s{n},2024-03-01,0\n" for n in range(399)))
    data: list[SequenceData] = []
    taken = peak(lambda: data.append(read_csv(path, "forecasting", Columns(), True, quick)))
    assert taken < 400 * 3_000 * (4 + 8 + 8)  # 19 characters would take 76 bytes a step
    times = data[0].times
    assert times is not None
    assert times[0, :2].tolist() == ["2024-03-01T12:00:00", "2024-03-01T12:00:01"]
    assert times[1, :2].tolist() == ["2024-03-01", ""]
    past, future = data[0].select([0]).split_time(0.5)
    assert past.times is not None
    assert future.times is not None
    assert [past.times[0, -1], future.times[0, 0]] == times[0, 1_499:1_501].tolist()


def test_padding_beyond_the_bound_is_refused(write, tmp_path):
    message = "2000 series padded to the 3000 steps of series 'long' would take .*cut the longest"
    path = write(ragged(2_000, 3_000, 50))
    with pytest.raises(DataError, match=message):
        read(path, task="forecasting")
    series = ["long"] * 3_000 + [f"s{n}" for n in range(1_999)]
    wide = {f"f{c}": np.zeros(len(series), np.float32) for c in range(50)}
    table = pyarrow.table({"series": series, **wide})
    columns = Columns(time=None)
    with pytest.raises(DataError, match=f"^frame: {message}"):
        from_frame(table, task="forecasting", columns=columns)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"a\.parquet: {message}"):
        read(tmp_path / "a.parquet", task="forecasting", columns=columns)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:aeon")
@pytest.mark.filterwarnings("ignore::FutureWarning:aeon")
def test_padding_of_a_ts_file_is_bounded(write, small_room):
    head = "@problemName t\n@univariate false\n@equalLength false\n@classLabel false\n@data\n"
    text = head + ",".join("0" * 10_000) + "\n" + "0\n" * 3_000
    with pytest.raises(DataError, match="3001 series padded to the 10000 steps of series 0 would"):
        read(write(text, "a.ts"), task="forecasting")
    text = head + ",".join("0" * 300_000) + ":" * 300_000 + "\n"  # aeon would take 720 GB
    with pytest.raises(DataError, match="row 6, channel 1: 1 steps, expected 300000"):
        read(write(text, "a.ts"), task="forecasting")


def test_many_rows_of_nothing_in_parquet_are_refused_before_they_are_read(tmp_path, small_room):
    rows = 100_000
    path = tmp_path / "a.parquet"
    column = pyarrow.array(np.zeros(rows, np.float32))
    pyarrow.parquet.write_table(pyarrow.table({f"f{c}": column for c in range(30)}), path)
    columns = Columns(series=None, time=None)
    with pytest.raises(DataError, match=r"100000 rows of 30 columns would take 12 MB.*split it"):
        read(path, task="forecasting", columns=columns)
    one = Columns(series=None, time=None, features=("f7",))
    assert read(path, task="forecasting", columns=one).x.shape == (1, rows, 1)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((3, 1_000, 1_000), np.uint8, r"x of shape \(3, 1000, 1000\) would take 12 MB"),
        ((200_000, 1, 1), np.bool_, r"x of shape \(200000, 1, 1\) would take 13\.6 MB"),
        ((2, 1_000, 1_000), np.float64, "the arrays, unpacked, would take 16 MB"),
    ],
)
def test_an_archive_that_unpacks_to_far_more_is_refused(
    tmp_path, small_room, shape, dtype, message
):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(shape, dtype))

    def refused() -> None:
        with pytest.raises(DataError, match=rf"{message}.* numpy\.savez, which packs nothing"):
            read(path, task="forecasting")

    assert peak(refused) < 6e6


def test_an_archive_takes_little_more_than_its_arrays(tmp_path):
    path = tmp_path / "a.npz"
    x = np.arange(10_000_000, dtype=np.uint8).reshape(10, 1_000, 1_000)
    np.savez_compressed(path, x=x)
    data: list[SequenceData] = []
    assert peak(lambda: data.append(read(path, task="forecasting"))) < 7 * x.size
    np.testing.assert_array_equal(data[0].x, x)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_every_float_is_checked_in_its_own_type(tmp_path, dtype):
    x = np.array([[[np.finfo(np.float16).max], [1]], [[-np.finfo(np.float16).max], [np.inf]]])
    np.savez(tmp_path / "a.npz", x=x.astype(dtype), lengths=[2, 1])
    assert read(tmp_path / "a.npz", task="forecasting").x.ravel().tolist() == [65504, 1, -65504, 0]
    np.savez(tmp_path / "a.npz", x=x.astype(dtype))
    with pytest.raises(DataError, match=r"x\[1, 1, 0\] is inf"):
        read(tmp_path / "a.npz", task="forecasting")


def test_long_rows_are_taken_in_smaller_blocks(write, monkeypatch):
    monkeypatch.setattr("longlag.data.read_csv._CELLS", 6)
    rows = "".join(f"a,{t},{t},{-t}\n" for t in range(5))
    path = write("series,time,f,g\n" + rows)
    data = read_csv(path, "forecasting", Columns(), True, quick=False)
    assert data.x[0].tolist() == [[t, -t] for t in range(5)]
    path.write_text("series,time,f,g\n" + rows + "a,5,x,0\n")
    with pytest.raises(DataError, match="row 7, column 'f': expected a number, got 'x'"):
        read_csv(path, "forecasting", Columns(), True, quick=False)


@pytest.mark.slow
def test_many_columns_do_not_take_quadratic_time():
    width = 40_000
    names = tuple(f"f{c}" for c in range(width))
    frame = pyarrow.table({name: [1.0, 2.0] for name in names})
    started = time.process_time()
    columns = Columns(series=None, time=None, features=names, target=names)
    data = from_frame(frame, task="forecasting", columns=columns)
    preparation = Preparation.fit(data, task="forecasting", horizon=1, columns=columns)
    assert preparation.apply(data).x.shape == (1, 2, width)
    Columns(features=names, target=tuple(f"t{c}" for c in range(width))).targets("regression")
    assert time.process_time() - started < 15  # over 200 s, were each name looked for in a list
