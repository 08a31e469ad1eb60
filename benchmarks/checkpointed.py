"""CheckpointedBPTT beside plain BPTT and torch.nn: memory and time of one gradient.

    python benchmarks/checkpointed.py                      T = 10,000, N = 64, H = 256, an LSTM
    python benchmarks/checkpointed.py --steps 1000 --hidden 64

Each contender runs in a process of its own, which prints the gradient's bits, the seconds of the
second call and the most memory that the process had, less what it had before the first.
CheckpointedBPTT must give the bits of BPTT; torch.nn's gradient must agree with them.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch
from torch import nn

import longlag as ll
from longlag.lab.bench.machine import describe

CONTENDERS = ("nn.LSTM", "BPTT", "CheckpointedBPTT")


class Torch(nn.Module):
    """nn.LSTM with a readout at each step."""

    def __init__(self, model: ll.SequenceModel) -> None:
        super().__init__()
        self.lstm = model.layer.to_torch()
        self.readout = nn.Linear(model.layer.output_size, model.output_size)
        with torch.no_grad():
            self.readout.weight.copy_(model.readout.weight)
            self.readout.bias.copy_(model.readout.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(self.lstm(x)[0])


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(arguments: argparse.Namespace) -> None:
    """One contender; prints JSON."""
    torch.set_num_threads(arguments.threads)
    steps, batch, hidden = arguments.steps, arguments.batch, arguments.hidden
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, steps, 4, generator=generator)
    target = torch.randn(batch, steps, 1, generator=generator)
    model: nn.Module = ll.SequenceModel(ll.LSTM(4, hidden, seed=0), 1, reduce=None, seed=1)
    method = ll.CheckpointedBPTT(arguments.budget)
    if arguments.contender != "CheckpointedBPTT":
        method = ll.BPTT()
    if arguments.contender == "nn.LSTM":
        model = Torch(model)
    few = slice(0, 70)
    method.gradients(model, x[:, few], target[:, few], nn.functional.mse_loss)
    before, times = megabytes(), []
    for _ in range(arguments.turns):
        started = time.perf_counter()
        found = method.gradients(model, x, target, nn.functional.mse_loss)
        times.append(time.perf_counter() - started)
    bits = b"".join(gradient.numpy().tobytes() for gradient in found.values())
    name = "lstm.weight_hh_l0" if arguments.contender == "nn.LSTM" else "layer.weight_hh"
    result = {
        "seconds": min(times),
        "megabytes": megabytes() - before,
        "bits": hashlib.sha256(bits).hexdigest()[:16],
        "norm": float(found[name].double().norm()),
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--budget", default="150 MB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        run(arguments)
        return
    found = {}
    for name in CONTENDERS:
        command = [sys.executable, __file__, *sys.argv[1:], "--contender", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout)
        print(name, found[name], flush=True)
    plain, few, peer = found["BPTT"], found["CheckpointedBPTT"], found["nn.LSTM"]
    if plain["bits"] != few["bits"] or abs(peer["norm"] / plain["norm"] - 1) > 1e-3:
        sys.exit("the gradients differ: the figures mean nothing")
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        **{
            key: getattr(arguments, key)
            for key in ("steps", "batch", "hidden", "budget", "threads")
        },
        "contenders": found,
        "memory_of_nn_over_ours": peer["megabytes"] / few["megabytes"],
        "time_over_bptt": few["seconds"] / plain["seconds"],
        "time_of_nn_over_ours": peer["seconds"] / few["seconds"],
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
