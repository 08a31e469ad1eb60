from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from longlag.data import (
    ClassPredictions,
    DataError,
    SequenceData,
    ValuePredictions,
    write_predictions,
)

NAMES = ('unit "A", left', "größe")


def pair(times: np.ndarray | None = None) -> SequenceData:
    x = np.ones((2, 3, 1), np.float32)
    return SequenceData(x, np.array([3, 1]), None, NAMES, times=times)


def rows(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_classification(tmp_path):
    path = tmp_path / "out.csv"
    probabilities = np.array([[0.1, 0.2 + 0.7], [1 / 3, 2 / 3]])
    write_predictions(
        path, pair(), ClassPredictions(np.array(["no", "yes"]), probabilities, ("yes", "no"))
    )
    header, *body = rows(path)
    assert header == ["series", "prediction", "probability_yes", "probability_no"]
    assert [row[:2] for row in body] == [[NAMES[0], "no"], [NAMES[1], "yes"]]
    assert [[float(cell) for cell in row[2:]] for row in body] == probabilities.tolist()


def test_regression(tmp_path):
    path = tmp_path / "out.csv"
    write_predictions(path, pair(), ValuePredictions(np.array([[0.1], [-2e-300]]), ("y",)))
    assert rows(path) == [
        ["series", "prediction"],
        [NAMES[0], "0.1"],
        [NAMES[1], "-2e-300"],
    ]
    write_predictions(path, pair(), ValuePredictions(np.ones((2, 2)), ("p", "q")))
    assert rows(path)[0] == ["series", "prediction_p", "prediction_q"]


@pytest.mark.parametrize(
    ("times", "head", "stamps"),
    [
        (None, "step", ["0", "1", "2", "0"]),
        (np.array([["5s", "6s", "7s"], ["1s", "", ""]]), "time", ["5s", "6s", "7s", "1s"]),
    ],
)
def test_tagging(tmp_path, times, head, stamps):
    path = tmp_path / "out.csv"
    probabilities = np.array([[[0.25, 0.75], [0.5, 0.5], [1, 0]], [[0, 1], [0, 0], [0, 0]]])
    labels = np.array([[8, 7, 7], [8, 0, 0]])
    write_predictions(path, pair(times), ClassPredictions(labels, probabilities, (7, 8)))
    header, *body = rows(path)
    assert header == ["series", head, "prediction", "probability"]
    assert [row[0] for row in body] == [NAMES[0]] * 3 + [NAMES[1]]
    assert [row[1] for row in body] == stamps
    assert [row[2] for row in body] == ["8", "7", "7", "8"]
    assert [float(row[3]) for row in body] == [0.75, 0.5, 1.0, 1.0]


def test_forecasting(tmp_path):
    path = tmp_path / "out.csv"
    values = np.arange(8.0).reshape(2, 2, 2)
    write_predictions(path, pair(), ValuePredictions(values, ("flow", "level")))
    assert rows(path) == [
        ["series", "step_ahead", "flow", "level"],
        [NAMES[0], "1", "0.0", "1.0"],
        [NAMES[0], "2", "2.0", "3.0"],
        [NAMES[1], "1", "4.0", "5.0"],
        [NAMES[1], "2", "6.0", "7.0"],
    ]


def test_the_old_file_stands_when_writing_fails(tmp_path):
    class Broken(tuple[str, ...]):
        def __iter__(self):
            yield from ("a" * 100_000,)
            raise RuntimeError("the disk is gone")

    path = tmp_path / "out.csv"
    path.write_text("old", encoding="utf-8")
    x = np.ones((2, 1, 1), np.float32)
    data = SequenceData(x, np.array([1, 1]), None, Broken(("a", "b")))
    with pytest.raises(RuntimeError, match="the disk is gone"):
        write_predictions(path, data, ValuePredictions(np.ones((2, 1)), ("y",)))
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_predictions_of_other_data_are_refused(tmp_path):
    path = tmp_path / "out.csv"
    with pytest.raises(DataError, match="predictions of 1 series for 2 series"):
        write_predictions(path, pair(), ValuePredictions(np.ones((1, 1)), ("y",)))
    short = ClassPredictions(np.ones((2, 2), int), np.ones((2, 2, 2)), (0, 1))
    with pytest.raises(DataError, match="predictions of 2 steps for a series of 3 steps"):
        write_predictions(path, pair(), short)
    assert not path.exists()
