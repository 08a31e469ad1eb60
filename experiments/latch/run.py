"""A latch: temporal order, trained up to 200 steps, without an error at 1,000,000.

Which of A and B came first, and which second, among distractors? A GRU that has learned it at 200
steps may be wrong at 1,000 or at 10,000: a sigmoid is never 0, and what is let in at every
distractor, however little, adds up. The cell declared here has an update gate that saturates,

    z_t = min(1, max(0, U_z x_t + b_z))
    h_t = (1 - z_t) h_{t-1} + z_t tanh(U x_t + W h_{t-1} + b)

so that z can be 0 and h stand as it is, to the bit. Training adds to the cross-entropy the mean of
z over the steps, times 3: a unit is to move seldom. So the distractors' gates close for good; once
none is open any more, the network is a finite automaton that the keys alone drive. GRUs and LSTMs
of as many units, trained on the cross-entropy alone, stand beside it.

    python experiments/latch/run.py            all: half an hour on a core
    python experiments/latch/run.py gru lstm   some
"""

import json
import platform
import sys
import time
from datetime import date
from pathlib import Path

import torch
from torch import nn

import longlag as ll
from longlag.recurrence import Absent, Cell, saturate, tanh
from longlag.tasks import TemporalOrder

FOLDER = Path(__file__).parent
UNITS, SEEDS, BATCH, MOST = 16, 5, 32, 4000
RATE, QUIET = 0.005, 3.0
TRAINED, TESTED = (50, 200), 10_000
LENGTHS = {"latch": (200, 10_000, 1_000_000), "gru": (200, 1000, 10_000), "lstm": (200, 1000)}
AT_ONCE, CHUNK = 20, 20_000
"""Sequences, and steps, that a test holds at a time."""
KEYS, DISTRACTORS = torch.eye(TemporalOrder.INPUT_SIZE).split([2, 4])


class Latch(Cell):
    """A gated unit whose update gate, of the input alone, can be 0."""

    state = ("h",)
    gates = ("update", "candidate")
    wiring = {"update": Absent()}

    def update(self, pre, state, unit):
        z = saturate(pre.update)
        return {"h": (1 - z) * state.h + z * tanh(pre.candidate)}


def latch(seed: int) -> ll.Recurrent:
    """A layer whose gates start nearly closed, but none at 0, where it would have no slope."""
    layer = ll.Recurrent(Latch(), TemporalOrder.INPUT_SIZE, UNITS, seed=seed)
    with torch.no_grad():
        layer.weight_ih[:UNITS] *= 0.02
        layer.bias[:UNITS] = 0.02
    return layer


def gates(layer: ll.Recurrent, x: torch.Tensor) -> torch.Tensor:
    """z for each row of x (M, C): (M, H)."""
    return (x @ layer.weight_ih[:UNITS].T + layer.bias[:UNITS]).clamp(0, 1)


LAYERS = {
    "latch": latch,
    "gru": lambda seed: ll.GRU(TemporalOrder.INPUT_SIZE, UNITS, seed=seed),
    "lstm": lambda seed: ll.LSTM(TemporalOrder.INPUT_SIZE, UNITS, seed=seed),
}


def learn(name: str, seed: int) -> tuple[ll.SequenceModel, dict]:
    """Train until the last 100 losses are small and no gate of a latch opens at a distractor."""
    task, latched = TemporalOrder(*TRAINED), name == "latch"
    layer = LAYERS[name](seed + 1)
    model = ll.SequenceModel(layer, task.output_size, reduce=task.reduce, seed=seed + 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    began, losses, update = time.perf_counter(), [], 0
    for update in range(1, MOST + 1):
        batch = task.batch(BATCH, seed, update).map(torch.from_numpy)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch.x, lengths=batch.lengths), batch.target)
        there = torch.arange(batch.x.shape[1]) < batch.lengths[:, None]
        moved = gates(layer, batch.x[there]).mean() if latched else 0.0
        (loss + QUIET * moved).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        closed = not latched or not gates(layer, DISTRACTORS).any()
        if update % 100 == 0 and closed and sum(losses[-100:]) < 0.2:
            break
    run = {
        "network": name,
        "seed": seed,
        "updates": update,
        "sequences": update * BATCH,
        "loss": round(sum(losses[-100:]) / 100, 5),
        "seconds": round(time.perf_counter() - began, 1),
        "weights": model.summary().parameters,
    }
    if latched:
        run["units that move at a key"] = int(gates(layer, KEYS).any(0).sum())
        run["largest gate at a distractor"] = gates(layer, DISTRACTORS).max().item()
    return model, run


@torch.no_grad()
def wrong(models: list[ll.SequenceModel], length: int) -> list[int]:
    """How many of the sequences each network names wrongly; all get the same ones."""
    task, found = TemporalOrder(length), [0] * len(models)
    x = torch.empty(AT_ONCE, length, task.input_size)
    target = torch.empty(AT_ONCE, dtype=torch.int64)
    for index in range(TESTED // AT_ONCE):
        for n in range(AT_ONCE):  # one at a time: gigabytes that come and go would take longer
            batch = task.test_batch(1, 0, index * AT_ONCE + n).map(torch.from_numpy)
            x[n], target[n] = batch.x[0], batch.target[0]
        for number, model in enumerate(models):
            state = None
            for part in x.split(CHUNK, dim=1):
                output, state = model.layer(part, state)
            scores = model.readout(output[:, -1])
            found[number] += int((scores.argmax(1) != target).sum())
        if index % 50 == 0:
            print(f"{length} steps, {(index + 1) * AT_ONCE} sequences: {found}", flush=True)
    return found


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    kept = FOLDER / "results.json"
    before = json.loads(kept.read_text())["runs"] if kept.exists() else []
    for name in names or LAYERS:
        pairs = [learn(name, seed) for seed in range(SEEDS)]
        models, runs = [model for model, _ in pairs], [run for _, run in pairs]
        for length in LENGTHS[name]:
            for run, count in zip(runs, wrong(models, length), strict=True):
                run.setdefault("wrong", {})[f"of {TESTED} at {length} steps"] = count
        before = [run for run in before if run["network"] != name] + runs
        before.sort(key=lambda run: list(LAYERS).index(run["network"]))
        record = {
            "command": "python experiments/latch/run.py", "date": date.today().isoformat(),
            "batch": BATCH, "rate": RATE, "threads": 1, "torch": torch.__version__,
            "python": platform.python_version(), "runs": before,
        }  # fmt: skip
        kept.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
