"""Long lags: adding at 2,000, 10,000 and 100,000 steps, copying over 2,000.

Adding (one number marked in each half, their sum at the end) is learned by a GRU of 32 units whose
gate biases are drawn for the lag; the mean squared error on fresh sequences has to fall below 0.01,
without memory it is 1/6. Copying by tanh units that read their state of 1 and of T + 10 steps
before: the lag is known to them; the cross-entropy on fresh sequences has to fall below a tenth of
what it is without memory. Adam, gradients clipped to a norm of 1, 16 sequences to an update, each
seen once. What is done is kept; started again, it goes on.

    python experiments/long_lags/run.py                 all: an hour and a half on a core
    python experiments/long_lags/run.py adding-10000    some
"""

import json
import platform
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import longlag as ll
from longlag.tasks import Adding, Copy, Task

FOLDER = Path(__file__).parent
BATCH, LOOKED_AT = 16, 20


class Row(NamedTuple):
    """A task, the network for it, and when it is learned."""

    task: Task
    layer: Callable[[int], ll.GRU | ll.Skip]
    about: str
    rate: float
    loss: Callable[[Tensor, Tensor], Tensor]
    below: float
    seeds: int
    tested: int


def adding(steps: int, seeds: int, tested: int) -> Row:
    return Row(
        Adding(steps),
        lambda seed: ll.GRU(2, 32, bias_init=ll.init.Chrono(steps), seed=seed),
        f"GRU(2, 32, bias_init=Chrono({steps}))",
        0.01, nn.functional.mse_loss, 0.01, seeds, tested,
    )  # fmt: skip


def copying(delay: int) -> Row:
    task = Copy(delay)
    return Row(
        task,
        lambda seed: ll.Skip(10, 64, delays=(1, delay + 10), seed=seed),
        f"Skip(10, 64, delays=(1, {delay + 10}))",
        0.003, classes, task.baseline / 10, 3, 200,
    )  # fmt: skip


def classes(scores: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten())


ROWS = {
    "adding-2000": lambda: adding(2000, 5, 1000),
    "adding-10000": lambda: adding(10_000, 3, 1000),
    "adding-100000": lambda: adding(100_000, 1, 200),
    "copy-2000": lambda: copying(2000),
}
MOST = {"adding": 1900, "copy": 4000}
"""Updates."""


def learn(row: Row, most: int, seed: int) -> dict:
    """Train until fresh sequences are within the bound, or `most` updates."""
    model = ll.SequenceModel(
        row.layer(seed + 1), row.task.output_size, reduce=row.task.reduce, seed=seed + 2
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=row.rate)
    last, began, error, update = deque(maxlen=LOOKED_AT), time.perf_counter(), None, 0
    for update in range(1, most + 1):
        batch = row.task.batch(BATCH, seed, update).map(torch.from_numpy)
        optimizer.zero_grad()
        loss = row.loss(model(batch.x), batch.target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        last.append(loss.item())
        if update % LOOKED_AT == 0:
            print(f"{update} updates, {np.mean(last):.4g}", flush=True)
            if np.mean(last) < row.below:
                error = tested(row, model, seed)
                if error < row.below:
                    break
    return {
        "seed": seed,
        "solved": error is not None and error < row.below,
        "updates": update,
        "sequences": update * BATCH,
        "test_error": error,
        "seconds": round(time.perf_counter() - began, 1),
        "weights": model.summary().parameters,
    }


@torch.no_grad()
def tested(row: Row, model: nn.Module, seed: int) -> float:
    """The error on fresh sequences."""
    errors = []
    for index in range(row.tested // 20):
        batch = row.task.test_batch(20, seed, index).map(torch.from_numpy)
        errors.append(float(row.loss(model(batch.x), batch.target)))
    return float(np.mean(errors))


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    kept = FOLDER / "results.json"
    for name in names or ROWS:
        row = ROWS[name]()
        for seed in range(row.seeds):
            record = json.loads(kept.read_text()) if kept.exists() else {"runs": []}
            if any((run["row"], run["seed"]) == (name, seed) for run in record["runs"]):
                continue
            run = {"row": name, "network": row.about, "below": row.below}
            run |= learn(row, MOST[name.split("-")[0]], seed)
            run["date"] = date.today().isoformat()
            print(run, flush=True)
            record |= {
                "command": "python experiments/long_lags/run.py", "batch": BATCH, "threads": 1,
                "torch": torch.__version__, "python": platform.python_version(),
            }  # fmt: skip
            record["runs"].append(run)
            record["runs"].sort(key=lambda run: (list(ROWS).index(run["row"]), run["seed"]))
            kept.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
