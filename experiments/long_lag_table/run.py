"""The RTRL rows of the 1997 table: long lag 2a with one self-recurrent logistic unit.

The net of Hochreiter and Schmidhuber (1997, section 5.2): p + 1 inputs, one logistic unit that
feeds back to itself, p + 1 logistic outputs that read it and the inputs, no biases: (p + 2)^2
weights, uniform in [-0.2, 0.2]. Real-time recurrent learning, online: squared error at every
step, plain gradient descent after every step, the unit at zero at the start of each sequence. With
one unit the influence is a number a weight, and the input is one of p + 1 symbols, so a loop that
touches the symbol's weights alone takes a microsecond a sequence, where calls into an array library
take a thousand. It is compiled by Numba; a test holds it to `ll.RTRL(online=True)`, update by
update.

A trial has succeeded when no output is wrong by 0.25 or more at any step. There are only two
sequences, so this is checked on both, every 100 sequences, in place of 10,000 random ones.

    python experiments/long_lag_table/run.py            18 trials, 5,000,000 sequences: 3 minutes
    python experiments/long_lag_table/run.py --quick    200,000 sequences, half a minute
"""

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import numba
import numpy as np
from matplotlib.figure import Figure
from numba import njit, prange

FOLDER = Path(__file__).parent
CHECK_EVERY, CHUNK = 100, 10_000

# delay p, learning rate, budget, published % of 18 trials and mean of sequences
ROWS = (
    (4, 1.0, 5_000_000, 78, 1_043_000),
    (4, 4.0, 5_000_000, 56, 892_000),
    (4, 10.0, 5_000_000, 22, 254_000),
    (4, 40.0, 5_000_000, None, None),
    (10, 1.0, 2_000_000, 0, None),
    (10, 10.0, 2_000_000, 0, None),
    (100, 1.0, 20_000, 0, None),
    (100, 10.0, 20_000, 0, None),
)


@njit(cache=False)
def logistic(z):
    return 1.0 / (1.0 + np.exp(-z))


@njit(cache=False)
def largest_error(u, w, direct, v, p):
    """Over all outputs and steps of both sequences."""
    worst = 0.0
    for end in (p - 1, p):
        h = 0.0
        for t in range(p):
            seen = end if t == 0 else t - 1
            due = end if t == p - 1 else t
            h = logistic(u[seen] + w[0] * h)
            for j in range(p + 1):
                error = logistic(direct[seen, j] + v[j] * h) - (1.0 if j == due else 0.0)
                worst = max(worst, abs(error))
    return worst


@njit(cache=False)
def learn(u, w, direct, v, ends, rate):
    """Online RTRL over some sequences; the weights change in place.

    Args:
        u: (p + 1,), input to the unit. w: (1,), the unit to itself.
        direct: (p + 1, p + 1), input to output. v: (p + 1,), the unit to the outputs.
        ends: the symbol p - 1 or p with which each sequence begins and ends.
        rate: of gradient descent on half the squared error.
    """
    p = len(u) - 1
    by_u = np.zeros(p + 1)
    for end in ends:
        h, by_w = 0.0, 0.0
        by_u[:] = 0.0
        for t in range(p):
            seen = end if t == 0 else t - 1
            due = end if t == p - 1 else t
            new = logistic(u[seen] + w[0] * h)
            slope = new * (1.0 - new)
            by_w = slope * (h + w[0] * by_w)
            for k in range(p + 1):
                by_u[k] *= slope * w[0]
            by_u[seen] += slope
            h, error = new, 0.0
            for j in range(p + 1):
                y = logistic(direct[seen, j] + v[j] * h)
                d = (y - (1.0 if j == due else 0.0)) * y * (1.0 - y)
                error += d * v[j]
                direct[seen, j] -= rate * d
                v[j] -= rate * d * h
            for k in range(p + 1):
                u[k] -= rate * error * by_u[k]
            w[0] -= rate * error * by_w


@njit(parallel=True, cache=False)
def run_trials(u, w, direct, v, ends, rate, presented, done):
    """One chunk of sequences for the trials that are not done; where one succeeds, how many."""
    for k in prange(len(u)):
        if done[k] > 0:
            continue
        for first in range(0, ends.shape[1], CHECK_EVERY):
            learn(u[k], w[k], direct[k], v[k], ends[k, first : first + CHECK_EVERY], rate)
            if largest_error(u[k], w[k], direct[k], v[k], u.shape[1] - 1) < 0.25:
                done[k] = presented + first + CHECK_EVERY
                break


def row(p: int, rate: float, budget: int, trials: int, seed: int) -> dict:
    """All trials of one row of the table."""
    generator = np.random.default_rng([seed, p])

    def weights(*shape: int) -> np.ndarray:
        return generator.uniform(-0.2, 0.2, (trials, *shape))

    u, w, direct, v = weights(p + 1), weights(1), weights(p + 1, p + 1), weights(p + 1)
    done, presented, started = np.zeros(trials, np.int64), 0, time.perf_counter()
    while presented < budget and not done.all():
        count = min(CHUNK, budget - presented)
        ends = generator.integers(p - 1, p + 1, (trials, count))
        run_trials(u, w, direct, v, ends, rate, presented, done)
        presented += count
    solved = done[done > 0]
    return {
        "p": p, "rate": rate, "weights": (p + 2) ** 2, "trials": trials, "budget": budget,
        "solved": len(solved),
        "mean_sequences": float(solved.mean()) if len(solved) else None,
        "sequences": sorted(solved.tolist()),
        "own_weight": np.round(w[:, 0], 2).tolist(),
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def figure(rows: list[dict]) -> Figure:
    """How many trials have succeeded, against sequences."""
    drawing = Figure(figsize=(7, 4), layout="constrained")
    axes = drawing.subplots()
    for found in rows:
        if found["p"] == 4:
            steps = [CHECK_EVERY, *found["sequences"], found["budget"]]
            counts = [0, *range(1, found["solved"] + 1), found["solved"]]
            label = f"rate {found['rate']:g}: {found['solved']} of {found['trials']}"
            axes.step(steps, counts, where="post", label=label)
    axes.set(
        xscale="log", xlim=(5e4, 5e6), ylim=(0, 18.5), yticks=range(0, 19, 3),
        xlabel="sequences presented", ylabel="trials that have succeeded",
        title="Long lag 2a, p = 4: online RTRL, 36 weights",
    )  # fmt: skip
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small budgets, nothing saved")
    parser.add_argument("--trials", type=int, default=18)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for p, rate, budget, percent, mean in ROWS:
        budget = min(budget, 200_000 if p < 100 else 1_000) if arguments.quick else budget
        found = row(p, rate, budget, arguments.trials, arguments.seed)
        found |= {"published_percent": percent, "published_sequences": mean}
        rows.append(found)
        ours = "-" if found["mean_sequences"] is None else f"{found['mean_sequences']:,.0f}"
        paper = "not in the paper"
        if percent is not None:
            paper = f"published {percent} %, " + (f"{mean:,}" if mean else "none in 5,000,000")
        print(
            f"RTRL p = {p:3}, rate {rate:4g}: {found['solved']:2} of {found['trials']} trials, "
            f"mean {ours} sequences, budget {budget:,}, {found['seconds']} s ({paper})",
            flush=True,
        )
    if not arguments.quick:
        record = {
            "command": "python experiments/long_lag_table/run.py",
            "date": date.today().isoformat(),
            "seed": arguments.seed,
            "criterion": "no output wrong by 0.25 or more, both sequences, every 100 sequences",
            "python": platform.python_version(),
            "numba": numba.__version__,
            "threads": numba.get_num_threads(),
            "rows": rows,
        }
        (FOLDER / "results.json").write_text(json.dumps(record, indent=1) + "\n")
        figure(rows).savefig(FOLDER / "figure.png", dpi=150)


if __name__ == "__main__":
    main()
