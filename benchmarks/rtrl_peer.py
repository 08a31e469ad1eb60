"""RTRL beside the textbook recursion in PyTorch: the time of one exact gradient.

    python benchmarks/rtrl_peer.py                      N = 8, T = 512, C = 32, an Elman layer of 64
    python benchmarks/rtrl_peer.py --hidden 32 --steps 128

The peer is P_t = J_t P_{t-1} + immediate term (Williams and Zipser, 1989), all sequences at once:
one torch.baddbmm a step for J_t P_{t-1}, and one write for the immediate term, which is there for
few entries. Both are to give the error of a readout at each step. The script first checks, in
float64 and with fewer steps, that both equal the gradient that autograd finds, and prints no time
where they do not.
"""

import argparse
import statistics
import sys
import time

import torch
from torch import Tensor, nn

import longlag as ll
from longlag.gradients.methods.rtrl import RTRL

mse = nn.functional.mse_loss


def peer(model: ll.SequenceModel, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The gradient of the mean squared error of an Elman layer with a linear readout."""
    layer, readout = model.layer, model.readout
    u, w, b = layer.weight_ih.detach(), layer.weight_hh.detach(), layer.bias.detach()
    v, c = readout.weight.detach(), readout.bias.detach()
    batch, steps, inputs = x.shape
    hidden, columns = len(b), inputs + len(b) + 1  # of (U, W, b)
    h = x.new_zeros(batch, hidden)
    influence = x.new_zeros(batch, hidden, hidden, columns)  # of row i's weights on unit k
    after = torch.empty_like(influence)
    found, by_v, by_c = x.new_zeros(hidden, columns), torch.zeros_like(v), torch.zeros_like(c)
    drive, every = torch.addmm(b, x.flatten(0, 1), u.T).view(batch, steps, hidden), range(hidden)
    ones = x.new_ones(batch, 1)
    scale = 2.0 / target.numel()
    for t in range(steps):
        read = torch.cat([x[:, t], h, ones], 1)
        h = torch.tanh(torch.addmm(drive[:, t], h, w.T))
        slope = 1 - h * h
        jacobian = slope.unsqueeze(-1) * w
        torch.bmm(jacobian, influence.flatten(2), out=after.flatten(2))
        influence, after = after, influence
        influence[:, every, every] += slope.unsqueeze(-1) * read.unsqueeze(1)
        error = scale * (torch.addmm(c, h, v.T) - target[:, t])
        by_v.addmm_(error.T, h)
        by_c += error.sum(0)
        found += ((error @ v).view(1, -1) @ influence.view(batch * hidden, -1)).view_as(found)
    return {
        "layer.weight_ih": found[:, :inputs],
        "layer.weight_hh": found[:, inputs:-1],
        "layer.bias": found[:, -1],
        "readout.weight": by_v,
        "readout.bias": by_c,
    }


def problem(
    arguments: argparse.Namespace, steps: int, dtype: torch.dtype
) -> tuple[ll.SequenceModel, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    layer = ll.Elman(arguments.inputs, arguments.hidden, seed=0, dtype=dtype)
    model = ll.SequenceModel(layer, arguments.outputs, reduce=None, seed=1)
    x = torch.randn(arguments.batch, steps, arguments.inputs, generator=generator, dtype=dtype)
    target = torch.randn(
        arguments.batch, steps, arguments.outputs, generator=generator, dtype=dtype
    )
    return model, x, target


def check(arguments: argparse.Namespace) -> None:
    """Stop where one of both is not what autograd finds."""
    model, x, target = problem(arguments, min(arguments.steps, 40), torch.float64)
    named = dict(model.named_parameters())
    wanted = torch.autograd.grad(mse(model(x), target), list(named.values()))
    ours = RTRL(block=min(arguments.hidden, 16)).gradients(model, x, target, mse)
    theirs = peer(model, x, target)
    for name, by in zip(named, wanted, strict=True):
        for who, found in (("RTRL", ours), ("the peer", theirs)):
            error = float((found[name] - by).abs().max() / by.abs().max())
            if not error < 1e-10:
                sys.exit(f"{who} is wrong by {error:.1e} for {name}")
    print("both equal autograd within 1e-10 (float64)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("batch", 8), ("steps", 512), ("inputs", 32), ("hidden", 64), ("outputs", 4),
        ("turns", 3), ("threads", 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    check(arguments)
    model, x, target = problem(arguments, arguments.steps, torch.float32)
    few = slice(0, 2 * arguments.hidden)
    contenders = {
        "textbook": lambda x, target: peer(model, x, target),
        "RTRL()": lambda x, target: RTRL().gradients(model, x, target, mse),
        "BPTT()": lambda x, target: ll.BPTT().gradients(model, x, target, mse),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run(x[:, few], target[:, few])
    for _ in range(arguments.turns):  # in turns, since others may use the machine
        for name, run in contenders.items():
            started = time.perf_counter()
            run(x, target)
            times[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(each) for name, each in times.items()}
    for name, seconds in middle.items():
        step = seconds / arguments.steps
        print(f"{name:10} {1e3 * seconds:9.1f} ms  {1e6 * step:9.1f} us a step")
    print(f"textbook / RTRL(): {middle['textbook'] / middle['RTRL()']:.1f}")


if __name__ == "__main__":
    main()
