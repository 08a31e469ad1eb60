"""Forward and backward of the backends and of torch.nn, in turns, after a check that they agree.

python benchmarks/backends.py                 one thread, about two minutes
python benchmarks/backends.py --threads 2
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

import longlag as ll

ROWS = (
    (1, 1000, 16, 16),
    (32, 64, 15, 16),
    (32, 100, 64, 64),
    (32, 784, 1, 128),
    (64, 256, 128, 256),
    (32, 100, 101, 512),
)
"""N, T, C, H."""


def gradients(module: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Output and all gradients of a mean square."""
    output = module(x)[0]
    return (output, *torch.autograd.grad(output.square().mean(), tuple(module.parameters())))


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds of each call: the median over rounds in which each has its turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table(title=f"forward + backward, ms, float32, {arguments.threads} thread(s)")
    for name in ("cell", "N, T, C, H", "reference", "derived", "cpu", "torch.nn", "torch.nn / cpu"):
        table.add_column(name, justify="right")
    for kind in (ll.Elman, ll.LSTM, ll.GRU):
        for sizes in ROWS:
            batch, steps, features, hidden = sizes
            x = torch.randn(batch, steps, features)
            modules: dict[str, torch.nn.Module] = {
                name: kind(features, hidden, backend=name, seed=0)
                for name in ("reference", "derived", "cpu")
            }
            right = gradients(modules["reference"], x)
            for name in ("derived", "cpu"):
                for one, other in zip(gradients(modules[name], x), right, strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
            modules["torch.nn"] = kind(features, hidden, seed=0).to_torch()
            torch.testing.assert_close(
                gradients(modules["torch.nn"], x)[0], right[0], rtol=1e-3, atol=1e-5
            )
            calls = {n: (lambda m=m, x=x: gradients(m, x)) for n, m in modules.items()}
            found = medians(calls, arguments.repeats)
            ratio = found["torch.nn"] / found["cpu"]
            row = [f"{found[name]:.2f}" for name in ("reference", "derived", "cpu", "torch.nn")]
            table.add_row(kind.__name__, ", ".join(map(str, sizes)), *row, f"{ratio:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
