"""All families on real sequences: digits read pixel by pixel, and ACSF1, 1460 steps long.

ACSF1 (100 training and 100 test series, the power that 10 household appliances take) comes with
aeon. Each family has 32 units (a reservoir 320) and 5 seeds, side by side as replicas; Adam with a
one-cycle rate up to that of `longlag compare --list`, gradients clipped to a norm of 1, batches of
16, and a number of epochs that is fixed beforehand. The test set is looked at once, at the end.
What is done is kept: started again, it goes on.

    python experiments/real_sequences/run.py                      all: an hour or two on a core
    python experiments/real_sequences/run.py acsf1 gru lstm       some
"""

import json
import platform
import statistics
import sys
import time
import warnings
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import longlag as ll
from longlag.lab.bench.document import write_tables
from longlag.lab.compare.families import FAMILIES, Family
from longlag.lab.reproduce.groups import clip_each
from longlag.lab.reproduce.trials import count_weights
from longlag.tasks import Batch, SequentialDigits

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "real-sequences.md"
HIDDEN, SEEDS, BATCH = 32, 5, 16


class Set(NamedTuple):
    """Sequences with a class each: x (N, T, C) and target (N,), to train on and to test on."""

    x: torch.Tensor
    target: torch.Tensor
    test_x: torch.Tensor
    test_target: torch.Tensor
    epochs: int
    reduce: str


def digits() -> Set:
    """1442 and 355 images of 64 pixels."""
    task = SequentialDigits()
    parts = [torch.from_numpy(p) for s in (task.train, task.test) for p in (s.x, s.target)]
    return Set(*parts, epochs=40, reduce="last")


def acsf1() -> Set:
    """Series of 1460 steps, one value a step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from aeon.datasets import load_acsf1

        parts = []
        for split in ("train", "test"):
            x, target = load_acsf1(split=split)
            parts += [np.swapaxes(x, 1, 2).astype(np.float32), target.astype(np.int64)]
    return Set(*(torch.from_numpy(part) for part in parts), epochs=100, reduce="mean")


SETS = {"digits": digits, "acsf1": acsf1}


def trained(data: Set, family: Family) -> tuple[list[float], int]:
    """Test accuracies of the seeds, and the weights of one network."""
    lag, inputs = data.x.shape[1:]
    classes = int(data.target.max()) + 1
    layer = family.make(inputs, HIDDEN, lag, replicas=SEEDS, seed=1)
    model = ll.SequenceModel(layer, classes, reduce=data.reduce, seed=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=family.rate)
    batches = len(data.x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, family.rate, total_steps=data.epochs * batches
    )
    rng = torch.Generator().manual_seed(0)
    for _ in range(data.epochs):
        order = torch.stack([torch.randperm(len(data.x), generator=rng) for _ in range(SEEDS)])
        for some in order[:, : batches * BATCH].split(BATCH, dim=1):
            optimizer.zero_grad()
            output = model(data.x[some])
            target = data.target[some]
            loss = cross_entropy(output.flatten(0, 1), target.flatten(), reduction="sum") / BATCH
            loss.backward()
            clip_each(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        answers = model(data.test_x.expand(SEEDS, *data.test_x.shape)).argmax(-1)
    right = (answers == data.test_target).double().mean(1)
    return right.tolist(), count_weights(model) // SEEDS


def fitted(data: Set, family: Family) -> tuple[list[float], int]:
    """The same of reservoirs, whose readout is fitted by ridge regression."""
    lag, inputs = data.x.shape[1:]
    classes = int(data.target.max()) + 1
    right, weights = [], 0
    for seed in range(SEEDS):
        layer = family.make(inputs, HIDDEN, lag, seed=seed + 1)
        model = ll.SequenceModel(layer, classes, reduce=data.reduce, seed=seed)
        ll.fit(model, Batch(data.x, data.target, None), method=ll.Ridge())
        with torch.no_grad():
            answers = model(data.test_x).argmax(-1)
        right.append(float((answers == data.test_target).double().mean()))
        weights = count_weights(model)
    return right, weights


def table(rows: list[dict]) -> str:
    """A line a family: accuracy on each set, mean and range over the seeds."""
    lines = [f"| family | {' | '.join(f'weights | {name}, % | minutes' for name in SETS)} |"]
    lines.append("|---|" + "---:|" * 3 * len(SETS))
    for family in FAMILIES:
        cells = []
        for name in SETS:
            own = [row for row in rows if (row["set"], row["family"]) == (name, family)]
            if not own:
                cells.append("| not run |")
                continue
            right = [100 * value for value in own[0]["test_accuracy"]]
            cells.append(
                f"{own[0]['weights']:,} | {statistics.mean(right):.1f} ({min(right):.1f} to "
                f"{max(right):.1f}) | {own[0]['seconds'] / 60:.1f}"
            )
        lines.append(f"| {family} | {' | '.join(cells)} |")
    return "\n" + "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    kept = FOLDER / "results.json"
    rows = json.loads(kept.read_text())["rows"] if kept.exists() else []
    names = [name for name in SETS if name in arguments] or list(SETS)
    families = [name for name in FAMILIES if name in arguments] or list(FAMILIES)
    for name in names:
        data = SETS[name]()
        for family in (FAMILIES[key] for key in families):
            if any((row["set"], row["family"]) == (name, family.name) for row in rows):
                continue
            began = time.perf_counter()
            right, weights = (fitted if family.reservoir else trained)(data, family)
            rows.append({
                "set": name, "family": family.name, "weights": weights,
                "test_accuracy": [round(value, 4) for value in right],
                "seconds": round(time.perf_counter() - began, 1), "date": date.today().isoformat(),
            })  # fmt: skip
            print(rows[-1], flush=True)
            record = {
                "command": "python experiments/real_sequences/run.py", "units": HIDDEN,
                "seeds": SEEDS, "batch": BATCH, "torch": torch.__version__,
                "python": platform.python_version(), "threads": 1, "rows": rows,
            }  # fmt: skip
            kept.write_text(json.dumps(record, indent=1) + "\n")
    write_tables(PAGE, table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
