"""`longlag train`: the four tasks, the options, and the file that is saved."""

import itertools
import json

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.cells import CELLS
from longlag.layers import load_with_metadata


def values(rows, key):
    return np.array([float(row[key]) for row in rows])


def rms(errors):
    return float(np.sqrt(np.mean(np.square(errors))))


def weighted(seed, count):
    """The target is a sum over the series, in units of its own."""
    rng = np.random.default_rng(seed)
    rows, targets = [], []
    for n in range(count):
        a, b = rng.normal(50, 3, size=(2, int(rng.integers(5, 9))))
        targets.append(1000 + 40 * (a - 50).sum() + 20 * (b[0] - 50))
        rows += [[f"s{n}", t, a[t], b[t], ""] for t in range(len(a))]
        rows[-1][-1] = targets[-1]
    return rows, np.array(targets)


@pytest.mark.slow
def test_regression_beats_the_mean_on_new_series(longlag, folder, table, rows_of):
    header = ["series", "time", "a", "b", "target"]
    table(folder / "my.csv", header, weighted(0, 150)[0])
    rows, truth = weighted(1, 60)
    table(folder / "new.csv", header, rows)
    trained = longlag("train", "my.csv", "--task", "regression", "--hidden", "16")
    assert trained.status == 0, trained.err
    assert "no better than the baseline" not in trained.out
    predicted = longlag("predict", "model.longlag", "new.csv")
    assert predicted.status == 0, predicted.err
    found = values(rows_of(folder / "predictions.csv"), "prediction")
    error = rms(found - truth)
    assert error < 0.4 * truth.std()
    assert f"root mean square error of target │ {error:.4g} │" in predicted.out
    assert "always the mean of the training data" in predicted.out


def switches(seed, count):
    """A switch: on after a pulse up, off after a pulse down; its state must be remembered."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        on = False
        for t in range(int(rng.integers(10, 20))):
            pulse = float(rng.choice([-1, 0, 0, 0, 1]))
            on = pulse > 0 or (on and pulse == 0)
            rows.append([f"s{n}", t, pulse, "on" if on else "off"])
    return rows


@pytest.mark.slow
def test_tagging_beats_the_majority_on_new_series(longlag, folder, table, rows_of):
    header = ["series", "time", "pulse", "target"]
    table(folder / "my.csv", header, switches(0, 60))
    new = switches(1, 30)
    table(folder / "new.csv", header, new)
    options = ["--task", "tagging", "--hidden", "16", "--epochs", "25"]
    assert longlag("train", "my.csv", *options).status == 0
    predicted = longlag("predict", "model.longlag", "new.csv")
    assert predicted.status == 0, predicted.err
    found = rows_of(folder / "predictions.csv")
    assert [(row["series"], int(row["time"])) for row in found] == [(r[0], r[1]) for r in new]
    hits = np.mean([row["prediction"] == r[3] for row, r in zip(found, new, strict=True)])
    assert hits > 0.95
    assert f"{100 * hits:.1f} %" in predicted.out
    majority = np.mean([r[3] == "off" for r in new])
    assert f"{100 * majority:.1f} %" in predicted.out


def waves(seed, count, steps):
    rng = np.random.default_rng(seed)
    t = np.arange(steps)
    return [
        20 + 5 * np.sin(2 * np.pi * t / 12 + rng.uniform(0, 6)) + rng.normal(0, 0.2, steps)
        for _ in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 20])
def test_forecasting_beats_the_last_value_on_new_series(longlag, folder, table, rows_of, count):
    header = ["series", "time", "level"]
    mine = waves(0, count, 600 // count)
    table(
        folder / "my.csv", header,
        [[f"s{n}", t, v] for n, wave in enumerate(mine) for t, v in enumerate(wave)],
    )  # fmt: skip
    new = waves(1, 25, 40)
    table(
        folder / "new.csv", header,
        [[f"s{n}", t, v] for n, wave in enumerate(new) for t, v in enumerate(wave[:36])],
    )  # fmt: skip
    trained = longlag(
        "train", "my.csv", "--task", "forecasting", "--horizon", "4", "--epochs", "60"
    )
    assert trained.status == 0, trained.err
    assert ("in 9 stretches" in trained.out) == (count == 1)
    predicted = longlag("predict", "model.longlag", "new.csv")
    assert predicted.status == 0, predicted.err
    rows = rows_of(folder / "predictions.csv")
    assert [(row["series"], int(row["step_ahead"])) for row in rows] == [
        (f"s{n}", ahead) for n in range(25) for ahead in (1, 2, 3, 4)
    ]
    found = values(rows, "level").reshape(25, 4)
    truth = np.array([wave[36:] for wave in new])
    last = np.array([wave[35] for wave in new])[:, None]
    assert rms(found - truth) < 0.4 * rms(last - truth)
    found = "12 steps, found in" if count == 1 else "none, found in"  # 24 steps are too few
    assert f"season      {found} the training part" in trained.out
    assert ("seasonal naive, 12 steps" in predicted.out) == (count == 1)
    assert "MASE of level" in predicted.out
    assert {"level_low", "level_high"} < set(rows[0])


@pytest.mark.slow
def test_a_config_file_says_what_flags_say(longlag, folder, walks_csv):
    flags = [
        "walks.csv", "--task", "classification", "--hidden", "5", "--layers", "2", "--dropout",
        "0.1", "--bidirectional", "--epochs", "3", "--columns.features", "noise,step",
        "--learning_rate", "0.01", "--seed", "7", "--patience", "null", "--optimizer", "adamw",
    ]  # fmt: skip
    assert longlag("train", *flags, "--output", "flags.longlag").status == 0
    printed = longlag("train", *flags, "--print_config")
    assert printed.status == 0
    (folder / "printed.yaml").write_text(printed.out)
    (folder / "mine.yaml").write_text(
        "data: walks.csv\ntask: classification\nhidden: 5\nlayers: 2\ndropout: 0.1\n"
        "bidirectional: true\nepochs: 3\ncolumns:\n  features: [noise, step]\n"
        "learning_rate: 1e-2\nseed: 7\npatience: null\noptimizer: adamw\n"
    )
    for name in ("printed", "mine"):
        done = longlag("train", "--config", f"{name}.yaml", "--output", f"{name}.longlag")
        assert done.status == 0, done.err
        assert (folder / f"{name}.longlag").read_bytes() == (folder / "flags.longlag").read_bytes()
    # What the line says goes before the file, wherever it stands.
    other = ["--output", "other.longlag", "--seed", "8", "--config", "mine.yaml"]
    assert longlag("train", *other).status == 0
    assert (folder / "other.longlag").read_bytes() != (folder / "flags.longlag").read_bytes()
    assert longlag("train", "nope.csv", *other, "--overwrite").err.startswith("longlag: nope.csv:")


def test_the_same_seed_gives_the_same_bits(longlag, folder, walks_csv, small):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = longlag("train", walks_csv, *small, "--seed", seed, "--output", f"{name}.longlag")
        assert done.status == 0
    bits = {name: (folder / f"{name}.longlag").read_bytes() for name in "abc"}
    assert bits["a"] == bits["b"]
    assert bits["a"] != bits["c"]


def test_the_model_is_the_one_that_was_asked_for(longlag, folder, walks_csv, small):
    options = ["--cell", "lstm", "--layers", "2", "--bidirectional", "--recurrent_dropout", "0.1"]
    done = longlag("train", walks_csv, *small, *options, "--chrono", "9", "--dropout", "0.2")
    assert done.status == 0, done.err
    model, metadata = load_with_metadata("model.longlag")
    assert isinstance(model.layer, ll.Stack)
    assert model.layer.dropout == 0.2
    for part in model.layer.layers:
        assert isinstance(part, ll.Bidirectional)
        assert isinstance(part.forward_layer, ll.LSTM)
        assert part.forward_layer.recurrent_dropout == 0.1
    assert [part.input_size for part in model.layer.layers] == [2, 8]
    assert metadata["preparation"]["columns"]["features"] == ["step", "noise"]
    assert metadata["preparation"]["classes"] == ["down", "up"]
    assert metadata["baseline"] in ("down", "up")
    json.dumps(metadata, allow_nan=False)


def test_an_orthogonal_matrix_stays_so_in_training_and_in_the_file(longlag, walks_csv, small):
    done = longlag("train", walks_csv, *small, "--cell", "elman", "--orthogonal")
    assert done.status == 0, done.err
    model, _ = load_with_metadata("model.longlag")
    matrix = model.layer.weight_hh
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(4), atol=1e-5, rtol=0.0)
    for command in ("predict", "report"):
        done = longlag(command, "model.longlag", walks_csv)
        assert done.status == 0, done.err


def test_dilated_layers_are_trained_saved_and_used(longlag, folder, walks_csv, small):
    done = longlag("train", walks_csv, *small, "--layers", "3", "--dilated")
    assert done.status == 0, done.err
    model, _ = load_with_metadata("model.longlag")
    assert [layer.dilation for layer in model.layer.layers] == [1, 2, 4]
    done = longlag("predict", "model.longlag", walks_csv)
    assert done.status == 0, done.err


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_trains(longlag, folder, walks_csv, small, cell):
    done = longlag("train", walks_csv, *small, "--cell", cell)
    assert done.status == 0, done.err
    model = ll.load("model.longlag")
    assert type(model.layer) is getattr(ll, CELLS[cell])
    assert type(model.layer).__name__.lower() == cell


def test_every_optimizer_and_schedule_trains_in_its_own_way(longlag, folder, walks_csv, small):
    found = {}
    for optimizer, schedule in itertools.chain(
        (("adam", each) for each in ("none", "one_cycle", "cosine")),
        ((each, "none") for each in ("adamw", "sgd", "rmsprop")),
    ):
        options = ["--optimizer", optimizer, "--scheduler", schedule, "--overwrite"]
        done = longlag("train", walks_csv, *small, *options)
        assert done.status == 0, done.err
        found[optimizer, schedule] = ll.load("model.longlag").readout.weight.detach()
    for (a, one), (b, other) in itertools.combinations(found.items(), 2):
        assert not torch.equal(one, other), (a, b)
    options = [*small, "--scheduler", "plateau", "--overwrite"]
    assert longlag("train", walks_csv, *options).status == 0


def test_a_validation_file_leaves_all_of_the_data_to_train_on(
    longlag, folder, walks_csv, new_walks_csv, small
):
    done = longlag("train", walks_csv, *small, "--validation_data", new_walks_csv)
    assert done.status == 0, done.err
    assert "training    40 series" in done.out
    assert "validation  20 series" in done.out
    assert "new.csv" in done.out


@pytest.mark.slow
def test_learning_curves_are_drawn(longlag, folder, walks_csv, small):
    for name, magic in (("a.png", b"\x89PNG"), ("b.pdf", b"%PDF"), ("c.svg", b"<?xml")):
        done = longlag("train", walks_csv, *small, "--history", name, "--overwrite")
        assert done.status == 0, done.err
        assert (folder / name).read_bytes().startswith(magic)
        assert f"{name} (curves)" in done.out


def test_other_columns(longlag, folder, table, small):
    rows = [[2.0 * (n % 2) + 0.1 * t, f"p{n}", 9, "ab"[n % 2]] for n in range(20) for t in range(4)]
    table(folder / "odd.csv", ["pulse", "patient", "room", "sepsis"], rows)
    options = [
        "--columns.series",
        "patient",
        "--columns.time",
        "null",
        "--columns.target",
        "sepsis",
    ]
    done = longlag("train", "odd.csv", *small, *options, "--columns.features", "pulse")
    assert done.status == 0, done.err
    assert "1 (pulse)" in done.out
    # The model knows the roles: they need not be said again.
    predicted = longlag("predict", "model.longlag", "odd.csv")
    assert predicted.status == 0, predicted.err
    assert "20 series" in predicted.out


def test_a_model_that_learnt_nothing_is_called_so(longlag, folder, walks_csv):
    options = ["--task", "classification", "--epochs", "1", "--learning_rate", "1e-9"]
    done = longlag("train", walks_csv, *options, "--hidden", "1", "--seed", "3")
    score = next(line for line in done.out.splitlines() if "accuracy" in line)
    mine, baseline = (float(cell.strip(" %")) for cell in score.split("│")[2:4])
    assert ("no better than the baseline" in done.out) == (mine <= baseline)
    assert mine <= baseline  # with these weights


@pytest.mark.slow
def test_a_classification_with_no_option_is_tried_out_and_fitted_anew(longlag, folder, walks_csv):
    trained = longlag("train", "walks.csv", "--task", "classification")
    assert trained.status == 0, trained.err
    assert "Told right on folds of the training part, and the Brier score" in trained.out
    assert trained.out.count("<- taken") == 1
    assert "echo, 2,000 units" in trained.out
    shown = longlag("show", "model.longlag")
    assert "series 40" in shown.out  # all of them, those held out too
    for option, value in (("--epochs", 2), ("--cell", "elman"), ("--hidden", 3)):
        asked = longlag(
            "train", "walks.csv", "--task", "classification", option, value, "--epochs", 2,
            "--output", f"{value}.longlag", "--overwrite",
        )  # fmt: skip
        assert asked.status == 0, asked.err
        assert "Told right" not in asked.out
    refused = longlag(
        "train", "walks.csv", "--task", "classification", "--cell", "auto", "--hidden", 3
    )
    assert refused.status == 2
    assert "--hidden: got 3, but 'auto' chooses network and training" in refused.err


def test_a_column_of_weights_is_followed_and_not_needed_to_predict(longlag, folder, table, small):
    """The files differ in the answers of series of weight 0 alone, which say the opposite."""
    from longlag.pipeline.fitted import Fitted

    rng, names = np.random.default_rng(0), ["series", "time", "step", "target", "trust"]
    rows, turned = [], []
    for n in range(24):
        for t, step in enumerate(rng.normal(size=4)):
            answer, other = ("up", "down") if n % 2 else ("down", "up")
            rows.append([f"w{n}", t, step, answer, 0.5 * (n % 3) if t else ""])
            turned.append([*rows[-1][:3], answer if n % 3 else other, rows[-1][4]])
    told, bytes_of = [], []
    for name, own in (("one", rows), ("other", turned)):
        table(folder / f"{name}.csv", names, own)
        words = [*small, "--columns.weight", "trust", "--logger", "none"]
        done = longlag("train", f"{name}.csv", *words, "--output", f"{name}.longlag")
        assert done.status == 0, done.err
        assert "weights     of column trust, 0 to 1, 8 series of 0" in done.out
        told.append(done.out[done.out.index("Validation on") : done.out.index("saved:")])
        model = Fitted.load(folder / f"{name}.longlag").model
        bytes_of.append([p.detach().numpy().tobytes() for p in model.parameters()])
    assert told[0] == told[1]
    assert bytes_of[0] == bytes_of[1]
    table(folder / "new.csv", names[:3], [row[:3] for row in rows])
    answers = []
    for name in ("new.csv", "one.csv"):
        done = longlag("predict", "one.longlag", name, "--output", f"said_{name}")
        assert done.status == 0, done.err
        answers.append((folder / f"said_{name}").read_text())
    assert answers[0] == answers[1]
