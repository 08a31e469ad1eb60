"""`fit` under torchrun: one process and two, each of one thread, with the same batches.

    python benchmarks/processes.py                      four minutes, on two cores left alone
    python benchmarks/processes.py --json benchmarks/processes.json

A layer of 32 or 128 units, 256 sequences of 200 steps and 16 inputs, batches of 64, Adam.
Two processes have half of each batch, and add up their gradients in memory that they share. They
take turns; what is timed is the second call of `fit`, when kernels are compiled and processes know
each other. Both must end with the same loss. A file keeps its rows of other layers and sizes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch

import longlag as ll
from longlag.lab.bench.machine import describe

SEQUENCES, STEPS, INPUTS, BATCH = 256, 200, 16, 64


def run(cell: str, hidden: int, epochs: int) -> None:
    """Train in this process, one of those that torchrun started; the first prints JSON."""
    torch.set_num_threads(1)
    x = torch.randn(SEQUENCES, STEPS, INPUTS, generator=torch.Generator().manual_seed(0))
    data = x, x[:, ::10].mean((1, 2))[:, None]
    layer = getattr(ll, cell)(INPUTS, hidden, seed=1)
    model = ll.SequenceModel(layer, 1, seed=2)
    ll.fit(model, data, epochs=1, batch_size=BATCH, seed=3)
    began = time.perf_counter()
    history = ll.fit(model, data, epochs=epochs, batch_size=BATCH, seed=4)
    seconds = time.perf_counter() - began
    if int(os.environ["RANK"]) == 0:
        rate = SEQUENCES * epochs / seconds
        print(json.dumps({"rate": rate, "loss": float(history.losses[-1]), "step": history.step}))


def measured(processes: int, cell: str, hidden: int, epochs: int) -> dict:
    """A run in some processes."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         f"--nproc_per_node={processes}", __file__, "--here", f"--cells={cell}",
         f"--hidden={hidden}", f"--epochs={epochs}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=["LSTM", "GRU"])
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        run(arguments.cells[0], arguments.hidden[0], arguments.epochs)
        return
    rows = []
    for cell in arguments.cells:
        for hidden in arguments.hidden:
            turns = [
                [measured(processes, cell, hidden, arguments.epochs) for processes in (1, 2)]
                for _ in range(arguments.turns)
            ]
            losses = [result["loss"] for result in turns[0]]
            if not abs(losses[0] - losses[1]) <= 1e-4 * losses[0]:
                sys.exit(f"{cell}: one process ends with the loss {losses[0]}, two {losses[1]}")
            rows.append(
                {
                    "cell": cell,
                    "hidden": hidden,
                    "sequences_per_second": [
                        round(statistics.median(turn[n]["rate"] for turn in turns)) for n in (0, 1)
                    ],
                    "step": [result["step"] for result in turns[0]],
                    "turns": [round(two["rate"] / one["rate"], 2) for one, two in turns],
                    "times_as_many": round(
                        statistics.median(two["rate"] / one["rate"] for one, two in turns), 2
                    ),
                }
            )
            print(rows[-1], flush=True)
    if arguments.json and arguments.json.exists():
        made = {(row["cell"], row["hidden"]) for row in rows}
        before = json.loads(arguments.json.read_text())["rows"]
        rows += [row for row in before if (row["cell"], row["hidden"]) not in made]
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
