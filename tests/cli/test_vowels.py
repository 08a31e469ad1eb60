"""Train on your own file, predict new data: real speech, in processes as a user starts them."""

import re
from pathlib import Path

import numpy as np
import pytest


def printed_accuracy(text: str) -> float:
    found = re.search(r"│ accuracy\s+│\s+([\d.]+) %", text)
    assert found is not None, text
    return float(found[1]) / 100


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".csv", ".ts"])
def test_default_settings_reach_95_percent_on_held_back_speech(
    suffix, tmp_path, process, vowels, vowels_csv, vowels_ts, rows_of
):
    write = vowels_csv if suffix == ".csv" else vowels_ts
    write(tmp_path / f"my{suffix}", "train")
    write(tmp_path / f"new{suffix}", "test")

    trained = process("train", f"my{suffix}", "--task", "classification", cwd=tmp_path)
    assert trained.status == 0, trained.err
    assert "216 series of 7 to 26 steps" in trained.out
    assert "54 series of" in trained.out
    assert "70,000 + 18,009 = 88,009 parameters, 18,009 of them trained" in trained.out
    assert printed_accuracy(trained.out) >= 0.9
    assert "│   11.1 % │" in trained.out  # the baseline: nine speakers alike
    assert f"next: longlag predict model.longlag new{suffix}" in trained.out
    assert "warning" not in trained.err.lower()

    predicted = process("predict", "model.longlag", f"new{suffix}", cwd=tmp_path)
    assert predicted.status == 0, predicted.err
    rows = rows_of(tmp_path / "predictions.csv")
    prefix = "utterance " if suffix == ".csv" else ""
    assert [row["series"] for row in rows] == [f"{prefix}{n}" for n in range(370)]
    speakers = vowels["test"][1]
    accuracy = np.mean(
        [row["prediction"] == each for row, each in zip(rows, speakers, strict=True)]
    )
    assert accuracy >= 0.95
    assert printed_accuracy(predicted.out) == pytest.approx(accuracy, abs=0.0006)
    for row in rows[:20]:
        shares = {key[12:]: float(row[key]) for key in row if key.startswith("probability_")}
        assert sorted(shares) == list("123456789")
        assert sum(shares.values()) == pytest.approx(1.0)
        assert max(shares, key=shares.__getitem__) == row["prediction"]


def probabilities(path: Path, rows_of) -> np.ndarray:
    return np.array(
        [[float(row[f"probability_{k}"]) for k in range(1, 10)] for row in rows_of(path)]
    )


def test_units_of_the_features_change_nothing_that_matters(longlag, folder, vowels_csv, rows_of):
    def other_units(case: np.ndarray) -> np.ndarray:
        return case * np.geomspace(1e-3, 1e3, 12) + np.linspace(-5.0, 5.0, 12)

    found = {}
    for name, change, extra in (
        ("plain", np.array, []),
        ("other", other_units, []),
        ("other raw", other_units, ["--no_standardise"]),
    ):
        vowels_csv(folder / "my.csv", "train", change)
        vowels_csv(folder / "new.csv", "test", change)
        options = ["--task", "classification", "--epochs", "6", "--overwrite", *extra]
        assert longlag("train", "my.csv", *options).status == 0
        assert longlag("predict", "model.longlag", "new.csv", "--overwrite").status == 0
        found[name] = probabilities(folder / "predictions.csv", rows_of)
    # Float32 inputs are rounded elsewhere in other units; training multiplies that a little.
    assert np.abs(found["plain"] - found["other"]).max() < 0.02
    assert np.abs(found["plain"] - found["other raw"]).max() > 0.5
