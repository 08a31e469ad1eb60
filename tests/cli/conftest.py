"""Files as a user has them, and `longlag` in this process or in one of its own."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

Series = list[np.ndarray]


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def longlag(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`longlag` in this process."""
    from longlag.cli import main

    def run(*words: object) -> Result:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def script() -> str:
    """The command that the package installs."""
    found = shutil.which("longlag", path=str(Path(sys.executable).parent))
    assert found is not None, "the package is not installed: pip install -e ."
    return found


@pytest.fixture(scope="session")
def process(script: str) -> Callable[..., Result]:
    """`longlag` in a process of its own, as a user starts it."""

    def run(*words: object, cwd: Path) -> Result:
        done = subprocess.run(
            [script, *map(str, words)],
            cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def write_table(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def table() -> Callable[..., Path]:
    """Writes a .csv."""
    return write_table


@pytest.fixture(scope="session")
def rows_of() -> Callable[[Path], list[dict[str, str]]]:
    """Reads a .csv."""
    return read_table


@pytest.fixture(scope="session")
def vowels() -> dict[str, tuple[Series, list[str]]]:
    """The Japanese vowels: 270 utterances (T, 12) to train on, 370 held back; 9 speakers."""
    with warnings.catch_warnings():
        # aeon and what it imports deprecate parts of themselves on import
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        from aeon.datasets import load_japanese_vowels
    parts = {}
    for split in ("train", "test"):
        series, speakers = load_japanese_vowels(split=split)
        parts[split] = ([case.T for case in series], [str(each) for each in speakers])
    return parts


@pytest.fixture(scope="session")
def vowels_csv(vowels: dict[str, tuple[Series, list[str]]]) -> Callable[..., Path]:
    """Writes a part of the vowels in long form; `change` is applied to each series (T, 12)."""

    def write(
        path: Path, split: str, change: Callable[[np.ndarray], np.ndarray] = np.array
    ) -> Path:
        rows = [
            [f"utterance {n}", t, *map(repr, step), speaker]
            for n, (case, speaker) in enumerate(zip(*vowels[split], strict=True))
            for t, step in enumerate(change(case).tolist())
        ]
        return write_table(
            path, ["series", "time", *(f"lpc{c}" for c in range(12)), "target"], rows
        )

    return write


@pytest.fixture(scope="session")
def vowels_ts(vowels: dict[str, tuple[Series, list[str]]]) -> Callable[..., Path]:
    """Writes a part of the vowels as a .ts file."""

    def write(path: Path, split: str) -> Path:
        head = (
            "@problemName vowels\n@timeStamps false\n@missing false\n@univariate false\n"
            "@dimensions 12\n@equalLength false\n@classLabel true 1 2 3 4 5 6 7 8 9\n@data\n"
        )
        lines = [
            ":".join([*(",".join(map(repr, channel)) for channel in case.T.tolist()), speaker])
            for case, speaker in zip(*vowels[split], strict=True)
        ]
        path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def walks(seed: int, count: int = 40) -> list[list[object]]:
    """Rows series, time, step, noise, target: whether a walk ends "up" or "down"."""
    rng = np.random.default_rng(seed)
    rows: list[list[object]] = []
    for n in range(count):
        steps = rng.normal(size=int(rng.integers(4, 9)))
        label = "up" if steps.sum() > 0 else "down"
        rows += [[f"w{n}", t, float(s), float(rng.normal()), label] for t, s in enumerate(steps)]
    return rows


WALKS = ["series", "time", "step", "noise", "target"]


@pytest.fixture
def walks_csv(folder: Path) -> Path:
    """Forty short walks with two classes: a file that trains in a moment."""
    return write_table(folder / "walks.csv", WALKS, walks(0))


@pytest.fixture
def new_walks_csv(folder: Path) -> Path:
    """Twenty more walks, with their classes."""
    return write_table(folder / "new.csv", WALKS, walks(1, 20))


@pytest.fixture
def small() -> list[str]:
    """Options for a run that takes a moment."""
    return ["--task", "classification", "--hidden", "4", "--epochs", "2"]


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A command leaves the number of threads as it was."""
    import torch

    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
