"""Sparse reservoirs beside reservoirpy: the same W, the same input, in turns.

    python -m venv peer && peer/bin/pip install reservoirpy==0.4.2 jax      once
    python benchmarks/reservoirs.py --peer-python peer/bin/python
    python benchmarks/reservoirs.py --peer-python peer/bin/python --cases series-500,closed-1000

W has 10 % entries, of float32 numbers; reservoirpy computes in float64, longlag in float32. Each
runs in a process of its own, A A B B A A B B, with the threads that it uses by default; a time is
the least of all turns. With --busy it is processor time, of one thread each. A case has a ratio
only where the states agree to 1e-6. The last lines are longlag alone: a sparse W beside a dense one
of the same size. A file keeps its rows of other cases.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch

import longlag as ll
from longlag.lab.bench.machine import describe

LEAK, BOUND = 0.3, 1e-6
PEER = Path(__file__).with_name("reservoirs_peer.py")

CASES = {
    # name: kind, units, sequences, steps, turns, the ratio that is asked for
    "series-100": ("series", 100, 1, 5000, 20, 12),
    "series-500": ("series", 500, 1, 5000, 20, 12),
    "series-1000": ("series", 1000, 1, 5000, 9, 8),
    "series-2000": ("series", 2000, 1, 5000, 3, 5),
    "jax-500": ("jax", 500, 1, 5000, 5, 5),
    "batch-500": ("batch", 500, 64, 5000, 3, 15),
    "closed-1000": ("closed", 1000, 1, 10_000, 6, 10),
}
DENSE = {  # name: units, sequences, steps, the ratio that is asked for
    "dense-1": (1000, 1, 2000, 3),
    "dense-32": (1000, 32, 100, 3),
}


def reservoir(units: int, density: float = 0.1) -> ll.EchoState:
    return ll.EchoState(1, units, spectral_radius=0.9, leak=LEAK, density=density, seed=0)


def seconds(run: Callable[[], object], clock: str) -> float:
    now = time.process_time if clock == "processor" else time.perf_counter
    start = now()
    run()
    return now() - start


def beside_the_peer(name: str, python: str, folder: Path, clock: str) -> dict[str, object]:
    """One case; its times are those of a step of one sequence, in microseconds."""
    kind, units, batch, steps, turns, wanted = CASES[name]
    layer = reservoir(units)
    model = ll.SequenceModel(layer, 1, reduce=None, seed=0)
    x = np.random.default_rng(0).standard_normal((batch, steps, 1)).astype(np.float32)
    read, series = model.readout, torch.from_numpy(x)
    with torch.no_grad():
        read.bias.fill_(0.5)  # from zero, all would stay zero
    assert layer.entries is not None
    data = folder / f"{name}.npz"
    np.savez(
        data, values=layer.weight_hh.detach().double(), indices=layer.entries.indices.int(),
        indptr=layer.entries.indptr.int(), input=layer.weight_ih.detach().double(), leak=LEAK,
        x=x.astype(np.float64), readout=read.weight.detach().double(), steps=steps,
        bias=read.bias.detach().double(),
    )  # fmt: skip
    states = folder / f"{name}.npy"
    command = [python, str(PEER), str(data), kind, str(states)]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert peer.stdin
    assert peer.stdout

    @torch.no_grad()
    def run() -> torch.Tensor:
        if kind == "closed":
            return model.generate(steps)[0][0]
        return layer(series)[0][-1]

    mine = run().double().numpy()
    if peer.stdout.readline() != "ready\n":
        sys.exit(f"{name}: the peer has stopped; see above")
    theirs = np.load(states)
    differs = float(np.abs(mine - theirs).max())
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for _ in range(2):  # the first call gets the memory of its result from the system
            times[0].append(seconds(run, clock))
        for _ in range(2):
            peer.stdin.write(f"{clock}\n")
            peer.stdin.flush()
            times[1].append(float(peer.stdout.readline()))
    peer.stdin.close()
    peer.wait()
    ours, other = (min(some) / steps / batch * 1e6 for some in times)
    ratio = other / ours if differs < BOUND else None
    return {"case": name, "longlag": ours, "peer": other, "ratio": ratio, "wanted": wanted,
            "differs": differs}  # fmt: skip


def beside_dense(name: str, clock: str) -> dict[str, object]:
    """A sparse W and a dense one of longlag, forward."""
    units, batch, steps, wanted = DENSE[name]
    layers = reservoir(units), ll.Leaky(1, units, leak=LEAK, seed=0)
    x = torch.randn(batch, steps, 1)
    with torch.no_grad():
        for layer in layers:
            layer(x)
        rounds = [
            [seconds(lambda layer=layer: layer(x), clock) for layer in layers] for _ in range(7)
        ]
    sparse, dense = (min(some) / steps / batch * 1e6 for some in zip(*rounds, strict=True))
    return {"case": name, "longlag": sparse, "peer": dense, "ratio": dense / sparse,
            "wanted": wanted, "differs": None}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="a Python that has reservoirpy; else without it")
    parser.add_argument("--cases", help="some of " + ", ".join((*CASES, *DENSE)))
    parser.add_argument(
        "--busy", action="store_true",
        help="the machine has other work: processor time of one thread each",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="where to write the result")
    arguments = parser.parse_args()
    names = arguments.cases.split(",") if arguments.cases else [*CASES, *DENSE]
    unknown = [name for name in names if name not in CASES and name not in DENSE]
    if unknown:
        parser.error(f"--cases: got {unknown[0]!r}, expected some of {', '.join((*CASES, *DENSE))}")
    if arguments.peer_python is None:
        names = [name for name in names if name in DENSE]
    rows, clock = [], "wall"
    if arguments.busy:
        clock = "processor"
        torch.set_num_threads(1)
    print("case          longlag       peer   ratio  wanted  states differ by")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if name in DENSE:
                row = beside_dense(name, clock)
            else:
                row = beside_the_peer(name, arguments.peer_python, Path(folder), clock)
            rows.append(row)
            ratio = "differs" if row["ratio"] is None else f"{row['ratio']:.1f}"
            differs = "" if row["differs"] is None else f"{row['differs']:.1e}"
            print(f"{name:12} {row['longlag']:8.2f} us {row['peer']:8.2f} us {ratio:>6} "
                  f"{row['wanted']:>6}  {differs}", flush=True)  # fmt: skip
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "threads": torch.get_num_threads(),
        "clock": clock,
        "microseconds_a_step": rows,
    }
    if arguments.json:
        if arguments.json.exists():
            before = json.loads(arguments.json.read_text())["microseconds_a_step"]
            known = {row["case"]: row for row in (*before, *rows)}
            rows[:] = [known[name] for name in (*CASES, *DENSE) if name in known]
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if any(row["ratio"] is None for row in rows):
        sys.exit("some states differ: the figures mean nothing")


if __name__ == "__main__":
    main()
