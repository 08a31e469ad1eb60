"""What a dilation costs: the same layer with a dilation of 1 and of 64, in turns.

    python benchmarks/dilated.py                        three cells, three sizes: a minute
    python benchmarks/dilated.py --turns 5

Forward and backward, with the gradients of all parameters, for an error of the output that is drawn
once. The ratio is the median over turns of the dilated layer over the other, in seconds of the
processor; MB is by how much resident memory rises during one call.
"""

import argparse
import json
import platform
import statistics
import time
from datetime import date
from pathlib import Path

import torch

import longlag as ll
from longlag.lab.bench.memory import peak_bytes

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

    seconds: dict[int, list[float]] = {d: [] for d in DILATIONS}
    for turn in range(turns + 1):  # the first compiles
        for dilation in DILATIONS:
            started = time.process_time()
            call(dilation)
            if turn:
                seconds[dilation].append(time.process_time() - started)
    ratios = [far / near for near, far in zip(*seconds.values(), strict=True)]
    return {
        "cell": cell,
        "sizes N, T, C, H": sizes,
        "seconds": {d: statistics.median(times) for d, times in seconds.items()},
        "ratio": statistics.median(ratios),
        "quartiles": statistics.quantiles(ratios)[::2],
        "MB": {d: round((peak_bytes(lambda d=d: call(d)) or 0) / 1e6, 1) for d in DILATIONS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [measure(cell, sizes, arguments.turns) for cell in CELLS for sizes in SIZES]
    result = {
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "turns": arguments.turns,
        "rows": rows,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
