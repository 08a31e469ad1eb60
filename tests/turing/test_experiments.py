"""The kept experiments run, in small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments" / "turing"


def run(name: str, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_the_beaver_is_compared_with_the_simulator(tmp_path):
    run("run.py", "--folder", tmp_path, "--max_steps", 30_000)
    record = json.loads((tmp_path / "compact.json").read_text())
    assert (record["units"], record["steps"], record["halted"]) == (23, 30_000, False)
    assert record["equal to the simulator"]
    assert (tmp_path / "figure.png").exists()


@pytest.mark.long
def test_networks_are_trained_on_traces(tmp_path):
    lines = run("learning.py", "--quick", "--folder", tmp_path).splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 20
    for row in rows:
        if row["start"] == "compiled":
            assert row["before, short"] == row["before, long"] == 1.0
        else:
            assert row["last loss"] < row["first loss"]
