"""Several processes in one update: each adds its share of the gradients, and all read the sum.

Processes of one machine share memory, and wait for each other within the compiled code: what each
has to say stands in a slot of its own, and every process adds up all slots in the same order, so
that all have the same bits. Slots take turns, so that one wait an update is enough: who writes what
comes after the next meeting knows that all have read this one. Between machines PyTorch's
processes add up.
"""

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from longlag.scan.cpu.builder import I64, Code, Value
from longlag.scan.cpu.target import addresses_of, host
from longlag.training.compiled.piece import DOUBLE, Compiled, Piece, full_lanes
from longlag.training.compiled.program import yield_address
from longlag.training.ranks import Ranks, RanksError

_LINE = 16
"""Whole numbers from one process's count to the next: each has cache lines of its own."""

_LOOKS = 1 << 16
"""Looks at the others after which Python is asked whether they are still there: some tens of
milliseconds."""

_PATIENCE = 2000
"""Looks after which the processor is given away between them."""

SAID = 8
"""Numbers that each can say between updates."""

_NAME = "longlag_wait"


class Meeting:
    """The processes of a run, which meet in every update.

    Args:
        ranks: the processes.
        count: of all numbers of the gradients.
        double: float64, else float32.
        most: updates of a block, at most.

    Attributes:
        weights: (most,), of this process's mean in that of all, for each update.
    """

    def __init__(self, ranks: Ranks, count: int, *, double: bool, most: int) -> None:
        self.ranks, self._double = ranks, double
        self.weights = torch.zeros(most, dtype=torch.float64)
        self._turn = torch.zeros(1, dtype=torch.int64)
        self._failure: BaseException | None = None
        line = 128 // (8 if double else 4)
        self._size = -(-(count + 1) // line) * line
        counts, said = ranks.count * _LINE, 2 * ranks.count * SAID
        numbers = 2 * ranks.count * self._size * (8 if double else 4) // 8
        shared = ranks.shared_memory(counts + said + numbers)
        self._shared = shared is not None
        kind = torch.float64 if double else torch.float32
        if shared is None:
            self._slots = torch.zeros((1, 1, self._size), dtype=kind)
            self._arrived = torch.zeros(0, dtype=torch.int64)
        else:
            arrived, words, slots = shared.split([counts, said, numbers])
            self._arrived = arrived.view(ranks.count, _LINE)
            self._said = words.view(torch.float64).view(2, ranks.count, SAID).numpy()
            self._slots = slots.view(kind).view(2, ranks.count, self._size)
            self._arrived[ranks.rank, 2] = os.getpid()
        self._wait = self._prepared()
        if self._shared:
            ranks.gather(None)  # all have said who they are

    def _prepared(self) -> Callable[[], int]:
        """What waits until all have written their slots: 0, or 1 where there is a failure."""
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)

        def asked(_: int | None) -> int:
            try:
                self._look() if self._shared else self.ranks.add(self._slots)
            except BaseException as failure:
                self._failure = failure
                return 1
            return 0

        # They live as long as their addresses are known.
        self._asked = kind(asked)
        address = ctypes.cast(self._asked, ctypes.c_void_p).value or 0
        places = (self._arrived.data_ptr(), self.ranks.rank, self.ranks.count)
        self._words = (ctypes.c_int64 * 5)(*places, yield_address(), address)
        self._address = _wait() if self._shared else address
        return functools.partial(kind(self._address), ctypes.addressof(self._words))

    def noted(self, clock: Tensor, loss: Tensor, gradients: Tensor) -> Any:
        """The call, before the update.

        Args:
            clock, loss: of the step.
            gradients: pairs of whole numbers, address and count.
        """
        own = self._slots[0, self.ranks.rank if self._shared else 0]
        item = own.element_size()
        return meet(self._double).noted(
            clock=clock, loss=loss, gradients=gradients, gradient_count=len(gradients) // 2,
            weights=self.weights, turn=self._turn, own=own, slots=self._slots,
            other=(self._slots.shape[0] - 1) * self._slots.stride(0) * item,
            count=self._slots.shape[1], size=self._size, wait=self._address,
            words=ctypes.addressof(self._words),
        )  # fmt: skip

    def agree(self, numbers: Sequence[float]) -> "np.ndarray[Any, Any]":
        """What each process says, (processes, numbers), of at most :data:`SAID` numbers.

        Raises:
            RanksError: another process has ended.
        """
        if not self._shared:
            return np.array(self.ranks.gather([*numbers]))
        turn = self._turn.numpy()
        said = self._said[int(turn[0]) % 2, :, : len(numbers)]
        turn += 1
        said[self.ranks.rank] = numbers
        self._wait()
        self.check()
        return said.copy()

    def check(self) -> None:
        """Raise what came up while processes waited for each other, if anything did."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Tell the others that this process comes to no further meeting."""
        if self._shared:
            self._arrived[self.ranks.rank, 1] = 1

    def _look(self) -> None:
        """Whether those who are not here yet may still come.

        Raises:
            RanksError: one has ended.
        """
        arrived = self._arrived.numpy()
        due = arrived[self.ranks.rank, 0]
        for number, (count, left, process) in enumerate(arrived[:, :3].tolist()):
            if count < due and (left or not _is_there(process)) and arrived[number, 0] < due:
                raise RanksError(
                    f"process {self.ranks.rank} of {self.ranks.count}: process {number} of this "
                    "job has ended; what it printed says why"
                )


def _is_there(process: int) -> bool:
    """Whether a process of this machine runs; one that waits to be buried does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):  # where there is no /proc
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in ("Z", "X")
    return True


@functools.cache
def meet(double: bool) -> Compiled:
    """Gradients and loss become those of the whole batch.

    ``gradients`` has ``gradient_count`` pairs, address and count. In turn n they are written,
    weighted, to ``own``, in odd turns ``other`` bytes behind it; when ``wait`` has returned, the
    sum of ``count`` slots of ``size`` numbers is taken. Where it says that there is a failure, the
    loss becomes NaN, after which nothing is changed.
    """
    names = "clock loss gradients gradient_count weights turn own other slots count size wait words"
    code = Piece("longlag_meet", names, double, full_lanes(double))
    b, arg, zero = code.b, code.arg, code.i64(0)
    turn, loss = code.numbers("turn", I64), code.numbers("loss", DOUBLE)
    number = b.load(turn)
    b.store(code.plus(number, 1), turn)
    shift = b.mul(b.and_(number, code.i64(1)), arg["other"])
    own, slots = (b.inttoptr(b.add(arg[name], shift), code.pointer) for name in ("own", "slots"))
    weight = b.load(code.at(code.numbers("weights", DOUBLE), code.clock()))
    counts = b.fcmp_ordered(">", weight, ir.Constant(DOUBLE, 0.0))
    factor = code.narrowed(weight)
    nothing = ir.Constant(code.scalar, 0.0)

    def each(body: Callable[[Value, Value, bool], None]) -> Value:
        """All gradients as vectors, then one by one: body(address, place in a slot, whether it is
        a vector). The place behind all of them."""
        place, table = code.variable(I64), code.numbers("gradients", I64)
        b.store(zero, place)
        with code.loop(zero, arg["gradient_count"]) as entry:
            gradient = b.inttoptr(code.read(table, code.times(entry, 2)), code.pointer)
            many = code.read(table, code.plus(code.times(entry, 2), 1))
            whole, begin = b.and_(many, code.i64(-code.lanes)), b.load(place)
            with code.loop(zero, whole, code.lanes) as index:
                body(code.at(gradient, index), b.add(begin, index), True)
            with code.loop(whole, many) as index:
                body(code.at(gradient, index), b.add(begin, index), False)
            b.store(b.add(begin, many), place)
        return b.load(place)

    def write(gradient: Value, place: Value, wide: bool) -> None:
        # What is said where no error is due counts for nothing, were it NaN.
        if wide:
            value = b.fmul(code.load(gradient), code.splat(factor))
            code.store(b.select(counts, value, code.zero()), code.at(own, place))
        else:
            value = b.fmul(b.load(gradient), factor)
            b.store(b.select(counts, value, nothing), code.at(own, place))

    def summed(place: Value, wide: bool) -> Value:
        total = code.variable(code.vector if wide else code.scalar)
        b.store(code.zero() if wide else nothing, total)
        with code.loop(zero, arg["count"]) as slot:
            there = code.at(slots, code.times(slot, arg["size"]), place)
            b.store(b.fadd(b.load(total), code.load(there) if wide else b.load(there)), total)
        return b.load(total)

    def read(gradient: Value, place: Value, wide: bool) -> None:
        if wide:
            code.store(summed(place, wide), gradient)
        else:
            b.store(summed(place, wide), gradient)

    last = each(write)
    value = b.fmul(code.narrowed(b.load(loss)), factor)
    b.store(b.select(counts, value, nothing), code.at(own, last))
    kind = ir.FunctionType(I64, [I64]).as_pointer()
    failed = b.call(b.inttoptr(arg["wait"], kind), [arg["words"]])
    with b.if_else(b.icmp_signed("==", failed, zero)) as (goes_on, fails):
        with goes_on:
            each(read)
            b.store(code.widened(summed(last, False)), loss)
        with fails:
            b.store(ir.Constant(DOUBLE, float("nan")), loss)
    return code.finish()


@functools.cache
def _wait() -> int:
    """The address of f(words) -> 0, or 1 after a failure: this process has written, and waits for
    the others. ``words``: where the counts are, of which process this is, how many there are, what
    gives the processor away, and what is asked after many looks."""
    module = ir.Module(_NAME)
    code = Code(ir.Function(module, ir.FunctionType(I64, [I64]), _NAME), False, 1)
    b, zero = code.b, code.i64(0)
    words = b.inttoptr(code.function.args[0], I64.as_pointer())
    base, own, many, yields, asks = (b.load(b.gep(words, [code.i64(n)])) for n in range(5))
    counts, looks = b.inttoptr(base, I64.as_pointer()), code.variable(I64)
    b.store(zero, looks)
    mine = b.gep(counts, [code.times(own, _LINE)])
    due = code.plus(b.load(mine), 1)
    b.store_atomic(due, mine, "release", 8)
    with code.loop(zero, many) as number:
        other = b.gep(counts, [code.times(number, _LINE)])
        head, later, done = (b.append_basic_block(name) for name in ("look", "later", "there"))
        b.branch(head)
        b.position_at_end(head)
        here = b.icmp_signed(">=", b.load_atomic(other, "acquire", 8), due)
        b.cbranch(here, done, later)
        b.position_at_end(later)
        seen = code.plus(b.load(looks), 1)
        b.store(seen, looks)
        code.pause(host().arm)
        with b.if_then(b.icmp_signed(">", seen, code.i64(_PATIENCE))):
            b.call(b.inttoptr(yields, ir.FunctionType(ir.IntType(32), []).as_pointer()), [])
        often = b.icmp_signed("==", b.and_(seen, code.i64(_LOOKS - 1)), zero)
        with b.if_then(often):
            kind = ir.FunctionType(I64, [I64]).as_pointer()
            failed = b.call(b.inttoptr(asks, kind), [zero])
            with b.if_then(b.icmp_signed("!=", failed, zero)):
                b.ret(code.i64(1))
        b.branch(head)
        b.position_at_end(done)
    b.ret(zero)
    return addresses_of(str(module), (_NAME,))[_NAME]
