r"""The error that arrives at every state of every step and layer.

For E the loss and s_t the state of a layer, :math:`\delta_t = \partial E / \partial s_t`.
"""

from typing import NamedTuple

from torch import Tensor, nn
from typing_extensions import Unpack

from longlag.gradients.method import Loss, Options
from longlag.gradients.runs.layer_run import STATES_ONLY, LayerRun
from longlag.gradients.runs.model_run import ModelRun
from longlag.layers.inputs import Inputs
from longlag.scan.inputs import to_batch_first


class LayerErrors(NamedTuple):
    """States and errors of one recurrent layer, by name of the state.

    R replicas put an R in front of every shape.

    Attributes:
        layer: where the layer is in the model, as in ``model.named_modules()``; "" is the model.
        states: s_0 .. s_T, each (N, T + 1, H); zero after a sequence's own end.
        errors: dE/ds_t for t = 1 .. T, each (N, T, H); zero in the padding.
        initial: dE/ds_0, each (N, H).
    """

    layer: str
    states: dict[str, Tensor]
    errors: dict[str, Tensor]
    initial: dict[str, Tensor]


class ModelErrors(NamedTuple):
    """What :func:`state_errors` finds.

    Attributes:
        loss: E, a scalar.
        output: what the model put out.
        layers: one for each recurrent layer, the one that reads x first.
    """

    loss: Tensor
    output: Tensor
    layers: tuple[LayerErrors, ...]


def state_errors(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    joint: bool = False,
    **options: Unpack[Options],
) -> ModelErrors:
    r"""The errors :math:`\delta_t = \partial E / \partial s_t` of every state, step and layer.

    All that E depends on s_t by counts: what is read out at t, the steps after t, and in a stack
    what the layers above send down.

    Args:
        model: a recurrent layer, a stack of such, or a `SequenceModel` around either.
        x: (N, T, C).
        target, loss: as for :meth:`BPTT.gradients`.
        joint: of cells with several states, of which one reads the new value of another
            (h_t = o_t tanh(c_t)): False counts that path in the error of c_t, as automatic
            differentiation does. True holds the other states of the same step, as in the Jacobian
            of the state as one vector: then :math:`\delta_{t-1} = \partial E/\partial s_{t-1} +
            J_t^\top \delta_t`. See :func:`longlag.recurrence.probes.probed`.
        options: `lengths` (N,), steps that count; `resets` (N, T), True where the state is set to
            zero before the step; `state`, what the layers start from, as the model takes it.

    Returns:
        The loss, the output, and states and errors by layer. Nothing has a graph.

    Raises:
        TypeError: the model is none of these; an argument is of another type or dtype.
        ValueError: a shape or length does not fit; the model reads in both directions, or drops out
            units; the loss is no scalar.

    Cost: one forward and one backward pass, with one more drive per state and unit. Memory: S H
    numbers a step beside those of BPTT, for S states.

    Source: P. J. Werbos (1990), "Backpropagation through time: what it does and how to do it".

    >>> import torch
    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.LSTM(2, 3, seed=0), 1, seed=1)
    >>> x, target = torch.ones(4, 5, 2), torch.zeros(4, 1)
    >>> found = state_errors(model, x, target, nn.functional.mse_loss)
    >>> found.layers[0].layer, found.layers[0].errors["c"].shape
    ('layer', torch.Size([4, 5, 3]))
    """
    run = ModelRun(model, Inputs(x, **options), "state_errors", joint=joint)
    error = run.read(loss, target)
    run.backward(run.explicit(error), STATES_ONLY)
    layers = tuple(_errors_of(layer_run, joint) for layer_run in run.layers)
    return ModelErrors(error.loss.detach(), error.output.detach(), layers)


def _errors_of(run: LayerRun, joint: bool) -> LayerErrors:
    names = run.layer.recurrence.states
    deltas = run.apart_from_stages() if joint else run.deltas
    paths, deltas = map(to_batch_first, run.states), map(to_batch_first, deltas)
    by_name = (dict(zip(names, v, strict=True)) for v in (paths, deltas, run.gradients.initial))
    return LayerErrors(run.name, *by_name)
