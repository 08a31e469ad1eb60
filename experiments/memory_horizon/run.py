"""Does the memory horizon tell the networks that solved a lag from those that did not?

Networks of 32 units are trained on long lag 2b, error at the end only, delays p = 10, 20, 50,
100, by Adam, gradients clipped to a norm of 1, 8 sequences to an update, 24,000 at the most:
Elman with W of spectral radius 0.5 and with orthogonal W, and LSTM and GRU with biases for lags
to p; five trials of each. Then the error of the last step is sent back through the trained
network, and its horizon is the lag at which the norm of dE/dh has fallen below 1 % of that at lag
0 for good (`longlag.memory.error_flow`). A network is said to remember where the horizon is p - 1
or more, or there is none within the sequence: from the last step to the first, which holds the
symbol, it is p - 1 steps. That is compared with whether it met the task's criterion.

    python experiments/memory_horizon/run.py            minutes on one core
    python experiments/memory_horizon/run.py --quick    p = 10 alone, nothing saved
"""

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import longlag as ll
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.nets import family
from longlag.lab.reproduce.recipes import adam
from longlag.lab.reproduce.trials import train
from longlag.memory import error_flow
from longlag.tasks import LongLagRandom, Task

FOLDER = Path(__file__).parent
DELAYS, TRIALS, UNITS, BATCH = (10, 20, 50, 100), 5, 32, 8
BUDGET = 24_000
SHORT = "Elman, radius 0.5"
RATES = {SHORT: 0.001, "Elman": 0.001, "GRU": 0.005, "LSTM": 0.005}
COLOURS = dict(zip(RATES, ("tab:orange", "tab:red", "tab:green", "tab:blue"), strict=True))


def short_memory(task: Task, replicas: int | None, seed: int) -> ll.SequenceModel:
    """An Elman network that begins by forgetting."""
    layer = ll.Elman(
        task.input_size, UNITS, weight_hh_init=ll.init.SpectralRadius(0.5), replicas=replicas,
        seed=seed + 1,
    )  # fmt: skip
    return ll.SequenceModel(layer, task.output_size, reduce=task.reduce, seed=seed + 2)


def last_step(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The error of the step that needs memory."""
    return 0.5 * (output[:, -1] - target[:, -1]).square().sum()


def horizons(model: torch.nn.Module, task: LongLagRandom) -> dict:
    """The horizon of a network in steps, and by which the key symbol lies back."""
    batch = task.test_batch(16, seed=9, index=0)
    x, target = torch.from_numpy(batch.x), torch.from_numpy(batch.target)[:, -1:]
    # A wrong target: a network that has learned has no error to send back.
    flow = error_flow(model, x, 1 - target, last_step, weights=False)
    (found,) = flow.horizons(0.01).values()
    return {"horizon": found, "remembers": found is None or found >= task.delay - 1}


def run(delays: tuple[int, ...], budget: int, sequences: int) -> list[dict]:
    rows = []
    for delay in delays:
        for name, rate in RATES.items():
            task, began = LongLagRandom(delay, at_end=True), time.perf_counter()
            network = short_memory if name == SHORT else family(name, UNITS)
            recipe = Recipe(network, adam(rate), batch_size=BATCH, clip_norm=1.0, check_every=25)
            outcome, models = train(task, recipe, TRIALS, budget, sequences=sequences)
            for trial, (solved, model) in enumerate(zip(outcome.sequences, models, strict=True)):
                rows.append(
                    {"net": name, "p": delay, "trial": trial, "solved": solved}
                    | horizons(model, task)
                )
            mine = rows[-TRIALS:]
            print(
                f"p = {delay:3}, {name}: solved {len(outcome.solved)} of {TRIALS}, horizons "
                f"{[row['horizon'] for row in mine]}, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    return rows


def hits(rows: list[dict]) -> int:
    """How often the horizon says rightly whether the network has solved its task."""
    return sum(row["remembers"] == (row["solved"] is not None) for row in rows)


def figure(rows: list[dict]) -> Figure:
    """Horizon over lag; filled: solved."""
    drawing = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = drawing.subplots()
    jitter = np.random.default_rng(0)
    for row in rows:
        horizon = row["p"] * 1.6 if row["horizon"] is None else max(row["horizon"], 0.7)
        solved = row["solved"] is not None
        axes.plot(
            row["p"] * np.exp(jitter.normal(0, 0.04)), horizon * np.exp(jitter.normal(0, 0.03)),
            "o", color=COLOURS[row["net"]], markerfacecolor=COLOURS[row["net"]] if solved else "w",
        )  # fmt: skip
    for name, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label=name)
    axes.plot([], [], "o", color="gray", label="filled: solved the task")
    axes.plot([], [], "o", color="gray", markerfacecolor="w", label="open: did not")
    axes.plot([8, 130], [8, 130], color="black", linestyle=":", label="horizon = lag")
    axes.set(
        xscale="log", yscale="log", xlabel="lag p of the task",
        ylabel="memory horizon, steps (above the line: none)",
        title=f"The horizon is right about {hits(rows)} of {len(rows)} networks",
    )  # fmt: skip
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="p = 10 alone, nothing saved")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)  # the tensors are small
    rows = run(DELAYS[:1], 2000, 100) if quick else run(DELAYS, BUDGET, 1000)
    print(f"the horizon is right about {hits(rows)} of {len(rows)} networks")
    if quick:
        return
    record = {
        "command": "python experiments/memory_horizon/run.py",
        "date": date.today().isoformat(),
        "seed": 0,
        "units": UNITS,
        "sequences to an update": BATCH,
        "budget": BUDGET,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "right": hits(rows),
        "networks": len(rows),
        "rows": rows,
    }
    (FOLDER / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    figure(rows).savefig(FOLDER / "figure.png", dpi=150)


if __name__ == "__main__":
    main()
