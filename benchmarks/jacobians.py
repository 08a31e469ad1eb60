"""How far back an LSTM remembers: jacobian_norms and error_flow beside a loop with autograd.

    python benchmarks/jacobians.py                      N = 32, T = 1000, H = 128, float32
    python benchmarks/jacobians.py --hidden 32 --steps 100

Both give, for the same 16 chains, the largest singular value and the Frobenius norm of the
derivative of s_t by s_{t-k} at every lag k, and for all sequences the norm of dE/ds_s at every
step. The loops are what one writes without longlag, on the cell of torch.nn:

* functional: for each chain and step torch.autograd.functional.jacobian of the step, a product, and
  torch.linalg.matrix_norm.
* vectorized: the same with vectorize=True, which is not its default.
* func: the same for all chains at once, with torch.func.vmap and jacrev; the best loop found.

Both get dE/ds_s from one backward pass through a loop of nn.LSTMCell whose states retain their
gradients. A loop over the Jacobians is timed over --part of the steps, first ones left out, and
multiplied up: each step takes the same work. The script first checks that both find the same norms.
longlag's largest singular values are the lower bounds of its method of vectors, and its Frobenius
norms estimates, where the loop is exact; the check says how far apart they lie.
Beside that, how long a whole `memory_report` takes, all lags, without its page.
"""

import argparse
import json
import os
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

import longlag as ll
from longlag.lab.bench.machine import describe
from longlag.memory import JacobianNorms, error_flow, jacobian_norms

mse = nn.functional.mse_loss


def cell_of(layer: ll.LSTM) -> nn.LSTMCell:
    """The layer as a cell of torch.nn."""
    cell = nn.LSTMCell(layer.input_size, layer.hidden_size)
    with torch.no_grad():
        cell.weight_ih.copy_(layer.weight_ih)
        cell.weight_hh.copy_(layer.weight_hh)
        cell.bias_ih.copy_(layer.bias)
        cell.bias_hh.zero_()
    return cell


def states_of(cell: nn.LSTMCell, x: Tensor) -> Tensor:
    """The joint states s_0 .. s_T of all sequences, (T + 1, N, 2 H)."""
    state = (x.new_zeros(len(x), cell.hidden_size),) * 2
    found = [torch.cat(state, -1)]
    with torch.no_grad():
        for t in range(x.shape[1]):
            state = cell(x[:, t], state)
            found.append(torch.cat(state, -1))
    return torch.stack(found)


def step_of(cell: nn.LSTMCell):
    def step(joint: Tensor, x: Tensor) -> Tensor:
        h, c = joint.chunk(2, -1)
        return torch.cat(cell(x, (h, c)), -1)

    return step


class Loop:
    """Products of Jacobians back from the ends of chains, a step at a time."""

    def __init__(self, cell: nn.LSTMCell, x: Tensor, sequences: Tensor, ends: Tensor) -> None:
        self.step, self.x, self.states = step_of(cell), x, states_of(cell, x)
        self.sequences, self.ends, size = sequences, ends, 2 * cell.hidden_size
        self.products = torch.eye(size).repeat(len(ends), 1, 1)
        self.scales = torch.zeros(len(ends), dtype=torch.float64)

    def vectorized(self, lag: int) -> list[tuple[float, float]]:
        """As :meth:`functional`, with all rows of a Jacobian from one call."""
        return self.functional(lag, True)

    def functional(self, lag: int, vectorize: bool = False) -> list[tuple[float, float]]:
        """The logarithms of both norms at a lag, by chain."""
        found = []
        for chain, (n, end) in enumerate(zip(self.sequences, self.ends, strict=True)):
            t = max(int(end) - lag, 0)
            x = self.x[n, t]
            factor = jacobian(lambda joint, x=x: self.step(joint, x), self.states[t, n],
                              vectorize=vectorize)  # fmt: skip
            product = self.products[chain] @ factor
            most = product.abs().max()
            self.scales[chain] += float(most.log())
            self.products[chain] = product / most
            norms = [torch.linalg.matrix_norm(self.products[chain], kind) for kind in (2, "fro")]
            found.append(tuple(float(each.log() + self.scales[chain]) for each in norms))
        return found

    def func(self, lag: int) -> list[tuple[float, float]]:
        """The same for all chains at once."""
        t = (self.ends - lag).clamp(min=0)
        by_joint = torch.func.vmap(torch.func.jacrev(self.step))
        with torch.no_grad():
            factor = by_joint(self.states[t, self.sequences], self.x[self.sequences, t])
            product = self.products @ factor
            most = product.abs().amax((-2, -1), keepdim=True)
            self.scales += most.squeeze(-1).squeeze(-1).double().log()
            self.products = product / most
            norms = [torch.linalg.matrix_norm(self.products, kind) for kind in (2, "fro")]
            logs = [each.double().log() + self.scales for each in norms]
        return list(zip(*(each.tolist() for each in logs), strict=True))


def loop_errors(cell: nn.LSTMCell, readout: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """||dE/ds_s|| for s = 1 .. T - 1, (N, T - 1), of the error of the last output."""
    state, visited = (x.new_zeros(len(x), cell.hidden_size),) * 2, []
    for t in range(x.shape[1]):
        joint = torch.cat(cell(x[:, t], state), -1)
        joint.retain_grad()
        visited.append(joint)
        state = joint.chunk(2, -1)
    mse(readout(state[0]), target).backward()
    grads = torch.stack([joint.grad for joint in visited[:-1]], 1)
    cell.zero_grad()
    return torch.linalg.vector_norm(grads, dim=-1)


def check(model: ll.SequenceModel, found: JacobianNorms, x: Tensor, target: Tensor) -> dict:
    """Stop where one of both does not find what the other does."""
    cell, worst, frobenius = cell_of(model.layer), 0.0, 0.0
    loop = Loop(cell, x, found.sequences, found.ends)
    for lag in range(1, 6):
        for chain, (largest, total) in enumerate(loop.func(lag)):
            if lag <= int(found.ends[chain]):
                worst = max(worst, abs(largest - float(found.largest.values[chain, lag])))
                frobenius = max(frobenius, abs(total - float(found.frobenius.values[chain, lag])))
    if not worst < 0.02 or not frobenius < 0.2:
        sys.exit(f"the norms differ by {worst:.1e} and {frobenius:.1e} in the logarithm")
    (layer,) = error_flow(model, x, target, mse).layers
    theirs = loop_errors(cell, model.readout, x, target)
    error = float((layer.by_step[:, 1:-1] - theirs).norm() / theirs.norm())
    if not error < 1e-3:
        sys.exit(f"the errors of the states differ by {error:.1e}")
    return {"largest, greatest difference of logarithms at lags 1 to 5": worst,
            "frobenius, the same": frobenius, "dE/ds, relative": error}  # fmt: skip


def timed(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("batch", 32), ("steps", 1000), ("hidden", 128), ("turns", 2), ("threads", 2),
        ("part", 3),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(arguments.batch, arguments.steps, 4, generator=generator)
    target = torch.randn(arguments.batch, 1, generator=generator)
    layer = ll.LSTM(4, arguments.hidden, seed=0)
    model = ll.SequenceModel(layer, 1, reduce="last", seed=1)
    warm = x[:, : min(50, arguments.steps)]
    jacobian_norms(model, warm)
    error_flow(model, warm, target, mse)
    norms = jacobian_norms(model, x)
    assert isinstance(norms, JacobianNorms)
    checked = check(model, norms, x, target)
    ours = {"jacobian_norms": [], "error_flow": []}
    for _ in range(arguments.turns):
        ours["jacobian_norms"].append(timed(lambda: jacobian_norms(model, x)))
        ours["error_flow"].append(timed(lambda: error_flow(model, x, target, mse)))
    seconds = {name: statistics.median(each) for name, each in ours.items()}
    cell = cell_of(layer)
    errors = timed(lambda: loop_errors(cell, model.readout, x, target))
    total, loops = sum(seconds.values()), {}
    for name in ("functional", "vectorized", "func"):
        loop = Loop(cell, x, norms.sequences, norms.ends)
        run = getattr(loop, name)
        run(1)
        lags = range(2, 2 + arguments.part)
        each = statistics.mean(timed(lambda lag=lag, run=run: run(lag)) for lag in lags)
        loops[name] = each * arguments.steps + errors
    report = statistics.median(
        timed(lambda: ll.memory_report(model, x, target, mse, lag=arguments.steps))
        for _ in range(3)
    )
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "torch": torch.__version__,
        "sizes": {"N": arguments.batch, "T": arguments.steps, "H": arguments.hidden},
        "threads": arguments.threads,
        "load average": os.getloadavg()[0],
        "chains": norms.ends.numel(),
        "method": norms.method,
        "seconds": {**seconds, "together": total},
        "memory_report, seconds": report,
        "loop, seconds, extrapolated": loops,
        "loop, of which dE/ds": errors,
        "steps timed": arguments.part,
        "times as fast": {name: each / total for name, each in loops.items()},
        "checked": checked,
    }
    print(json.dumps(result, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
