"""Running the compiled kernels: packing, threads, and the products that are left to BLAS."""

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import Tensor
from torch.nn.functional import pad

from longlag.recurrence import Recurrence
from longlag.scan import node
from longlag.scan.cpu import backward as backward_kernel
from longlag.scan.cpu import forward as forward_kernel
from longlag.scan.cpu.plan import Plan, choose
from longlag.scan.cpu.target import compile_functions, host
from longlag.scan.inputs import Schedule, Weights
from longlag.scan.step import TorchStep, outer, torch_step

__all__ = ["run", "unsupported"]

SMALL = 1 << 17
"""Multiply-adds of a whole call below which a second thread costs more than it brings."""

BLOCK = 1 << 20
"""Numbers of drives that are computed again at once in the backward pass."""


def unsupported(drive: Tensor) -> str | None:
    """Why the kernels cannot take this drive; None where they can."""
    if drive.device.type != "cpu":
        return f"the tensors are on {drive.device}, not on the CPU"
    if drive.dtype not in (torch.float32, torch.float64):
        return f"it has float32 and float64, not {drive.dtype}"
    if not host().fma:
        return "this processor has no fused multiply-add"
    return None


def _check(
    recurrence: Recurrence,
    drive: Tensor,
    weights: Weights,
    initial: Sequence[Tensor],
    schedule: Schedule,
) -> None:
    """Raise a ValueError where a kernel would read memory as what it is not."""
    *front, width = drive.shape[1:]
    hidden, dense = width // len(recurrence.gates), len(recurrence.dense_gates)
    state, flags = (*front, hidden), (*drive.shape[:-1], 1)
    like, flag = (drive.dtype, drive.device), (torch.bool, drive.device)
    unit = (*front[:-1], 1, hidden)
    given: list[tuple[str, Tensor | None, tuple[int, ...], tuple[torch.dtype, torch.device]]]
    given = [
        (f"state {n}", t, state, like) for n, t in zip(recurrence.states, initial, strict=True)
    ]
    given += [(n, t, unit, like) for n, t in zip(recurrence.units, weights.units, strict=True)]
    if dense:
        rows = (*front[:-1], dense * hidden, hidden)
        given.append(("recurrent matrix", weights.recurrent, rows, like))
    if schedule.mask is not None:
        given.append(("mask", schedule.mask, state, like))
    for name, part in (("lengths", schedule.active), ("resets", schedule.keep)):
        if part is not None:
            given.append((name, part, flags, flag))
    for name, tensor, shape, (dtype, device) in given:
        if tensor is None or (tensor.shape, tensor.dtype, tensor.device) != (shape, dtype, device):
            came = None
            if tensor is not None:
                came = f"{tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}"
            raise ValueError(f"{name}: got {came}, expected {shape} of {dtype} on {device}")


_KINDS = {module.NAME: module for module in (forward_kernel, backward_kernel)}


@functools.lru_cache(maxsize=512)
def _kernel(recurrence: Recurrence, plan: Plan, name: str) -> Callable[..., None]:
    """The compiled forward or backward kernel."""
    kind = _KINDS[name]
    pointers, numbers = kind.arguments(recurrence, plan)
    types = [ctypes.c_void_p] * len(pointers) + [ctypes.c_int64] * len(numbers)
    return compile_functions(kind.emit(recurrence, plan), {kind.NAME: types})[kind.NAME]


class _Pool:
    """Threads that take tiles; made at the first need, and anew in a forked process."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0

    def run(self, tasks: Sequence[Callable[[], None]], threads: int) -> None:
        """Run the tasks, the first on the calling thread."""
        if len(tasks) == 1:
            tasks[0]()
            return
        if self.pool is None or self.size < threads:
            self.size = threads
            self.pool = ThreadPoolExecutor(threads, thread_name_prefix="longlag")
        waiting = [self.pool.submit(task) for task in tasks[1:]]
        try:
            tasks[0]()
        finally:  # after an interrupt too: the memory that they write to is freed on return
            wait(waiting)
        for future in waiting:
            future.result()

    def forget(self) -> None:
        """In a forked process the threads are not there."""
        self.pool, self.size = None, 0


_POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)


class _Call:
    """The facts of one call that both passes share; every tensor has an axis for replicas.

    Args:
        products: accumulators that each row and unit vector needs.
    """

    def __init__(self, recurrence: Recurrence, drive: Tensor, weights: Weights,
                 schedule: Schedule, products: int) -> None:  # fmt: skip
        self.recurrence = recurrence
        self.replicated = drive.dim() == 4
        drive = drive if self.replicated else drive.unsqueeze(1)
        self.drive = _last_contiguous(drive)  # (T, R, N, G H)
        self.steps, self.replicas, self.batch, width = drive.shape
        self.hidden = width // len(recurrence.gates)
        dense = len(recurrence.dense_gates)
        work = drive[..., 0].numel() * self.hidden * (dense * self.hidden + 16)
        self.threads = 1 if work < SMALL else torch.get_num_threads()
        self.plan = choose(
            host(),
            products,
            self.batch,
            self.hidden,
            max(1, self.threads // self.replicas),
            double=drive.dtype == torch.float64,
            lengths=schedule.active is not None,
            keep=schedule.keep is not None,
            mask=schedule.mask is not None,
        )
        self.tiles = -(-self.batch // self.plan.rows)
        by_replica = (lambda x, axis: x) if self.replicated else torch.unsqueeze
        self.lengths = self.keep = self.mask = None
        if schedule.active is not None:  # (R, N)
            self.lengths = by_replica(schedule.active.sum(0).squeeze(-1), 0).contiguous()
        if schedule.keep is not None:  # (T, R, N)
            self.keep = by_replica(schedule.keep.squeeze(-1), 1).contiguous()
        if schedule.mask is not None:  # (R, N, H)
            self.mask = by_replica(schedule.mask, 0).resolve_neg().contiguous()
        self.units = drive.new_empty((self.replicas, 0, self.hidden))
        if weights.units:  # (R, P, H)
            self.units = by_replica(torch.cat(weights.units, dim=-2), 0).resolve_neg().contiguous()
        self.recurrent = None
        if weights.recurrent is not None:  # (R, G', H, H)
            gates = weights.recurrent.unflatten(-2, (dense, self.hidden))
            self.recurrent = by_replica(gates, 0).resolve_neg()

    def pack(self, gates: Sequence[int], send_back: bool) -> Tensor:
        """Rows of some gates as the kernel reads them, units of a tile side by side.

        Returns:
            (R, blocks, k, gates, units), or for what is sent back (R, blocks, gates k, units).
        """
        if self.recurrent is None or not gates:
            return self.drive.new_empty((self.replicas, 0))
        matrix = self.recurrent
        if len(gates) < matrix.shape[1]:
            matrix = matrix[:, list(gates)]
        matrix = matrix if send_back else matrix.mT  # (R, G'', k, units)
        units = self.plan.units
        blocks = -(-self.hidden // units)
        matrix = pad(matrix, (0, blocks * units - self.hidden)).unflatten(-1, (blocks, units))
        order = (0, 3, 1, 2, 4) if send_back else (0, 3, 2, 1, 4)
        return matrix.permute(order).contiguous().flatten(1)

    def address(self, tensor: Tensor | None, axis: int, replica: int) -> int:
        """The address of a replica's part of a tensor whose axis of replicas is given."""
        if tensor is None:
            return 0
        return tensor.data_ptr() + replica * tensor.stride(axis) * tensor.element_size()

    def run(self, make: Callable[[int, int], tuple[Callable[..., None], list[int]]]) -> None:
        """Run a kernel on all tiles.

        Args:
            make: (number of the thread, replica) to the kernel and its arguments before the tiles.
        """
        threads = min(self.threads, self.replicas * self.tiles)
        by_thread: list[list[Callable[[], None]]] = [[] for _ in range(threads)]
        for replica in range(self.replicas):
            split = threads if self.replicas == 1 else 1
            for part in range(split):
                number = part if split > 1 else replica % threads
                kernel, arguments = make(number, replica)
                first, stop = (self.tiles * n // split for n in (part, part + 1))
                by_thread[number].append(functools.partial(kernel, *arguments, first, stop))
        _POOL.run([functools.partial(_all, tasks) for tasks in by_thread], threads)


def _all(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


def _last_contiguous(tensor: Tensor) -> Tensor:
    tensor = tensor.resolve_neg()  # a negation that is only noted would not be seen
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def trajectory(
    recurrence: Recurrence,
    drive: Tensor,
    weights: Weights,
    initial: Sequence[Tensor],
    schedule: Schedule,
) -> list[Tensor]:
    """All states s_0 .. s_T, each (T + 1, N, H); see :class:`node.Engine`."""
    _check(recurrence, drive, weights, initial, schedule)
    dense = len(recurrence.dense_gates)
    call = _Call(recurrence, drive, weights, schedule, dense)
    states = []
    for first in initial:
        path = drive.new_empty((call.steps + 1, *first.shape))
        path[0] = first
        states.append(path)
    if call.steps == 0 or call.batch == 0:
        return states
    visited = states if call.replicated else [path.unsqueeze(1) for path in states]
    plan = call.plan
    kernel = _kernel(recurrence, plan, forward_kernel.NAME)
    packed = call.pack(range(dense), send_back=False)
    sources = len(forward_kernel.sources(recurrence))
    scratch = drive.new_empty((call.replicas, sources, call.batch, call.hidden))

    def make(thread: int, replica: int) -> tuple[Callable[..., None], list[int]]:
        arguments = [
            call.address(call.drive, 1, replica),
            call.address(packed, 0, replica),
            call.address(call.units, 0, replica),
            *(call.address(path, 1, replica) for path in visited),
        ]
        if plan.keep or plan.mask:
            arguments.append(call.address(scratch, 0, replica))
        arguments += _schedule_addresses(call, replica)
        arguments += [call.steps, call.batch, call.hidden]
        arguments += [call.drive.stride(0), call.drive.stride(2), visited[0].stride(0)]
        return kernel, [*arguments, call.replicas * call.batch]

    call.run(make)
    return states


def _schedule_addresses(call: _Call, replica: int) -> list[int]:
    parts = ((call.lengths, 0), (call.keep, 1), (call.mask, 0))
    return [call.address(part, axis, replica) for part, axis in parts if part is not None]


def backward(
    recurrence: Recurrence,
    drive: Tensor,
    weights: Weights,
    states: Sequence[Tensor],
    schedule: Schedule,
    gradients: Sequence[Tensor],
    with_units: bool,
) -> node.Gradients:
    """Send the error back; see :class:`node.Engine`."""
    step = torch_step(recurrence)
    call = _Call(recurrence, drive, weights, schedule, 1)
    plan, item = call.plan, drive.element_size()
    drives = len(recurrence.drive_symbols)
    visited = states if call.replicated else [path.unsqueeze(1) for path in states]
    d_output, *final = gradients
    d_output = _last_contiguous(d_output if call.replicated else d_output.unsqueeze(1))
    delta = [error.resolve_neg().clone(memory_format=torch.contiguous_format) for error in final]
    deltas = delta if call.replicated else [error.unsqueeze(0) for error in delta]
    d_drives = drive.new_empty((call.steps, call.replicas, call.batch, drives, call.hidden))
    d_units = drive.new_zeros((call.threads, *call.units.shape))
    sending = [product for product in step.products if not product.truncated]
    packed = drive.new_empty((call.replicas, 0))
    if sending:
        packed = torch.cat([call.pack(product.gates, send_back=True) for product in sending], 1)
    adjoint = backward_kernel.adjoint_of(recurrence)
    size = call.steps
    if adjoint.needs_drives:
        size = max(1, BLOCK // max(1, d_drives[:1].numel()))
    kernel = _kernel(recurrence, plan, backward_kernel.NAME)
    blocks = step.blocks(weights)
    read = _read_states(states, schedule)
    for first in reversed(range(0, call.steps, max(1, size))) if call.batch else ():
        stop = min(first + size, call.steps)
        computed = None
        if adjoint.needs_drives:
            computed = _drives_again(step, drive, read, blocks, schedule, first, stop)

        def make(
            thread: int, replica: int, first: int = first, stop: int = stop,
            computed: Tensor | None = computed,
        ) -> tuple[Callable[..., None], list[int]]:  # fmt: skip
            base = first if computed is not None else 0
            errors = d_drives[base:]
            again = errors if computed is None else computed
            arguments = [
                call.address(d_output, 1, replica),
                call.address(again, 1, replica),
                call.address(errors, 1, replica),
                call.address(packed, 0, replica),
                call.address(call.units, 0, replica),
                d_units.data_ptr()
                + (thread * d_units.stride(0) + replica * d_units.stride(1)) * item,
                *(call.address(path, 1, replica) for path in visited),
                *(call.address(error, 0, replica) for error in deltas),
                *_schedule_addresses(call, replica),
                first, stop, base, call.batch, call.hidden,
                d_output.stride(0), d_output.stride(2), d_drives.stride(0),
                visited[0].stride(0), call.replicas * call.batch,
            ]  # fmt: skip
            return kernel, arguments

        call.run(make)
    if not call.replicated:
        d_drives = d_drives.squeeze(1)
    d_blocks = []
    for product in step.products:
        source = read[product.source][:-1]
        if schedule.mask is not None:
            source = source * schedule.mask
        d_blocks.append(outer(step.reached(d_drives, product.gates), source, call.replicated))
    total = d_units.sum(0).unsqueeze(-2)  # (R, P, 1, H)
    by_unit = list(total.unbind(1)) if recurrence.units else []
    if not call.replicated:
        by_unit = [unit.squeeze(0) for unit in by_unit]
    recurrent = step.by_row(d_blocks, weights.recurrent)
    return node.Gradients(step.by_gate(d_drives), recurrent, delta, by_unit)


def _read_states(states: Sequence[Tensor], schedule: Schedule) -> list[Tensor]:
    """The states s_0 .. s_T as the steps find them: zero where they are reset."""
    if schedule.keep is None:
        return list(states)
    keep = torch.cat([schedule.keep, torch.ones_like(schedule.keep[:1])])
    return [path.masked_fill(~keep, 0.0) for path in states]


def _drives_again(
    step: TorchStep,
    drive: Tensor,
    read: Sequence[Tensor],
    blocks: Sequence[Tensor],
    schedule: Schedule,
    first: int,
    stop: int,
) -> Tensor:
    """The drives of a block of steps, (T, R, N, drives H)."""
    before = [path[first:stop] for path in read]
    parts = step.drives(drive[first:stop], before, blocks, schedule.mask)
    computed = torch.cat(parts, dim=-1)
    return computed if computed.dim() == 4 else computed.unsqueeze(1)


ENGINE = node.Engine(trajectory, backward)


def run(
    recurrence: Recurrence,
    drive: Tensor,
    weights: Weights,
    initial: Sequence[Tensor],
    schedule: Schedule,
) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrence over time; arguments and results as in :func:`reference.run`."""
    return node.run(ENGINE, recurrence, drive, weights, initial, schedule)
