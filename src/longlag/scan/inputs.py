"""What a scan reads: x, with weights and schedule, time first; and the drive that they make."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan.connections import Entries


class Weights(NamedTuple):
    """The numbers of one layer; R replicas put an R in front of every shape.

    Attributes:
        recurrent: W as it is stored (see :mod:`longlag.scan.connections`): (W H, H), one block of
            rows per wire, or the numbers (E,) of ``entries``; None where there are no wires.
        units: one (1, H) per unit parameter of the recurrence, in order.
        input: U, (G H, C); None where what is scanned is the drive a = U x + b itself.
        bias: b, (G H,); None where there is none, or no ``input``.
        entries: which entries of W are there, where it is sparse.
        bfloat16: whether each number of W is read rounded to the nearest of bfloat16, of two as
            near to the even one. The gradient of W is that of what is read.
    """

    recurrent: Float[Tensor, "..."] | None
    units: tuple[Float[Tensor, "*R 1 H"], ...]
    input: Float[Tensor, "*R GH C"] | None = None
    bias: Float[Tensor, "*R GH"] | None = None
    entries: Entries | None = None
    bfloat16: bool = False


class Schedule(NamedTuple):
    """Which steps count; None where all do.

    Attributes:
        active: (T, N, 1), False in the padding: the state is kept and the output is zero.
        keep: (T, N, 1), False where the state is set to zero before the step.
        mask: (N, H), the recurrent dropout mask of each sequence, on the state that W reads.
        clock: (T, N, 1), the step within the sequence, for a recurrence that reads it.
    """

    active: Bool[Tensor, "T *R N 1"] | None = None
    keep: Bool[Tensor, "T *R N 1"] | None = None
    mask: Float[Tensor, "*R N H"] | None = None
    clock: Float[Tensor, "T *R N 1"] | None = None

    @classmethod
    def of(
        cls,
        x: Tensor,
        lengths: Tensor | None,
        resets: Tensor | None,
        mask: Tensor | None = None,
    ) -> "Schedule":
        """From what a layer is given, batch first: x (N, T, C), lengths (N,), resets (N, T)."""
        if lengths is None and resets is None and mask is None:
            return FULL
        active = keep = None
        if lengths is not None:
            steps = torch.arange(x.shape[-2], device=x.device)
            active = (steps < lengths.unsqueeze(-1)).movedim(-1, 0).unsqueeze(-1)
        if resets is not None:
            keep = ~resets.movedim(-1, 0).unsqueeze(-1)
        return cls(active, keep, mask)


FULL = Schedule()
"""Every step counts."""


class ScanInputs(NamedTuple):
    """All that a backend runs over; with time first.

    Attributes:
        recurrence: the traced cell.
        x: (T, N, C), or (T, R, N, C); the drive (..., G H) where there is no input matrix.
        weights: matrices, bias and unit parameters.
        initial: the states before the first step, each (N, H); None for zeros.
        schedule: padding, whose content, even NaN, changes nothing; resets; dropout mask.
        dilation: d, how many steps before the states are that a step reads. With more than one,
            initial and final states are those of the d steps before and of the last d steps of
            each row, (d, N, H), the earliest first; a reset does not change them.
    """

    recurrence: Recurrence
    x: Tensor
    weights: Weights
    initial: Sequence[Tensor] | None = None
    schedule: Schedule = FULL
    dilation: int = 1


KEPT_STEPS = 1 << 16
"""Steps up to which the clock of sequences that begin with 0 is kept from call to call."""


@functools.lru_cache(maxsize=8)
def _from_zero(steps: int, dimensions: int, dtype: torch.dtype) -> Tensor:
    """0, 1, 2, ... as the steps of sequences, which nobody writes to."""
    return torch.arange(steps, dtype=dtype, device="cpu").view(-1, *[1] * dimensions)


def with_clock(
    recurrence: Recurrence, schedule: Schedule, x: Tensor, start: Tensor | None
) -> tuple[Schedule, list[Tensor]]:
    """The schedule with the step within the sequence, for a recurrence that reads it.

    Args:
        recurrence: the traced cell.
        schedule: padding and resets.
        x: (T, N, C), of which shape, dtype and device are taken.
        start: (N, 1), the t that the sequences begin with; None for 0.

    Returns:
        The schedule, and the t after each sequence's own last step, (N, 1); as it was, and nothing,
        for a recurrence that does not read t.
    """
    if not recurrence.timed:
        return schedule, []
    column = (-1, *[1] * (x.dim() - 1))
    if start is None and schedule.keep is schedule.active is None:
        front = x.shape[:-1]
        plain = type(x) is Tensor and x.is_cpu and not torch.compiler.is_compiling()
        if plain and len(x) <= KEPT_STEPS and not torch.is_inference_mode_enabled():
            clock = _from_zero(len(x), x.dim() - 1, x.dtype)
        else:
            clock = torch.arange(len(x), dtype=x.dtype, device=x.device).view(column)
        if clock.shape[1:-1] != front[1:]:
            clock = clock.expand(*front, 1)
        return schedule._replace(clock=clock), [x.new_full((*front[1:], 1), len(x))]
    steps = torch.arange(len(x), device=x.device).view(column)
    if start is None:
        start = x.new_zeros((*x.shape[1:-1], 1))
    start = start.detach()
    clock = start + steps.to(x.dtype)
    if schedule.keep is not None:
        latest = torch.where(schedule.keep, -1, steps).cummax(0).values if len(x) else steps
        clock = torch.where(latest >= 0, (steps - latest).to(x.dtype), clock)
    after = torch.cat([start.unsqueeze(0), clock + 1])
    if schedule.active is None:
        final = after[-1].clone()
    else:
        final = after.gather(0, schedule.active.sum(0, keepdim=True)).squeeze(0)
    return schedule._replace(clock=clock), [final]


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
    if matrix.dim() == 2:
        return torch.nn.functional.linear(x, matrix, bias)
    steps, replicas, batch, _ = x.shape
    drive = x.transpose(0, 1).reshape(replicas, steps * batch, x.shape[-1]) @ matrix.mT
    if bias is not None:
        drive = drive + bias.unsqueeze(-2)
    return drive.view(replicas, steps, batch, matrix.shape[-2]).transpose(0, 1)


def with_noise(
    x: Tensor, weights: Weights, noise: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Weights]:
    """The drive with noise in place of x, batch first, and the weights that then are left.

    Args:
        x: (N, T, C).
        weights: of a layer, with U.
        noise: what is added to the drive, (T, *R, N, G H), which it is given.
    """
    drive = drive_of(to_time_first(x), weights)
    drive = drive + noise(drive)
    return to_batch_first(drive), weights._replace(input=None, bias=None)


def unfolded(inputs: ScanInputs) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """For what runs step by step: x and its drive, zero in the padding, and the initial states."""
    recurrence, x, weights, initial, schedule, dilation = inputs
    active = schedule.active
    if active is not None:
        x = x.masked_fill(~active, 0.0)
    drive = drive_of(x, weights)
    if active is not None:
        drive = drive.masked_fill(~active, 0.0)
    if initial is None:
        hidden = drive.shape[-1] // len(recurrence.gates)
        like = x if weights.input is None else weights.input
        deep = (dilation,) if dilation > 1 else ()
        zero = like.new_zeros((*deep, *drive.shape[1:-1], hidden))
        initial = (zero,) * len(recurrence.states)
    return x, drive, initial
