"""The one entry: run a recurrence over time on a backend."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import lower
from longlag.scan import library, node
from longlag.scan.backend import Backend, check_backend, choose
from longlag.scan.inputs import (
    FULL,
    ScanInputs,
    Schedule,
    Weights,
    to_batch_first,
    to_time_first,
    unfolded,
    with_clock,
)
from longlag.scan.phases import in_rows
from longlag.scan.reference import Reference
from longlag.scan.trajectory import output_of
from longlag.torch_private import forward_mode_active, transforms_active


class Scanned(NamedTuple):
    """What a scan gives.

    Attributes:
        output: (N, T, H), zero in the padding.
        state: the final states, each (N, H): after the last step that is not padding.
        backend: the backend that ran; inside torch.compile, where it is chosen when the graph runs,
            the one that was asked for.
    """

    output: Tensor
    state: tuple[Tensor, ...]
    backend: str


def scan_fed(
    recurrence: Recurrence,
    x: Float[Tensor, "*R N T C"],
    weights: Weights,
    readout: tuple[Float[Tensor, "*R K H"], Float[Tensor, "*R K"]],
    initial: Sequence[Float[Tensor, "*R N _"]] | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Scanned] | None:
    """Run a network that reads its own output, without gradients: all steps in one kernel.

    Args:
        recurrence, weights, initial, backend: as for :func:`scan`.
        x: the features that are not fed back.
        readout: V and c; the last K of all features are V h + c, of the output h before the step.

    Returns:
        Those features, (N, T, K), and what :func:`scan` gives; None where gradients are wanted, or
        the backend needs the matrix U V beside W.
    """
    recurrent, units, matrix, bias, *_ = weights
    tensors = (x, recurrent, *units, matrix, bias, *readout, *(initial or ()))
    wanted = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in tensors
    )
    device = x.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if wanted or autocast or recurrence.timed or torch.compiler.is_compiling():
        return None
    chosen = choose(backend, x, tensors=tensors)
    width, fed = x.shape[-1], readout[0].shape[-2]
    read = torch.cat([x, x.new_zeros((*x.shape[:-1], fed))], -1)
    read = to_time_first(read).contiguous()
    with torch.no_grad():
        run = chosen.feed(ScanInputs(recurrence, read, weights, initial, FULL), *readout)
    if run is None:
        return None
    output = to_batch_first(output_of(lower(recurrence), run.states))
    return to_batch_first(read[..., width:]), Scanned(output, tuple(run.final), chosen.name)


def scan(
    recurrence: Recurrence,
    x: Float[Tensor, "*R N T C"],
    weights: Weights,
    initial: Sequence[Float[Tensor, "... N _"]] | None = None,
    lengths: Int[Tensor, "*R N"] | None = None,
    resets: Bool[Tensor, "*R N T"] | None = None,
    mask: Float[Tensor, "*R N H"] | None = None,
    backend: str = "auto",
    dilation: int = 1,
) -> Scanned:
    """Run a recurrence over time.

    Args:
        recurrence: the traced cell.
        x: the input; or, where ``weights.input`` is None, the drive a = U x + b of every gate,
            gates side by side, which under autocast may be of lower precision than the states.
        weights: matrices, bias and unit parameters.
        initial: the states before the first step, in the order of ``recurrence.carried``; None for
            zeros.
        lengths: numbers of steps that count, in 0..T; the rest is padding, whose content, even
            NaN, changes nothing.
        resets: True where the state is set to zero before the step.
        mask: recurrent dropout mask, one a sequence.
        backend: one of :data:`~longlag.scan.BACKENDS`.
        dilation: d, how many steps before the states are that a step reads, of a recurrence that
            does not read the step ``t``. With more than one, initial and final states are those of
            d steps, (d, *R, N, H), the earliest first, and no reset changes them.

    Raises:
        ValueError: for an unknown backend, or one that cannot run on such tensors; for a mask that
            requires a gradient.
    """
    check_backend(backend)
    if mask is not None and mask.requires_grad:
        raise ValueError("mask: requires a gradient, and has none; use mask.detach()")
    schedule, after = Schedule.of(x, lengths, resets, mask), []
    if recurrence.timed:
        start = None if initial is None else initial[-1]
        initial = None if initial is None else initial[:-1]
        schedule, after = with_clock(recurrence, schedule, to_time_first(x), start)
    compiling = torch.compiler.is_compiling()
    transformed = compiling and (transforms_active() or forward_mode_active())
    if compiling and backend != "reference" and not transformed:
        inputs = ScanInputs(recurrence, to_time_first(x), weights, initial, schedule, dilation)
        inputs, back = in_rows(inputs)
        _, drive, initial = unfolded(inputs)
        drive = drive.to(initial[0].dtype)  # under autocast it may have been rounded
        output, final = back(
            *library.compiled_scan(
                recurrence, backend, drive, weights, tuple(initial), inputs.schedule
            )
        )
        return Scanned(to_batch_first(output), (*final, *after), backend)
    like = x if weights.input is None else weights.input
    tensors = (x, weights.recurrent, *weights.units, weights.input, weights.bias, *(initial or ()))
    if transformed and backend in ("auto", "reference"):
        chosen: Backend = Reference()  # a graph cannot load the others to ask them
    else:
        chosen = choose(backend, like if initial is None else initial[0], tensors=tensors)
    device = x.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if not autocast and not chosen.plain and (dilation == 1 or chosen.dilates):
        inputs = ScanInputs(recurrence, x, weights, initial, schedule, dilation)
        output, final = node.run(chosen, inputs, time_first=False)
        return Scanned(output, (*final, *after), chosen.name)
    inputs = ScanInputs(recurrence, to_time_first(x), weights, initial, schedule, dilation)
    inputs, back = (inputs, None) if chosen.dilates else in_rows(inputs)
    if autocast:
        # The drive may be rounded. The loop is not: its errors would add up.
        _, drive, initial = unfolded(inputs)
        weights = weights._replace(input=None, bias=None)
        inputs = inputs._replace(x=drive.to(initial[0].dtype), weights=weights, initial=initial)
    with torch.autocast(device, enabled=False) if autocast else nullcontext():
        if chosen.plain:
            output, final = Reference().run(inputs)
        else:
            output, final = node.run(chosen, inputs)
    if back is not None:
        output, final = back(output, final)
    return Scanned(to_batch_first(output), (*final, *after), chosen.name)
