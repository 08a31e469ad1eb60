"""Echo state networks reach the published figures: Mackey-Glass, Lorenz, NARMA10, memory capacity.

Every network has weights drawn from its own seed and is tested on a series of that seed; no network
is left out, and the figure that is compared is the median over all; beside it, for Mackey-Glass,
that of the network with the least error on another series. What can be chosen (`README.md` says
how) was chosen with other seeds, from 100 on.

    python experiments/reservoirs/run.py                   all, and the figure: minutes on one core
    python experiments/reservoirs/run.py lorenz figure     some
    python experiments/reservoirs/run.py --quick           one network of each, nothing saved
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import longlag as ll

FOLDER = Path(__file__).parent


def tensors(*arrays: np.ndarray) -> Iterator[Tensor]:
    """As one sequence each, (1, T, C)."""
    return (torch.from_numpy(array).unsqueeze(0) for array in arrays)


class MackeyGlass(NamedTuple):
    """A row: a length of the training series, a reservoir and a kind of readout."""

    tau: int
    steps: int
    units: int
    reservoir: dict[str, Any]
    squares: bool
    alpha: float
    published: float
    networks: int


# For readouts that see h alone, and for those that see its squares too.
PLAIN = {
    "leak": 0.58, "spectral_radius": 0.77, "density": 0.2, "feedback_scaling": 1.4,
    "bias_scaling": 0.03,
}  # fmt: skip
SQUARES = {
    "leak": 0.74, "spectral_radius": 0.97, "density": 0.05, "feedback_scaling": 1.24,
    "bias_scaling": 0.012,
}  # fmt: skip
# For tau 30.
SHORT = {
    "leak": 0.4, "spectral_radius": 0.74, "density": 0.0125, "feedback_scaling": 0.86,
    "bias_scaling": 0.03,
}  # fmt: skip
LONG = {
    "leak": 0.26, "spectral_radius": 0.74, "density": 0.0125, "feedback_scaling": 0.86,
    "bias_scaling": 0.0147,
}  # fmt: skip
ROWS = [
    MackeyGlass(17, 3000, 400, PLAIN, False, 4e-14, 2.8e-4, 10),
    MackeyGlass(17, 3000, 400, SQUARES, True, 4e-13, 2.8e-4, 10),
    MackeyGlass(17, 21_000, 400, PLAIN, False, 4e-14, 1.2e-4, 5),
    MackeyGlass(17, 21_000, 400, SQUARES, True, 4e-13, 1.2e-4, 5),
    MackeyGlass(30, 3000, 400, SHORT, False, 3e-9, 0.11, 10),
    MackeyGlass(30, 21_000, 400, LONG, False, 1e-10, 0.032, 5),
    MackeyGlass(30, 21_000, 400, LONG, True, 1e-10, 0.032, 5),
    MackeyGlass(17, 3000, 1000, PLAIN, False, 4e-14, 10**-4.2, 5),
]


def trained(row: MackeyGlass, training: np.ndarray, seed: int) -> ll.SequenceModel:
    """A network that reads its own output, fitted to put out the next step of the series."""
    layer = ll.EchoState(
        0, row.units, feedback_size=1, seed=seed, dtype=torch.float64, **row.reservoir
    )
    model = ll.SequenceModel(layer, 1, reduce=None, squares=row.squares)
    x, target = tensors(training[:-1], training[1:])
    ll.fit(model, (x, target), method=ll.Ridge(row.alpha, washout=1000))
    return model


def nrmse84(row: MackeyGlass, seed: int) -> tuple[float, float]:
    """Of one network, over the 20 or 50 runs of Jaeger 2001; and over runs of another series."""
    task = ll.tasks.MackeyGlass(tau=row.tau, mapped=True)
    training, *test = task.runs(seed=seed, training=row.steps)
    _, *validation = task.runs(seed=200 + seed, training=1001)
    model, errors = trained(row, training, seed), []
    for forced, free in (test, validation):
        with torch.no_grad():
            ahead, _ = model.generate(84, warmup=torch.from_numpy(forced))
        errors.append(task.nrmse84(ahead[:, -1].numpy(), free[:, -1]))
    return errors[0], errors[1]


def mackey_glass(most: int) -> list[dict]:
    rows = []
    for row in ROWS:
        errors = [nrmse84(row, seed) for seed in range(min(most, row.networks))]
        name = f"tau {row.tau}, {row.steps:,} steps, {row.units} units"
        readout = "h and its squares" if row.squares else "h"
        values, chosen = [test for test, _ in errors], min(errors, key=lambda pair: pair[1])[0]
        rows.append(
            summary(f"Mackey-Glass, {name}, {readout}", row.published, values, row._asdict())
            | {"of the network with the least error on another series": rounded(chosen)}
        )
        print(f"    chosen by another series: {chosen:.3g}", flush=True)
    return rows


LORENZ: dict[str, Any] = {
    "units": 2000, "spectral_radius": 0.9, "leak": 0.3, "density": 0.1, "feedback_scaling": 0.3,
    "bias_scaling": 0.3, "alpha": 1e-6, "steps": 5000, "washout": 200, "warmup": 500, "free": 800,
    "threshold": 0.5, "step": 0.02,
}  # fmt: skip


def valid_time(seed: int) -> float:
    """Of one network and one free run, in Lyapunov times; each coordinate is standardised."""
    task, s = ll.tasks.Lorenz(step=LORENZ["step"]), LORENZ
    series = task.series(s["steps"] + s["warmup"] + s["free"], seed)
    training = series[: s["steps"]]
    mean, deviation = training.mean(0), training.std(0)
    (z,) = tensors((series - mean) / deviation)
    names = ("spectral_radius", "leak", "density", "feedback_scaling", "bias_scaling")
    layer = ll.EchoState(
        0, s["units"], feedback_size=3, seed=seed, dtype=torch.float64,
        **{name: s[name] for name in names},
    )  # fmt: skip
    model = ll.SequenceModel(layer, 3, reduce=None)
    # The condition is above 1e12, from where on "auto" would take the singular values: minutes.
    method = ll.Ridge(s["alpha"], washout=s["washout"], solver="cholesky")
    read, following = z[:, : s["steps"]], s["steps"] + s["warmup"]
    ll.fit(model, (read[:, :-1], read[:, 1:]), method=method)
    with torch.no_grad():
        ahead, _ = model.generate(s["free"], warmup=z[:, s["steps"] : following])
    prediction = ahead[0].numpy() * deviation + mean
    return task.valid_time(
        prediction, series[following:], threshold=s["threshold"], deviation=deviation
    )


def lorenz(most: int) -> list[dict]:
    times = [valid_time(seed) for seed in range(min(most, 20))]
    return [summary("Lorenz, valid time in Lyapunov times", 6.2, times, LORENZ, least=True)]


NARMA: dict[str, Any] = {
    "units": 200, "spectral_radius": 0.837, "density": 0.2, "input_scaling": 0.0238,
    "bias_scaling": 0.0397, "alpha": 8.41e-13, "steps": 4000, "test steps": 4000, "washout": 200,
}  # fmt: skip


def nmse(seed: int, more: bool) -> float:
    """Of one network; the readout reads h, or also its squares and the input."""
    task, s = ll.tasks.NARMA10(), NARMA
    x, target = tensors(*task.series(s["steps"], seed))
    names = ("spectral_radius", "density", "input_scaling", "bias_scaling")
    layer = ll.EchoState(
        1, s["units"], seed=seed, dtype=torch.float64, **{name: s[name] for name in names}
    )
    model = ll.SequenceModel(layer, 1, reduce=None, direct=more, squares=more)
    ll.fit(model, (x, target), method=ll.Ridge(s["alpha"], washout=s["washout"]))
    x, true = task.test_series(s["test steps"], seed)
    with torch.no_grad():
        output = model(*tensors(x))[0].numpy()
    return task.nmse(output[s["washout"] :], true[s["washout"] :])


def narma10(most: int) -> list[dict]:
    rows = []
    for more in (False, True):
        errors = [nmse(seed, more) for seed in range(min(most, 10))]
        readout = "h, its squares and x" if more else "h"
        rows.append(summary(f"NARMA10, NMSE, {readout}", 0.04, errors, NARMA))
    return rows


CAPACITY: dict[str, Any] = {
    "units": 100, "spectral_radius": 0.9, "topology": "orthogonal", "activation": "identity",
    "delays": 200, "alpha": 1e-12, "steps": 20_000, "test steps": 20_000, "washout": 1000,
    "chance": 1e-4,
}  # fmt: skip


def capacity(seed: int) -> float:
    """Of one linear network, on a series it was not fitted to."""
    s = CAPACITY
    task = ll.tasks.MemoryCapacity(delays=s["delays"])
    names = ("spectral_radius", "topology", "activation")
    layer = ll.EchoState(
        1, s["units"], seed=seed, dtype=torch.float64, **{name: s[name] for name in names}
    )
    model = ll.SequenceModel(layer, s["delays"], reduce=None)
    x, target = tensors(*task.series(s["steps"], seed))
    ll.fit(model, (x, target), method=ll.Ridge(s["alpha"], washout=s["washout"]))
    x, past = task.test_series(s["test steps"], seed)
    with torch.no_grad():
        output = model(*tensors(x))[0].numpy()
    return task.capacity(output[s["washout"] :], past[s["washout"] :], chance=s["chance"])


def memory_capacity(most: int) -> list[dict]:
    values = [capacity(seed) for seed in range(min(most, 5))]
    return [summary("Memory capacity of 100 linear units", 95.0, values, CAPACITY, least=True)]


def summary(
    name: str, published: float, values: list[float], settings: dict, least: bool = False
) -> dict:
    """A row of the table; the seeds of the values are 0, 1, 2 and so on."""
    median = float(np.median(values))
    row = {
        "name": name, "published": published, "median": rounded(median),
        "best": rounded((max if least else min)(values)),
        "worst": rounded((min if least else max)(values)),
        "reached": bool(median >= published if least else median <= published),
        "values": list(map(rounded, values)), "settings": settings,
    }  # fmt: skip
    shown = {key: row[key] for key in ("median", "best", "worst", "reached")}
    print(f"{name}: published {published:.3g}, {shown}", flush=True)
    return row


def rounded(number: float) -> float | None:
    """To four digits; None for a run that left the range."""
    return float(f"{number:.4g}") if np.isfinite(number) else None


EXPERIMENTS = {
    "mackey_glass": mackey_glass,
    "lorenz": lorenz,
    "narma10": narma10,
    "memory_capacity": memory_capacity,
}


def free_run(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Output and series of one network that goes on by itself for longer than 84 steps."""
    row, task = ROWS[1], ll.tasks.MackeyGlass(mapped=True)
    series = task.series(row.steps + steps, seed=0)
    model = trained(row, series[: row.steps], seed=0)
    (warmup,) = tensors(series[: row.steps])
    with torch.no_grad():
        ahead, _ = model.generate(steps, warmup=warmup)
    return ahead[0, :, 0].numpy(), series[row.steps :, 0]


def figure() -> Figure:
    drawing = Figure(figsize=(11, 7.6), layout="constrained")
    (upper, below), (left, right) = drawing.subplots(
        2, 2, gridspec_kw={"width_ratios": [1.1, 1.0]}
    ).T
    output, series = free_run(1000)
    upper.plot(series, color="black", label="the series")
    upper.plot(output, "--", color="tab:red", label="the network, reading its own output")
    upper.set(title="Mackey-Glass, tau 17: one network alone", xlabel="free step",
              ylabel="tanh(y - 1)", ylim=(-0.8, 0.4))  # fmt: skip
    upper.legend(fontsize="small", loc="lower left")
    below.semilogy(np.abs(output - series), color="tab:blue")
    below.axvline(84, color="gray", linestyle=":", label="step 84")
    below.set(title="Its error", xlabel="free step", ylabel="|output - series|")
    below.legend(fontsize="small")

    rows = json.loads((FOLDER / "mackey_glass.json").read_text())["rows"]
    for height, row in enumerate(rows):
        values = [value for value in row["values"] if value is not None]
        left.plot(values, [height] * len(values), "o", color="tab:blue", markersize=4)
        left.plot([row["median"]], [height], "|", color="black", markersize=18)
        left.plot([row["published"]], [height], "x", color="tab:red")
    left.plot([], [], "o", color="tab:blue", label="a network")
    left.plot([], [], "|", color="black", markersize=12, label="their median")
    left.plot([], [], "x", color="tab:red", label="published")
    names = [row["name"].removeprefix("Mackey-Glass, ") for row in rows]
    names = [name.replace("units, ", "units,\nreads ") for name in names]
    left.set_yticks(range(len(rows)), names, fontsize="x-small")
    left.invert_yaxis()
    left.set(title="Mackey-Glass, 84 free steps", xscale="log", xlabel="NRMSE84")
    left.legend(fontsize="small", loc="upper right")

    (row,) = json.loads((FOLDER / "lorenz.json").read_text())["rows"]
    right.hist(row["values"], bins=np.arange(0.0, 15.0, 0.5), color="tab:blue")
    right.axvline(row["median"], color="black", label=f"median, {row['median']:.1f}")
    right.axvline(row["published"], color="tab:red", label="published, 6.2")
    right.set(title="Lorenz: valid times of 20 networks", xlabel="Lyapunov times",
              ylabel="networks", yticks=range(5))  # fmt: skip
    right.legend(fontsize="small")
    for axes in (upper, below, left, right):
        axes.grid(alpha=0.3)
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"{', '.join(EXPERIMENTS)}, figure; all if none")
    parser.add_argument("--quick", action="store_true", help="one network of each, nothing saved")
    options = parser.parse_args()
    wanted = options.names or [*EXPERIMENTS, *([] if options.quick else ["figure"])]
    for name in wanted:
        if name not in EXPERIMENTS and name != "figure":
            parser.error(f"names: got {name!r}, expected {', '.join(EXPERIMENTS)} or figure")
    torch.set_num_threads(1)
    for name in wanted:
        if name == "figure":
            figure().savefig(FOLDER / "figure.png", dpi=110)
            continue
        began = time.perf_counter()
        rows = EXPERIMENTS[name](1 if options.quick else 100)
        if options.quick:
            continue
        record = {
            "command": f"python experiments/reservoirs/run.py {name}",
            "date": date.today().isoformat(), "longlag": ll.__version__,
            "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(), "threads": 1,
            "seconds": round(time.perf_counter() - began), "rows": rows,
        }  # fmt: skip
        (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
