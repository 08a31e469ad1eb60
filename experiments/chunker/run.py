"""Two experiments with the neural sequence chunker: 22 symbols, and long lag 2a at p = 100.

stream: the experiment of Schmidhuber (1992). A stream of blocks a b1 ... b20 and x b1 ... b20, in
random order and without a sign where a block begins. After b20 the target unit must say how the
block began: 1 for a, 0 for x. A has 16 tanh units, C 16 logistic ones; both have direct links from
input to output and logistic outputs. Squared error, plain gradient descent with learning rate 0.2
after every step, errors sent back over 3 steps, no codes of the time. C is updated where an output
of A is wrong by 0.3 or more. The paper gives no kind or number of units, no learning rate and no
threshold. The conventional net is the same A without the third term of its error. A trial has
succeeded when A alone, with fixed weights, says every target of 200 new blocks with an error below
0.25.

lag: the row "CH" of Hochreiter and Schmidhuber (1997, table of section 5.2). See LAG below for what
is theirs and what is not.

    python experiments/chunker/run.py            all; about 10 minutes on one core
    python experiments/chunker/run.py --quick    less than a minute, nothing saved
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
from longlag.chunker import Chunker, ChunkerTrainer, OnlineBPTT, OnlineRTRL
from longlag.tasks import LongLag

FOLDER = Path(__file__).parent
BLOCK = 21


class Blocks:
    """The stream of 22 symbols a, x, b1 .. b20, of R trials."""

    def __init__(self, trials: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.last = np.full(trials, -1)

    def draw(self, blocks: int) -> tuple[np.ndarray, np.ndarray]:
        """Symbols (R, T) and targets (R, T, 1): due one step after b20, for the block before."""
        first = self.rng.integers(2, size=(len(self.last), blocks))
        x = np.empty((*first.shape, BLOCK), np.int64)
        x[..., 0], x[..., 1:] = first, np.arange(2, BLOCK + 1)
        before = np.concatenate([self.last[:, None], first[:, :-1]], 1)
        target = np.full(x.shape, np.nan, np.float32)
        target[..., 0] = np.where(before < 0, np.nan, before == 0)
        self.last = first[:, -1]
        return x.reshape(len(x), -1), target.reshape(len(x), -1, 1)


def stream(
    trials: int, budget: int, *, imitation: float, first_seed: int = 0, every: int = 100
) -> dict:
    """Train the trials side by side; A is tested every so many blocks."""
    a, c = (
        ll.Elman(
            BLOCK + 2,
            16,
            activation=phi,
            weight_ih_init=ll.init.Uniform(-1.0, 1.0),
            replicas=trials,
            seed=first_seed + seed,
        )
        for phi, seed in (("tanh", 1), ("sigmoid", 2))
    )
    nets = Chunker(a, c, target_size=1, direct=True, seed=first_seed + 3)
    trainer = ChunkerTrainer(
        nets, learning_rate=0.2, threshold=0.3, method=OnlineBPTT(3), imitation=imitation
    )
    training, (x, target) = Blocks(trials, first_seed + 4), Blocks(trials, first_seed + 5).draw(201)
    due = ~np.isnan(target[:, 1:, 0])
    solved: list[int | None] = [None] * trials
    curve, began = [], time.perf_counter()
    for presented in range(every, budget + 1, every):
        history = trainer.fit(*training.draw(every))
        with torch.no_grad():
            output = nets(torch.from_numpy(x)[:, None], torch.from_numpy(target)[:, None])
        error = np.abs(output[:, 0, :-1, -1].numpy() - target[:, 1:, 0])
        largest = np.where(due, error, 0.0).max(1)
        surprises = history.surprised.sum(1) / every
        curve.append([presented, *_spread(largest), *_spread(surprises)])
        for trial in np.flatnonzero(largest < 0.25):
            solved[trial] = solved[trial] or presented
        if all(solved):
            break
    return {
        "net": "chunker" if imitation else "conventional",
        "weights": nets.weights if imitation else nets.weights[:1],
        **_summary(solved, budget, began),
        "curve": curve,
    }


def _spread(values: np.ndarray) -> list[float]:
    return [round(value, 4) for value in np.quantile(values, (0.0, 0.5, 1.0)).tolist()]


def _summary(solved: list[int | None], budget: int, began: float) -> dict:
    found = [presented for presented in solved if presented]
    return {
        "trials": len(solved),
        "solved": len(found),
        "mean_sequences": float(np.mean(found)) if found else None,
        "sequences": solved,
        "budget": budget,
        "seconds": round(time.perf_counter() - began, 1),
    }


LAG = """Task 2a at p = 100, after the row "CH" of Hochreiter and Schmidhuber (1997).

As theirs: each net has one self-recurrent hidden unit, p + 1 logistic outputs, direct links from
input to output, no biases; weights uniform in [-0.2, 0.2]; squared error at every step, plain
gradient descent with learning rate 1 after every step, by RTRL; 18 trials; the criterion: the
largest error of A over all outputs and steps of 10,000 random sequences is below 0.25.

Not theirs: (1) A's hidden unit is tanh, not logistic; C's is logistic. (2) A predicts C's outputs
too, not its hidden unit alone: 101 further outputs, as in the paper of 1992, so A has 20,808
weights, not 10,506. (3) The hidden units take part from sequence 2,001 on; until then the direct
links learn alone. That is how the 1997 paper adds the LSTM's memory cell. (4) The states are zero
at the start of each sequence, and C is updated where an output of A is wrong by 0.3 or more; the
paper says neither. The conventional net is the same A without the third term of its error.
"""


class HiddenUnits:
    """The hidden units of both nets, which take part only from :meth:`add` on."""

    def __init__(self, nets: Chunker, seed: int) -> None:
        readouts = (nets.automatizer.readout, nets.imitation, nets.chunker.readout)
        layers = (nets.automatizer.layer, nets.chunker.layer)
        self.outgoing = [readout.weight for readout in readouts]
        self.all = [p for layer in layers for p in layer.parameters()] + self.outgoing
        self.generator = torch.Generator().manual_seed(seed)
        for parameter in self.all:
            parameter.requires_grad_(False)
        for weight in self.outgoing:
            weight.zero_()

    def add(self) -> None:
        """From now on the hidden units take part."""
        for weight in self.outgoing:
            weight.uniform_(-0.2, 0.2, generator=self.generator)
        for parameter in self.all:
            parameter.requires_grad_(True)


def lag_nets(task: LongLag, trials: int | None, first_seed: int = 0) -> Chunker:
    """The two nets; trial k is replica k."""
    uniform = ll.init.Uniform(-0.2, 0.2)
    a, c = (
        ll.Elman(
            task.input_size, 1, activation=phi, bias=False, weight_ih_init=uniform,
            weight_hh_init=uniform, replicas=trials, seed=first_seed + seed,
        )
        for phi, seed in (("tanh", 1), ("sigmoid", 2))
    )  # fmt: skip
    return Chunker(a, c, direct=True, bias=False, readout_init=uniform, seed=first_seed + 3)


def criterion(nets: Chunker, task: LongLag, trial: int, sequences: int) -> dict:
    """The paper's criterion, of A alone."""
    single = lag_nets(task, None).automatizer
    state = nets.automatizer.state_dict()
    single.load_state_dict({name: weight[trial] for name, weight in state.items()})

    @torch.no_grad()
    def predict(x: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
        return single(torch.from_numpy(x)).numpy()

    found = task.success(predict, seed=0, sequences=sequences)
    return {"success": found.success, "wrong": found.wrong, "largest_error": found.largest_error}


def lag(
    p: int, trials: int, budget: int, *, alone: int, imitation: float, sequences: int,
    first_seed: int = 0, every: int = 50,
) -> dict:  # fmt: skip
    """Train the trials side by side; A is tested every so many sequences."""
    task = LongLag(p)
    nets = lag_nets(task, trials, first_seed)
    with torch.no_grad():
        hidden = HiddenUnits(nets, seed=first_seed + 4)
    options = {"learning_rate": 1.0, "threshold": 0.3, "imitation": imitation}
    trainer = ChunkerTrainer(nets, method=OnlineRTRL(), **options)
    rng = np.random.default_rng(first_seed + 5)
    both = np.stack([np.r_[key, np.arange(p - 1), key] for key in (p - 1, p)])
    x = torch.from_numpy(both[:, :-1]).expand(trials, 2, p)
    y = torch.nn.functional.one_hot(torch.from_numpy(both[:, 1:]), p + 1)
    starts = np.zeros((trials, every, p + 1), bool)
    starts[..., 0] = True
    starts = starts.reshape(trials, -1)
    solved: list[int | None] = [None] * trials
    largest, curve, began = [1.0] * trials, [], time.perf_counter()
    for presented in range(every, budget + 1, every):
        drawn = both[rng.integers(2, size=(trials, every))].reshape(trials, -1)
        history = trainer.fit(drawn, starts=starts)
        with torch.no_grad():
            error = (nets(x) - y).abs().amax((1, 2, 3)).numpy()
        surprises = history.surprised.sum(1) / every
        curve.append([presented, *_spread(error), *_spread(surprises)])
        for trial in np.flatnonzero(error < 0.25):
            if solved[trial] is None:
                found = criterion(nets, task, int(trial), sequences)
                if found["success"]:
                    solved[trial], largest[trial] = presented, found["largest_error"]
        if all(solved):
            break
        if presented == alone:
            with torch.no_grad():
                hidden.add()
            trainer = ChunkerTrainer(nets, method=OnlineRTRL(), **options)
    return {
        "net": "chunker" if imitation else "conventional",
        "p": p,
        "weights": nets.weights,
        **_summary(solved, budget, began),
        "hidden_units_from": alone + 1,
        "largest_error": [round(error, 4) for error in largest],
        "curve": curve,
    }


def figure(streams: list[dict], lags: list[dict]) -> Figure:
    """Trials that have succeeded, and the length of the stream that C sees."""
    drawing = Figure(figsize=(9, 6.4), layout="constrained")
    axes = drawing.subplots(2, 2)
    named = (("22 symbols, lag 20", "blocks", streams), ("long lag 2a, p = 100", "sequences", lags))
    for column, (title, unit, runs) in zip(axes.T, named, strict=True):
        for run, colour in zip(runs, ("tab:blue", "tab:red"), strict=True):
            steps = np.array(run["curve"])[:, 0]
            done = [sum(1 for s in run["sequences"] if s and s <= step) for step in steps]
            label = f"{run['net']}: {run['solved']} of {run['trials']}"
            column[0].step(steps, done, color=colour, where="post", label=label)
        least, median, most = np.array(runs[0]["curve"])[:, 4:].T
        steps = np.array(runs[0]["curve"])[:, 0]
        column[1].plot(steps, median, color="tab:blue", label="median")
        column[1].fill_between(steps, least, most, alpha=0.2, linewidth=0, label="range")
        column[0].set(title=title, ylabel="trials that have succeeded", xlabel=f"{unit} presented")
        column[0].set_ylim(-0.5, runs[0]["trials"] + 0.5)
        column[0].yaxis.get_major_locator().set_params(integer=True)
        column[1].set(
            yscale="log", ylabel=f"surprises in {unit[:-1].replace('block', 'a block')}"
            if unit == "blocks" else "surprises in a sequence", xlabel=f"{unit} presented",
        )  # fmt: skip
        for part in column:
            part.legend()
            part.grid(alpha=0.3)
    return drawing


def report(run: dict) -> dict:
    """Print a line on a run."""
    mean = "-" if run["mean_sequences"] is None else f"{run['mean_sequences']:,.0f}"
    print(
        f"{run['net']:12} weights {run['weights']}: {run['solved']} of {run['trials']} trials, "
        f"mean {mean} sequences, budget {run['budget']:,}, {run['seconds']} s",
        flush=True,
    )
    return run


def save(streams: list[dict], lags: list[dict]) -> None:
    """Write results.json and figure.png."""
    record = {
        "command": "python experiments/chunker/run.py",
        "date": date.today().isoformat(),
        "seeds": "weights 1, 2, 3 (lag: also 4); stream: training 4, test 5; lag: training 5",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "published": {
            "stream": "13 of 17 runs within 5,000 sequences, the others within 35,000; "
            "conventional: none within 1,000,000",
            "lag": "33 % of 18 trials, 32,400 sequences on average",
        },
        "differs": LAG,
        "stream": streams,
        "lag": lags,
    }
    (FOLDER / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    figure(streams, lags).savefig(FOLDER / "figure.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing saved")
    parser.add_argument("--seed", type=int, default=0, help="other than 0: nothing saved")
    arguments = parser.parse_args()
    quick, first = arguments.quick, 100 * arguments.seed
    torch.set_num_threads(1)  # the tensors are small
    if quick:
        report(stream(2, 1000, imitation=1.0))
        for imitation in (1.0, 0.0):
            report(lag(10, 4, 1500, alone=500, imitation=imitation, sequences=100))
        return
    streams = [
        report(stream(17, 5000, imitation=imitation, first_seed=first)) for imitation in (1.0, 0.0)
    ]
    lags = [
        report(
            lag(100, 18, 6000, alone=2000, imitation=imitation, sequences=10_000, first_seed=first)
        )
        for imitation in (1.0, 0.0)
    ]
    if not first:
        save(streams, lags)


if __name__ == "__main__":
    main()
