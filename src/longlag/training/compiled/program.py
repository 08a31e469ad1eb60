"""Pieces and kernels one after the other, again and again, on all threads that share them."""

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from llvmlite import ir
from torch import Tensor

from longlag.scan.cpu.builder import I64, Code, Value
from longlag.scan.cpu.passes import Noted
from longlag.scan.cpu.target import compile_functions, host
from longlag.scan.cpu.threads import POOL

_PATIENCE = 2000
"""Looks at a barrier before the thread is given away: for a millionth of a second or several."""

_ALONE = threading.Lock()
"""Threads of a program wait for each other, so all must run: the pool has one program at a time."""

_NAME = "longlag_updates"


class Program:
    """Pieces and kernels in order, run once an update.

    What one thread does alone is done by the first. Around what several share all wait for each
    other.

    Args:
        calls: what is called in each update.
        clock: a whole number, set to the number of the update before each.
        stop: a whole number; once it is not 0, there are no further updates.

    Attributes:
        parts: how many threads share it.
    """

    def __init__(self, calls: Sequence[Noted], clock: Tensor, stop: Tensor) -> None:
        self._parameters = [
            ctypes.create_string_buffer(call.parameters, len(call.parameters)) for call in calls
        ]
        pairs = zip(calls, self._parameters, strict=True)
        table = [n for call, p in pairs for n in (call.address, ctypes.addressof(p), call.parts)]
        self.parts = max(call.parts for call in calls)
        self._table = torch.tensor(table, dtype=torch.int64)
        # How many threads wait, and how often all have: each in a cache line of its own.
        self._waiting = torch.zeros(32, dtype=torch.int64)
        self._held = clock, stop
        tensors = (clock, stop, self._table, self._waiting)
        words = (*(tensor.data_ptr() for tensor in tensors), len(calls), yield_address())
        self._words = (ctypes.c_int64 * len(words))(*words)

    def run(self, first: int, stop: int) -> None:
        """Make the updates with the numbers first .. stop - 1, or those before a stop."""
        if self.parts == 1:
            _driver()(self._words, first, stop, 0, 1)
            return
        with _ALONE:
            POOL.run(functools.partial(_driver(), self._words, first, stop), self.parts)

    @property
    def address(self) -> int:
        """Of what the driver is given."""
        return ctypes.addressof(self._words)


def driver_address() -> int:
    """The address of the function (program, first, stop, part, parts)."""
    driver: Any = _driver()
    return ctypes.cast(driver, ctypes.c_void_p).value or 0


def yield_address() -> int:
    """The address of what gives the processor to another thread; 0 where there is none."""
    if os.name != "posix":
        return 0
    return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0


@functools.cache
def _driver() -> Callable[..., None]:
    """The function that runs programs: (words, first, stop, part, parts)."""
    module = ir.Module(_NAME)
    barrier = _barrier(module)
    kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), *[I64] * 4])
    code = Code(ir.Function(module, kind, _NAME), False, 1)
    b = code.b
    words, first, last, part, parts = code.function.args

    def read(base: Value, index: Value | int) -> Value:
        return b.load(b.gep(base, [code.i64(index) if isinstance(index, int) else index]))

    clock, stop, table, _, count, _ = (read(words, n) for n in range(6))
    clock, stop, table = (b.inttoptr(n, I64.as_pointer()) for n in (clock, stop, table))
    alone = b.icmp_signed("==", parts, code.i64(1))
    begins = b.icmp_signed("==", part, code.i64(0))

    @contextmanager
    def together(shared: Value) -> Iterator[None]:
        for before in (True, False):
            with b.if_then(shared):
                b.call(barrier, [words, parts])
            if before:
                yield

    of_piece = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64]).as_pointer()
    with code.flushing(host().arm), code.loop(first, last) as update:
        with b.if_then(b.icmp_signed("==", b.load(stop), code.i64(0))):
            with b.if_then(begins):
                b.store(update, clock)
            with code.loop(code.i64(0), count) as number:
                entry = code.times(number, 3)
                address, held, sharing = (read(table, code.plus(entry, n)) for n in range(3))
                shared = b.icmp_signed(">", sharing, code.i64(1))
                with together(shared), b.if_then(b.icmp_signed("<", part, sharing)):
                    arguments = [b.inttoptr(held, I64.as_pointer()), part, sharing]
                    b.call(b.inttoptr(address, of_piece), arguments)
        with b.if_then(b.not_(alone)):  # all see whether there is a stop
            b.call(barrier, [words, parts])
    b.ret_void()
    types: list[Any] = [ctypes.c_void_p, *[ctypes.c_int64] * 4]
    return compile_functions(str(module), {_NAME: types})[_NAME]


def _barrier(module: ir.Module) -> Any:
    """A function in which each thread waits for all: (words, parts)."""
    kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64])
    function = ir.Function(module, kind, "longlag_barrier")
    function.linkage = "internal"
    code = Code(function, False, 1)
    b = code.b
    words, parts = function.args
    waiting = b.inttoptr(b.load(b.gep(words, [code.i64(3)])), I64.as_pointer())
    yields = b.load(b.gep(words, [code.i64(5)]))
    rounds = b.gep(waiting, [code.i64(16)])
    now = b.load_atomic(rounds, "acquire", 8)
    before = b.atomic_rmw("add", waiting, code.i64(1), "acq_rel")
    looks = code.variable(I64)
    b.store(code.i64(0), looks)
    with b.if_else(b.icmp_signed("==", code.plus(before, 1), parts)) as (last, other):
        with last:
            b.store_atomic(code.i64(0), waiting, "monotonic", 8)
            b.atomic_rmw("add", rounds, code.i64(1), "release")
        with other:
            head, done = b.append_basic_block("wait"), b.append_basic_block("go_on")
            b.branch(head)
            b.position_at_end(head)
            many = b.icmp_signed(">", b.load(looks), code.i64(_PATIENCE))
            b.store(code.plus(b.load(looks), 1), looks)
            able = b.and_(many, b.icmp_signed("!=", yields, code.i64(0)))
            with b.if_then(able):
                give = ir.FunctionType(ir.IntType(32), []).as_pointer()
                b.call(b.inttoptr(yields, give), [])
            same = b.icmp_signed("==", b.load_atomic(rounds, "acquire", 8), now)
            b.cbranch(same, head, done)
            b.position_at_end(done)
    b.ret_void()
    return function
