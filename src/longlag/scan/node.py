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

__all__ = [
    "Engine",
    "Gradients",
    "Run",
    "Wanted",
    "drive_of",
    "run",
    "to_batch_first",
    "to_time_first",
]


class Run(NamedTuple):
    """What a forward pass gives.

    Attributes:
        states: all states s_0 .. s_T, each (T + 1, N, H).
        final: the final states, each (N, H), that share no memory with ``states``.
        kept: numbers that the backward pass reads beside; None for nothing.
        facts: what else the backward pass is given; the engine's own.
    """

    states: list[Tensor]
    final: list[Tensor]
    kept: Tensor | None = None
    facts: Any = None


class Wanted(NamedTuple):
    """Which gradients are asked for."""

    x: bool = True
    input: bool = True
    bias: bool = True
    recurrent: bool = True
    initial: bool = True
    units: bool = True


class Gradients(NamedTuple):
    """What a backward pass gives: by x, weights, initial states, unit parameters.

    Those of x and the weights may be None where they are not wanted, ``initial`` and ``units``
    empty.
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
        backward: (recurrence, x, weights, states, kept, facts, schedule, gradients of output and
            final states, None for zeros, :class:`Wanted`) to :class:`Gradients`.
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
    time_first: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrence over time as one node; results as in :func:`reference.run`.

    Args:
        engine: what runs it.
        recurrence, x, weights, initial, schedule: as in :func:`reference.run`.
        time_first: x and output are (T, *R, N, .); else (*R, N, T, .), which saves the graph the
            nodes that turn them.
    """
    count = len(recurrence.states)
    states: Sequence[Tensor | None] = (None,) * count if initial is None else tuple(initial)
    if len(states) != count:
        raise ValueError(f"initial: got {len(states)} states, expected {count}")
    recurrent, units, matrix, bias = weights
    # Function.apply looks at every argument for the sake of torch.func's transforms.
    node = _PLAIN if not torch._C._are_functorch_transforms_active() else _ScanNode.apply
    output, *final = node(
        engine,
        recurrence,
        schedule,
        time_first,
        torch.is_grad_enabled(),
        x,
        matrix,
        bias,
        recurrent,
        *states,
        *units,
    )
    return output, final


def to_time_first(tensor: Tensor) -> Tensor:
    """From (*R, N, T, .) to (T, *R, N, .)."""
    return tensor.transpose(0, 1) if tensor.dim() == 3 else tensor.movedim(-2, 0)


def to_batch_first(tensor: Tensor) -> Tensor:
    """From (T, *R, N, .) to (*R, N, T, .)."""
    return tensor.transpose(0, 1) if tensor.dim() == 3 else tensor.movedim(0, -2)


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
        time_first: bool,
        recording: bool,  # inside forward, grad mode is always off
        x: Tensor,
        matrix: Tensor | None,
        bias: Tensor | None,
        recurrent: Tensor | None,
        *numbers: Tensor | None,
    ) -> tuple[Tensor, ...]:
        states = len(recurrence.states)
        initial: Any = None if numbers[0] is None else numbers[:states]
        units: Any = numbers[states:]
        weights = Weights(recurrent, units, matrix, bias)
        ctx.set_materialize_grads(False)  # what is not used costs nothing
        backward = recording and any(ctx.needs_input_grad)
        turned = x if time_first else to_time_first(x)
        done = engine.forward(recurrence, turned, weights, initial, schedule, backward)
        output = done.states[recurrence.states.index(recurrence.output)][1:]
        if not engine.zero_padding and schedule.active is not None:
            output = output.masked_fill(~schedule.active, 0.0)
        if backward:
            ctx.engine, ctx.recurrence, ctx.schedule = engine, recurrence, schedule
            ctx.facts, ctx.time_first = done.facts, time_first
            ctx.save_for_backward(x, matrix, bias, recurrent, *numbers, *done.states, done.kept)
        return output if time_first else to_batch_first(output), *done.final

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        recurrence, schedule = ctx.recurrence, ctx.schedule
        x, matrix, bias, recurrent, *rest = ctx.saved_tensors
        states, units = len(recurrence.states), len(recurrence.units)
        initial, numbers = rest[:states], tuple(rest[states : states + units])
        weights = Weights(recurrent, numbers, matrix, bias)
        wanted = ctx.needs_input_grad[5:]
        if torch.is_grad_enabled():
            with torch.autocast(x.device.type, enabled=False):  # the forward pass had it off too
                found: Sequence[Tensor | None] = _again(
                    recurrence, schedule, ctx.time_first, x, weights, initial, gradients, wanted
                )
        else:
            want_x, want_input, want_bias, want_recurrent, *others = wanted
            asked = Wanted(
                want_x, want_input, want_bias, want_recurrent,
                any(others[:states]), any(others[states:]),
            )  # fmt: skip
            *visited, kept = rest[states + units :]
            if not ctx.time_first:
                x, (d_output, *d_final) = to_time_first(x), gradients
                if d_output is not None:
                    gradients = (to_time_first(d_output), *d_final)
            done = ctx.engine.backward(
                recurrence, x, weights, visited, kept, ctx.facts, schedule, gradients, asked
            )
            begin = done.initial or [None] * states
            d_x = done.x
            if d_x is not None and not ctx.time_first:
                d_x = to_batch_first(d_x)
            of_units = done.units or [None] * units
            found = (d_x, done.input, done.bias, done.recurrent, *begin, *of_units)
        pairs = zip(found, wanted, strict=True)
        return (
            None,
            None,
            None,
            None,
            None,
            *(gradient if want else None for gradient, want in pairs),
        )


_PLAIN: Any = super(torch.autograd.Function, _ScanNode).apply  # type: ignore[misc]


def _again(
    recurrence: Recurrence,
    schedule: Schedule,
    time_first: bool,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients as differentiable expressions, for a second derivative."""

    # Views of their own: one tensor may be given twice, and an initial state may depend on the
    # weights through an earlier window; neither may add to the gradient of another argument.
    def own_view(tensor: Any) -> Any:
        return None if tensor is None else tensor.view_as(tensor)

    x = own_view(x)
    matrix, bias, recurrent = map(own_view, (weights.input, weights.bias, weights.recurrent))
    initial, units = [own_view(state) for state in initial], tuple(map(own_view, weights.units))
    own = (x, matrix, bias, recurrent, *initial, *units)
    weights = Weights(recurrent, units, matrix, bias)
    turned, active = x if time_first else to_time_first(x), schedule.active
    if active is not None:  # what stands in the padding, even NaN, must not come near a derivative
        turned = turned.masked_fill(~active, 0.0)
    drive = drive_of(turned, weights)
    if active is not None:
        drive = drive.masked_fill(~active, 0.0)
    begin = [
        drive.new_zeros((*drive.shape[1:-1], drive.shape[-1] // len(recurrence.gates)))
        if state is None
        else state
        for state in initial
    ]
    output, final = reference.run(recurrence, drive, weights, begin, schedule)
    if not time_first:
        output = to_batch_first(output)
    pairs = [
        (result, gradient)
        for result, gradient in zip((output, *final), gradients, strict=True)
        if result.requires_grad and gradient is not None
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
