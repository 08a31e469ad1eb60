"""What a dilation costs: the same layer with a dilation of 1 and of 64, in turns.

    python benchmarks/dilated.py                        three cells, three sizes: a minute
    python benchmarks/dilated.py --turns 5

Forward and backward, with the gradients of all parameters, for an error of the output that is drawn
once. The ratio is the median over turns of the dilated layer over the other, in seconds of the
processor; MB is by how much resident memory rises during one call.
"""

import functools

import torch
from turns import compare, main

import longlag as ll

CELLS = {"Elman": ll.Elman, "GRU": ll.GRU, "LSTM": ll.LSTM}
SIZES = ((1, 8192, 10, 32), (32, 1024, 10, 32), (32, 1000, 32, 128))
DILATIONS = (1, 64)


def measure(cell: str, sizes: tuple[int, int, int, int], turns: int) -> dict:
    """Times and memory of one layer with both dilations."""
    batch, steps, inputs, hidden = sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, steps, inputs, generator=generator)
    error = torch.randn(batch, steps, hidden, generator=generator)
    layers = {d: CELLS[cell](inputs, hidden, dilation=d, seed=0) for d in DILATIONS}

    def call(dilation: int) -> None:
        output, _ = layers[dilation](x)
        output.backward(error)

    calls = {d: functools.partial(call, d) for d in DILATIONS}
    return {"cell": cell, "sizes N, T, C, H": sizes, **compare(calls, turns)}


if __name__ == "__main__":
    main(__doc__, lambda turns: [measure(cell, sizes, turns) for cell in CELLS for sizes in SIZES])
