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

__all__ = ["Engine", "Gradients", "run"]


class Gradients(NamedTuple):
    """What a backward pass gives: by drive, recurrent matrix, initial states, unit parameters."""

    drive: Tensor
    recurrent: Tensor | None
    initial: list[Tensor]
    units: list[Tensor]


class Engine(NamedTuple):
    """A way to run a recurrence.

    Attributes:
        trajectory: (recurrence, drive, weights, initial, schedule) to all states s_0 .. s_T, each
            (T + 1, N, H).
        backward: (recurrence, drive, weights, trajectory, schedule, gradients of output and final
            states, whether unit parameters want a gradient) to :class:`Gradients`.
    """

    trajectory: Callable[..., list[Tensor]]
    backward: Callable[..., Gradients]


def run(
    engine: Engine,
    recurrence: Recurrence,
    drive: Tensor,
    weights: Weights,
    initial: Sequence[Tensor],
    schedule: Schedule,
) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrence over time as one node; results as in :func:`reference.run`."""
    output, *final = _ScanNode.apply(
        engine, recurrence, schedule, drive, weights.recurrent, *initial, *weights.units
    )
    return output, final


class _ScanNode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        engine: Engine,
        recurrence: Recurrence,
        schedule: Schedule,
        drive: Tensor,
        recurrent: Tensor | None,
        *numbers: Tensor,
    ) -> tuple[Tensor, ...]:
        initial = numbers[: len(recurrence.states)]
        weights = Weights(recurrent, numbers[len(recurrence.states) :])
        trajectory = engine.trajectory(recurrence, drive, weights, initial, schedule)
        output = trajectory[recurrence.states.index(recurrence.output)][1:]
        if schedule.active is not None:
            output = output.masked_fill(~schedule.active, 0.0)
        ctx.engine, ctx.recurrence, ctx.schedule = engine, recurrence, schedule
        ctx.save_for_backward(drive, recurrent, *numbers, *trajectory)
        return output, *(states[-1].clone() for states in trajectory)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        recurrence, schedule = ctx.recurrence, ctx.schedule
        drive, recurrent, *rest = ctx.saved_tensors
        states, units = len(recurrence.states), len(recurrence.units)
        initial, numbers = rest[:states], tuple(rest[states : states + units])
        weights = Weights(recurrent, numbers)
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            found: Sequence[Tensor | None] = _again(
                recurrence, schedule, drive, weights, initial, gradients, wanted
            )
        else:
            with_units = any(wanted[2 + states :])
            given = (recurrence, drive, weights, rest[states + units :], schedule)
            d_drive, d_recurrent, d_initial, d_units = ctx.engine.backward(
                *given, gradients, with_units
            )
            found = (d_drive, d_recurrent, *d_initial, *d_units)
        return (
            None,
            None,
            None,
            *(gradient if want else None for gradient, want in zip(found, wanted, strict=True)),
        )


def _again(
    recurrence: Recurrence,
    schedule: Schedule,
    drive: Tensor,
    weights: Weights,
    initial: Sequence[Tensor],
    gradients: Sequence[Tensor],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients as differentiable expressions, for a second derivative."""
    # Views of their own: one tensor may be given twice, and an initial state may depend on the
    # weights through an earlier window; neither may add to the gradient of another argument.
    drive, recurrent = drive.view_as(drive), weights.recurrent
    recurrent = None if recurrent is None else recurrent.view_as(recurrent)
    initial = [state.view_as(state) for state in initial]
    weights = Weights(recurrent, tuple(unit.view_as(unit) for unit in weights.units))
    given = (drive, recurrent, *initial, *weights.units)
    output, final = reference.run(recurrence, drive, weights, initial, schedule)
    pairs = [
        (result, gradient)
        for result, gradient in zip((output, *final), gradients, strict=True)
        if result.requires_grad
    ]
    chosen = [
        tensor for tensor, want in zip(given, wanted, strict=True) if want and tensor is not None
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
