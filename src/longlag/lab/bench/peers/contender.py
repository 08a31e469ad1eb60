"""What every contender is: a call to time, and its result in the names of longlag's layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longlag.lab.bench.problem import Problem


class NotApplicable(Exception):
    """There is nothing to compare: the peer is not for rows of this kind."""


class Unavailable(Exception):
    """A peer should be measured here and cannot be; the message is the reason, for the results."""


@dataclass(frozen=True)
class Contender:
    """One way to do a row.

    Attributes:
        problem: what it does; its result is checked against this problem's reference.
        call: what is timed.
        result: from what `call` gives to the output (N, T, H), zero in the padding, and the
            gradients by parameter of longlag's layer; the output alone for a forward pass.
    """

    problem: Problem
    call: Callable[[], Any]
    result: Callable[[Any], dict[str, Tensor]]


def torch_contender(
    problem: Problem,
    pass_name: str,
    forward: Callable[[], Tensor],
    module: nn.Module | None = None,
    renamed: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> Contender:
    """A contender of PyTorch operations.

    Args:
        problem: what it does.
        pass_name: "forward", without autograd, or "forward+backward", which pulls the problem's
            error back.
        forward: gives the output (N, T, H); what it has in the padding does not count.
        module: has the parameters that gradients are taken for; None: longlag's layer.
        renamed: from gradients by the module's names to those by the names of longlag's layer.
    """
    names, parameters = zip(*(module or problem.layer).named_parameters(), strict=True)

    def inference() -> Tensor:
        with torch.no_grad():
            return forward()

    def output_only(output: Tensor) -> dict[str, Tensor]:
        return {"output": problem.masked(output)}

    def everything(results: tuple[Tensor, tuple[Tensor, ...]]) -> dict[str, Tensor]:
        gradients = renamed(dict(zip(names, results[1], strict=True)))
        return {**output_only(results[0].detach()), **gradients}

    if pass_name == "forward":
        return Contender(problem, inference, output_only)
    error = problem.error

    def training() -> tuple[Tensor, tuple[Tensor, ...]]:
        output = forward()
        return output, torch.autograd.grad(output, parameters, error)

    return Contender(problem, training, everything)
