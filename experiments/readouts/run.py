"""What a series that has one answer is best read from: its last state, a mean, greatest values.

On two sets that come with aeon, and on one whose classes differ by a burst somewhere in a long
noisy series: 12 steps of a fast or of a slow oscillation, in 300 steps of noise that is as strong.
A GRU of 32 units is trained by 1,500 updates, read from its last state, the mean over the steps,
and the mean with learned weights (`--reduce attention`), each in one direction; a reservoir of
2,000 units is read from its last state, the mean, and shares and greatest values (`share_max`,
which has no gradient, so that nothing is trained by it). The command line does the rest: a fifth
held out, then all of the training part. What is kept is the share of the test part told right.
No setting was chosen by it.

What is done is kept in results.json: started again, it goes on.

    python experiments/readouts/run.py               all: some minutes on a core
    python experiments/readouts/run.py Burst         some
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from longlag.data import SequenceData, from_arrays
from longlag.lab.bench.document import resumed
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import Settings
from longlag.storage import atomic_write_text

RESULTS = Path(__file__).parent / "results.json"
SEEDS, STEPS, LENGTH = 3, 300, 12
READOUTS = [
    *(("gru", reduce) for reduce in ("last", "mean", "attention")),
    *(("echo", reduce) for reduce in ("last", "mean", "share_max")),
]


def burst() -> list[SequenceData]:
    """Training and test part; the place of the burst is drawn evenly."""
    rng, parts = np.random.default_rng(0), []
    for size in (400, 1000):
        labels, x = np.arange(size) % 2, rng.normal(size=(size, STEPS))
        for row, label in zip(x, labels, strict=True):
            at = rng.integers(STEPS - LENGTH + 1)
            row[at : at + LENGTH] += 3 * np.sin(np.arange(LENGTH) * 2 * np.pi / (3 + 3 * label))
        parts.append(from_arrays(x, labels, task="classification"))
    return parts


def of_aeon(load: str) -> list[SequenceData]:
    """Training and test part of a set of one length."""
    from aeon import datasets

    parts = [getattr(datasets, load)(split=split) for split in ("train", "test")]
    return [from_arrays(x.transpose(0, 2, 1), y, task="classification") for x, y in parts]


SETS: dict[str, Callable[[], list[SequenceData]]] = {
    "ItalyPowerDemand": lambda: of_aeon("load_italy_power_demand"),
    "BasicMotions": lambda: of_aeon("load_basic_motions"),
    "Burst": burst,
}


def told_right(data: list[SequenceData], cell: str, reduce: str, seed: int) -> dict[str, float]:
    """The share of the test part, and the seconds of the processor that it took."""
    began, (train, test) = time.process_time(), data
    own = {"hidden": 32, "scheduler": "one_cycle"} if cell == "gru" else {"hidden": 2_000}
    settings = Settings("classification", cell=cell, reduce=reduce, seed=seed, **own)
    parts = hold_out(train, "classification", share=0.2, seed=seed)
    score = Pipeline.of(parts, settings).fit(progress=False, refit=True).predict(test)[1]
    assert score is not None
    seconds = round(time.process_time() - began, 1)
    return {"accuracy": score.measures[0].model, "seconds": seconds}


def main() -> None:
    """Run what is asked for and not done yet; keep each result."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    results = resumed(RESULTS) | {"command": "python experiments/readouts/run.py"}
    for name in sys.argv[1:] or SETS:
        data = SETS[name]()
        for cell, reduce in READOUTS:
            found = results["sets"].setdefault(name, {}).setdefault(f"{cell} {reduce}", [])
            while len(found) < SEEDS:
                found.append(told_right(data, cell, reduce, len(found)))
                atomic_write_text(RESULTS, json.dumps(results, indent=1) + "\n")
            shares = [100 * run["accuracy"] for run in found]
            print(f"{name}, {cell}, {reduce}: {mean(shares):.1f} "
                  f"({min(shares):.1f} to {max(shares):.1f})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
