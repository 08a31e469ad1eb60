"""The trained parameters of a model, and gradients by their names."""

import torch
from torch import Tensor, nn

from longlag.gradients.method import Backward


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def add_gradients(model: nn.Module, gradients: dict[str, Tensor], backward: Backward) -> None:
    """Add gradients that are known to `.grad`, through `backward`, which may scale them."""
    named = trained(model)
    total = sum(
        ((named[name] * gradient).sum() for name, gradient in gradients.items()),
        start=torch.zeros(()),
    )
    if isinstance(total, Tensor) and total.requires_grad:
        backward(total)


def names_in(model: nn.Module, layer: nn.Module) -> dict[str, str]:
    """From the name of a parameter in a layer of the model to that in the model, of the trained.

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(2, 3, bias=False), 1)
    >>> names_in(model, model.layer)
    {'weight_ih': 'layer.weight_ih', 'weight_hh': 'layer.weight_hh'}
    """
    names = {id(p): name for name, p in trained(model).items()}
    return {own: names[id(p)] for own, p in layer.named_parameters() if id(p) in names}
