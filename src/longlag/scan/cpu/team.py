"""Threads that share the units of the same rows, and meet after every stage of a step.

Each has in memory a line of its own, to which no other writes: how many meetings it has come to,
and how it fared. A meeting is one store, then a look at the lines of the others until each has
come. Every :data:`PERIOD` meetings all compute the same from what the lines say:

- new shares, as cores differ in what else they do, and blocks of units in their work;
- whether the first thread would be faster alone, as other work has the cores. Then the others
  leave, and it goes on.

Whose a unit is changes nothing in its numbers.
"""

import ctypes
import functools
import sys
from collections.abc import Mapping

from llvmlite import ir

from longlag.scan.cpu.builder import I32, I64, Code, Value
from longlag.scan.cpu.plan import Plan

APART = 16
"""Whole numbers from one line to the next: two cache lines, which are fetched in pairs."""

SPINS = 200
"""Looks, of some 20 to 50 ns, before a thread that waits offers its core to others, after each."""

PERIOD = 32
"""Meetings from one sharing to the next: a power of two, and 2 at least, so that no line is written
again before all have read it."""

LOSS = 1 << 23
"""Cycles that a team may lose against one thread before it is left."""

ALL = 1 << 62
"""Meetings of a thread for which none has to wait."""

_OWN = ("count", "busy", "since", "shared", "first", "stop", "parts", "rate", "gain")
"""What a thread knows: the meetings; the time that it worked since the last sharing, when it went
on, and when that sharing was; its blocks; how many share them; the least time of a block in a
period, which is forgotten slowly; what the team has gained since it last lost, at most 0."""

_COUNT, _BUSY, _BLOCKS, _ELAPSED = range(4)
"""What a line says."""


class Team:
    """The meetings of a kernel under construction.

    Args:
        code: where the instructions go.
        arguments: of the kernel; "meetings", "yield", "part" and "parts" are read.
        blocks: how many blocks of units there are: parts or more, of a sparse W more.
        plan: of the kernel.
    """

    def __init__(
        self, code: Code, arguments: Mapping[str, Value], blocks: Value, plan: Plan
    ) -> None:
        self.code, b = code, code.b
        self.own = code.entry_builder.alloca(I64, len(_OWN))
        part, parts = arguments["part"], arguments["parts"]
        first, stop = (b.sdiv(b.mul(blocks, end), parts) for end in (part, code.plus(part, 1)))
        zero, now = code.i64(0), _now(code, plan.arm)
        begin = (zero, zero, now, now, first, stop, parts, code.i64(ALL), zero)
        for name, value in zip(_OWN, begin, strict=True):
            b.store(value, _place(code, self.own, name))
        names = ("meetings", "part", "parts", "yield")
        self._arguments = [*(arguments[name] for name in names), blocks, self.own]
        self._meet = _Meet(code, plan).function

    @property
    def blocks(self) -> tuple[Value, Value]:
        """This thread's first block of units, and that after its last."""
        first, stop = (_place(self.code, self.own, name) for name in ("first", "stop"))
        return self.code.b.load(first), self.code.b.load(stop)

    def meet(self) -> None:
        """Wait until all threads have come here: what they wrote before can be read. Or leave."""
        b = self.code.b
        stays = b.call(self._meet, self._arguments)
        with b.if_then(b.not_(stays)):
            b.ret_void()


class _Meet:
    """The function meet(meetings, part, parts, yield, blocks, own): whether the thread goes on.

    It stands apart, so that no load moves across it.
    """

    def __init__(self, kernel: Code, plan: Plan) -> None:
        whole = I64.as_pointer()
        kind = ir.FunctionType(ir.IntType(1), [whole, I64, I64, I64, I64, whole])
        self.function = ir.Function(kernel.function.module, kind, "longlag_meet")
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.code = code = Code(self.function, plan.double, plan.lanes)
        self.arm, self.sparse = plan.arm, plan.sparse is not None
        self.meetings, self.part, self.parts, self.offer, self.blocks, own = self.function.args
        self.own = {name: _place(code, own, name) for name in _OWN}
        self._emit()

    def _emit(self) -> None:
        code, b, own = self.code, self.code.b, self.own
        count, now = code.plus(b.load(own["count"]), 1), _now(code, self.arm)
        busy = b.add(b.load(own["busy"]), b.sub(now, b.load(own["since"])))
        b.store(count, own["count"])
        b.store(busy, own["busy"])
        share = b.icmp_signed("==", b.and_(count, code.i64(PERIOD - 1)), code.i64(0))
        with b.if_then(share):
            b.store(busy, self._line(self.part, _BUSY))
            b.store(
                b.sub(b.load(own["stop"]), b.load(own["first"])), self._line(self.part, _BLOCKS)
            )
            b.store(b.sub(now, b.load(own["shared"])), self._line(self.part, _ELAPSED))
            b.store(now, own["shared"])
            b.store(code.i64(0), own["busy"])
        b.store_atomic(count, self._line(self.part, _COUNT), "release", 8)
        with code.loop(code.i64(0), self.parts) as other:
            self._wait(self._line(other, _COUNT), count)
        stays = code.variable(ir.IntType(1))
        b.store(ir.IntType(1)(1), stays)
        if not self.arm:
            with b.if_then(share):
                self._share()
                with b.if_then(self._loses()):
                    first = b.icmp_signed("==", self.part, code.i64(0))
                    b.store(first, stays)
                    zero, one = code.i64(0), code.i64(1)
                    for name, value in (("first", zero), ("stop", self.blocks), ("parts", one)):
                        b.store(value, own[name])
                    with b.if_then(b.not_(first)):  # not before it has read the lines of the others
                        left = self._line(self.part, _COUNT)
                        b.store_atomic(code.i64(ALL), left, "release", 8)
        now = _now(code, self.arm)
        b.store(now, own["since"])
        with b.if_then(b.icmp_signed("==", count, code.i64(1))):  # not for how long one began later
            b.store(now, own["shared"])
        b.ret(b.load(stays))

    def _line(self, number: Value, place: int) -> Value:
        return self.code.at(self.meetings, self.code.times(number, APART), self.code.i64(place))

    def _wait(self, place: Value, count: Value) -> None:
        """Until the number at a place is no less than count."""
        code, b = self.code, self.code.b
        look, wait, more, come = map(b.append_basic_block, ("look", "wait", "more", "come"))
        before = b.block
        b.branch(look)
        b.position_at_end(look)
        looks = b.phi(I64)
        looks.add_incoming(code.i64(0), before)
        b.cbranch(b.icmp_signed(">=", b.load_atomic(place, "acquire", 8), count), come, wait)
        b.position_at_end(wait)
        code.pause(self.arm)
        after = code.plus(looks, 1)
        looks.add_incoming(after, wait)
        b.cbranch(b.icmp_signed("<", after, code.i64(SPINS)), look, more)
        b.position_at_end(more)
        b.call(b.inttoptr(self.offer, ir.FunctionType(I32, []).as_pointer()), [])
        looks.add_incoming(after, more)
        b.branch(look)
        b.position_at_end(come)

    def _said(self, other: Value) -> tuple[Value, Value]:
        """Blocks of a thread, and its time."""
        b = self.code.b
        blocks, busy = (b.load(self._line(other, place)) for place in (_BLOCKS, _BUSY))
        return blocks, self.code.plus(busy, 1)

    def _share(self) -> None:
        """This thread's new blocks: one for each thread, of the others half as they were, half by
        how many each did in its time. Every thread adds the same numbers in the same order.

        The last two of a sparse matrix stay together: units that the last vector does again have
        there another order of sums, and one thread has to put its result over the other.
        """
        code, b, own = self.code, self.code.b, self.own
        double, zero, parts = ir.DoubleType(), code.i64(0), b.load(own["parts"])
        speeds, shares, before, after = (code.variable(double) for _ in range(4))
        for place in (speeds, shares, before, after):
            b.store(double(0.0), place)

        def real(value: Value) -> Value:
            return b.sitofp(value, double)

        def speed(other: Value) -> Value:
            blocks, busy = self._said(other)
            return b.fdiv(real(blocks), real(busy))

        with code.loop(zero, parts) as other:
            b.store(b.fadd(b.load(speeds), speed(other)), speeds)
        with code.loop(zero, parts) as other:
            as_before = b.fdiv(real(self._said(other)[0]), real(self.blocks))
            so_far = b.load(shares)
            with_it = b.fadd(so_far, b.fadd(as_before, b.fdiv(speed(other), b.load(speeds))))
            here = b.icmp_signed("==", other, self.part)
            b.store(b.select(here, so_far, b.load(before)), before)
            b.store(b.select(here, with_it, b.load(after)), after)
            b.store(with_it, shares)
        free = b.sub(self.blocks, parts)
        most = code.plus(free, -1) if self.sparse else free
        for name, place, least in (("first", before, 0), ("stop", after, 1)):
            end = code.plus(self.part, least)
            mine = b.fmul(b.fdiv(b.load(place), b.load(shares)), real(free))
            more = code.smaller(b.fptosi(b.fadd(mine, double(0.5)), I64), most)
            inner = b.icmp_signed("<", end, parts)
            b.store(b.select(inner, b.add(end, more), self.blocks), own[name])

    def _loses(self) -> Value:
        """Whether one thread, at the speed of the fastest, would have taken clearly less time."""
        code, b, own = self.code, self.code.b, self.own
        rate = b.load(own["rate"])
        b.store(b.add(rate, b.ashr(rate, code.i64(6))), own["rate"])
        with code.loop(code.i64(0), b.load(own["parts"])) as other:
            blocks, busy = self._said(other)
            b.store(code.smaller(b.load(own["rate"]), b.sdiv(busy, blocks)), own["rate"])
        alone = b.mul(b.load(own["rate"]), self.blocks)
        gain = b.add(b.load(own["gain"]), b.sub(alone, b.load(self._line(code.i64(0), _ELAPSED))))
        gain = code.smaller(gain, code.i64(0))
        b.store(gain, own["gain"])
        return b.icmp_signed("<", gain, code.i64(-LOSS))


def _place(code: Code, own: Value, name: str) -> Value:
    return code.at(own, code.i64(_OWN.index(name)))


def _now(code: Code, arm: bool) -> Value:
    """A time, in cycles; on ARM, where programs may not read it, always 0."""
    if arm:
        return code.i64(0)
    return code.b.call(code.intrinsic("llvm.readcyclecounter", I64), [])


class Meetings:
    """The lines of the threads of one call.

    Attributes:
        address: where they are.
    """

    def __init__(self, parts: int) -> None:
        self._numbers = (ctypes.c_int64 * (parts * APART))()
        self.address = ctypes.addressof(self._numbers)

    def let_go(self) -> None:
        """None waits for another any more: of a call that failed, whose results nobody reads."""
        for place in range(0, len(self._numbers), APART):
            self._numbers[place] = ALL


@functools.cache
def offer() -> int:
    """The address of the system's function by which a thread lets others run first."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address
