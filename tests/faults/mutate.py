"""Reads files with faults, within bounded memory: ``python mutate.py FOLDER COUNT SEED``.

Prints JSON: how often each outcome came, and each outcome that is no documented one, with the
number of its case.
"""

import json
import random
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

import longlag as ll
from longlag.data import DataError, SequenceData, read
from longlag.data.room import GROWTH, ROOM
from longlag.layers.saving import load_with_metadata
from longlag.storage import ArchiveError
from longlag.training.checkpoints import CheckpointFile

MEMORY = 4 << 30
"""Bytes that reading may take beside what the process has: the bound, and copies on the way."""

SECONDS = 20.0
"""A fault must not make the reading of a small file long."""

WORDS = (
    b"", b"0", b"-1", b"1e999", b"-1e39", b"1e-320", b"nan", b"NaN", b"inf", b"?", b"99999999999",
    b"18446744073709551615", b"1_0", b"\0", b"\xff", b"\xed\xa0\x80", b"\r", b"\r\n", b"\n", b",",
    b'"', b":", b"@data", b"@classLabel", b"sep=,", b"series", b"time", b"target", b"\xef\xbb\xbf",
    b"2024-01-01T00:00:00.123456789Z", b"2024-13-01", b"<NA>", b"\xff" * 8, b"\x7f" * 4,
)  # fmt: skip
"""What a fault may put somewhere."""


Whole = tuple[bytes, str]
"""The bytes of a file, and the task that it is for."""


def tables() -> dict[str, list[Whole]]:
    """Small files of each kind of text."""
    rows = [f"s{n},{t},{n * t / 3},{t - n}" for n in range(3) for t in range(2 + n)]
    last = {sum(range(2, 3 + n)) - 1 for n in range(3)}
    constant = [f"{row},{'ab'[row[1] == '1']}" for row in rows]
    at_the_end = [f"{row},{at if at in last else ''}" for at, row in enumerate(rows)]
    by_step = 'u,2024-01-01T00:00:00Z,1.5,"a ""b"", c"\nu,2024-01-02T00:00:00Z,-2,d\n'
    numbers = [f"u,{t / 8},{t}" for t in range(40)]
    csv = [
        ("series,time,f,g\n" + "\n".join(rows) + "\n", "forecasting"),
        ("series,time,f,g,target\n" + "\n".join(constant) + "\n", "classification"),
        ("series,time,f,g,target\r\n" + "\r\n".join(at_the_end), "regression"),
        ("series,time,f,target\n" + by_step, "tagging"),
        ("series,time,f\n" + "\n".join(numbers), "forecasting"),
    ]
    ts = [
        (
            "@problemName p\n@univariate true\n@equalLength true\n@seriesLength 3\n"
            "@classLabel true a b\n@data\n1,2,3:a\n4,5.5,6:b\n",
            "classification",
        ),
        (
            "@problemName p\n@univariate false\n@dimensions 2\n@equalLength false\n"
            "@classLabel true 1 2\n@data\n1,2:3,4:1\n5,6,7:8,9,1e3:2\n",
            "classification",
        ),
        (
            "@problemName p\n@univariate true\n@equalLength true\n@seriesLength 2\n"
            "@targetLabel true\n@data\n1,2:0.5\n3,4:-1\n",
            "regression",
        ),
    ]
    kinds = {".csv": csv, ".ts": ts}
    return {kind: [(text.encode(), task) for text, task in texts] for kind, texts in kinds.items()}


def arrays(folder: Path) -> dict[str, list[Whole]]:
    """Small files of each kind of bytes."""
    draw = np.random.default_rng(0)
    x, path = draw.normal(size=(3, 4, 2)), folder / "made"
    written = []
    labels, lengths = np.array(["a", "b", "a"]), np.array([4, 2, 1])
    for save, task, parts in (
        (np.savez, "classification", {"x": x, "y": labels, "lengths": lengths}),
        (np.savez_compressed, "classification", {"x": x.astype(np.float32), "y": np.arange(3)}),
        (np.savez, "regression", {"x": x.astype(np.int16), "y": draw.normal(size=(3, 2))}),
        (np.savez_compressed, "tagging", {"x": x, "y": np.array([[0, 1, 1, 0]] * 3)}),
    ):
        with open(path, "wb") as file:
            save(file, **parts)
        written.append((path.read_bytes(), task))
    frames = []
    for task, columns in (
        ("forecasting", {"series": ["a", "a", "b"], "time": [0, 1, 0], "f": [0.5, 2.0, 1.0]}),
        (
            "tagging",
            {
                "series": [1, 1, 2],
                "time": [0, 1, 0],
                "f": [1.0, 2.0, 3.0],
                "target": ["u", "u", "v"],
            },
        ),
    ):
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        frames.append((path.read_bytes(), task))
    return {".npz": written, ".parquet": frames}


def archives(folder: Path) -> list[Whole]:
    """Saved models, and the state of a run."""
    torch.manual_seed(0)
    path, written = folder / "made", []
    for model in (
        ll.GRU(2, 3, density=0.5),
        ll.SequenceModel(ll.Stack(ll.Elman(2, 4), ll.LSTM(4, 3)), 2),
    ):
        ll.save(model, path)
        written.append((path.read_bytes(), "model"))
    run = folder / "run"
    model = ll.SequenceModel(ll.Elman(1, 2), 1)
    data = torch.randn(4, 3, 1), torch.randn(4, 1)
    ll.fit(model, data, steps=1, checkpoint=run, progress=False)
    written.append(((run / "checkpoint.longlag").read_bytes(), "run"))
    return written


def with_faults(draw: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """The bytes, changed in one to three ways."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        at, size = draw.randrange(len(data) + 1), draw.choice((1, 2, 8, 60))
        kind = draw.randrange(8)
        if kind == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + draw.choice(WORDS) + data[at:]
        elif kind == 2:
            data = data[:at] + draw.choice(WORDS) + data[at + size :]
        elif kind == 3:
            data = data[:at]
        elif kind == 4:
            data = data[:at] + data[at : at + size] * draw.choice((2, 3, 2_000)) + data[at + size :]
        elif kind == 5:
            lines = data.splitlines(keepends=True)
            draw.shuffle(lines)
            data = b"".join(lines)
        elif kind == 6:
            cells = data.split(b",")
            cells[draw.randrange(len(cells))] = draw.choice(WORDS)
            data = b",".join(cells)
        else:
            other = draw.choice(others)
            data = data[:at] + other[draw.randrange(len(other)) :]
    return data


def check(data: SequenceData, size: int) -> None:
    """What was read is what `SequenceData` promises, and no larger than the bound."""
    assert data.x.nbytes <= max(ROOM, GROWTH * size)
    assert np.isfinite(data.x).all()
    assert data.lengths.min() >= 1
    assert data.lengths.max() == data.x.shape[1]
    assert len(data.names) == len(data.lengths) == len(data.x)


def read_table(path: Path, task: str) -> None:
    """Read a table."""
    check(read(path, task=task), path.stat().st_size)


def read_archive(path: Path, task: str) -> None:
    """Read a model, or the state of a run."""
    if task == "model":
        load_with_metadata(path)
    else:
        CheckpointFile(path).load()


def readings(folder: Path) -> list[tuple[str, list[Whole], Callable[[Path, str], None]]]:
    """By kind of file: its name, whole ones, what reads them."""
    files = tables() | arrays(folder)
    kinds = [(f"walks{suffix}", whole, read_table) for suffix, whole in files.items()]
    return [*kinds, ("model.longlag", archives(folder), read_archive)]


def limit_memory() -> None:
    """Nothing beyond `MEMORY` can be allocated from now on."""
    words = Path("/proc/self/statm").read_text().split()
    most = int(words[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(folder: Path, count: int, seed: int) -> None:
    """See the module."""
    warnings.simplefilter("ignore")
    kinds = readings(folder)
    for name, whole, reading in kinds:  # what reading imports is there before memory is limited
        for data, task in whole:
            (folder / name).write_bytes(data)
            reading(folder / name, task)
    limit_memory()
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for case in range(count):
        draw = random.Random(f"{seed} {case}")
        name, whole, reading = kinds[case % len(kinds)]
        path = folder / name
        data, task = draw.choice(whole)
        path.write_bytes(with_faults(draw, data, [other for other, _ in whole]))
        started = time.perf_counter()
        try:
            reading(path, task)
            outcome = "read"
        except (DataError, ArchiveError) as error:
            outcome = "refused"
            if not str(error).startswith(str(path)) or "\n" in str(error).strip():
                wrong.append(f"{case}: {name}: the message {str(error)!r:.300}")
        except Exception as error:
            outcome = type(error).__name__
            wrong.append(f"{case}: {name}: {error!r:.300}")
        outcomes[f"{path.suffix} {outcome}"] += 1
        if time.perf_counter() - started > SECONDS:
            wrong.append(f"{case}: {name}: {time.perf_counter() - started:.0f} s")
    print(json.dumps({"outcomes": outcomes, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
