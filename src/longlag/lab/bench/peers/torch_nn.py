"""torch.nn.RNN, LSTM or GRU with the same weights; one module for each replica."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from longlag.lab.bench.peers.contender import Contender, NotApplicable, torch_contender
from longlag.lab.bench.problem import Problem
from longlag.layers import GRU, LSTM, Elman


def prepare(problem: Problem, pass_name: str) -> Contender:
    """The module; its gradients include those of its second bias, as in training."""
    if problem.row.ragged:
        raise NotApplicable("torch.nn has no lengths but those of PackedSequence")
    if problem.row.replicas is not None:
        return _separate(problem, pass_name)
    return module_contender(problem, pass_name, lambda module: module(problem.x)[0])


def module_contender(
    problem: Problem, pass_name: str, forward: Callable[[nn.RNNBase], Tensor]
) -> Contender:
    """A contender that runs the module of torch.nn with the layer's weights.

    Raises:
        NotApplicable: torch.nn has no such cell.
    """
    if not isinstance(problem.layer, (Elman, LSTM, GRU)):
        raise NotApplicable("torch.nn has no such cell")
    module = problem.layer.to_torch()
    assert isinstance(module, nn.RNNBase)
    return torch_contender(
        problem,
        pass_name,
        lambda: forward(module),
        module,
        lambda gradients: _named_as_ours(problem, gradients),
    )


def _named_as_ours(problem: Problem, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a module's parameters by the names of longlag's layer."""
    named = {
        "weight_ih": gradients["weight_ih_l0"],
        "weight_hh": gradients["weight_hh_l0"],
        "bias": gradients["bias_ih_l0"],
    }
    if isinstance(problem.layer, GRU):
        named["bias_hn"] = gradients["bias_hh_l0"][-problem.row.hidden :]
    return named


def _separate(problem: Problem, pass_name: str) -> Contender:
    """One nn.RNN after the other, as who has no replicas must run them."""
    replicas = problem.row.replicas
    if not isinstance(problem.layer, Elman) or replicas is None:
        raise NotApplicable("separate modules are measured for the Elman cell")
    modules = []
    for replica in range(replicas):
        one = Elman(problem.row.features, problem.row.hidden)
        with torch.no_grad():
            for name, parameter in one.named_parameters():
                parameter.copy_(problem.layer.get_parameter(name)[replica])
        modules.append(one.to_torch())

    def inference() -> list[Tensor]:
        with torch.no_grad():
            return [module(x)[0] for module, x in zip(modules, problem.x, strict=True)]

    def everything(results: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        outputs, *gradients = (torch.stack(parts) for parts in zip(*results, strict=True))
        names = [name for name, _ in modules[0].named_parameters()]
        by_name = dict(zip(names, gradients, strict=True))
        return {"output": outputs.detach(), **_named_as_ours(problem, by_name)}

    if pass_name == "forward":
        return Contender(problem, inference, lambda outputs: {"output": torch.stack(outputs)})
    errors = problem.error.unbind()

    def training() -> list[tuple[Tensor, ...]]:
        results = []
        for module, x, error in zip(modules, problem.x, errors, strict=True):
            output = module(x)[0]
            gradients = torch.autograd.grad(output, tuple(module.parameters()), error)
            results.append((output, *gradients))
        return results

    return Contender(problem, training, everything)
