"""longlag: the layer as a user calls it, on the backend that `auto` takes."""

import torch
from torch import Tensor

from longlag.lab.bench.peers.contender import Contender, torch_contender
from longlag.lab.bench.problem import Problem
from longlag.scan import Weights, scan


def prepare(problem: Problem, pass_name: str) -> Contender:
    """The layer; for "scan" the recurrence alone, from a drive a = U x + b that is there already.

    The scan is forward and without autograd.
    """
    layer = problem.layer
    if pass_name != "scan":
        return torch_contender(
            problem, pass_name, lambda: layer(problem.x, lengths=problem.lengths)[0]
        )
    with torch.no_grad():
        drive = _drive(problem)
        zero = problem.x.new_zeros((*problem.x.shape[:-2], layer.hidden_size))
        units = tuple(layer.unit(name).unsqueeze(-2) for name in layer.recurrence.units)
    initial = (zero,) * len(layer.recurrence.states)
    weights = Weights(layer.weight_hh, units)

    def call() -> Tensor:
        with torch.no_grad():
            return scan(layer.recurrence, drive, weights, initial, lengths=problem.lengths).output

    return Contender(problem, call, lambda output: {"output": output})


def _drive(problem: Problem) -> Tensor:
    """a = U x + b of all steps, (N, T, G H), in memory with T before N."""
    weight, bias = problem.layer.weight_ih.mT, problem.layer.bias
    assert bias is not None
    if problem.row.replicas is not None:
        weight, bias = weight.unsqueeze(-3), bias.unsqueeze(-2).unsqueeze(-2)
    return (problem.x.transpose(-3, -2) @ weight + bias).transpose(-3, -2)
