"""Long lag 2a at p = 100: the 1997 nets, LSTM against Elman, within one budget.

Both nets have the connections of Hochreiter and Schmidhuber (1997, section 5.2): direct weights
from input to output, no biases, and one hidden unit. In the LSTM that unit is a memory cell with
an input gate and a logistic input (10,504 weights); in the other it is a self-recurrent logistic
unit (10,404). All weights start uniform in [-0.2, 0.2]; the error is the paper's squared error at
every step; the weights change after every sequence. What differs from the paper, for both nets
alike: Adam in place of plain gradient descent, and all weights trained from the start, where the
paper adds the memory cell when the error no longer falls.

A trial has succeeded when the largest error over all outputs and steps of 10,000 random sequences
is below 0.25. The trials run side by side, as replicas in one network.

    python experiments/long_lag_2a/run.py            18 trials, about 6 minutes on one core
    python experiments/long_lag_2a/run.py --quick    2 trials of p = 10, a few seconds
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
from longlag.tasks import LongLag

FOLDER = Path(__file__).parent
LEARNING_RATE, BETAS = 0.03, (0.9, 0.99)
INIT = ll.init.Uniform(-0.2, 0.2)
CHECK_EVERY = 10


def network(kind: str, task: LongLag, replicas: int | None) -> ll.SequenceModel:
    """The 1997 net; trial k is replica k."""
    sizes = (task.input_size, 1)
    if kind == "lstm":
        layer = ll.LSTM1997(
            *sizes, output_gate=False, recurrent=False, cell_input="sigmoid",
            cell_output="identity", bias=False, weight_ih_init=INIT, replicas=replicas, seed=1,
        )  # fmt: skip
    else:
        layer = ll.Elman(
            *sizes, activation="sigmoid", bias=False, weight_ih_init=INIT, weight_hh_init=INIT,
            replicas=replicas, seed=1,
        )  # fmt: skip
    return ll.SequenceModel(
        layer, task.output_size, reduce=None, direct=True, bias=False,
        output_activation="sigmoid", readout_init=INIT, seed=2,
    )  # fmt: skip


def replica(model: ll.SequenceModel, kind: str, task: LongLag, trial: int) -> ll.SequenceModel:
    """One trial's network on its own."""
    single = network(kind, task, replicas=None)
    single.load_state_dict({name: w[trial] for name, w in model.state_dict().items()})
    return single


def criterion(model: ll.SequenceModel, task: LongLag, sequences: int) -> dict:
    """The paper's criterion."""

    @torch.no_grad()
    def predict(x: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
        return model(torch.from_numpy(x)).numpy()

    found = task.success(predict, seed=0, sequences=sequences)
    return {"success": found.success, "wrong": found.wrong, "largest_error": found.largest_error}


def run(kind: str, task: LongLag, trials: int, budget: int, sequences: int) -> dict:
    """Train all trials until each has succeeded or the budget is spent."""
    model = network(kind, task, trials)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, betas=BETAS)
    probe = task.batch(64, seed=trials, index=0)
    first = probe.x[:, 0].argmax(-1)
    both = [int(np.flatnonzero(first == symbol)[0]) for symbol in np.unique(first)]
    probe_x = torch.from_numpy(probe.x[both]).expand(trials, -1, -1, -1)
    probe_y = torch.from_numpy(probe.target[both]).expand(trials, -1, -1, -1)
    results: list[dict] = [{"trial": k, "sequences": None} for k in range(trials)]
    curve, started = [], time.perf_counter()
    for presented in range(1, budget + 1):
        batches = [task.batch(1, seed=trial, index=presented) for trial in range(trials)]
        x = torch.from_numpy(np.stack([batch.x for batch in batches]))
        y = torch.from_numpy(np.stack([batch.target for batch in batches]))
        optimizer.zero_grad()
        (0.5 * (model(x) - y).square().sum()).backward()
        optimizer.step()
        if presented % CHECK_EVERY:
            continue
        with torch.no_grad():
            error = (model(probe_x) - probe_y).abs().amax(dim=(1, 2, 3))
        curve.append([presented, *np.quantile(error.numpy(), (0.0, 0.5, 1.0)).tolist()])
        for trial in np.flatnonzero(error.numpy() < 0.25):
            if results[trial]["sequences"] is None:
                found = criterion(replica(model, kind, task, trial), task, sequences)
                if found["success"]:
                    results[trial] |= {"sequences": presented, **found}
        if all(result["sequences"] for result in results):
            break
    for trial, result in enumerate(results):
        if result["sequences"] is None:
            result |= criterion(replica(model, kind, task, trial), task, sequences)
    solved = [result["sequences"] for result in results if result["sequences"]]
    return {
        "net": kind,
        "weights": sum(w.numel() for w in model.parameters()) // trials,
        "trials": trials,
        "solved": len(solved),
        "mean_sequences": float(np.mean(solved)) if solved else None,
        "budget": budget,
        "seconds": round(time.perf_counter() - started, 1),
        "results": results,
        "curve": curve,
    }


def figure(found: list[dict], task: LongLag) -> Figure:
    """Largest error against sequences, over the trials."""
    drawing = Figure(figsize=(7, 4), layout="constrained")
    axes = drawing.subplots()
    for rows, colour in zip(found, ("tab:blue", "tab:red"), strict=True):
        steps, least, median, most = np.array(rows["curve"]).T
        label = f"{rows['net']}: {rows['solved']} of {rows['trials']} trials succeed"
        axes.plot(steps, median, color=colour, label=label)
        axes.fill_between(steps, least, most, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(0.25, color="black", linestyle=":", label="success: below 0.25")
    axes.set(
        xlabel="sequences presented",
        ylabel="largest error over outputs and steps",
        title=f"Long lag 2a, p = {task.delay}: median and range over trials",
        ylim=(0, 1.02),
    )
    axes.legend(loc="upper right")
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 trials of p = 10, nothing saved")
    parser.add_argument("--trials", type=int, default=18)
    parser.add_argument("--budget", type=int, default=20_000, help="sequences per trial")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the tensors are small
    task = LongLag(10 if arguments.quick else 100)
    trials = 2 if arguments.quick else arguments.trials
    budget = 6_000 if arguments.quick else arguments.budget
    sequences = 100 if arguments.quick else 10_000
    found = []
    for kind in ("lstm", "elman"):
        rows = run(kind, task, trials, budget, sequences)
        found.append(rows)
        mean = "-" if rows["mean_sequences"] is None else f"{rows['mean_sequences']:,.0f}"
        print(
            f"{kind:6} {rows['weights']:6} weights: {rows['solved']} of {rows['trials']} trials, "
            f"mean {mean} sequences, budget {rows['budget']:,}, {rows['seconds']} s",
            flush=True,
        )
    if not arguments.quick:
        record = {
            "command": "python experiments/long_lag_2a/run.py",
            "date": date.today().isoformat(),
            "task": f"long lag 2a, p = {task.delay}, criterion over {sequences} sequences",
            "seeds": f"weights: 1 and 2; sequences of trial k: k = 0..{trials - 1}",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "runs": found,
        }
        (FOLDER / "results.json").write_text(json.dumps(record, indent=1) + "\n")
        figure(found, task).savefig(FOLDER / "figure.png", dpi=150)


if __name__ == "__main__":
    main()
