r"""How large the state becomes over the steps, and how large without the nonlinearity.

In :math:`h_t = W h_{t-1} + U x_t + b` the state grows as :math:`\lVert W^k \rVert`: without end
where the spectral radius of W is above 1. Squashed by tanh it stays within :math:`\sqrt H`; what
explodes then is the gradient.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.runs.model_run import ModelRun
from longlag.layers import Recurrent
from longlag.layers.computed import plain_model
from longlag.layers.evaluation import evaluation_mode
from longlag.layers.inputs import Inputs
from longlag.memory.measures.directions import Direction, by_direction, each_direction, recurrent_of


@dataclass(frozen=True)
class StateNorms:
    """What :func:`state_norms` finds.

    Attributes:
        norms: ||h_t|| of what the module puts out, (N, T); NaN in the padding; R replicas put an
            R in front.
        linear: the same where every activation is the identity; None where the cell has none to
            exchange, or the module is more than one layer.
    """

    norms: Tensor
    linear: Tensor | None


@torch.no_grad()
def state_norms(
    model: nn.Module,
    x: Tensor,
    *,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    state: Any = None,
) -> StateNorms:
    r"""The norm :math:`\lVert h_t \rVert_2` of the output of every step, squashed and linear.

    Args:
        model: a recurrent module of longlag, or a `SequenceModel` around one.
        x: (N, T, C); `lengths`, `resets`, `state` as the module takes them.

    Returns:
        The norms; of a single layer whose cell has an ``activation`` (Elman, Leaky, IndRNN) also
        those of the same weights with ``activation="identity"``. Where that exceeds the range of
        the numbers it is inf.

    Raises:
        TypeError, ValueError: as the module's forward method.

    Cost: two forward passes.

    >>> import longlag as ll
    >>> layer = ll.Elman(1, 2, bias=False, weight_hh_init=ll.init.Identity(1.1), seed=0)
    >>> states = state_norms(layer, torch.ones(1, 100, 1))
    >>> bool(states.norms.max() < 2**0.5), bool(states.linear[0, -1] > 1000)
    (True, True)
    """
    layer, inputs = recurrent_of(model), Inputs(x, lengths, resets, state)
    with evaluation_mode(layer):
        twin = _linear_twin(layer)
        return StateNorms(_norms(layer, inputs), None if twin is None else _norms(twin, inputs))


def states_are_finite(model: nn.Module, inputs: Inputs) -> bool:
    """Whether all states of all layers are finite, those before the first step among them.

    Cost: a forward pass.
    """

    def of(direction: Direction) -> bool:
        layers = ModelRun(direction.layer, direction.inputs, "memory_report", joint=True).layers
        return all(bool(path.isfinite().all()) for layer in layers for path in layer.states)

    return all(by_direction(each_direction(model, inputs, of)).values())


def _norms(layer: nn.Module, inputs: Inputs) -> Tensor:
    output = inputs.output_of(layer)
    norms = torch.linalg.vector_norm(output.double(), dim=-1).nan_to_num(nan=torch.inf)
    return norms.masked_fill(inputs.remaining < 0, torch.nan)


def _linear_twin(layer: nn.Module) -> Recurrent | None:
    """The same weights in a cell without the nonlinearity."""
    if not isinstance(layer, Recurrent):
        return None
    cell: Any = layer.cell
    if "activation" not in getattr(cell, "__dataclass_fields__", ()):
        return None
    own = cell.__dataclass_fields__
    free = {"constraint": None} if "constraint" in own else {}  # its W is given, and not trained
    twin = Recurrent(
        dataclasses.replace(cell, activation="identity", **free),
        layer.input_size, layer.hidden_size,
        bias=layer.bias is not None, density=layer.density, dilation=layer.dilation,
        replicas=layer.replicas, weights=layer.weights, backend=layer.backend,
        device=layer.weight_ih.device, dtype=layer.weight_ih.dtype, seed=0,
    )  # fmt: skip
    weights = plain_model(layer).model.state_dict()
    twin.load_state_dict({name: weights[name] for name in twin.state_dict()})
    return twin.eval()
