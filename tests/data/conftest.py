"""Real data without a network: the Japanese vowels that aeon carries (12 channels, 7-29 steps)."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def vowels() -> tuple[list[np.ndarray], list[str]]:
    """The training part: 270 utterances (T, 12) in float64, and the speakers "1" to "9"."""
    with warnings.catch_warnings():
        # aeon and what it imports deprecate parts of themselves on import
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        from aeon.datasets import load_japanese_vowels
    series, speakers = load_japanese_vowels(split="train")
    return [case.T for case in series], [str(speaker) for speaker in speakers]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a text, as it stands, to a file of the test."""

    def write_text(text: str, name: str = "walks.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode("utf-8"))
        return path

    return write_text


@pytest.fixture
def vowels_csv(tmp_path: Path, vowels: tuple[list[np.ndarray], list[str]]) -> Path:
    """The vowels in long form, the rows of all series shuffled together."""
    series, speakers = vowels
    rows = [
        [f"utterance {n:03d}", t, *map(repr, case[t].tolist()), speaker]
        for n, (case, speaker) in enumerate(zip(series, speakers, strict=True))
        for t in range(len(case))
    ]
    first = [row for row in rows if row[1] == 0]
    rest = [row for row in rows if row[1] != 0]
    np.random.default_rng(0).shuffle(rest)
    path = tmp_path / "vowels.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        names = [f"lpc{c}" for c in range(12)]
        csv.writer(file).writerows([["series", "time", *names, "target"], *first, *rest])
    return path


@pytest.fixture
def vowels_ts(tmp_path: Path, vowels: tuple[list[np.ndarray], list[str]]) -> Path:
    """The vowels as a .ts file."""
    head = (
        "@problemName vowels\n@timeStamps false\n@missing false\n@univariate false\n"
        "@dimensions 12\n@equalLength false\n@classLabel true 1 2 3 4 5 6 7 8 9\n@data\n"
    )
    lines = [
        ":".join([*(",".join(map(repr, channel)) for channel in case.T.tolist()), speaker])
        for case, speaker in zip(*vowels, strict=True)
    ]
    path = tmp_path / "vowels.ts"
    path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return path
