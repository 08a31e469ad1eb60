"""The state-to-state Jacobian of every step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.runs.layer_run import LayerRun
from longlag.gradients.runs.model_run import ModelRun
from longlag.layers.inputs import Inputs
from longlag.memory.measures.directions import Direction, Directions, each_direction, in_order_of_x
from longlag.memory.measures.linear import Linear, apart_from_padding, joint_size, stretches


def state_jacobians(
    layer: nn.Module,
    x: Tensor,
    *,
    state: Any = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
) -> Tensor | Directions[Tensor]:
    r"""The Jacobian :math:`J_t = \partial s_t / \partial s_{t-1}` of every step, exact.

    s_t holds the states of the layer side by side, in the order of ``layer.recurrence.states``:
    (h, c) for an LSTM, and (h, h_1, ...) where past states are kept for delays. With the partials
    of the update by its pre-activations, states and unit parameters, which are derived from the
    cell's equations,

    .. math:: J_t = \frac{\partial\phi}{\partial s}
        + \sum_g \operatorname{diag}\!\left(\frac{\partial\phi}{\partial r_g}\right) W_g

    Where the cell truncates the error (``LSTM1997``, ``stop_gradient``), so does J_t: it is what
    the gradient is made of. At a reset J_t = 0, since s_{t-1} is forgotten; in the padding there
    is no step, and J_t = 0 likewise.

    Args:
        layer: a recurrent layer, a stack or a bidirectional module of longlag, or a
            `SequenceModel` around one. In a stack the states of all layers stand side by side, the
            layer that reads x first, and J_t is block lower triangular.
        x: (N, T, C).
        state: what the module starts from, as it takes it; zeros by default.
        lengths: (N,), steps that count.
        resets: (N, T), True where the state is set to zero before the step.

    Returns:
        (N, T, S, S) with S the numbers of all states, R replicas in front; row i, column j is
        ds_t[i] / ds_{t-1}[j]. Of a bidirectional module one such for each direction; at step t of
        x that of the backward one is ds_t/ds_{t+1}.

    Raises:
        TypeError: the module is none of these; an argument is of another type or dtype.
        ValueError: a shape or length does not fit; a module inside a stack reads in both
            directions; units are dropped out.

    Cost: one forward pass, and N T S S numbers: for each state and matrix one pass over them; in a
    stack also one product of the upper layer's input matrix with the rows below. For long
    sequences of large layers see :func:`longlag.memory.jacobian_norms`, which keeps no matrices.

    >>> import torch
    >>> import longlag as ll
    >>> layer = ll.LSTM(3, 4, seed=0)
    >>> state_jacobians(layer, torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 8, 8])
    """
    return each_direction(layer, Inputs(x, lengths, resets, state), _of_direction)


@torch.no_grad()
def _of_direction(direction: Direction) -> Tensor:
    run = ModelRun(direction.layer, direction.inputs, "state_jacobians", joint=True)
    x = run.inputs.x
    steps, size = run.inputs.steps, joint_size(run.layers)
    jacobians = x.new_zeros((steps, *x.shape[:-2], size, size))
    for stretch in stretches(run.layers):
        jacobians[stretch] = _joint(run.layers, stretch)
    jacobians = jacobians.movedim(0, x.dim() - 2)
    return jacobians if direction.order is None else in_order_of_x(jacobians, direction.order)


def _joint(passes: Sequence[LayerRun], stretch: slice) -> Tensor:
    """J of the joint state at some steps, (B, N, S, S)."""
    size, begin = joint_size(passes), 0
    drive = passes[0].drive[stretch]
    jacobians = drive.new_zeros((*drive.shape[:-1], size, size))
    below: slice | None = None
    for run in passes:
        linear = Linear(run, run.drive[stretch], run.before(stretch), run.clock(stretch))
        stop = begin + linear.count * run.layer.hidden_size
        jacobians[..., begin:stop, begin:stop] = linear.matrices()
        if below is not None:
            rows = jacobians[..., below, :begin]
            jacobians[..., begin:stop, :begin] = linear.input_matrices() @ rows
        first = begin + run.step.output * run.layer.hidden_size
        below, begin = slice(first, first + run.layer.hidden_size), stop
    there = apart_from_padding(passes[0], stretch)
    return jacobians if there is None else jacobians.masked_fill(~there.unsqueeze(-1), 0.0)
