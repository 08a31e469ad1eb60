"""`longlag predict`: the table, standard output, the score."""

import numpy as np
import pandas
import pytest

import longlag as ll


@pytest.fixture
def model(longlag, walks_csv, small):
    done = longlag("train", walks_csv, *small, "--output", "walks.longlag")
    assert done.status == 0, done.err
    return "walks.longlag"


def test_rows_follow_the_series_of_the_file(longlag, model, new_walks_csv, folder, rows_of):
    assert longlag("predict", model, new_walks_csv).status == 0
    rows = rows_of(folder / "predictions.csv")
    assert [row["series"] for row in rows] == [f"w{n}" for n in range(20)]
    assert list(rows[0]) == ["series", "prediction", "probability_down", "probability_up"]


def test_the_answers_are_those_of_the_saved_network(longlag, model, new_walks_csv, folder, rows_of):
    import torch

    from longlag.data import Preparation, read
    from longlag.layers import load_with_metadata

    assert longlag("predict", model, new_walks_csv).status == 0
    network, metadata = load_with_metadata(model)
    preparation = Preparation.from_dict(metadata["preparation"])
    prepared = preparation.apply(read(new_walks_csv, task="classification"))
    with torch.no_grad():
        logits = network(torch.tensor(prepared.x), lengths=torch.tensor(prepared.lengths))
    expected = torch.softmax(logits.double(), dim=1)[:, 1].numpy()
    rows = rows_of(folder / "predictions.csv")
    np.testing.assert_allclose([float(r["probability_up"]) for r in rows], expected, atol=1e-6)


def test_the_size_of_a_batch_changes_nothing_that_matters(
    longlag, model, new_walks_csv, folder, rows_of
):
    found = []
    for size in (1, 3, 256):
        options = ["--batch_size", size, "--overwrite"]
        assert longlag("predict", model, new_walks_csv, *options).status == 0
        rows = rows_of(folder / "predictions.csv")
        found.append([float(row["probability_up"]) for row in rows])
    assert len(found[0]) == 20
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    np.testing.assert_allclose(found[1], found[2], atol=1e-6)


def test_standard_output_has_the_table_and_nothing_else(longlag, model, new_walks_csv, folder):
    assert longlag("predict", model, new_walks_csv).status == 0
    printed = longlag("predict", model, new_walks_csv, "--output", "-")
    assert printed.status == 0
    assert printed.out == (folder / "predictions.csv").read_text()
    assert "accuracy" in printed.err


def test_a_target_is_not_needed(longlag, model, new_walks_csv, folder):
    scored = longlag("predict", model, new_walks_csv)
    assert "accuracy" in scored.out
    lines = new_walks_csv.read_text().splitlines()
    (folder / "bare.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    bare = longlag("predict", model, "bare.csv", "--output", "bare.out.csv")
    assert bare.status == 0, bare.err
    assert "accuracy" not in bare.out
    assert (folder / "bare.out.csv").read_bytes() == (folder / "predictions.csv").read_bytes()


def test_overwrite(longlag, model, new_walks_csv, folder):
    (folder / "predictions.csv").write_text("mine")
    refused = longlag("predict", model, new_walks_csv)
    assert refused.status == 2
    assert "--overwrite" in refused.err
    assert (folder / "predictions.csv").read_text() == "mine"
    assert longlag("predict", model, new_walks_csv, "--overwrite").status == 0
    assert (folder / "predictions.csv").read_text().startswith("series,prediction")


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(script, folder, model, new_walks_csv):
    import subprocess

    command = [script, "predict", model, str(new_walks_csv), "--output", "-"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        errors = running.stderr.read()
        status = running.wait(timeout=60)
    assert status == 1
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_arrays(longlag, folder, rows_of):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6, 2)).astype(np.float32)
    y = (x.sum(axis=(1, 2)) > 0).astype(np.int64)
    lengths = rng.integers(3, 7, size=40)
    np.savez(folder / "my.npz", x=x, y=y, lengths=lengths)
    np.savez(folder / "new.npz", x=x[:5], lengths=lengths[:5])
    options = ["--task", "classification", "--hidden", "4", "--epochs", "2"]
    done = longlag("train", "my.npz", *options)
    assert done.status == 0, done.err
    assert "next: longlag predict model.longlag new.npz" in done.out
    assert longlag("predict", "model.longlag", "new.npz").status == 0
    rows = rows_of(folder / "predictions.csv")
    assert [row["series"] for row in rows] == list("01234")
    assert {row["prediction"] for row in rows} <= {"0", "1"}


def test_a_model_without_preparation_is_refused(longlag, folder, new_walks_csv):
    ll.save(ll.SequenceModel(ll.GRU(2, 3), 2), "bare.longlag")
    refused = longlag("predict", "bare.longlag", new_walks_csv)
    assert refused.status == 2
    assert "longlag train" in refused.err


@pytest.mark.slow
def test_parquet_answers_as_csv(longlag, folder, walks_csv, new_walks_csv, small, rows_of):
    tables = {}
    for name, path in (("walks", walks_csv), ("new", new_walks_csv)):
        tables[name] = pandas.read_csv(path)
        tables[name].to_parquet(folder / f"{name}.parquet")
    assert longlag("train", walks_csv, *small, "--output", "of_csv.longlag").status == 0
    done = longlag("train", "walks.parquet", *small)
    assert done.status == 0, done.err
    assert "new.parquet" in done.out
    for model, data in (("of_csv.longlag", new_walks_csv), ("model.longlag", "new.parquet")):
        assert longlag("predict", model, data, "--output", f"{model}.csv").status == 0
    assert rows_of(folder / "model.longlag.csv") == rows_of(folder / "of_csv.longlag.csv")
    assert longlag("report", "model.longlag", "new.parquet").status == 0

    tables["new"]["target"] = "sideways"
    tables["new"].to_parquet(folder / "other.parquet")
    refused = longlag("predict", "model.longlag", "other.parquet", "--output", "other.csv")
    assert refused.status == 2
    first = tables["new"]["series"][0]
    assert f"other.parquet, series {first!r}, column 'target': the class 'side" in refused.err
    assert not (folder / "other.csv").exists()
