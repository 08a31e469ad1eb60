"""Many small networks: 64 of one form against one, side by side and in turns.

    python benchmarks/replicas.py                    64 networks, one and two threads
    python benchmarks/replicas.py --json run.json

Each network has weights, an order of the data and a loss of its own; updates are Adam's, 128 of
them in a call, so that what Python does around a call is in the time. First is the net of 1997: one
sequence of 100 steps and 2 inputs, 12 units, one number put out after the last step. `one` is one
network alone. All take turns; the least of 8 turns counts, ratios are medians over the turns. It is
checked first that side by side and in turns give the same losses. `one in a row` is one network
alone, again and again: its code and numbers then wait in the first cache.
"""

import argparse
import json
import os
import time
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from torch.optim import Adam

import longlag as ll
from longlag.batch import Batch
from longlag.lab.bench.machine import describe
from longlag.training.compiled import networks

FORMS = [
    (ll.Elman, 1, 100, 2, 12),
    (ll.LSTM, 1, 100, 2, 12),
    (ll.GRU, 1, 100, 2, 12),
    (ll.Elman, 1, 100, 2, 16),
    (ll.GRU, 32, 30, 1, 8),
]
"""Layer, sequences of a batch, steps, inputs, units."""

SEQUENCES, UPDATES, TURNS = 200, 128, 8


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--threads", default="1,2", help="with commas")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    threads, results = [int(n) for n in options.threads.split(",")], []
    for form in FORMS:
        results += [measure(form, options.networks, count) for count in threads]
    if options.json is not None:
        run = {"date": str(date.today()), "machine": describe()["processor"]}
        run |= {"cores": os.cpu_count(), "torch": torch.__version__, "results": results}
        options.json.write_text(json.dumps(run, indent=1) + "\n")


def taking_turns(turns):
    """Networks take turns, whatever their form."""
    return patch.object(networks, "networks_at_once", lambda *_: 1) if turns else nullcontext()


def seconds(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(form, count, threads):
    layer, size, steps, inputs, hidden = form
    generator = torch.Generator().manual_seed(0)
    data = Batch(
        torch.randn(SEQUENCES, steps, inputs, generator=generator),
        torch.randn(SEQUENCES, 1, generator=generator),
    )

    def make(seed):
        return ll.SequenceModel(layer(inputs, hidden, seed=seed), 1, seed=seed)

    def group(number, turns):
        models = [make(seed) for seed in range(number)]
        optimizers = [Adam(models[0].parameters(), 1e-3) for _ in models]
        starts = [dict(model.named_parameters()) for model in models]
        made = networks.Networks(
            models[0], "mse", optimizers, starts, range(number), 1 if number == 1 else threads
        )
        orders = [
            np.random.default_rng(n).integers(0, SEQUENCES, (UPDATES, size)) for n in range(number)
        ]

        def run():
            table = [made.coefficients_of(n, UPDATES) for n in range(number)]
            with taking_turns(turns):
                return made.run(data, range(number), orders, table, [1.0] * number)[0]

        return run

    contenders = {
        "one": group(1, True),
        "in turns": group(count, True),
        "side by side": group(count, False),
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first = {name: run() for name, run in contenders.items()}
        apart = np.abs(first["side by side"] / first["in turns"] - 1)[:, :10].max()
        assert apart < 1e-3, f"losses are apart by {apart}"
        times = {name: [] for name in (*contenders, "one in a row")}
        for _ in range(TURNS):
            for name, run in contenders.items():
                times[name].append(seconds(run))
        times["one in a row"] = [seconds(contenders["one"]) for _ in range(TURNS)]
    finally:
        torch.set_num_threads(before)

    def ratio(one, other):
        return median(a / b for a, b in zip(times[one], times[other], strict=True))

    row = {
        "form": f"{layer.__name__} {', '.join(map(str, form[1:]))}",
        "networks": count,
        "threads": threads,
        "losses apart": float(apart),
        "microseconds": {name: round(min(some) / UPDATES * 1e6, 1) for name, some in times.items()},
        "all over one, side by side": round(ratio("side by side", "one"), 2),
        "all over one, in turns": round(ratio("in turns", "one"), 2),
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
