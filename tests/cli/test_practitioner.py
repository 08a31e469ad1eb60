"""The four files of a practitioner, each by one `train` and one `predict`, as they are."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "practitioner.py"
pytestmark = pytest.mark.filterwarnings("always::longlag.data.DataWarning")  # they are printed


def commands(folder: Path, scale: float) -> dict[str, list[str]]:
    """The commands that the example prints, by the name of the file."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), "--scale", str(scale)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    return {lines[at].split(" --output ")[1][:-8]: lines[at : at + 2] for at in range(0, 8, 2)}


def measures(out: str) -> list[tuple[float, float]]:
    """Of the last table that was printed: each measure of model and baseline."""
    rows = [line.split("│")[2:4] for line in out.split("┡")[-1].splitlines() if "│" in line]
    cells = [[cell.strip().rstrip(" %") for cell in row] for row in rows]
    return [tuple(map(float, row)) for row in cells if all(row)]  # a long name takes two lines


def run(longlag, folder: Path, scale: float, name: str, *more: str):
    train, predict = commands(folder, scale)[name]
    done = longlag(*shlex.split(train)[1:], *more)
    assert done.status == 0, done.err
    done = longlag(*shlex.split(predict)[1:])
    assert done.status == 0, done.err
    assert (folder / f"{name}_answers.csv").exists()
    return measures(done.out)


@pytest.mark.parametrize("name", ["machines", "stream", "sales", "life"])
def test_a_tenth_of_each_file_goes_through(folder, longlag, name):
    """In three epochs it learns little; that it learns is seen in `make test-long`."""
    assert run(longlag, folder, 0.1, name, "--epochs", "3", "--hidden", "8")


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "factor"), [("machines", 1.05), ("stream", 2.5), ("sales", 0.8), ("life", 0.6)]
)
def test_the_whole_of_each_file_is_learnt(folder, longlag, name, factor):
    """By the first measure: a share that is larger, or an error that is smaller, by this factor."""
    model, baseline = run(longlag, folder, 1.0, name)[0]
    assert model > factor * baseline if factor > 1 else model < factor * baseline
