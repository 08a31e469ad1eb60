"""The products that need no loop over time: the drive, and dW, dU, db, dx of a block of steps."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from longlag.recurrence import Pattern, Recurrence
from longlag.scan import node
from longlag.scan.cpu import scratch
from longlag.scan.cpu.call import Block, Call, Place, runs
from longlag.scan.step import products, torch_step

__all__ = ["Accumulated", "drive_of_block", "drives_again"]


def drive_of_block(call: Call, block: Block) -> tuple[Place, tuple[int, int]]:
    """Where the drive of a block lies, and how far apart its steps and rows are."""
    width = call.gates * call.hidden
    if call.weights.input is None:
        if call.ordered is None:
            address, stride = call.place(call.x, 1)
            address += block.first * call.x.stride(0) * call.item
            return (address, stride), (call.x.stride(0), call.x.stride(-2))
        drive = call.packed("drive", call.x, block)
        scratch.hold("drive", drive)
    else:
        drive = _input_product(call, block)
    return call.place(drive), (call.batch * width, width)


def _input_product(call: Call, block: Block) -> Tensor:
    """a = U x + b of the rows of a block: (rows, G H), or (R, rows, G H)."""
    matrix, bias = call.weights.input, call.weights.bias
    assert matrix is not None
    rows = call.packed("x", call.x, block)
    front = (call.replicas,) if call.replicated else ()
    drive = scratch.take("drive", call.x, *front, block.rows, matrix.shape[-2])
    if bias is None:
        return torch.matmul(rows, matrix.mT, out=drive)
    if call.replicated:
        return torch.baddbmm(bias.unsqueeze(-2), rows, matrix.mT, out=drive)
    return torch.addmm(bias, rows, matrix.t(), out=drive)


def _read_states(call: Call, block: Block, states: Sequence[Tensor], source: int) -> Tensor:
    """A state as W reads it before each step of a block, packed."""
    rows = call.packed(f"state {source}", states[source][:-1], block)
    if call.schedule.keep is not None:
        rows = rows.masked_fill(~call.packed("keep", call.schedule.keep, block), 0.0)
    return rows


def _dropped(call: Call, block: Block, rows: Tensor) -> Tensor:
    """With the recurrent dropout mask of each row."""
    mask = call.mask
    if mask is None:
        return rows
    by_step = mask.unsqueeze(0).expand(call.steps, *mask.shape)
    return rows * call.packed("mask", by_step, block)


def drives_again(call: Call, block: Block, states: Sequence[Tensor]) -> Tensor:
    """The drives of a block, computed again: (rows, drives H), or (R, rows, drives H)."""
    step = torch_step(call.recurrence)
    if call.weights.input is None:
        a = call.packed("drive", call.x, block)
    else:
        a = _input_product(call, block)
    before = [
        _dropped(call, block, _read_states(call, block, states, source))
        for source in range(len(states))
    ]
    parts = step.drives(a, before, step.blocks(call.weights), None)
    front = (call.replicas,) if call.replicated else ()
    width = call.drives * call.hidden
    again = scratch.take("drives", call.x, *front, block.rows, width)
    torch.cat(parts, dim=-1, out=again)
    scratch.hold("drives", again)
    return again


class _Segment(NamedTuple):
    """Blocks of rows of W whose gradient is one product: they lie side by side, and so do dr."""

    wire: int
    gate: int
    count: int
    source: int
    pattern: Pattern | None


@functools.lru_cache(maxsize=256)
def _segments(recurrence: Recurrence) -> tuple[_Segment, ...]:
    found: list[_Segment] = []
    for product in products(recurrence):
        for gate, wire in zip(product.gates, product.wires, strict=True):
            last = found[-1] if found else None
            if (
                last is not None
                and (last.source, last.pattern) == (product.source, product.pattern)
                and (last.wire + last.count, last.gate + last.count) == (wire, gate)
            ):
                found[-1] = last._replace(count=last.count + 1)
            else:
                found.append(_Segment(wire, gate, 1, product.source, product.pattern))
    return tuple(found)


@functools.lru_cache(maxsize=256)
def _input_slots(recurrence: Recurrence) -> tuple[int, int, tuple[int, ...] | None]:
    """The drives first .. stop - 1 among which U x + b of all gates are, and their order."""
    symbols = recurrence.drive_symbols
    places = [symbols.index(gate.from_input) for gate in recurrence.gates]
    first, stop = min(places), max(places) + 1
    if places == list(range(first, stop)):
        return first, stop, None
    return first, stop, tuple(place - first for place in places)


def _add_product(target: Tensor, left: Tensor, right: Tensor, new: bool) -> None:
    """target += left^T right, or = where it is new; for each replica where there are several."""
    left = left.mT
    if new:
        torch.matmul(left, right, out=target)
    elif target.dim() == 3:
        target.baddbmm_(left, right)
    else:
        target.addmm_(left, right)


class Accumulated:
    """The gradients by x, U, b and W, block by block.

    Args:
        call: the call.
        wanted: what is asked for.
    """

    def __init__(self, call: Call, wanted: node.Wanted) -> None:
        self.call, self.wanted, self.new = call, wanted, True
        weights, x = call.weights, call.x
        self.front = (call.replicas,) if call.replicated else ()
        self.first, self.stop, self.order = _input_slots(call.recurrence)
        slots = (self.stop - self.first) * call.hidden
        self.d_recurrent = self.d_input = self.d_bias = self.d_x = self.by_slot = None
        if weights.recurrent is not None and wanted.recurrent:
            patterned = any(segment.pattern for segment in _segments(call.recurrence))
            make = torch.zeros_like if patterned else torch.empty_like
            self.d_recurrent = make(weights.recurrent, memory_format=torch.contiguous_format)
        if weights.input is not None and wanted.input:
            self.d_input = x.new_empty((*self.front, slots, x.shape[-1]))
        if weights.bias is not None and wanted.bias:
            self.d_bias = x.new_empty((*self.front, slots))
        if wanted.x:
            full = call.ordered is None and call.steps > 0
            # In memory as x is, so that who reads on reads it in order.
            self.d_x = torch.empty_like(x) if full else torch.zeros_like(x)
            if weights.input is not None:
                self.by_slot = self._by_slot(weights.input)

    def _by_slot(self, matrix: Tensor) -> Tensor:
        """U with its rows in the order of the drives; zeros for those that no input reaches."""
        if self.order is None:
            return matrix
        gates = matrix.unflatten(-2, (self.call.gates, self.call.hidden))
        shape = (*self.front, self.stop - self.first, *gates.shape[-2:])
        by_slot = matrix.new_zeros(shape)
        by_slot[..., list(self.order), :, :] = gates
        return by_slot.flatten(-3, -2)

    def add(self, block: Block, d_drives: Tensor, states: Sequence[Tensor]) -> None:
        """Add what a block of steps brings.

        Args:
            block: the steps.
            d_drives: (R, rows, drives H), the errors of its drives.
            states: all states.
        """
        call, hidden = self.call, self.call.hidden
        errors = d_drives if call.replicated else d_drives[0]
        if self.d_recurrent is not None:
            self._add_recurrent(block, errors, states)
        inputs = errors
        if (self.first, self.stop) != (0, call.drives):
            inputs = errors[..., self.first * hidden : self.stop * hidden]
        if self.d_bias is not None:
            if self.new:
                torch.sum(inputs, -2, out=self.d_bias)
            else:
                self.d_bias += inputs.sum(-2)
        if self.d_input is not None:
            _add_product(self.d_input, inputs, call.packed("x", call.x, block), self.new)
        if self.d_x is not None:
            if self.by_slot is not None:
                call.unpack(torch.matmul(inputs, self.by_slot), self.d_x, block)
            else:
                call.unpack(self._in_order(inputs, -1), self.d_x, block)
        self.new = False

    def _add_recurrent(self, block: Block, errors: Tensor, states: Sequence[Tensor]) -> None:
        call, hidden = self.call, self.call.hidden
        assert self.d_recurrent is not None
        apart = call.drives - len(call.recurrence.dense_gates)
        read: dict[int, Tensor] = {}
        for wire, gate, count, source, pattern in _segments(call.recurrence):
            if source not in read:
                rows = _read_states(call, block, states, source)
                read[source] = _dropped(call, block, rows)
            target = self.d_recurrent[..., wire * hidden : (wire + count) * hidden, :]
            first = (apart + gate) * hidden
            sent = errors[..., first : first + count * hidden]
            if pattern is None:
                _add_product(target, sent, read[source], self.new)
                continue
            size = hidden // len(pattern)
            for part in range(count):
                for row, flags in enumerate(pattern):
                    begin = part * hidden + row * size
                    mine = sent[..., begin : begin + size].mT
                    for low, high in runs(flags):
                        columns = slice(low * size, high * size)
                        there = target[..., begin : begin + size, columns]
                        there += mine @ read[source][..., columns]

    def _in_order(self, by_slot: Tensor, axis: int) -> Tensor:
        """From the order of the drives to that of the gates."""
        if self.order is None:
            return by_slot
        slots = by_slot.unflatten(axis, (-1, self.call.hidden))
        index = torch.tensor(self.order)
        return slots.index_select(axis - 1, index).flatten(axis - 1, axis)

    def gradients(self, initial: list[Tensor], d_units: Tensor | None) -> node.Gradients:
        """All gradients.

        Args:
            initial: those of the initial states.
            d_units: (threads, R, P, H), the sums of the unit parameters.
        """
        call = self.call
        d_input = None if self.d_input is None else self.d_input
        if self.new:  # there was no block
            for tensor in (self.d_input, self.d_bias, self.d_recurrent):
                if tensor is not None:
                    tensor.zero_()
        if d_input is not None and self.order is not None:
            d_input = self._in_order(d_input.mT, -1).mT
        d_bias = None if self.d_bias is None else self._in_order(self.d_bias, -1)
        units: list[Tensor] = []
        if call.recurrence.units:
            if d_units is None:
                units = [torch.zeros_like(unit) for unit in call.weights.units]
            else:
                total = d_units[0] if d_units.shape[0] == 1 else d_units.sum(0)  # (R, P, H)
                units = list(total.unsqueeze(-2).unbind(1))
                if not call.replicated:
                    units = [unit.squeeze(0) for unit in units]
        return node.Gradients(self.d_x, d_input, d_bias, self.d_recurrent, initial, units)
