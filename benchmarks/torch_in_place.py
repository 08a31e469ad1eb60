"""A model of torch.nn over packed sequences, and the same with only the import changed.

    python benchmarks/torch_in_place.py                 N = 64, T = 1000, H = 128: minutes
    python benchmarks/torch_in_place.py --steps 100
    python benchmarks/torch_in_place.py --json benchmarks/torch_in_place.json

Two bidirectional layers of each kind read a PackedSequence whose sequences are all of one length,
and one of ragged lengths, forward and backward, on one thread and two. Both libraries run in turns,
and have the same weights, input and error; their outputs and gradients must agree before a time
counts. Printed are the shortest wall-clock time of each, their ratio, and that of the processor
times of those runs, which says more where the machine is not alone.
"""

import argparse
import json
import os
import sys
import time
from datetime import date
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import longlag as ll
from longlag.lab.bench.machine import describe


def one_pass(module: nn.Module, packed: PackedSequence, error: torch.Tensor) -> tuple[list, list]:
    """Output and gradients of one pass, and its seconds by the wall clock and of the processor."""
    module.zero_grad()
    started = time.perf_counter(), time.process_time()
    output, _ = module(packed)
    output.data.backward(error)
    seconds = [time.perf_counter() - started[0], time.process_time() - started[1]]
    return [output.data.detach(), *(weight.grad for weight in module.parameters())], seconds


def agree(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    """Whether all numbers are equal to 1e-3 of the largest of their tensor."""
    return all(
        (a - b).abs().max() <= 1e-3 * b.abs().max() for a, b in zip(ours, theirs, strict=True)
    )


def measure(kind: str, lengths: torch.Tensor, hidden: int, turns: int) -> dict:
    """Seconds of both libraries on one model."""
    torch.manual_seed(0)
    x = torch.randn(int(lengths.max()), len(lengths), hidden)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    modules = [
        getattr(home, kind)(hidden, hidden, num_layers=2, bidirectional=True)
        for home in (nn, ll.nn)
    ]
    modules[1].load_state_dict(modules[0].state_dict())
    error = torch.randn(len(packed.data), 2 * hidden) / len(packed.data)
    results = [one_pass(module, packed, error)[0] for module in modules]
    if not agree(results[1], results[0]) or modules[1].backend_used != "cpu":
        sys.exit(f"{kind}: the two differ: the figures mean nothing")
    seconds: list[list[list[float]]] = [[], []]
    for _ in range(turns):
        for module, times in zip(modules, seconds, strict=True):
            times.append(one_pass(module, packed, error)[1])
    theirs, ours = (min(times) for times in seconds)
    return {
        "kind": kind,
        "lengths": "uniform" if int(lengths.min()) == int(lengths.max()) else "ragged",
        "threads": torch.get_num_threads(),
        "torch_seconds": round(theirs[0], 4),
        "longlag_seconds": round(ours[0], 4),
        "times_as_fast": round(theirs[0] / ours[0], 2),
        "times_as_fast_by_processor_time": round(theirs[1] / ours[1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kinds", nargs="+", default=["RNN", "GRU", "LSTM"])
    parser.add_argument("--json", type=Path, help="where to write the result")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(1, arguments.steps + 1, (arguments.batch,), generator=generator)
    rows = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for kind in arguments.kinds:
            for lengths in (torch.full((arguments.batch,), arguments.steps), drawn):
                rows.append(measure(kind, lengths, arguments.hidden, arguments.turns))
                print(json.dumps(rows[-1]), flush=True)
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "batch": arguments.batch, "steps": arguments.steps, "hidden": arguments.hidden,
        "layers": 2, "bidirectional": True, "turns": arguments.turns,
        "rows": rows,
    }  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
