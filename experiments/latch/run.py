"""A latch: temporal order, trained up to 200 steps, without an error at 1,000,000.

Which of A and B came first, and which second, among distractors? LSTM and GRU learn it at 200 steps
and forget it some thousand steps later: a sigmoid is never 0, and what is let in at every
distractor, however little, adds up. The cell declared here has an update gate that saturates,

    z_t = min(1, max(0, U_z x_t + b_z))
    h_t = (1 - z_t) h_{t-1} + z_t tanh(U x_t + W h_{t-1} + b)

so that z can be 0 and h stand as it is, to the bit. Training adds to the cross-entropy the mean of
z over the steps, times 3: a unit is to move seldom. So the distractors' gates close for good; once
none is open any more, the network is a finite automaton that the keys alone drive.

    python experiments/latch/run.py            five networks
"""

import json
import platform
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
TRAINED, TESTED = (50, 200), {200: 10_000, 10_000: 10_000, 1_000_000: 10_000}
AT_ONCE, CHUNK = 20, 20_000
"""Sequences, and steps, that a test holds at a time."""


class Latch(Cell):
    """A gated unit whose update gate, of the input alone, can be 0."""

    state = ("h",)
    gates = ("update", "candidate")
    wiring = {"update": Absent()}

    def update(self, pre, state, unit):
        z = saturate(pre.update)
        return {"h": (1 - z) * state.h + z * tanh(pre.candidate)}


def learn(seed: int) -> tuple[ll.SequenceModel, dict]:
    """Train until no gate opens at a distractor and the last 100 losses are small."""
    task = TemporalOrder(*TRAINED)
    layer = ll.Recurrent(Latch(), task.input_size, UNITS, seed=seed + 1)
    with torch.no_grad():  # all gates start nearly closed, none at 0, where it would have no slope
        layer.weight_ih[:UNITS] *= 0.02
        layer.bias[:UNITS] = 0.02
    model = ll.SequenceModel(layer, task.output_size, reduce=task.reduce, seed=seed + 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    began, losses, update = time.perf_counter(), [], 0
    for update in range(1, MOST + 1):
        batch = task.batch(BATCH, seed, update).map(torch.from_numpy)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch.x, lengths=batch.lengths), batch.target)
        there = torch.arange(batch.x.shape[1]) < batch.lengths[:, None]
        (loss + QUIET * gates(layer, batch.x[there]).mean()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        closed = not gates(layer, torch.eye(task.input_size)[2:]).any()
        if update % 100 == 0 and closed and sum(losses[-100:]) < 0.2:
            break
    return model, {
        "seed": seed,
        "updates": update,
        "sequences": update * BATCH,
        "seconds": round(time.perf_counter() - began, 1),
        "weights": model.summary().parameters,
        "units that move at a key": int(gates(layer, torch.eye(task.input_size)[:2]).any(0).sum()),
        "largest gate at a distractor": gates(layer, torch.eye(task.input_size)[2:]).max().item(),
    }


def gates(layer: ll.Recurrent, x: torch.Tensor) -> torch.Tensor:
    """z for each row of x (M, C): (M, H)."""
    return (x @ layer.weight_ih[:UNITS].T + layer.bias[:UNITS]).clamp(0, 1)


@torch.no_grad()
def wrong(models: list[ll.SequenceModel], length: int, sequences: int) -> list[int]:
    """How many of the sequences each network names wrongly; all get the same ones."""
    task, found = TemporalOrder(length), [0] * len(models)
    for index in range(sequences // AT_ONCE):
        batch = task.test_batch(AT_ONCE, 0, index).map(torch.from_numpy)
        for number, model in enumerate(models):
            state = None
            for part in batch.x.split(CHUNK, dim=1):
                output, state = model.layer(part, state)
            scores = model.readout(output[:, -1])
            found[number] += int((scores.argmax(1) != batch.target).sum())
        if index % 50 == 0:
            print(f"{length} steps, {(index + 1) * AT_ONCE} sequences: {found}", flush=True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    trained = [learn(seed) for seed in range(SEEDS)]
    models, runs = [model for model, _ in trained], [run for _, run in trained]
    for run in runs:
        print(run, flush=True)
    for length, sequences in TESTED.items():
        began = time.perf_counter()
        for run, count in zip(runs, wrong(models, length, sequences), strict=True):
            run.setdefault("wrong", {})[f"of {sequences} at {length} steps"] = count
        print(f"{length} steps: {time.perf_counter() - began:.0f} s", flush=True)
        record = {
            "command": "python experiments/latch/run.py", "date": date.today().isoformat(),
            "batch": BATCH, "rate": RATE, "threads": 1, "torch": torch.__version__,
            "python": platform.python_version(), "runs": runs,
        }  # fmt: skip
        (FOLDER / "results.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
