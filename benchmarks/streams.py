"""A stream of ten million steps: read from disk while training, and from memory.

    python benchmarks/streams.py                 ten million steps, about a minute
    python benchmarks/streams.py --steps 1000000

Writes the stream to a folder that is deleted afterwards, trains one epoch on it by truncated
backpropagation through time, from the files and from arrays in memory, in turns and each in a
process of its own, and prints times, their ratio, and by how much memory rose above what the
interpreter and its libraries take. Both runs must end with the same bits.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

import longlag as ll
from longlag.lab.bench.machine import describe

CHANNELS, HIDDEN, ROWS, K1 = 8, 64, 32, 100


def model() -> ll.SequenceModel:
    """A GRU that says something at every step."""
    return ll.SequenceModel(ll.GRU(CHANNELS, HIDDEN, seed=0), 1, reduce=None, seed=1)


def train(network: ll.SequenceModel, data: ll.Streams) -> float:
    """Seconds of one epoch."""
    started = time.perf_counter()
    ll.fit(
        network, data, method=ll.TruncatedBPTT(K1), epochs=1, batch_size=ROWS, progress=False,
        validate_every=10**9,
    )  # fmt: skip
    return time.perf_counter() - started


def megabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(kind: str, folder: Path) -> None:
    """One run, as a process of its own; prints JSON."""
    torch.set_num_threads(1)
    short = np.zeros((ROWS * K1 * 3, CHANNELS), np.float32)
    train(model(), ll.Streams(short, short[:, :1]))  # libraries, kernels
    paths = folder / "x.npy", folder / "y.npy"
    before = megabytes()
    data = ll.Streams(*(paths if kind == "disk" else (np.load(path) for path in paths)))
    network = model()
    seconds = train(network, data)
    weights = b"".join(w.detach().numpy().tobytes() for w in network.parameters())
    found = {
        "seconds": seconds,
        "megabytes": megabytes() - before,
        "weights": hashlib.sha256(weights).hexdigest()[:16],
    }
    print(json.dumps(found))


def write(folder: Path, steps: int) -> None:
    """The stream: a random walk in eight channels, and the sign of its first."""
    generator = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (steps, CHANNELS))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.float32, (steps, 1))
    for first in range(0, steps, 100_000):
        part = generator.normal(size=(min(100_000, steps - first), CHANNELS)).astype(np.float32)
        x[first : first + len(part)] = part
        y[first : first + len(part)] = np.tanh(np.convolve(part[:, 0], np.ones(20), "same"))[
            :, None
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--kind", choices=["disk", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.kind:
        run(arguments.kind, arguments.folder)
        return
    found: dict[str, list[dict]] = {"disk": [], "memory": []}
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), arguments.steps)
        for _ in range(arguments.turns):
            for kind, results in found.items():
                command = [sys.executable, __file__, "--kind", kind, "--folder", name]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                results.append(json.loads(done.stdout))
                print(kind, results[-1], flush=True)
    if len({each["weights"] for results in found.values() for each in results}) != 1:
        sys.exit("the runs differ: the figures mean nothing")
    disk, memory = (min(each["seconds"] for each in found[kind]) for kind in ("disk", "memory"))
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "steps": arguments.steps, "channels": CHANNELS, "hidden": HIDDEN, "rows": ROWS, "k1": K1,
        "disk_seconds": disk,
        "memory_seconds": memory,
        "disk_speed_of_memory": memory / disk,
        "disk_megabytes": max(each["megabytes"] for each in found["disk"]),
        "memory_megabytes": max(each["megabytes"] for each in found["memory"]),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
