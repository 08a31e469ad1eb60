"""What rest saves: a clockwork with periods 1, 2, ..., 128 beside a dense Elman layer, in turns.

    python benchmarks/clockwork.py                      five sizes, two passes: a minute
    python benchmarks/clockwork.py --threads 2

The forward pass alone, and both passes with the gradients of all parameters, for an error of the
output that is drawn once. The ratio is the median over turns of the clockwork over Elman; MB is by
how much resident memory rises during one call. Beside it, by how much output and gradients differ
from those of the reference backend in float64, for some sequences and steps of that size.
"""

import functools

import torch
from turns import compare, main

import longlag as ll

PERIODS = tuple(2**group for group in range(8))
SIZES = (
    (1, 1000, 8, 128), (32, 784, 1, 128), (64, 256, 128, 256), (32, 256, 8, 256),
    (32, 100, 101, 512),
)  # fmt: skip


def difference(sizes: tuple[int, int, int, int]) -> float:
    """The largest difference of output and gradients from the reference, over 1 + |value|."""
    batch, steps, inputs, hidden = sizes
    generator, results = torch.Generator().manual_seed(0), []
    shape = min(batch, 5), min(steps, 140)
    x = torch.randn(*shape, inputs, generator=generator, dtype=torch.float64).requires_grad_()
    error = torch.randn(*shape, hidden, generator=generator, dtype=torch.float64)
    for backend in ("cpu", "reference"):
        options = {"periods": PERIODS, "dtype": torch.float64, "seed": 0, "backend": backend}
        layer = ll.Clockwork(inputs, hidden, **options)
        output, _ = layer(x)
        gradients = torch.autograd.grad(output, [x, *layer.parameters()], error)
        results.append((output.detach(), *gradients))
    return max(float(((a - b).abs() / (1 + b.abs())).max()) for a, b in zip(*results, strict=True))


def measure(sizes: tuple[int, int, int, int], backward: bool, turns: int) -> dict:
    """Times and memory of both layers."""
    batch, steps, inputs, hidden = sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, steps, inputs, generator=generator)
    error = torch.randn(batch, steps, hidden, generator=generator)
    layers = {
        "Elman": ll.Elman(inputs, hidden, seed=0),
        "Clockwork": ll.Clockwork(inputs, hidden, periods=PERIODS, seed=0),
    }

    def call(name: str) -> None:
        with torch.set_grad_enabled(backward):
            output, _ = layers[name](x)
        if backward:
            output.backward(error)

    calls = {name: functools.partial(call, name) for name in layers}
    passes = "forward+backward" if backward else "forward"
    return {"sizes N, T, C, H": sizes, "passes": passes, **compare(calls, turns)}


def rows(turns: int) -> list[dict]:
    """One row for each size and pass, each with the check of its size."""
    errors = {sizes: difference(sizes) for sizes in SIZES}
    if max(errors.values()) > 1e-10:
        raise SystemExit(f"the kernel and the reference differ: {errors}")
    return [
        {**measure(sizes, backward, turns), "difference": errors[sizes]}
        for sizes in SIZES
        for backward in (False, True)
    ]


if __name__ == "__main__":
    main(__doc__, rows)
