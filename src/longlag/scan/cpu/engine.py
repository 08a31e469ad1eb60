"""The compiled backend: the kernels for the recurrence, BLAS for the products that need no loop.

Forward, block by block of steps: the drive a = U x + b is one matrix product, then the kernel takes
it through the steps. Backward, from the last block to the first: the kernel gives the errors of the
drives, then dW, dU, db and dx are products and sums over the block. What a block needs stays in
memory that is used again; only states and results are made anew.

Memory law, in numbers: T N H for each state; G N H T more for cells whose derivative reads the
drives, while that is no more than :data:`KEPT` bytes, else they are computed again. For T steps of
one sequence of an Elman network: T H and no more than a few megabytes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan import node
from longlag.scan.cpu import scratch
from longlag.scan.cpu.call import (
    Block,
    Call,
    backward_kernel,
    facts_of,
    forward_kernel,
    last_contiguous,
    plain,
)
from longlag.scan.cpu.products import Accumulated, drive_of_block, drives_again
from longlag.scan.cpu.target import host
from longlag.scan.inputs import Schedule, Weights
from longlag.scan.step import patterned

__all__ = ["ENGINE", "KEPT", "run", "unsupported"]

KEPT = 1 << 28
"""Bytes of drives that a forward pass keeps for its backward pass."""


def unsupported(like: Tensor) -> str | None:
    """Why the kernels cannot take tensors like this one; None where they can."""
    if like.device.type != "cpu":
        return f"the tensors are on {like.device}, not on the CPU"
    if like.dtype not in (torch.float32, torch.float64):
        return f"it has float32 and float64, not {like.dtype}"
    if not host().fma:
        return "this processor has no fused multiply-add"
    return None


def _check(
    recurrence: Recurrence,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor] | None,
    schedule: Schedule,
) -> None:
    """Raise a ValueError where a kernel would read memory as what it is not."""
    facts, dtype = facts_of(recurrence), x.dtype
    *front, width = x.shape[1:]
    rows = width if weights.input is None else weights.input.shape[-2]
    hidden, by_replica = rows // facts.gates, front[:-1]
    state = (*front, hidden)

    def check(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
        if tensor is None or tensor.shape != shape or tensor.dtype is not dtype or (
            tensor.device != x.device
        ):  # fmt: skip
            came = None
            if tensor is not None:
                came = f"{tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}"
            raise ValueError(f"{name}: got {came}, expected {shape} of {dtype} on {x.device}")

    if weights.input is not None:
        check("input matrix", weights.input, (*by_replica, rows, width))
    if weights.bias is not None:
        check("bias", weights.bias, (*by_replica, rows))
    if initial is not None:
        for name, tensor in zip(recurrence.states, initial, strict=True):
            check(f"state {name}", tensor, state)
    for name, tensor in zip(recurrence.units, weights.units, strict=True):
        check(name, tensor, (*by_replica, 1, hidden))
    if facts.dense:
        shape = (*by_replica, len(facts.wires) * hidden, hidden)
        check("recurrent matrix", weights.recurrent, shape)
    if schedule.mask is not None:
        check("mask", schedule.mask, state)
    dtype = torch.bool
    for name, part in (("lengths", schedule.active), ("resets", schedule.keep)):
        if part is not None:
            check(name, part, (*x.shape[:-1], 1))


def forward(
    recurrence: Recurrence,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor] | None,
    schedule: Schedule,
    backward: bool,
) -> node.Run:
    """Run all steps; see :class:`node.Engine`."""
    _check(recurrence, x, weights, initial, schedule)
    x = plain(x) if weights.input is not None else last_contiguous(x)
    call = Call(recurrence, x, weights, schedule)
    shape = (call.steps + 1, *x.shape[1:-1], call.hidden)
    states = []
    for k in range(len(recurrence.states)):
        # The padding stays zero.
        path = x.new_empty(shape) if call.ordered is None else x.new_zeros(shape)
        if initial is None:
            path[0].zero_()
        else:
            path[0] = initial[k]
        states.append(path)
    if call.steps == 0 or call.batch == 0:
        return node.Run(states, [path[0].clone() for path in states])
    blocks, plan = call.blocks(), call.plan
    kept = _room_for_drives(call, blocks) if backward else None
    kernel = forward_kernel(recurrence, plan, kept is not None)
    packed = call.pack(_recurrent(call), call.facts.wires, send_back=False)
    prepared = None
    if plan.indirect:
        size = call.facts.sources * call.batch * call.hidden
        prepared = scratch.take("prepared", x, call.replicas, size)
    step_bytes = call.replicas * call.batch * call.hidden * call.item
    for block in blocks:
        drive, (drive_t, drive_n) = drive_of_block(call, block)
        places = [drive, call.place(packed), call.place(call.units)]
        by_replica = call.batch * call.hidden * call.item if call.replicated else 0
        places += [(p.data_ptr() + block.first * step_bytes, by_replica) for p in states]
        if kept is not None:
            width = call.drives * call.hidden
            address, stride = call.place(kept)
            places.append((address + block.begin * width * call.item, stride))
        if prepared is not None:
            places.append(call.place(prepared))
        places += call.rows_of(block) + call.schedule_of(block)
        places += call.ranges(back=False)
        steps, rows = block.stop - block.first, call.replicas * call.batch
        call.run(kernel, places, (
            steps, call.batch, call.hidden, drive_t, drive_n, rows * call.hidden, rows
        ))  # fmt: skip
    return node.Run(states, [_final(call, path) for path in states], kept)


def _recurrent(call: Call) -> Tensor | None:
    """W, with zeros where its pattern leaves out."""
    recurrent = call.weights.recurrent
    if recurrent is None or not call.facts.patterns:
        return recurrent
    blocks = zip(recurrent.split(call.hidden, -2), call.recurrence.wires, strict=True)
    return torch.cat([patterned(block, wire.pattern) for block, wire in blocks], -2)


def _final(call: Call, path: Tensor) -> Tensor:
    """The states after each row's last step."""
    if call.ordered is None:
        return path[-1].clone()
    assert call.schedule.active is not None
    last = call.schedule.active.sum(0).expand(path.shape[1:])
    return path.gather(0, last.unsqueeze(0)).squeeze(0)


def _room_for_drives(call: Call, blocks: Sequence[Block]) -> Tensor | None:
    """Where the drives are kept for the backward pass; None where they are not."""
    if not call.facts.needs_drives or not blocks:
        return None
    rows, width = blocks[-1].begin + blocks[-1].rows, call.drives * call.hidden
    if call.replicas * rows * width * call.item > KEPT:
        return None
    return call.x.new_empty((call.replicas, rows, width))


def backward(
    recurrence: Recurrence,
    x: Tensor,
    weights: Weights,
    states: Sequence[Tensor],
    kept: Tensor | None,
    schedule: Schedule,
    gradients: Sequence[Tensor],
    wanted: node.Wanted,
) -> node.Gradients:
    """Send the error back; see :class:`node.Engine`."""
    x = plain(x) if weights.input is not None else last_contiguous(x)
    call = Call(recurrence, x, weights, schedule)
    d_output, final = last_contiguous(gradients[0]), gradients[1:]
    total = Accumulated(call, wanted)
    if call.steps == 0 or call.batch == 0:
        return total.gradients([plain(error).clone() for error in final], None)
    plan, item = call.plan, call.item
    half = call.replicas * call.batch * call.hidden
    deltas = []
    for error in final:
        delta = scratch.take(f"delta {len(deltas)}", x, 2, *error.shape)
        delta[0] = plain(error)
        if call.ordered is not None:  # rows that begin later find it in either
            delta[1] = delta[0]
        deltas.append(delta)
    kernel = backward_kernel(recurrence, plan)
    packed = call.pack(_recurrent(call), call.facts.sending, send_back=True)
    d_units = None
    if recurrence.units:
        d_units = x.new_zeros((call.parts, call.replicas, len(recurrence.units), call.hidden))
    width, turned = call.drives * call.hidden, 0
    rows = call.replicas * call.batch
    by_replica = call.batch * call.hidden * item if call.replicated else 0
    for block in reversed(call.blocks()):
        steps = block.stop - block.first
        d_drives = scratch.take("errors", x, call.replicas, block.rows, width)
        if call.ordered is not None and call.replicas > 1:
            d_drives.zero_()  # where a replica has fewer rows
        drives = (0, 0)
        if call.facts.needs_drives:
            if kept is None:
                again = drives_again(call, block, states)
                drives = call.place(again)
            else:
                address, stride = call.place(kept)
                drives = (address + block.begin * width * item, stride)
        address, stride = call.place(d_output, 1)
        places = [
            (address + block.first * d_output.stride(0) * item, stride),
            drives, call.place(d_drives), call.place(packed), call.place(call.units),
            (0, 0) if d_units is None else call.place(d_units, 1),
        ]  # fmt: skip
        places += [(p.data_ptr() + block.first * half * item, by_replica) for p in states]
        # The kernel begins with the half that the block before has left its result in.
        sign = -half if turned else half
        places += [(d.data_ptr() + turned * half * item, by_replica) for d in deltas]
        places += call.rows_of(block) + call.schedule_of(block)
        places += call.ranges(back=True)
        by_thread = 0 if d_units is None else d_units.stride(0) * item
        call.run(kernel, places, (
            steps, call.batch, call.hidden, d_output.stride(0), d_output.stride(-2), half, rows,
            sign, by_thread,
        ))  # fmt: skip
        turned ^= (steps + 1) & 1
        total.add(block, d_drives, states)
    return total.gradients([delta[turned].clone() for delta in deltas], d_units)


ENGINE = node.Engine(forward, backward, zero_padding=True)


def run(
    recurrence: Recurrence,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor] | None,
    schedule: Schedule,
) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrence over time; arguments and results as in :func:`reference.run`."""
    return node.run(ENGINE, recurrence, x, weights, initial, schedule)
