"""One node of autograd's graph for a whole sequence, whatever backend runs it.

Second derivatives are taken through the reference backend.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import lower
from longlag.scan.backend import Backend, Run, Wanted, followed
from longlag.scan.connections import Entries
from longlag.scan.inputs import ScanInputs, Schedule, Weights, to_batch_first, to_time_first
from longlag.scan.reference import Reference
from longlag.scan.trajectory import output_of
from longlag.torch_private import (
    has_tangent,
    plain_apply,
    stands_for_many,
    transforms_active,
)


def run(
    backend: Backend, inputs: ScanInputs, *, time_first: bool = True
) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrence over time as one node: its output, and the final states.

    Args:
        backend: what runs it.
        inputs: what to run over.
        time_first: x and output are (T, *R, N, .); else (*R, N, T, .), which saves the graph the
            nodes that turn them.
    """
    recurrence, x, weights, initial, schedule, dilation = inputs
    recurrent, units, matrix, bias, entries, bfloat16 = weights
    count = len(recurrence.states)
    states: tuple[Tensor | None, ...] = (None,) * count if initial is None else tuple(initial)
    if len(states) != count:
        raise ValueError(f"initial: got {len(states)} states, expected {count}")
    if not torch.is_grad_enabled():
        turned = inputs if time_first else inputs._replace(x=to_time_first(x))
        done, output = _forward(backend, turned, False)
        return output if time_first else to_batch_first(output), list(done.final)
    recording = torch.is_grad_enabled()
    call = _Call(backend, recurrence, entries, bfloat16, schedule, dilation, time_first, recording)
    output, *final = _apply(call, x, matrix, bias, recurrent, *states, *units)
    return output, final


def _forward(backend: Backend, inputs: ScanInputs, backward: bool) -> tuple[Run, Tensor]:
    """What a backend does, and the output."""
    done, schedule = backend.forward(inputs, backward), inputs.schedule
    output = output_of(lower(inputs.recurrence), done.states, inputs.dilation)
    if not backend.zero_padding and schedule.active is not None:
        output = output.masked_fill(~schedule.active, 0.0)
    return done, output


class _Call(NamedTuple):
    """What a node is given beside tensors, as :func:`run` is.

    Attributes:
        recording: whether grad mode is on, which inside ``forward`` it never is.
    """

    backend: Backend
    recurrence: Recurrence
    entries: Entries | None
    bfloat16: bool
    schedule: Schedule
    dilation: int
    time_first: bool
    recording: bool


class _ScanNode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        call: _Call,
        x: Tensor,
        matrix: Tensor | None,
        bias: Tensor | None,
        recurrent: Tensor | None,
        *numbers: Tensor | None,
    ) -> tuple[Tensor, ...]:
        backend, recurrence, entries, bfloat16, schedule, dilation, time_first, recording = call
        states = len(recurrence.states)
        initial: Any = None if numbers[0] is None else numbers[:states]
        units: Any = numbers[states:]
        weights = Weights(recurrent, units, matrix, bias, entries, bfloat16)
        ctx.set_materialize_grads(False)  # what is not used costs nothing
        backward = recording and any(ctx.needs_input_grad)
        turned = x if time_first else to_time_first(x)
        inputs = ScanInputs(recurrence, turned, weights, initial, schedule, dilation)
        done, output = _forward(backend, inputs, backward)
        if backward:
            ctx.call, ctx.context = call, done.context
            # x itself only where a second derivative may ask where it came from.
            ctx.save_for_backward(
                x if ctx.needs_input_grad[1] else turned,
                matrix,
                bias,
                recurrent,
                *numbers,
                *done.states,
                done.residuals,
            )
        return output if time_first else to_batch_first(output), *done.final

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        backend, recurrence, entries, bfloat16, schedule, dilation, time_first, _ = ctx.call
        x, matrix, bias, recurrent, *rest = ctx.saved_tensors
        states, units = len(recurrence.states), len(recurrence.units)
        initial: Any = None if rest[0] is None else rest[:states]
        numbers = tuple(rest[states : states + units])
        weights = Weights(recurrent, numbers, matrix, bias, entries, bfloat16)
        wanted = ctx.needs_input_grad[1:]
        want_x, want_input, want_bias, want_recurrent, *others = wanted
        asked = Wanted(
            want_x, want_input, want_bias, want_recurrent,
            any(others[:states]), any(others[states:]),
        )  # fmt: skip
        *visited, residuals = rest[states + units :]
        run = Run(visited, [], residuals, ctx.context)
        if not time_first:
            x, (d_output, *d_final) = to_time_first(x) if want_x else x, gradients
            if d_output is not None:
                gradients = (to_time_first(d_output), *d_final)
        inputs = ScanInputs(recurrence, x, weights, initial, schedule, dilation)
        if (
            torch.is_grad_enabled()
            or _transformed(gradients)
            or (backend.compiled and followed(gradients))
        ):
            # For a second derivative, a transform, or a mode that follows operations, the first one
            # has to be an expression: of what was given. The forward pass had autocast off too.
            with torch.autocast(x.device.type, enabled=False):
                done = Reference().backward(inputs, run, gradients, asked)
        else:
            done = backend.backward(inputs, run, gradients, asked)
        d_x = done.x
        if d_x is not None and not time_first:
            d_x = to_batch_first(d_x)
        d_initial, d_units = done.initial or [None] * states, done.units or [None] * units
        results = (d_x, done.input, done.bias, done.recurrent, *d_initial, *d_units)
        pairs = zip(results, wanted, strict=True)
        return None, *[gradient if want else None for gradient, want in pairs]


def _transformed(gradients: Sequence[Tensor | None]) -> bool:
    """Whether a backward pass is run for many gradients at once, or carries tangents along."""
    return transforms_active() or any(map(stands_for_many, gradients)) or has_tangent(gradients)


_apply = plain_apply(_ScanNode)
