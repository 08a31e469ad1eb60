"""Several labels of a series or a step: how they are read, prepared, restored and refused."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from longlag.data import (
    Columns,
    DataError,
    LabelPredictions,
    Preparation,
    from_arrays,
    from_frame,
    read,
    write_predictions,
)

CELLS = Columns(target="kinds", label_separator=";")
TWO = Columns(target=("high", "wild"))
NAN = np.nan


@pytest.fixture
def write(tmp_path):
    def to(name, header, rows):
        path = tmp_path / name
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header.split(","), *rows])
        return path

    return to


def cells(write, name, *kinds):
    """A file of series of two steps, with a list of labels in the last row of each."""
    rows = [[n, t, 1.0, kind if t else ""] for n, kind in enumerate(kinds) for t in range(2)]
    return write(name, "series,time,a,kinds", rows)


def both_ways(path, **options):
    """A table as a file and as a frame; the two must give the same."""
    pyarrow = pytest.importorskip("pyarrow.csv")
    data, frame = read(path, **options), from_frame(pyarrow.read_csv(path), **options)
    np.testing.assert_array_equal(data.target, frame.target)
    assert data.target_names == frame.target_names
    assert data.label_sets
    assert frame.label_sets
    return data


def test_columns_of_zeros_and_ones(write):
    rows = [["a", 0, 1.0, 1, "true"], ["a", 1, 2.0, 1, "true"], ["b", 0, 1.0, 0, "false"]]
    path = write("two.csv", "series,time,x,high,wild", rows)
    data = both_ways(path, task="classification", columns=TWO)
    assert data.target.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert data.target_names == ("high", "wild")
    assert data.feature_names == ("x",)


def test_cells_that_list_labels(write):
    path = cells(write, "cells.csv", "wild; high", "", "wild", "high;")
    data = both_ways(path, task="classification", columns=CELLS)
    assert data.target_names == ("high", "wild")
    assert data.target.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    whole = write("whole.csv", "series,time,a,kinds", [[0, 0, 1.0, "b;a"], [0, 1, 1.0, "b;a"]])
    assert read(whole, task="classification", columns=CELLS).target.tolist() == [[1, 1]]


def test_a_step_lists_its_own_labels(write):
    rows = [["a", 0, 1.0, "up"], ["a", 1, 2.0, ""], ["a", 2, 3.0, "up;far"], ["b", 0, 1.0, "far"]]
    path = write("steps.csv", "series,time,a,kinds", rows)
    data = both_ways(path, task="tagging", columns=CELLS, tags="labels")
    assert data.target_names == ("far", "up")
    assert data.target[0].tolist() == [[0, 1], [0, 0], [1, 1]]
    assert data.target[1, 0].tolist() == [1, 0]
    rows = [["a", 0, 1.0, 1, 0], ["a", 1, 2.0, "", 1]]
    columns = write("columns.csv", "series,time,a,high,wild", rows)
    target = read(columns, task="tagging", columns=TWO, tags="labels").target
    np.testing.assert_array_equal(target, [[[1, 0], [NAN, 1]]])
    with pytest.raises(DataError, match="or give tags='labels' for labels that may hold at once"):
        read(columns, task="tagging", columns=TWO)
    assert read(path, task="tagging", columns=CELLS).label_sets  # the separator says it


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", 0, 1.0, 1, 0], ["b", 0, 1.0, 2, 1]], "row 3, column 'high': '2', expected 0 or 1"),
        ([["a", 0, 1.0, "red", 0]], "row 2, column 'high': 'red', expected 0 or 1"),
        ([["a", 0, 1.0, 1, 0], ["a", 1, 1.0, 1, 1]], "column 'wild': series 'a' has 0.0 here"),
        ([["a", 0, 1.0, 1, ""], ["b", 0, 1.0, 0, 0]], "column 'wild': series 'a' has no target"),
    ],
)
def test_what_is_no_label_is_refused(write, rows, message):
    path = write("bad.csv", "series,time,x,high,wild", rows)
    with pytest.raises(DataError, match=message):
        read(path, task="classification", columns=TWO)


def test_columns_that_do_not_go_together():
    with pytest.raises(DataError, match="label_separator=';' is for one target column"):
        Columns(target=("a", "b"), label_separator=";").targets("classification")
    with pytest.raises(DataError, match="label_separator=';', but regression has no labels"):
        CELLS.targets("regression")
    with pytest.raises(DataError, match="label_separator=' ': expected a text such as ';'"):
        Columns(label_separator=" ")
    assert Columns.from_dict(CELLS.to_dict()) == CELLS
    old = {key: value for key, value in Columns().to_dict().items() if key != "label_separator"}
    assert Columns.from_dict(old) == Columns()


@pytest.fixture
def prepared(write):
    path = cells(write, "train.csv", "wild;high", "", "wild", "high")
    data = read(path, task="classification", columns=CELLS)
    return Preparation.fit(data, task="classification", columns=CELLS), data


def test_the_preparation_keeps_labels_and_where_they_stand(prepared):
    preparation, data = prepared
    assert preparation.label_sets
    assert preparation.target_names == ("high", "wild")
    assert preparation.columns.target == "kinds"
    assert (preparation.classes, preparation.output_size, preparation.reduce) == (None, 2, "last")
    assert preparation.apply(data).target.tolist() == data.target.tolist()
    assert Preparation.from_dict(preparation.to_dict()) == preparation
    old = preparation.to_dict()
    del old["label_sets"]
    with pytest.raises(DataError, match="classification has classes and no targets"):
        Preparation.from_dict(old)
    with pytest.raises(DataError, match="label_sets=True for regression"):
        Preparation.from_dict({**preparation.to_dict(), "task": "regression"})


def test_a_new_file_lists_fewer_labels_and_no_new_ones(prepared, write):
    preparation, _ = prepared
    few = preparation.read(cells(write, "few.csv", "", "wild"))
    assert few.target_names == ("wild",)
    assert preparation.apply(few).target.tolist() == [[0, 0], [0, 1]]
    none = preparation.read(cells(write, "none.csv", "", ""))
    assert none.target is None  # a column that is wholly empty is no target
    new = preparation.read(cells(write, "new.csv", "wilt"))
    with pytest.raises(DataError, match=r"the label 'wilt' was not in the training .* 'wild'"):
        preparation.apply(new)
    other = write("other.csv", "id,time,a,sorts", [[0, 0, 1.0, "wild"]])
    renamed = preparation.read(other, columns=Columns(series="id", target="sorts"))
    assert preparation.apply(renamed).target.tolist() == [[0, 1]]


@pytest.mark.parametrize(("kinds", "where"), [(("a;b", "b"), "everywhere"), (("a", "a;b"), "eve")])
def test_a_label_that_says_nothing_is_refused(write, kinds, where):
    data = read(cells(write, "same.csv", *kinds), task="classification", columns=CELLS)
    with pytest.raises(DataError, match=f"holds {where}"):
        Preparation.fit(data, task="classification", columns=CELLS)


def test_answers_are_probabilities_and_what_holds(prepared, tmp_path):
    preparation, data = prepared
    outputs = np.array([[0.0, -1000.0], [2.0, 1.0], [-2.0, 1000.0], [-0.1, 0.1]])
    found = preparation.restore(outputs, data.lengths)
    assert isinstance(found, LabelPredictions)
    np.testing.assert_allclose(found.probabilities[:3, 1], [0.0, 1 / (1 + np.exp(-1.0)), 1.0])
    assert found.holds.tolist() == [[True, False], [True, True], [False, True], [False, True]]
    write_predictions(tmp_path / "p.csv", data, found)
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[:2] == ["series,high,wild,probability_high,probability_wild", "0,1,0,0.5,0.0"]


def test_answers_at_each_step(write, tmp_path):
    rows = [["a", 5, 1.0, "up"], ["a", 6, 2.0, ""], ["b", 5, 3.0, "up;far"]]
    columns = Columns(target="kinds", label_separator=";")
    data = read(
        write("s.csv", "series,time,a,kinds", rows), task="tagging", columns=columns, tags="labels"
    )
    preparation = Preparation.fit(data, task="tagging", columns=columns)
    assert np.isnan(preparation.apply(data).target[1, 1]).all()  # beyond the end
    found = preparation.restore(np.zeros((2, 2, 2)), data.lengths)
    assert found.probabilities[1].tolist() == [[0.5, 0.5], [0.0, 0.0]]
    write_predictions(tmp_path / "p.csv", data, found)
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "series,time,far,up,probability_far,probability_up"
    assert lines[1:] == ["a,5,1,1,0.5,0.5", "a,6,1,1,0.5,0.5", "b,5,1,1,0.5,0.5"]


X = np.arange(12.0).reshape(2, 3, 2)
STEPS = [[[1, 0], [NAN, 1], [7, 7]], [[0, 0], [1, 1], [0, 1]]]


def archive(tmp_path, **arrays):
    np.savez(tmp_path / "sets.npz", x=X, **arrays)
    return tmp_path / "sets.npz"


def test_arrays_of_zeros_and_ones(tmp_path):
    y, names = np.array([[1, 0, 1], [False, True, True]]), np.array(["a", "b", "c"])
    data = read(archive(tmp_path, y=y, labels=names), task="classification")
    assert data.label_sets
    assert data.target.tolist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    assert data.target_names == ("a", "b", "c")
    assert from_arrays(X, y, task="classification").target_names == ("y0", "y1", "y2")
    one = from_arrays(X, [[[1.0]] * 3] * 2, task="tagging", tags="labels", labels=["on"])
    assert (one.target.shape, one.target_names, one.label_sets) == ((2, 3, 1), ("on",), True)


def test_arrays_of_zeros_and_ones_at_each_step(tmp_path):
    path = archive(tmp_path, y=np.array(STEPS), lengths=np.array([2, 3]), labels=["u", "v"])
    data = read(path, task="tagging", tags="labels")
    assert data.label_sets
    np.testing.assert_array_equal(data.target[0], [[1, 0], [NAN, 1], [0, 0]])  # 7 is beyond its end
    assert data.target_names == ("u", "v")
    with pytest.raises(DataError, match=r"labels: names of labels .* y of shape \(2, 3, 2\) has"):
        read(path, task="tagging")


def test_names_of_arrays_say_which_label_is_which(tmp_path):
    y = np.array([[1, 0], [0, 1]])
    train = read(archive(tmp_path, y=y, labels=["u", "v"]), task="classification")
    preparation = Preparation.fit(train, task="classification")
    other = preparation.read(archive(tmp_path, y=y[:, ::-1], labels=["v", "u"]))
    np.testing.assert_array_equal(preparation.apply(other).target, y)
    assert preparation.read(archive(tmp_path, labels=["u", "v"])).target is None
    assert preparation.read(archive(tmp_path, y=y, labels=["u", "v"]), scored=False).target is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": [[1, 0], [0, 2]]}, r"y\[1, 1\] is 2, expected 0 or 1.*give y of shape \(2,\)"),
        ({"y": [[1, NAN], [NAN, 0]]}, r"y\[0, 1\] is nan.* \(and 1 more problem\)"),
        ({"y": [["a", "b"], ["a", "b"]]}, r"y has shape \(2, 2\) of <U1, .* expects \(2, L\)"),
        ({"y": [[1, 0]] * 3}, r"y has shape \(3, 2\) of int64, .* expects \(2, L\) of 0 and 1"),
        ({"y": ["a", "b"], "labels": ["u", "v"]}, r"names of labels .* y of shape \(2,\) has none"),
        ({"y": [[1], [0]]}, r"y has shape \(2, 1\), classification expects \(2,\)"),
        ({"y": [[1, 0]] * 2, "labels": ["u"]}, r"labels has shape \(1,\) of <U1, expected \(2,\)"),
        ({"y": [[1, 0]] * 2, "labels": ["u", "u"]}, r"labels\[1\]: 'u' is there twice"),
        ({"y": [[1, 0]] * 2, "labels": ["u", ""]}, r"labels\[1\]: is empty text"),
        ({"y": [[1, 0]] * 2, "labels": ["nan", "u"]}, r"labels\[0\]: 'nan' stands for a missing"),
    ],
)
def test_arrays_that_are_no_label_sets_are_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        read(archive(tmp_path, **arrays), task="classification")


def test_steps_that_are_no_label_sets_are_refused():
    for y, message in (
        (np.array(STEPS), r"y\[0, 2, 0\] is 7.0, .*of each step give y of shape \(2, 3\)"),
        (np.zeros((2, 3)), r"y has shape \(2, 3\) of float64, tagging .* expects \(2, 3, L\)"),
    ):
        with pytest.raises(DataError, match=message):
            from_arrays(X, y, task="tagging", tags="labels")
