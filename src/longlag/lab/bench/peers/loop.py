"""The plain PyTorch loop: what a cell that no library ships costs without longlag.

As one who knows PyTorch would write it: the input product for all steps at once, and `unbind` to
part it into steps, as the gradient of an index would be as large as the whole for each step.
"""

import torch
from torch import Tensor

from longlag.lab.bench.own_leaky import LEAK
from longlag.lab.bench.peers.contender import Contender, NotApplicable, torch_contender
from longlag.lab.bench.problem import Problem


def leaky_loop(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """h_t = (1 - a) h_{t-1} + a tanh(U x_t + W h_{t-1} + b), step by step.

    Args:
        x: (N, T, C).
        weight_ih: U, (H, C).
        weight_hh: W, (H, H).
        bias: b, (H,).

    Returns:
        The output (N, T, H).
    """
    drives = torch.nn.functional.linear(x.transpose(0, 1), weight_ih, bias).unbind(0)
    state = x.new_zeros(x.shape[0], weight_hh.shape[0])
    outputs = []
    for drive in drives:  # (N, H)
        state = (1 - LEAK) * state + LEAK * torch.tanh(torch.addmm(drive, state, weight_hh.T))
        outputs.append(state)
    return torch.stack(outputs, 1)


def prepare(problem: Problem, pass_name: str) -> Contender:
    """The loop under autograd, for the cells that torch.nn has not."""
    if problem.row.cell not in ("leaky", "own") or problem.row.replicas is not None:
        raise NotApplicable("torch.nn has this cell")
    parameters = dict(problem.layer.named_parameters())
    return torch_contender(problem, pass_name, lambda: leaky_loop(problem.x, **parameters))
