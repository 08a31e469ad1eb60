"""`longlag train` and `predict` on cells that are missing, or are no numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from longlag.cli import train

pytestmark = pytest.mark.filterwarnings("always::longlag.data.DataWarning")  # they are printed

SMALL = ("--hidden", 8, "--epochs", 12, "--learning_rate", 0.02)


@pytest.fixture
def machines(folder, table):
    """Machines that fail by their kind and heat; a cell in five is missing, the times uneven."""
    rng = np.random.default_rng(0)

    def write(name: str, kinds: tuple[str, ...] = ("lathe", "mill"), count: int = 60):
        rows = []
        for n in range(count):
            kind, hour = kinds[n % len(kinds)], 0.0
            hot = rng.random() < 0.5
            for _ in range(rng.integers(4, 9)):
                heat = round(rng.normal() + (2 if hot else -2), 3)
                cell = "" if rng.random() < 0.2 else heat
                state = "bad" if hot != (kind == "mill") else "good"
                rows.append([f"m{n}", round(hour, 2), kind, cell, state])
                hour += 0.1 + rng.exponential()
        return table(folder / name, ["series", "time", "kind", "heat", "target"], rows)

    return write


def test_one_command_trains_and_one_predicts(machines, longlag, rows_of):
    train = ("train", machines("old.csv"), "--task", "classification", *SMALL)
    refused = longlag(*train)
    assert refused.status == 2
    assert "column 'heat'" in refused.err
    assert "give --missing previous, mean or indicator" in refused.err

    done = longlag(*train, "--missing", "indicator")
    assert done.status == 0, done.err
    assert "kind: 2 categories (lathe, mill), an input each" in done.out
    assert "told by 1 more input\n" in done.out
    assert "the steps are not evenly spaced in time" in done.err
    assert "with time_delta (--time_delta) the gap is an input too" in done.err

    new = machines("new.csv", kinds=("lathe", "mill", "saw"), count=30)
    done = longlag("predict", "model.longlag", new)
    assert done.status == 0, done.err
    assert "column 'kind': 'saw' not in the training data" in done.err
    known = [
        row for row in rows_of(new.parent / "predictions.csv") if int(row["series"][1:]) % 3 < 2
    ]
    truth = {row["series"]: row["target"] for row in rows_of(new)}
    hits = np.mean([row["prediction"] == truth[row["series"]] for row in known])
    assert hits > 0.8  # neither heat nor kind alone says it


def test_a_feature_with_one_value_is_told(machines, longlag):
    done = longlag("train", machines("old.csv", ("mill",)), "--task", "classification",
                   "--missing", "mean", *SMALL)  # fmt: skip
    assert done.status == 0, done.err
    assert "one value in the whole training part: 'kind'; leave them out" in done.err


def test_categories_become_learned_vectors(machines, longlag, rows_of):
    train = ("train", machines("old.csv"), "--task", "classification", "--missing", "mean", *SMALL)
    done = longlag(*train, "--embed", "kind")
    assert done.status == 0, done.err
    assert "kind: 2 categories (lathe, mill), each a learned vector of 2 numbers" in done.out
    assert "not compiled, which takes longer: the vectors of categories" in done.out
    new = machines("new.csv", kinds=("lathe", "mill", "saw"), count=30)
    done = longlag("predict", "model.longlag", new)
    assert done.status == 0, done.err
    assert "column 'kind': 'saw' not in the training data" in done.err
    rows = rows_of(new.parent / "predictions.csv")
    truth = {row["series"]: row["target"] for row in rows_of(new)}
    hits = [
        row["prediction"] == truth[row["series"]] for row in rows if int(row["series"][1:]) % 3 < 2
    ]
    assert np.mean(hits) > 0.8
    assert "Embedded(GRU(3, 8))" in longlag("show", "model.longlag").out

    for wrong, said in (
        (("--cell", "echo"), "--embed: got kind, but an echo state network is not trained"),
        (("--cell", "auto"), "--embed: got kind, but 'auto' chooses"),
    ):
        refused = longlag(*train[:4], "--missing", "mean", "--embed", "kind", *wrong)
        assert refused.status == 2
        assert said in refused.err


def test_time_is_an_input_where_it_is_asked_for(machines, longlag):
    train = ("train", machines("old.csv"), "--task", "classification", *SMALL[:2], "--epochs", 1)
    done = longlag(*train, "--missing", "mean", "--time_delta")
    assert done.status == 0, done.err
    assert "the time since the step before is a feature" in done.out
    assert "not evenly spaced" not in done.err
    new = machines("new.csv", count=4)
    new.write_text(new.read_text().replace("time,", "hour,"))
    assert "there is no column 'time'" in longlag("predict", "model.longlag", new).err


def test_a_model_without_a_way_for_gaps_says_how_to_train_one(machines, longlag):
    path = machines("old.csv", count=12)
    text = path.read_text()
    path.write_text("\n".join(line.replace(",,", ",0,") for line in text.splitlines()) + "\n")
    train = ("train", path, "--task", "classification", *SMALL[:2], "--epochs", 1)
    assert longlag(*train).status == 0
    refused = longlag("predict", "model.longlag", machines("new.csv", count=12))
    assert refused.status == 2
    assert "train with --missing previous, mean or indicator" in refused.err
    exported = longlag("export", "model.longlag", "model.onnx")
    assert exported.status == 0, exported.err


def test_a_stream_without_series_is_tagged_with_numbers(folder, table, longlag, rows_of):
    """What a filter of the input is at each step; a file of one series, split in time."""
    rng = np.random.default_rng(0)

    def write(name: str, steps: int):
        x, slow = rng.normal(size=steps).round(4), 0.0
        rows = []
        for value in x.tolist():
            slow = 0.8 * slow + value
            rows.append([value, round(slow, 4)])
        return table(folder / name, ["push", "level"], rows)

    done = longlag(
        "train", write("stream.csv", 5_000), "--task", "tagging", "--columns.target", "level",
        *SMALL,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "targets     level, numbers at each step" in done.out
    assert "training    1 series of 4,000 steps, in 3 pieces" in done.out
    assert "validation  1 series of 1,000 steps, the last ones in time, held out" in done.out
    new = write("new.csv", 400)
    done = longlag("predict", "model.longlag", new)
    assert done.status == 0, done.err
    assert "Score of 400 answers" in done.out
    rows, truth = rows_of(folder / "predictions.csv"), rows_of(new)
    assert list(rows[0]) == ["series", "step", "prediction"]
    error = [float(r["prediction"]) - float(t["level"]) for r, t in zip(rows, truth, strict=True)]
    assert np.std(error) < 0.5 * np.std([float(t["level"]) for t in truth])


def test_predict_takes_other_names_and_leaves_the_target_alone(machines, longlag, rows_of, folder):
    old = machines("old.csv", count=20)
    train = (
        "train",
        old,
        "--task",
        "classification",
        *SMALL[:2],
        "--epochs",
        1,
        "--missing",
        "mean",
    )
    assert longlag(*train).status == 0
    done = longlag("predict", "model.longlag", old)
    assert "16 of the 20 series are among those that the model was trained on" in done.out

    new = machines("new.csv", count=8)
    assert "trained on" not in longlag("predict", "model.longlag", new, "--overwrite").out
    expected = rows_of(folder / "predictions.csv")
    head, *rows = new.read_text().splitlines()
    other = folder / "other.csv"
    other.write_text("\n".join(["m,t,k,h,state", *rows]) + "\n")
    refused = longlag("predict", "model.longlag", other, "--overwrite")
    assert refused.status == 2
    assert "say what it is called with --columns.series" in refused.err
    names = ("--columns.series", "m", "--columns.time", "t", "--columns.features", "k,h")
    done = longlag("predict", "model.longlag", other, "--overwrite", *names)
    assert done.status == 0, done.err
    assert "Score" not in done.out
    assert rows_of(folder / "predictions.csv") == expected
    done = longlag(
        "predict", "model.longlag", other, "--overwrite", *names, "--columns.target", "state"
    )
    assert "Score of 8 answers" in done.out
    refused = longlag("predict", "model.longlag", other, "--columns.features", "k", "--overwrite")
    assert "columns: 1 features named, expected 2, in the order of the training" in refused.err

    spoilt = folder / "spoilt.csv"
    spoilt.write_text("\n".join([head, *(row.rsplit(",", 1)[0] + ",?" for row in rows)]) + "\n")
    assert longlag("predict", "model.longlag", spoilt, "--overwrite").status == 2
    done = longlag("predict", "model.longlag", spoilt, "--overwrite", "--no_score")
    assert done.status == 0, done.err
    assert rows_of(folder / "predictions.csv") == expected


def test_weights_by_class_and_the_measure_that_chooses(folder, table, longlag):
    """A rare class that can hardly be told apart is found by weights, and not without."""
    rng = np.random.default_rng(0)
    rows = [
        [
            f"s{n}",
            t,
            round(rng.normal() + 0.4 * (n % 10 == 0), 3),
            "rare" if n % 10 == 0 else "often",
        ]
        for n in range(200)
        for t in range(5)
    ]
    path = table(folder / "rare.csv", ["series", "time", "f", "target"], rows)
    train = ("train", path, "--task", "classification", *SMALL, "--overwrite")

    def found(*more: object) -> float:
        done = longlag(*train, *more)
        assert done.status == 0, done.err
        line = next(line for line in done.out.splitlines() if line.startswith("│rare"))
        assert "as rare" in done.out
        assert "calibration error" in done.out
        return float(line.split("│")[4])

    assert found() == 0
    weights = ("--class_weights", "balanced", "--metric", "balanced_accuracy")
    assert found(*weights) >= 0.5
    assert found("--class_weights", "rare=9", *weights[2:]) >= 0.5
    refused = longlag("train", path, "--task", "regression", "--columns.target", "f", *weights[:2])
    assert "--class_weights: got balanced, but regression has no classes" in refused.err
    refused = longlag(
        "train", path, "--task", "tagging", "--columns.features", "time", "--columns.target", "f",
        "--columns.time", "null", "--metric", "auc", "--overwrite",
    )  # fmt: skip
    assert "--metric: got auc, but the target is numbers" in refused.err


LABELS = {
    "columns": (("--columns.target", "high,wild"), ["high", "wild"]),
    "cells": (("--columns.target", "kinds", "--columns.label_separator", "+"), ["kinds"]),
}


@pytest.mark.parametrize("form", LABELS)
def test_several_labels_of_a_series(longlag, folder, table, rows_of, form):
    options, heads = LABELS[form]

    def write(name, seed):
        rng, rows = np.random.default_rng(seed), []
        for n in range(30):
            high, wild = (rng.random(2) < 0.5).tolist()
            cells = [int(high), int(wild)]
            if form == "cells":
                cells = ["+".join(["high"] * high + ["wild"] * wild)]
            for t in range(6):
                rows.append([n, t, float(2.0 * high + rng.normal() * (3 if wild else 1)), *cells])
        table(folder / name, ["series", "time", "v", *heads], rows)

    write("train.csv", 0)
    write("new.csv", 1)
    words = ("--task", "classification", "--hidden", 4, "--epochs", 2, "--logger", "none")
    words = (*words, "--metric", "macro_f1", "--class_weights", "high=2")
    done = longlag("train", "train.csv", *words, *options)
    assert done.status == 0, done.err
    assert "  labels      2, of which each may hold (high " in done.out
    assert "F1 of wild" in done.out
    done = longlag("predict", "model.longlag", "new.csv")
    assert done.status == 0, done.err
    assert "Score of 60 answers in new.csv" in done.out
    rows = rows_of(folder / "predictions.csv")
    assert list(rows[0]) == ["series", "high", "wild", "probability_high", "probability_wild"]
    for row in rows:
        for name in ("high", "wild"):
            assert row[name] == str(int(float(row[f"probability_{name}"]) >= 0.5))


def test_a_network_is_chosen_for_labels_too():
    for columns in (train.ColumnNames(target="a,b"), train.ColumnNames(label_separator=";")):
        options = train.Options(task="classification", columns=columns)
        assert train._settings(options).cell == "auto"
        assert train._settings(replace(options, hidden=8)).cell == "gru"


@pytest.mark.parametrize("at_steps", [False, True])
def test_several_labels_of_an_archive(longlag, folder, rows_of, at_steps):
    def write(name, seed):
        rng = np.random.default_rng(seed)
        y = rng.random((30, 2)) < 0.5
        x = 2.0 * y[:, :1] + rng.normal(size=(30, 6)) * np.where(y[:, 1:], 3.0, 1.0)
        y = np.repeat(y[:, None], 6, axis=1) if at_steps else y
        np.savez(folder / name, x=x.astype(np.float32), y=y, labels=["high", "wild"])

    write("train.npz", 0)
    write("new.npz", 1)
    task = ("tagging", "--tags", "labels") if at_steps else ("classification",)
    few = ("--hidden", 4, "--epochs", 2, "--logger", "none")
    done = longlag("train", "train.npz", "--task", *task, *few)
    assert done.status == 0, done.err
    assert "  labels      2, of which each may hold (high " in done.out
    assert "F1 of wild" in done.out
    done = longlag("predict", "model.longlag", "new.npz")
    assert done.status == 0, done.err
    assert f"Score of {360 if at_steps else 60} answers in new.npz" in done.out
    rows = rows_of(folder / "predictions.csv")
    when = ["step"] if at_steps else []
    shares = ["probability_high", "probability_wild"]
    assert list(rows[0]) == ["series", *when, "high", "wild", *shares]
    done = longlag("report", "model.longlag", "new.npz", "--steps", 3)
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--columns.target", "a,b"), "column 'a': 'x', expected 0 or 1"),
        (("--columns.target", "a,b"), "or give --columns.label_separator for cells that list"),
        (("--columns.target", "a,b", "--columns.label_separator", ";"), "is for one target column"),
        (("--columns.target", "c,d", "--class_weights", "e=2"), "--class_weights: 'e' is none of"),
        (("--columns.target", "c,d", "--class_weights", "c=x"), "such as fault=10,ok=1"),
        (("--columns.target", "c,d", "--class_weights", "c=1,c=2"), "'c' comes twice"),
        (("--columns.target", "c,d", "--class_weights", "c=0"), "got 0.0 for 'c', expected a fin"),
    ],
)
def test_labels_that_cannot_be_are_refused(longlag, folder, table, options, said):
    rows = [[n, t, float(n), "x", n % 2, n % 2, n % 3 // 2] for n in range(9) for t in range(2)]
    table(folder / "bad.csv", ["series", "time", "v", "a", "b", "c", "d"], rows)
    done = longlag("train", "bad.csv", "--task", "classification", *options)
    assert done.status == 2
    assert said in done.err
