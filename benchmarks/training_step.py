# ruff: noqa: E402 - how many threads there are is read when libraries are imported
"""One update of a small network: compiled, eager, torch.nn, torch.compile, and JAX.

    python benchmarks/training_step.py                      three sizes, some minutes
    python benchmarks/training_step.py --sizes 32x64x15x16 --seconds 2
    python benchmarks/training_step.py --sizes 32x256x64x256 --updates 4 --epochs 1 --keep
    python benchmarks/training_step.py --without torch.compile "compiled loop"

torch.nn is the module, a loss and an optimizer, as users write them. torch.compile has the same
loss and optimizer step compiled, and PyTorch's own code for the module, which it does not
compile; "compiled loop" has the layer as a loop over its steps too, which is unrolled. JAX has a
whole epoch in one jit. Compiling is not timed; what takes longer than two minutes is left out.

All start from the same weights and read the same batches in the same order: N sequences of T steps
and C inputs, H units, 8 classes after the last step, cross-entropy, RMSprop, one thread. First the
losses of 32 updates are compared; those of nn.GRU, which trains two biases of a gate, move apart.
Then all take turns: 8 epochs of 32 updates of the compiled step and of JAX, one of the others; of
large networks fewer will do. Of `fit` the time is what its own records say, from the first to the
last. Needs JAX (extra `bench`).
"""

import argparse
import json
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

for name in (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "TORCHINDUCTOR_COMPILE_THREADS",
):  # fmt: skip
    os.environ[name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

import longlag as ll
from longlag.lab.bench.machine import describe

CLASSES, RATE, ALPHA, EPS = 8, 1e-3, 0.99, 1e-8
SIZES = ("32x64x15x16", "32x100x64x64", "32x256x64x256")
COMPILING = 120
"""Seconds that torch.compile may take, or it is left out."""
REST = 0.02
"""Seconds before a turn: JAX's threads look for work for a while after a call."""
CELLS: dict[str, tuple[Any, Any, int]] = {
    "Elman": (ll.Elman, nn.RNN, 1), "LSTM": (ll.LSTM, nn.LSTM, 4), "GRU": (ll.GRU, nn.GRU, 3),
}  # fmt: skip


def optimizer(parameters: Any) -> torch.optim.Optimizer:
    """That of the lecture."""
    return torch.optim.RMSprop(parameters, lr=RATE, alpha=ALPHA, eps=EPS)


class Task:
    """A cell, sizes, data, and the weights that all start from."""

    def __init__(self, cell: str, size: str, updates: int) -> None:
        self.batch, self.steps, self.inputs, self.units = map(int, size.split("x"))
        self.layer, self.module, self.gates = CELLS[cell]
        self.cell, self.updates, count = cell, updates, self.batch * updates
        draw = np.random.default_rng(0)
        self.x = draw.standard_normal((count, self.steps, self.inputs), np.float32)
        self.y = draw.integers(0, CLASSES, count)
        self.start = self.model().state_dict()

    def model(self) -> ll.SequenceModel:
        """A new one, with the first weights."""
        layer = self.layer(self.inputs, self.units, seed=1)
        return ll.SequenceModel(layer, CLASSES, seed=2)

    def order(self, epoch: int) -> np.ndarray:
        """That of `fit`."""
        count = len(self.x)
        order = np.random.default_rng([0, epoch]).permutation(count)
        return order.reshape(self.updates, self.batch)


def fitted(task: Task, step: str, epochs: int) -> tuple[np.ndarray, float]:
    """Losses of the first epoch, and milliseconds of an update of the later ones."""
    time.sleep(REST)
    history = ll.fit(
        task.model(), (task.x, task.y), optimizer=optimizer, epochs=epochs, batch_size=task.batch,
        step=step, progress=False, seed=0,
    )  # fmt: skip
    assert history.step == step
    first, last = history.records[0], history.records[-1]
    seconds = (last.seconds - first.seconds) / max(1, last.step - first.step)
    return history.losses[: task.updates], 1000 * seconds


class TorchLoop:
    """What a user of torch.nn writes.

    Args:
        task: what is trained.
        compiled: whether loss and optimizer's step are compiled.
        plain: whether the layer is a loop over steps, not the module.
    """

    def __init__(self, task: Task, *, compiled: bool = False, plain: bool = False) -> None:
        self.task, self.epochs = task, 0
        model = ll.layers.to_torch(task.model().layer)
        self.recurrent, self.readout = model, nn.Linear(task.units, CLASSES)
        with torch.no_grad():
            self.readout.weight.copy_(task.start["readout.weight"])
            self.readout.bias.copy_(task.start["readout.bias"])
        for name, parameter in model.named_parameters():  # longlag has one bias
            parameter.requires_grad_(task.cell == "GRU" or "bias_hh" not in name)
        trained = [*model.parameters(), *self.readout.parameters()]
        self.optimizer = optimizer([p for p in trained if p.requires_grad])
        self.x, self.y = torch.from_numpy(task.x), torch.from_numpy(task.y)
        self.cross_entropy, self.plain = nn.CrossEntropyLoss(), plain
        self.loss, self.step = self._loss, self.optimizer.step
        if compiled:
            self.loss, self.step = torch.compile(self._loss), torch.compile(self._step)

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        last = self._last(x) if self.plain else self.recurrent(x)[0][:, -1]
        return self.cross_entropy(self.readout(last), y)

    def _step(self) -> None:
        self.optimizer.step()

    def _last(self, x: torch.Tensor) -> torch.Tensor:
        """The state after the last step."""
        r: Any = self.recurrent
        drive = nn.functional.linear(x, r.weight_ih_l0, r.bias_ih_l0)
        h = c = x.new_zeros(len(x), self.task.units)
        for t in range(x.shape[1]):
            recurrent = nn.functional.linear(h, r.weight_hh_l0, r.bias_hh_l0)
            h, c = torch_cell(self.task.cell, h, c, drive[:, t], recurrent)
        return h

    def epoch(self) -> np.ndarray:
        """The losses of an epoch."""
        losses = []
        for rows in torch.from_numpy(self.task.order(self.epochs)):
            self.optimizer.zero_grad()
            loss = self.loss(self.x[rows], self.y[rows])
            loss.backward()
            self.step()
            losses.append(loss.item())
        self.epochs += 1
        return np.array(losses)


def torch_cell(cell: str, h: Any, c: Any, drive: Any, recurrent: Any) -> tuple[Any, Any]:
    """One step from U x + b and W h + b, with torch.nn's order of gates."""
    if cell == "Elman":
        return torch.tanh(drive + recurrent), c
    if cell == "LSTM":
        i, f, g, o = (drive + recurrent).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    (r, z, n), (hr, hz, hn) = drive.chunk(3, -1), recurrent.chunk(3, -1)
    r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
    n = torch.tanh(n + r * hn)
    return (1 - z) * n + z * h, c


class TooLong(BaseException):
    """Nothing that catches errors holds it back."""


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """End what is inside by `TooLong`."""

    def end(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def jax_cell(cell: str, w: dict[str, Any], state: Any, drive: Any) -> Any:
    """One step from U x + b."""
    if cell == "Elman":
        return (jnp.tanh(drive + state[0] @ w["weight_hh"].T),)
    recurrent = state[0] @ w["weight_hh"].T
    if cell == "LSTM":
        i, f, g, o = jnp.split(drive + recurrent, 4, -1)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c
    (r, z, n), (hr, hz, hn) = jnp.split(drive, 3, -1), jnp.split(recurrent, 3, -1)
    r, z = jax.nn.sigmoid(r + hr), jax.nn.sigmoid(z + hz)
    n = jnp.tanh(n + r * (hn + w["bias_hn"]))
    return ((1 - z) * n + z * state[0],)


def jax_loss(cell: str, weights: Any, x: Any, y: Any) -> Any:
    """The cross-entropy of a batch; the input product is made for all steps at once."""
    w = {name.removeprefix("layer."): value for name, value in weights.items()}
    drive = x @ w["weight_ih"].T + w["bias"]
    zero = jnp.zeros((x.shape[0], w["weight_hh"].shape[1]))
    state = (zero, zero) if cell == "LSTM" else (zero,)
    state, _ = jax.lax.scan(
        lambda s, a: (jax_cell(cell, w, s, a), None), state, jnp.swapaxes(drive, 0, 1)
    )
    logits = state[0] @ w["readout.weight"].T + w["readout.bias"]
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
    return -picked.mean()


@partial(jax.jit, static_argnums=0)
def jax_epoch(cell: str, weights: Any, squares: Any, x: Any, y: Any, order: Any) -> Any:
    """All updates of an epoch."""

    def one(carry: Any, rows: Any) -> Any:
        weights, squares = carry
        loss, gradients = jax.value_and_grad(jax_loss, 1)(cell, weights, x[rows], y[rows])
        squares = jax.tree.map(lambda s, g: ALPHA * s + (1 - ALPHA) * g * g, squares, gradients)
        weights = jax.tree.map(
            lambda w, g, s: w - RATE * g / (jnp.sqrt(s) + EPS), weights, gradients, squares
        )
        return (weights, squares), loss

    return jax.lax.scan(one, (weights, squares), order)


class JaxLoop:
    """A whole epoch in one jit."""

    def __init__(self, task: Task) -> None:
        self.task, self.epochs = task, 0
        self.weights = {name: jnp.asarray(w.numpy()) for name, w in task.start.items()}
        self.squares = jax.tree.map(jnp.zeros_like, self.weights)
        self.x, self.y = jnp.asarray(task.x), jnp.asarray(task.y)

    def epoch(self) -> np.ndarray:
        """The losses of an epoch."""
        order = jnp.asarray(self.task.order(self.epochs))
        arguments = (self.task.cell, self.weights, self.squares, self.x, self.y, order)
        (self.weights, self.squares), losses = jax_epoch(*arguments)
        self.epochs += 1
        return np.asarray(losses)


PEERS: dict[str, Callable[[Task], Any]] = {
    "torch.nn": TorchLoop,
    "torch.compile": partial(TorchLoop, compiled=True),
    "compiled loop": partial(TorchLoop, compiled=True, plain=True),
    "JAX": JaxLoop,
}


def timed(epoch: Callable[[], np.ndarray], epochs: int, updates: int) -> float:
    """Milliseconds of an update."""
    time.sleep(REST)
    started = time.perf_counter()
    for _ in range(epochs):
        epoch()
    return 1000 * (time.perf_counter() - started) / (updates * epochs)


def compare(
    cell: str, size: str, seconds: float, updates: int, epochs: int, without: list[str]
) -> dict[str, Any]:
    """One row: the losses first, then times in turns."""
    task = Task(cell, size, updates)
    losses = {step: fitted(task, step, 1)[0] for step in ("compiled", "eager")}
    loops: dict[str, Any] = {}
    left_out = dict.fromkeys(without, "not asked for")
    for name, make in PEERS.items():
        if name in without:
            continue
        torch.compiler.reset()
        try:
            with at_most(COMPILING):
                loop = make(task)
                losses[name] = loop.epoch()
            loops[name] = loop
        except TooLong:
            left_out[name] = f"not compiled after {COMPILING} s"
        except Exception as error:
            left_out[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    apart = {
        name: float(np.abs(values / losses["eager"] - 1).max()) for name, values in losses.items()
    }
    times: dict[str, list[float]] = {name: [] for name in losses}
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(times["eager"]) < 3:
        times["compiled"].append(fitted(task, "compiled", epochs + 1)[1])
        times["eager"].append(fitted(task, "eager", 2)[1])
        for name, loop in loops.items():
            times[name].append(timed(loop.epoch, epochs if name == "JAX" else 1, updates))
    middle = {name: median(values) for name, values in times.items()}
    ratio = {name: middle[name] / middle["compiled"] for name in middle}
    row = {
        "cell": cell, "size": size, "milliseconds": middle,
        "least": {name: min(values) for name, values in times.items()},
        "ratio": ratio, "turns": len(times["eager"]), "losses apart": apart, "left out": left_out,
    }  # fmt: skip
    print(f"{cell:6} {size:14}", end="")
    for name in middle:
        print(f"  {name} {middle[name]:.3f} ms ({ratio[name]:.1f}x)", end="")
    print(f"  losses within {max(apart.values()):.1e}", flush=True)
    for name, reason in left_out.items():
        print(f"       {name}: {reason}", flush=True)
    if max(apart.values()) > 1e-3:
        raise SystemExit(f"{cell} {size}: the losses differ: {apart}")
    return row


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--without", nargs="+", default=[], choices=PEERS, help="peers")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a row, at least")
    parser.add_argument("--updates", type=int, default=32, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=8, help="of a turn")
    parser.add_argument("--keep", action="store_true", help="keep the other rows of the JSON")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = {
        "date": date.today().isoformat(), "machine": describe()["processor"],
        "python": platform.python_version(),
        "torch": torch.__version__, "jax": jax.__version__, "threads": 1,
    }  # fmt: skip
    rows = json.loads(options.json.read_text())["rows"] if options.keep else []
    for size in options.sizes:
        for cell in options.cells:
            row = compare(
                cell, size, options.seconds, options.updates, options.epochs, options.without
            )
            others = [old for old in rows if (old["cell"], old["size"]) != (cell, size)]
            rows = [*others, row]
            options.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
