"""Forward and backward of the two plain PyTorch backends, after a check that they agree.

python benchmarks/torch_backends.py
"""

import statistics
import time

import torch

import longlag as ll

SIZES = {"N": 32, "T": 64, "C": 64, "H": 64}
REPEATS = 20


def gradients(layer: ll.Recurrent, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    output, _ = layer(x)
    return (output, *torch.autograd.grad(output.square().sum(), tuple(layer.parameters())))


def main() -> None:
    torch.set_num_threads(1)
    x = torch.randn(SIZES["N"], SIZES["T"], SIZES["C"])
    print(f"{SIZES}, float32, one thread, median of {REPEATS}, forward and backward, ms")
    for kind in (ll.Elman, ll.Leaky, ll.IndRNN, ll.LSTM, ll.GRU):
        layers = {
            name: kind(SIZES["C"], SIZES["H"], backend=name, seed=0)
            for name in ("reference", "derived")
        }
        for one, other in zip(*(gradients(layer, x) for layer in layers.values()), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        times: dict[str, list[float]] = {name: [] for name in layers}
        for _ in range(REPEATS):
            for name, layer in layers.items():
                started = time.perf_counter()
                gradients(layer, x)
                times[name].append(1e3 * (time.perf_counter() - started))
        medians = {name: statistics.median(values) for name, values in times.items()}
        ratio = medians["reference"] / medians["derived"]
        print(f"{kind.__name__:8}", {n: round(t, 1) for n, t in medians.items()}, f"{ratio:.1f}x")


if __name__ == "__main__":
    main()
