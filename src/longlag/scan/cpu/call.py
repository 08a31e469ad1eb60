"""One call of the compiled kernels: its sizes, its blocks of steps, its rows, its arguments."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from longlag.recurrence import Pattern, Recurrence
from longlag.scan.cpu import backward, forward, pack, scratch
from longlag.scan.cpu.kernel import patterns
from longlag.scan.cpu.plan import Plan, choose
from longlag.scan.cpu.target import compile_functions, host
from longlag.scan.cpu.threads import POOL
from longlag.scan.inputs import Schedule, Weights

__all__ = ["Block", "Call", "Facts", "Place", "backward_kernel", "facts_of", "forward_kernel"]

SMALL = 1 << 18
"""Multiply-adds of a whole call below which a second thread costs more than it brings."""

BLOCK = 1 << 18
"""Numbers of drives that are at hand at once: they should stay in a cache."""

Place = tuple[int, int]
"""Address of the first replica's part, and bytes from one replica's to the next."""


@functools.lru_cache(maxsize=512)
def forward_kernel(recurrence: Recurrence, plan: Plan, keep_drives: bool) -> Callable[..., None]:
    """The compiled forward kernel."""
    return _compiled(forward.emit(recurrence, plan, keep_drives), forward.NAME)


@functools.lru_cache(maxsize=512)
def backward_kernel(recurrence: Recurrence, plan: Plan) -> Callable[..., None]:
    """The compiled backward kernel."""
    return _compiled(backward.emit(recurrence, plan), backward.NAME)


@functools.lru_cache(maxsize=256)
def _pack_kernel(plan: Plan, send_back: bool) -> Callable[..., None]:
    return compile_functions(pack.emit(plan, send_back), {pack.NAME: [ctypes.c_void_p]})[pack.NAME]


def _compiled(text: str, name: str) -> Callable[..., None]:
    types = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    return compile_functions(text, {name: types})[name]


class Facts(NamedTuple):
    """What of a recurrence every call needs.

    Attributes:
        gates, drives: how many there are.
        dense: how many gates have rows in W.
        wires: numbers of the blocks of rows of W.
        sending: of those through which error flows back.
        sources: how many states W reads.
        patterns: of W, each once.
        needs_drives: whether the backward pass reads the drives.
    """

    gates: int
    drives: int
    dense: int
    wires: tuple[int, ...]
    sending: tuple[int, ...]
    sources: int
    patterns: tuple[Pattern, ...]
    needs_drives: bool


@functools.lru_cache(maxsize=256)
def facts_of(recurrence: Recurrence) -> Facts:
    """The facts of a recurrence, found once."""
    return Facts(
        len(recurrence.gates),
        len(recurrence.drive_symbols),
        len(recurrence.dense_gates),
        tuple(range(len(recurrence.wires))),
        tuple(backward.sending(recurrence)),
        len(forward.sources(recurrence)),
        patterns(recurrence),
        backward.adjoint_of(recurrence).needs_drives,
    )


@functools.lru_cache(maxsize=1024)
def _ranges(pattern: Pattern, hidden: int, plan: Plan, back: bool) -> Tensor:
    """Which k a block of units reads, as the kernels want it: where its pairs begin, the pairs."""
    size, groups = hidden // len(pattern), range(len(pattern))
    heads, pairs = [], []
    blocks = plan.blocks(hidden)
    for block in range(blocks):
        heads.append(blocks + 1 + len(pairs))
        mine = set()
        for v in range(plan.vectors):
            start = min((block * plan.vectors + v) * plan.lanes, hidden - plan.lanes)
            mine |= {unit // size for unit in range(start, start + plan.lanes)}
        read = [
            any(pattern[other][unit] if back else pattern[unit][other] for unit in mine)
            for other in groups
        ]
        for first, stop in runs(read):
            pairs += [first * size, stop * size]
    return torch.tensor([*heads, blocks + 1 + len(pairs), *pairs], dtype=torch.int64)


def runs(flags: Sequence[object]) -> list[tuple[int, int]]:
    """The stretches in which flags are true.

    >>> runs([1, 1, 0, 1])
    [(0, 2), (3, 4)]
    """
    found, first = [], None
    for place, flag in enumerate([*flags, False]):
        if flag and first is None:
            first = place
        if not flag and first is not None:
            found.append((first, place))
            first = None
    return found


class _Rows(NamedTuple):
    """Which rows count, of a batch with lengths; R is 1 for a single network.

    Attributes:
        order: (R, N), the rows by falling length.
        counts: (R, T + 1), how many count in each step.
        starts: (R, T + 1), how many rows counted in the steps before.
        most: for every step, the largest of the starts of the replicas.
    """

    order: Tensor
    counts: Tensor
    starts: Tensor
    most: list[int]


class Block(NamedTuple):
    """Some steps that are done at once.

    Attributes:
        first, stop: the steps.
        rows: how many packed rows they have; the most of a replica's.
        begin: how many the blocks before have.
        index: of each packed row its step, replica and sequence, (R, rows) each, and where rows
            are missing which are there; None without lengths.
        offsets: (R, T + 1) of these steps, at which packed row each begins; None without lengths.
    """

    first: int
    stop: int
    rows: int
    begin: int
    index: tuple[Tensor, Tensor, Tensor, Tensor | None] | None
    offsets: Tensor | None


class Call:
    """The facts of one call that both passes share. Tensors have time first.

    Args:
        recurrence: the traced cell.
        x: (T, N, C), or (T, R, N, C); the drive where there is no input matrix.
        weights: of the layer.
        schedule: which steps count.
    """

    def __init__(
        self, recurrence: Recurrence, x: Tensor, weights: Weights, schedule: Schedule
    ) -> None:
        self.recurrence, self.x, self.weights, self.schedule = recurrence, x, weights, schedule
        self.replicated = x.dim() == 4
        self.steps, self.batch = x.shape[0], x.shape[-2]
        self.replicas = x.shape[1] if self.replicated else 1
        width = x.shape[-1] if weights.input is None else weights.input.shape[-2]
        self.facts = facts_of(recurrence)
        self.gates, self.drives, dense = self.facts[:3]
        self.hidden = width // self.gates
        self.item = x.element_size()
        rows = self.steps * self.replicas * self.batch
        work = rows * self.hidden * (dense * self.hidden + 16)
        self.threads = 1 if work < SMALL else torch.get_num_threads()
        self.plan = choose(
            host(),
            self.batch,
            self.hidden,
            max(1, self.threads // self.replicas),
            double=x.dtype == torch.float64,
            ordered=schedule.active is not None,
            keep=schedule.keep is not None,
            mask=schedule.mask is not None and dense > 0,
        )
        tiles = -(-self.batch // self.plan.rows)
        self.parts = min(self.threads, tiles if self.replicas == 1 else self.replicas)
        self.ordered = None if schedule.active is None else self._order(schedule.active)
        self.keep = self.mask = None
        if schedule.keep is not None:
            self.keep = schedule.keep.contiguous()
        if schedule.mask is not None:
            self.mask = plain(schedule.mask).contiguous()
        self.units = None
        if weights.units:  # (R, P, H)
            units = weights.units[0] if len(weights.units) == 1 else torch.cat(weights.units, -2)
            self.units = plain(units).contiguous()

    def _order(self, active: Tensor) -> _Rows:
        lengths = active.sum(0).view(self.replicas, self.batch)
        falling, order = lengths.sort(dim=-1, descending=True, stable=True)
        steps = torch.arange(self.steps + 1)
        counts = (falling.unsqueeze(1) > steps.view(1, -1, 1)).sum(-1)
        starts = torch.cumsum(counts, 1) - counts
        return _Rows(order, counts, starts, starts.amax(0).tolist())

    def blocks(self) -> list[Block]:
        """The blocks of steps, from the first to the last; those without any row are left out."""
        most = max(1, BLOCK // max(1, self.replicas * self.drives * self.hidden))
        if self.ordered is None:
            size = max(1, most // max(1, self.batch))
            return [
                Block(first, stop, (stop - first) * self.batch, first * self.batch, None, None)
                for first in range(0, self.steps, size)
                for stop in (min(first + size, self.steps),)
            ]
        found, first, begin, starts = [], 0, 0, self.ordered.most
        for step in range(1, self.steps + 1):
            full = step < self.steps and starts[step + 1] - starts[first] > most
            if full or step == self.steps:
                block = self._packed(self.ordered, first, step, begin)
                if block.rows:
                    found.append(block)
                first, begin = step, begin + block.rows
        return found

    def _packed(self, ordered: _Rows, first: int, stop: int, begin: int) -> Block:
        offsets = ordered.starts[:, first : stop + 1] - ordered.starts[:, first : first + 1]
        ends = offsets[:, -1]
        rows = int(ends.max())
        counting = torch.arange(self.batch).view(1, 1, -1) < ordered.counts[
            :, first:stop
        ].unsqueeze(-1)
        replica, step, number = counting.nonzero(as_tuple=True)
        present = None
        if self.replicas > 1:
            present = torch.arange(rows) < ends.unsqueeze(-1)  # (R, rows)
            step, number, replica = (
                torch.zeros(self.replicas, rows, dtype=torch.int64).masked_scatter(present, part)
                for part in (step, number, replica)
            )
        else:
            replica, step, number = (part.unsqueeze(0) for part in (replica, step, number))
        sequence = ordered.order[replica, number]
        index = (step + first, replica, sequence, present)
        return Block(first, stop, rows, begin, index, offsets.contiguous())

    def packed(self, name: str, tensor: Tensor, block: Block) -> Tensor:
        """The rows of a block of a tensor (T, N, ...), packed: (rows, ...), or (R, rows, ...)."""
        if block.index is not None:
            step, replica, sequence, present = block.index
            found = tensor[step, replica, sequence] if self.replicated else (
                tensor[step[0], sequence[0]]
            )  # fmt: skip
            if present is not None:
                found = found.masked_fill(~present.unsqueeze(-1), 0.0)
            return found
        part = tensor[block.first : block.stop]
        if self.replicated:
            return part.transpose(0, 1).flatten(1, 2)
        if self.batch == 1 or part.is_contiguous():
            return part.reshape(-1, part.shape[-1])
        copy = scratch.take(name, tensor, *part.shape)
        return copy.copy_(part).view(-1, part.shape[-1])

    def unpack(self, rows: Tensor, target: Tensor, block: Block) -> None:
        """Put packed rows where :meth:`packed` takes them from."""
        if block.index is None:
            part = target[block.first : block.stop]
            if self.replicated:
                rows = rows.unflatten(1, (-1, self.batch)).transpose(0, 1)
            part.copy_(rows.view(part.shape) if not self.replicated else rows)
            return
        step, replica, sequence, present = block.index
        if not self.replicated:
            target[step[0], sequence[0]] = rows
        elif present is None:
            target[step, replica, sequence] = rows
        else:
            target[step[present], replica[present], sequence[present]] = rows[present]

    def place(self, tensor: Tensor | None, axis: int = 0) -> Place:
        """Where a tensor lies, whose axis of replicas is given."""
        if tensor is None:
            return 0, 0
        stride = tensor.stride(axis) * tensor.element_size() if self.replicated else 0
        return tensor.data_ptr(), stride

    def rows_of(self, block: Block) -> list[Place]:
        """Where order, counts and offsets of a block lie."""
        if self.ordered is None:
            return []
        assert block.offsets is not None
        order, counts, _, _ = self.ordered
        by_replica = [tensor.stride(0) * 8 for tensor in (order, counts, block.offsets)]
        addresses = (
            order.data_ptr(),
            counts.data_ptr() + 8 * block.first,
            block.offsets.data_ptr(),
        )
        return list(zip(addresses, by_replica, strict=True))

    def schedule_of(self, block: Block) -> list[Place]:
        """Where the flags of a block and the mask lie."""
        found = []
        if self.keep is not None:
            row = self.replicas * self.batch
            found.append((self.keep.data_ptr() + block.first * row, self.batch))
        if self.plan.mask:
            found.append(self.place(self.mask))
        return found

    def ranges(self, back: bool) -> list[Place]:
        """Where the ranges of each pattern lie."""
        if not self.facts.patterns:
            return []
        tables = (_ranges(each, self.hidden, self.plan, back) for each in self.facts.patterns)
        return [(table.data_ptr(), 0) for table in tables]

    def pack(self, matrix: Tensor | None, wires: Sequence[int], send_back: bool) -> Tensor | None:
        """Some blocks of rows of W as a kernel reads them; None where there are none."""
        if matrix is None or not wires:
            return None
        matrix = plain(matrix).contiguous()
        plan, hidden = self.plan, self.hidden
        size = plan.blocks(hidden) * plan.units * hidden * len(wires)
        target = scratch.take("weights", matrix, self.replicas, size)
        parameters = (ctypes.c_int64 * (7 + len(wires)))(
            matrix.data_ptr(), target.data_ptr(),
            matrix.stride(0) * self.item, size * self.item,
            self.replicas, hidden, len(wires), *wires,
        )  # fmt: skip
        _pack_kernel(plan, send_back)(parameters)
        return target

    def run(
        self, kernel: Callable[..., None], places: Sequence[Place], numbers: Sequence[int]
    ) -> None:
        """Run a kernel on all threads."""
        parameters = (ctypes.c_int64 * (1 + 2 * len(places) + len(numbers)))(
            self.replicas, *[number for place in places for number in place], *numbers
        )
        if self.parts == 1:
            kernel(parameters, 0, 1)
        else:
            POOL.run(functools.partial(kernel, parameters), self.parts)


def plain(tensor: Tensor) -> Tensor:
    """The tensor with its numbers as they are: a negation that is only noted would not be seen."""
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def last_contiguous(tensor: Tensor) -> Tensor:
    """The tensor with the numbers of a row side by side."""
    tensor = plain(tensor)
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
