"""One node of autograd's graph for a whole sequence, whatever backend runs it.

Second derivatives are taken through the reference backend.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import lower
from longlag.scan.backend import Backend, Run, Wanted
from longlag.scan.connections import Entries
from longlag.scan.inputs import ScanInputs, Schedule, Weights, to_batch_first, to_time_first
from longlag.scan.reference import Reference
from longlag.scan.trajectory import output_of
from longlag.torch_private import forward_mode_active, plain_apply, transforms_active


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
    recurrence, x, (recurrent, units, matrix, bias, entries), initial, schedule = inputs
    count = len(recurrence.states)
    states: tuple[Tensor | None, ...] = (None,) * count if initial is None else tuple(initial)
    if len(states) != count:
        raise ValueError(f"initial: got {len(states)} states, expected {count}")
    transformed = transforms_active()
    if not (torch.is_grad_enabled() or transformed or forward_mode_active()):
        turned = inputs if time_first else inputs._replace(x=to_time_first(x))
        done, output = _forward(backend, turned, False)
        return output if time_first else to_batch_first(output), list(done.final)
    # Function.apply looks at every argument for the sake of torch.func's transforms.
    node = _ScanNode.apply if transformed else _PLAIN
    output, *final = node(
        backend,
        recurrence,
        entries,
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


def _forward(backend: Backend, inputs: ScanInputs, backward: bool) -> tuple[Run, Tensor]:
    """What a backend does, and the output."""
    done, schedule = backend.forward(inputs, backward), inputs.schedule
    output = output_of(lower(inputs.recurrence), done.states)
    if not backend.zero_padding and schedule.active is not None:
        output = output.masked_fill(~schedule.active, 0.0)
    return done, output


class _ScanNode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        backend: Backend,
        recurrence: Recurrence,
        entries: Entries | None,
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
        weights = Weights(recurrent, units, matrix, bias, entries)
        ctx.set_materialize_grads(False)  # what is not used costs nothing
        backward = recording and any(ctx.needs_input_grad)
        turned = x if time_first else to_time_first(x)
        inputs = ScanInputs(recurrence, turned, weights, initial, schedule)
        done, output = _forward(backend, inputs, backward)
        if backward:
            ctx.backend, ctx.recurrence, ctx.schedule = backend, recurrence, schedule
            ctx.context, ctx.time_first, ctx.entries = done.context, time_first, entries
            ctx.save_for_backward(
                x, matrix, bias, recurrent, *numbers, *done.states, done.residuals
            )
        return output if time_first else to_batch_first(output), *done.final

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        recurrence, schedule = ctx.recurrence, ctx.schedule
        x, matrix, bias, recurrent, *rest = ctx.saved_tensors
        states, units = len(recurrence.states), len(recurrence.units)
        initial: Any = None if rest[0] is None else rest[:states]
        numbers = tuple(rest[states : states + units])
        weights = Weights(recurrent, numbers, matrix, bias, ctx.entries)
        wanted = ctx.needs_input_grad[6:]
        want_x, want_input, want_bias, want_recurrent, *others = wanted
        asked = Wanted(
            want_x, want_input, want_bias, want_recurrent,
            any(others[:states]), any(others[states:]),
        )  # fmt: skip
        *visited, residuals = rest[states + units :]
        run, backend = Run(visited, [], residuals, ctx.context), ctx.backend
        if not ctx.time_first:
            x, (d_output, *d_final) = to_time_first(x), gradients
            if d_output is not None:
                gradients = (to_time_first(d_output), *d_final)
        # For a second derivative the first one has to be an expression: of what was given.
        again = torch.is_grad_enabled()
        if again:
            backend = Reference()
        # The forward pass had autocast off too.
        with torch.autocast(x.device.type, enabled=False) if again else nullcontext():
            inputs = ScanInputs(recurrence, x, weights, initial, schedule)
            done = backend.backward(inputs, run, gradients, asked)
        begin = done.initial or [None] * states
        d_x = done.x
        if d_x is not None and not ctx.time_first:
            d_x = to_batch_first(d_x)
        of_units = done.units or [None] * units
        results = (d_x, done.input, done.bias, done.recurrent, *begin, *of_units)
        pairs = zip(results, wanted, strict=True)
        return *[None] * 6, *(gradient if want else None for gradient, want in pairs)


_PLAIN = plain_apply(_ScanNode)
