"""Weights that something computes: parametrizations, weight norm, pruning, a tensor in their place,
and constraints that a cell declares.

A layer reads such a weight as its attribute, and autograd finds the way to what it is computed
from. What looks inside a layer asks for its parameters: it is given the plain model, in which they
are the weights as they are, and what it finds goes on to the originals by the chain rule.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from longlag.layers.recurrent import Recurrent
from longlag.torch_private import forget_computing, refresh_computed, shallow_copy


class PlainModel(NamedTuple):
    """A model whose weights are parameters.

    Attributes:
        model: copies of the modules, which share all other parameters; the model itself where
            nothing is computed.
        original: the model that it was made of.
        values: each computed weight, with its graph, by its name in ``model``.
    """

    model: Any
    original: nn.Module
    values: dict[str, Tensor]

    def by_original(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradients by the parameters of the original model, from those by the plain one's."""
        if not self.values:
            return dict(gradients)
        trained = {name: p for name, p in self.original.named_parameters() if p.requires_grad}
        sent = {name: value for name, value in self.values.items() if name in gradients}
        parts = torch.autograd.grad(
            list(sent.values()), list(trained.values()), [gradients[name] for name in sent],
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        return {
            name: part + gradients[name] if name in gradients else part
            for name, part in zip(trained, parts, strict=True)
        }


def plain_model(model: nn.Module) -> PlainModel:
    """The model with parameters in the place of computed weights; see `PlainModel`.

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(2, 3), 1)
    >>> _ = nn.utils.parametrizations.orthogonal(model.layer, "weight_hh")
    >>> plain = plain_model(model)
    >>> type(plain.model.layer).__name__, list(plain.values)
    ('Elman', ['layer.weight_hh'])
    """
    values: dict[str, Tensor] = {}
    parameters: dict[int, dict[str, nn.Parameter]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, Recurrent) and layer.computed:
            refresh_computed(layer)
            with torch.enable_grad():
                own = {weight: getattr(layer, weight) for weight in layer.computed}
            values |= {f"{name}.{weight}".lstrip("."): value for weight, value in own.items()}
            parameters[id(layer)] = {
                weight: nn.Parameter(value.detach(), value.requires_grad)
                for weight, value in own.items()
            }

    def make_plain(clone: Any, module: nn.Module) -> None:
        if id(module) in parameters:
            clone.__class__ = parametrize.type_before_parametrizations(module)
            clone._modules.pop("parametrizations", None)
            forget_computing(clone)
            clone._parameters.pop("weight_hh_raw", None)
            for weight, parameter in parameters[id(module)].items():
                clone.__dict__.pop(weight, None)
                clone._parameters[weight] = parameter

    return PlainModel(shallow_copy(model, make_plain) if values else model, model, values)
