"""The target of tagging: labels, or numbers at each step; and tables of one series."""

from __future__ import annotations

import numpy as np
import polars
import pytest

from longlag.data import Columns, DataError, Preparation, SequenceData, from_frame, read
from longlag.data.predictions import write_predictions
from longlag.data.read_csv import read_csv


@pytest.fixture(params=["arrow", "python", "frame"])
def take(request, write):
    def take(text: str, tags: str = "auto", **names) -> SequenceData:
        columns = Columns(**names)
        if request.param == "frame":
            frame = polars.read_csv(text.encode(), infer_schema_length=None)
            return from_frame(frame, task="tagging", columns=columns, tags=tags)
        quick = request.param == "arrow"
        return read_csv(write(text), "tagging", columns, True, quick, False, tags)

    return take


def table(values: list[object]) -> str:
    rows = [f"{'ab'[at % 2]},{at // 2},{at * 0.5},{value}\n" for at, value in enumerate(values)]
    return "series,time,f,target\n" + "".join(rows)


def target(data: SequenceData) -> np.ndarray:
    assert data.target is not None
    return data.target


def test_a_number_of_many_values_is_a_number_at_each_step(take):
    data = take(table(list(range(30, 4, -1))))
    assert target(data).shape == (2, 13, 1)
    assert target(data)[0, :3, 0].tolist() == [30, 28, 26]
    assert data.tagged
    assert target(take(table([0.5, 1, 2, 3]))).shape == (2, 2, 1)


def test_whole_numbers_of_few_values_are_classes_unless_they_are_said_to_be_numbers(take):
    few, many = table([3, 1, 1, 2]), table(list(range(30)))
    assert target(take(few)).tolist() == [["3", "1"], ["1", "2"]]
    assert target(take(few, tags="numbers"))[:, :, 0].tolist() == [[3, 1], [1, 2]]
    assert target(take(many, tags="classes"))[0, :2].tolist() == ["0", "2"]
    with pytest.raises(DataError, match=r"row \d+, column 'target': expected a number, got 'u'"):
        take(table([1, "u"]), tags="numbers")


def test_where_no_number_is_known_no_error_is_due(take):
    data = take(table([0.5, 2.5, "", 3.5, 1.5, 4.5]))
    np.testing.assert_array_equal(target(data)[0, :, 0], [0.5, np.nan, 1.5])
    preparation = Preparation.fit(data, task="tagging")
    assert preparation.targets is not None
    assert preparation.targets.mean == (2.5,)
    np.testing.assert_array_equal(
        np.isnan(preparation.apply(data).target[:, :, 0]), [[False, True, False], [False] * 3]
    )


def test_several_targets_are_numbers_each(take):
    text = "series,time,f,u,v\na,0,1,0.5,7\na,1,2,1.5,8\nb,0,3,2.5,9.5\n"
    data = take(text, target=("u", "v"))
    assert data.feature_names == ("f",)
    assert target(data).tolist() == [[[0.5, 7], [1.5, 8]], [[2.5, 9.5], [0, 0]]]
    with pytest.raises(DataError, match="column 'v': labels, but tagging with 2 targets expects"):
        take(text.replace("9.5", "9"), target=("u", "v"))


def test_answers_are_in_the_units_of_the_file_and_written_a_row_a_step(write, tmp_path):
    data = read(write(table([float(v) + 0.5 for v in range(5)])), task="tagging")
    preparation = Preparation.fit(data, task="tagging")
    assert Preparation.from_dict(preparation.to_dict()) == preparation
    assert (preparation.output_size, preparation.reduce) == (1, None)
    outputs = preparation.apply(data).target
    outputs[1, 2] = 7  # beyond the end
    answers = preparation.restore(outputs, data.lengths)
    np.testing.assert_allclose(answers.values[0, :, 0], [0.5, 2.5, 4.5], rtol=1e-6)
    assert answers.values[1, 2] == 0
    path = tmp_path / "answers.csv"
    write_predictions(path, data, answers)
    lines = path.read_text().splitlines()
    assert lines[0] == "series,time,prediction"
    assert [line.rsplit(",", 1)[0] for line in lines[1:]] == ["a,0", "a,1", "a,2", "b,0", "b,1"]


def test_new_data_are_read_as_those_of_the_training(write):
    data = read(write(table(list(range(30)))), task="tagging")
    preparation = Preparation.fit(data, task="tagging", columns=Columns())
    few = preparation.read(write(table([3, 4]), "few.csv"))
    assert preparation.apply(few).target.shape == (2, 1, 1)
    as_labels = read(write(table([3, 4]), "few.csv"), task="tagging")
    np.testing.assert_array_equal(
        preparation.apply(as_labels).target, preparation.apply(few).target
    )
    with pytest.raises(DataError, match="the target holds labels, and the training data had num"):
        preparation.apply(read(write(table(["u", "v"])), task="tagging"))
    labels = Preparation.fit(read(write(table(["u", "v"])), task="tagging"), task="tagging")
    with pytest.raises(DataError, match="holds numbers at each step, and the training data had"):
        labels.apply(data)


@pytest.mark.parametrize(
    ("y", "shape"),
    [(np.ones((2, 3), np.float32), (2, 3, 1)), (np.ones((2, 3, 2)), (2, 3, 2))],
)
def test_arrays_have_numbers_at_each_step(tmp_path, y, shape):
    y[1, 2], y[0, 0] = np.inf, np.nan
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 1)), y=y, lengths=[3, 2])
    data = read(tmp_path / "a.npz", task="tagging")
    assert target(data).shape == shape
    assert len(data.target_names) == shape[2]
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 1)), y=y)
    with pytest.raises(DataError, match=r"y\[1, 2, 0\] is inf"):
        read(tmp_path / "a.npz", task="tagging")
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 1)), y=y[:1])
    with pytest.raises(DataError, match=r"tagging with numbers expects \(2, 3\) or \(2, 3, D\)"):
        read(tmp_path / "a.npz", task="tagging")


def test_a_table_without_series_or_time_is_one_series_in_order(write):
    data = read(write("f,target\n1,u\n2,v\n3,u\n", "stream.csv"), task="tagging")
    assert (data.names, data.lengths.tolist(), data.times) == (("stream",), [3], None)
    assert data.feature_names == ("f",)
    data = read(write("f\n1\n2\n"), task="forecasting")
    assert data.x.shape == (1, 2, 1)
    for task in ("classification", "regression"):  # one answer is no data
        with pytest.raises(DataError, match="there is no column 'series'"):
            read(write("f,target\n1,1\n"), task=task)
    with pytest.raises(DataError, match=r"no column 'time'.*did you mean 'Time'"):
        read(write("Time,f,target\n0,1,u\n"), task="tagging")
    with pytest.raises(DataError, match="there is no column 'machine'"):
        read(write("f,target\n1,u\n"), task="tagging", columns=Columns(series="machine"))


def test_targets_of_which_one_is_absent_are_not_looked_at(write):
    columns = Columns(features=("f",), target=("u", "v"))
    new = write("series,time,f,u\na,0,1,\n")
    data = read(new, task="regression", columns=columns, require_target=False)
    assert data.target is None
    with pytest.raises(DataError, match="there is no column 'v'"):
        read(new, task="regression", columns=columns)
