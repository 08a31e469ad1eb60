"""What MemoryRecorder costs at its default rate: the same training with it and without, in turns.

    python benchmarks/recorder.py                       three trainings, five turns each: minutes
    python benchmarks/recorder.py --seconds 2 --turns 2

Three trainings: an LSTM of torch.nn in a plain loop, and a GRU and an Elman
network of longlag in `fit`. Each turn trains the same updates without, with, and without the
recorder once more; the second of the plain ones tells what the machine's own noise is. Times are of
the updates alone; what making the recorder takes, before the first one, is given beside them. All
must end with the same bits; the ratio is the median over turns of recorded over plain.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from torch import nn

import longlag as ll
from longlag.lab.bench.machine import describe

BATCH, STEPS, INPUTS, HIDDEN, CLASSES = 32, 100, 8, 64, 4


class Torch(nn.Module):
    """nn.LSTM with a readout of its last output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(INPUTS, HIDDEN, batch_first=True)
        self.readout = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(self.lstm(x)[0][:, -1])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "nn.LSTM, plain loop": Torch,
    "ll.GRU, fit": lambda: ll.SequenceModel(ll.GRU(INPUTS, HIDDEN, seed=0), CLASSES, seed=1),
    "ll.Elman, fit": lambda: ll.SequenceModel(ll.Elman(INPUTS, HIDDEN, seed=0), CLASSES, seed=1),
}


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and which quarter of it has the largest first channel."""
    x = torch.randn(20 * BATCH, STEPS, INPUTS, generator=torch.Generator().manual_seed(0))
    return x, x[..., 0].unflatten(1, (CLASSES, -1)).mean(-1).argmax(-1)


def train(name: str, updates: int, recorded: bool) -> dict:
    """One training: seconds of its updates, and what it ends with."""
    model, (x, target) = MODELS[name](), data()
    started = time.perf_counter()
    recorder = ll.MemoryRecorder(model, x, target) if recorded else None
    made = time.perf_counter() - started
    if name.endswith("fit"):
        callbacks = [] if recorder is None else [recorder]
        # Its record says how long the updates took, without what `fit` sets up before them.
        history = ll.fit(
            model, (x, target), steps=updates, callbacks=callbacks, progress=False,
            validate_every=updates,
        )  # fmt: skip
        seconds = history.records[-1].seconds
    else:
        optimizer = torch.optim.Adam(model.parameters())
        started = time.perf_counter()
        for update in range(updates):
            rows = slice(update % 20 * BATCH, (update % 20 + 1) * BATCH)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), target[rows]).backward()
            optimizer.step()
            if recorder is not None:
                recorder.step()
        seconds = time.perf_counter() - started
    bits = b"".join(weight.detach().numpy().tobytes() for weight in model.parameters())
    found = {"seconds": seconds, "weights": hashlib.sha256(bits).hexdigest()[:16]}
    if recorder is not None:
        costs = [record.cost for record in recorder.records[1:]]
        found |= {
            "made": made,
            "records": len(recorder.records),
            "spent": recorder.spent,
            "cost": statistics.median(costs) if costs else None,
        }
    return found


def compare(name: str, seconds: float, turns: int) -> dict:
    train(name, 20, recorded=True)  # libraries, kernels
    few = train(name, 40, recorded=False)["seconds"]
    updates = max(40, round(40 * seconds / few))
    runs: dict[str, list[dict]] = {"before": [], "recorded": [], "after": []}
    for _ in range(turns):
        for kind, found in runs.items():
            found.append(train(name, updates, recorded=kind == "recorded"))
            print(f"{name}: {kind} {found[-1]}", flush=True)
    if len({each["weights"] for found in runs.values() for each in found}) != 1:
        sys.exit("the runs differ: the figures mean nothing")
    median = {
        kind: statistics.median(each["seconds"] for each in found) for kind, found in runs.items()
    }
    plain = [each["seconds"] for kind in ("before", "after") for each in runs[kind]]
    # Turn by turn, beside the plain trainings just before and after: the machine drifts.
    ratios = [
        recorded["seconds"] / statistics.mean((before["seconds"], after["seconds"]))
        for before, recorded, after in zip(*runs.values(), strict=True)
    ]
    return {
        "updates": updates,
        "plain_seconds": statistics.median(plain),
        "recorded_seconds": median["recorded"],
        "ratio": statistics.median(ratios),
        "ratio_by_turn": ratios,
        "ratio_of_plain_to_plain": median["after"] / median["before"],
        "spent": statistics.median(each["spent"] for each in runs["recorded"]),
        "records": statistics.median(each["records"] for each in runs["recorded"]),
        "seconds_to_make": statistics.median(each["made"] for each in runs["recorded"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of one plain training")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {name: compare(name, arguments.seconds, arguments.turns) for name in MODELS}
    result = {
        "date": date.today().isoformat(),
        "command": " ".join(["python", "benchmarks/recorder.py", *sys.argv[1:]]),
        "machine": describe()["processor"],
        "threads": arguments.threads,
        "batch": BATCH, "steps": STEPS, "inputs": INPUTS, "hidden": HIDDEN,
        "trainings": found,
        "worst_ratio": max(each["ratio"] for each in found.values()),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
