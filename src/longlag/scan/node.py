"""One node of autograd's graph for a whole sequence, whatever engine runs it.

An engine has a forward pass that stores the states, and a backward pass that is explicit
back-propagation through time. Second derivatives are taken through the reference backend.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan import reference
from longlag.scan.inputs import Schedule, Weights

__all__ = ["Engine", "Gradients", "Run", "Wanted", "drive_of", "run"]


class Run(NamedTuple):
    """What a forward pass gives.

    Attributes:
        states: all states s_0 .. s_T, each (T + 1, N, H).
        final: the final states, each (N, H), that share no memory with ``states``.
        kept: what else the backward pass reads; None for nothing.
    """

    states: list[Tensor]
    final: list[Tensor]
    kept: Tensor | None = None


class Wanted(NamedTuple):
    """Which gradients are asked for."""

    x: bool = True
    input: bool = True
    bias: bool = True
    recurrent: bool = True
    units: bool = True


class Gradients(NamedTuple):
    """What a backward pass gives: by x, weights, initial states, unit parameters.

    Those of x, input and bias are None where they are not wanted.
    """

    x: Tensor | None
    input: Tensor | None
    bias: Tensor | None
    recurrent: Tensor | None
    initial: list[Tensor]
    units: list[Tensor]


class Engine(NamedTuple):
    """A way to run a recurrence. Everything has time first.

    Attributes:
        forward: (recurrence, x, weights, initial states or None for zeros, schedule, whether a
            backward pass may follow) to :class:`Run`.
        backward: (recurrence, x, weights, states, kept, schedule, gradients of output and final
            states, :class:`Wanted`) to :class:`Gradients`.
        zero_padding: whether the states that it stores are zero in the padding.
    """

    forward: Callable[..., Run]
    backward: Callable[..., Gradients]
    zero_padding: bool = False


def run(
    engine: Engine,
    recurrence: Recurrence,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor] | None,
    schedule: Schedule,
) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrence over time as one node; results as in :func:`reference.run`."""
    given = (x, weights.input, weights.bias, weights.recurrent)
    states: Sequence[Tensor | None] = (None,) * len(recurrence.states)
    if initial is not None:
        states = [state for _, state in zip(recurrence.states, initial, strict=True)]
    output, *final = _ScanNode.apply(engine, recurrence, schedule, *given, *states, *weights.units)
    return output, final


def drive_of(x: Tensor, weights: Weights) -> Tensor:
    """a = U x + b for all steps at once, (T, *R, N, G H), from x with time first."""
    matrix, bias = weights.input, weights.bias
    if matrix is None:
        return x
    if x.dim() == 3:
        return torch.nn.functional.linear(x, matrix, bias)
    steps, replicas, batch, _ = x.shape
    drive = x.transpose(0, 1).reshape(replicas, steps * batch, x.shape[-1]) @ matrix.mT
    if bias is not None:
        drive = drive + bias.unsqueeze(-2)
    return drive.view(replicas, steps, batch, matrix.shape[-2]).transpose(0, 1)


class _ScanNode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        engine: Engine,
        recurrence: Recurrence,
        schedule: Schedule,
        x: Tensor,
        matrix: Tensor | None,
        bias: Tensor | None,
        recurrent: Tensor | None,
        *numbers: Tensor | None,
    ) -> tuple[Tensor, ...]:
        states = len(recurrence.states)
        initial = None if numbers[0] is None else numbers[:states]
        weights = Weights(recurrent, numbers[states:], matrix, bias)
        backward = any(ctx.needs_input_grad)
        done = engine.forward(recurrence, x, weights, initial, schedule, backward)
        output = done.states[recurrence.states.index(recurrence.output)][1:]
        if not engine.zero_padding and schedule.active is not None:
            output = output.masked_fill(~schedule.active, 0.0)
        if backward:
            ctx.engine, ctx.recurrence, ctx.schedule = engine, recurrence, schedule
            ctx.save_for_backward(x, matrix, bias, recurrent, *numbers, *done.states, done.kept)
        return output, *done.final

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        recurrence, schedule = ctx.recurrence, ctx.schedule
        x, matrix, bias, recurrent, *rest = ctx.saved_tensors
        states, units = len(recurrence.states), len(recurrence.units)
        initial, numbers = rest[:states], tuple(rest[states : states + units])
        weights = Weights(recurrent, numbers, matrix, bias)
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            found: Sequence[Tensor | None] = _again(
                recurrence, schedule, x, weights, initial, gradients, wanted
            )
        else:
            asked = Wanted(*wanted[:4], any(wanted[4 + states :]))
            *visited, kept = rest[states + units :]
            done = ctx.engine.backward(
                recurrence, x, weights, visited, kept, schedule, gradients, asked
            )
            found = (*done[:4], *done.initial, *done.units)
        pairs = zip(found, wanted, strict=True)
        return None, None, None, *(gradient if want else None for gradient, want in pairs)


def _again(
    recurrence: Recurrence,
    schedule: Schedule,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients as differentiable expressions, for a second derivative."""
    # Views of their own: one tensor may be given twice, and an initial state may depend on the
    # weights through an earlier window; neither may add to the gradient of another argument.
    given = (x, weights.input, weights.bias, weights.recurrent, *initial, *weights.units)
    own = [None if tensor is None else tensor.view_as(tensor) for tensor in given]
    x, matrix, bias, recurrent, *rest = own
    states = len(recurrence.states)
    weights = Weights(recurrent, tuple(rest[states:]), matrix, bias)
    drive = drive_of(x, weights)
    begin = [
        drive.new_zeros((*drive.shape[1:-1], drive.shape[-1] // len(recurrence.gates)))
        if state is None
        else state
        for state in rest[:states]
    ]
    output, final = reference.run(recurrence, drive, weights, begin, schedule)
    pairs = [
        (result, gradient)
        for result, gradient in zip((output, *final), gradients, strict=True)
        if result.requires_grad
    ]
    chosen = [
        tensor for tensor, want in zip(own, wanted, strict=True) if want and tensor is not None
    ]
    found = iter(
        torch.autograd.grad(
            [result for result, _ in pairs],
            chosen,
            [gradient for _, gradient in pairs],
            create_graph=True,
            materialize_grads=True,
        )
    )
    return tuple(next(found) if want else None for want in wanted)
