"""What `weights="bfloat16"` brings: a layer beside one that reads its W of float32, in turns.

    python benchmarks/weights.py                        three cells, few sequences: two minutes
    python benchmarks/weights.py --turns 3

Of one and two sequences: 100 steps of a call forward, both passes of it, and a step of `ll.Stream`.
Each layer with rounded numbers is compared with the one of float32 whose stored W has them, first:
outputs and all gradients. The ratio is the median over turns of the time of float32 over that of
bfloat16, in seconds of the processor; two threads: on the clock.
"""

import functools
from typing import Any

import torch
from turns import compare, main

import longlag as ll

CELLS = {"Elman": ll.Elman, "GRU": ll.GRU, "LSTM": ll.LSTM}
SIZES = (256, 512, 1024)
STEPS, INPUTS, WITHIN = 100, 4, 1e-5


def check(pair: dict[str, Any], x: torch.Tensor, error: torch.Tensor) -> None:
    """Both have the same outputs and gradients, to rounding."""
    found = []
    for layer in pair.values():
        layer.zero_grad()
        output, _ = layer(x)
        output.backward(error)
        found.append([output.detach(), *(p.grad.clone() for p in layer.parameters())])
    for one, other in zip(*found, strict=True):
        difference = float((one - other).abs().max() / other.abs().max())
        assert difference < WITHIN, f"they differ by {difference}"


def measure(cell: str, hidden: int, batch: int, turns: int) -> dict[str, Any]:
    """Times of a step, in microseconds, and their ratios."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, STEPS, INPUTS, generator=generator)
    error = torch.randn(batch, STEPS, hidden, generator=generator) / STEPS
    pair = {w: CELLS[cell](INPUTS, hidden, weights=w, seed=0) for w in ("bfloat16", None)}
    with torch.no_grad():
        stored = pair[None].weight_hh
        stored.copy_(stored.to(torch.bfloat16).float())
    check(pair, x, error)
    streams = {w: ll.Stream(layer, batch) for w, layer in pair.items()}
    step = x[:, 0].numpy()

    def forward(w: str | None) -> None:
        with torch.no_grad():
            pair[w](x)

    def both(w: str | None) -> None:
        pair[w](x)[0].backward(error)

    row: dict[str, Any] = {"cell": cell, "H": hidden, "N": batch}
    kinds = {"forward": (forward, STEPS), "both passes": (both, STEPS)}
    for kind, (call, steps) in {**kinds, "stream": (lambda w: streams[w](step), 1)}.items():
        found = compare({w: functools.partial(call, w) for w in pair}, turns)
        microseconds = {str(w): 1e6 / steps * s for w, s in found["seconds"].items()}
        row[kind] = {**microseconds, "ratio": found["ratio"], "quartiles": found["quartiles"]}
    return row


if __name__ == "__main__":
    main(
        __doc__,
        lambda turns: [
            measure(cell, hidden, batch, turns)
            for cell in CELLS for hidden in SIZES for batch in (1, 2)
        ],
    )  # fmt: skip
