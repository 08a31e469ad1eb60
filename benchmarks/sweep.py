"""Many small networks of one shape: side by side in one process, and in processes.

    python benchmarks/sweep.py                     256 replicas, 32 networks in 2 processes
    python benchmarks/sweep.py --json run.json

200 sequences of 30 steps, 2 classes, a GRU of H units, 5 epochs; each network has its own learning
rate. Replicas take two threads, two processes one core each. Both compile their kernels before the
clock counts: a first run of all replicas, and the first network of each process, are left out. It
is checked that both reach the same losses, to 1e-5 in the median. `start` is what two processes
take until their first networks are done: Python, PyTorch, the data, one network; with a process for
each network, each takes that.
"""

import argparse
import json
import os
import time
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import torch

from longlag.data import SequenceData
from longlag.lab.bench.machine import describe
from longlag.lab.sweep import runners
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.settings import Settings


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=256)
    parser.add_argument("--alone", type=int, default=32, help="networks trained in processes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hidden", default="8,16,32", help="H, with commas")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 30, 1)).astype(np.float32)
    target = np.where(x[:, :, 0].sum(1) > 0, "up", "down")
    names = tuple(map(str, range(200)))
    parts = hold_out(
        SequenceData(x, np.full(200, 30), target, names), "classification", share=0.2, seed=0
    )
    rates = 10 ** rng.uniform(-3.5, -1.5, options.replicas)
    results = [measure(options, parts, rates, int(size)) for size in options.hidden.split(",")]
    if options.json is not None:
        run = {"date": str(date.today()), "machine": describe()["processor"]}
        run |= {"cores": os.cpu_count(), "torch": torch.__version__, "results": results}
        options.json.write_text(json.dumps(run, indent=1) + "\n")


def measure(options, parts, rates, hidden):
    trials = [
        Settings(
            "classification", hidden=hidden, epochs=5, patience=None, learning_rate=float(rate)
        )
        for rate in rates
    ]
    list(runners.side_by_side(parts, trials, options.workers, None))
    began = time.perf_counter()
    results = list(runners.side_by_side(parts, trials, options.workers, None))
    replica = (time.perf_counter() - began) / len(trials)
    same = [result.value for _, result in results]
    began = time.perf_counter()
    ends, seconds, apart = [], [], []
    for number, result in runners.processes(parts, trials[: options.alone], options.workers, None):
        ends.append(time.perf_counter() - began)
        seconds.append(result.seconds)
        apart.append(abs(result.value / same[number] - 1))
    if median(apart) > 1e-5:  # at the highest rates rounding grows to a hundredth in 50 updates
        raise AssertionError(f"losses are apart by {sorted(apart)}")
    start = ends[options.workers - 1]
    network = median(sorted(seconds)[: -options.workers])
    whole = replica * len(trials)
    row = {
        "hidden": hidden,
        "losses apart, median": median(apart),
        "replicas": len(trials),
        "seconds a replica": replica,
        "seconds a network in a process": network,
        "workers": options.workers,
        "start": start,
        "times as fast as in processes": (start + len(trials) * network / options.workers) / whole,
        "times as fast as a process each": start * len(trials) / options.workers / whole,
    }
    print(", ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    return row


if __name__ == "__main__":
    main()
