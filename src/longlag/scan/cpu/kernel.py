"""What the kernels share: arguments by name, loops over tiles and units, products, programs.

A kernel runs all steps of all sequences of its thread. Loops go over time, then blocks of units,
then tiles of rows: the weights of a block are read once a step for all rows of a thread. A thread
never waits for another, except in a team (:attr:`Plan.team`), where each has some blocks of units
of all rows. A tile is a product in registers and then, before anything is stored to be read again,
the pointwise program of its units.

Shapes in memory, in numbers: states (T + 1, rows, H), and before them, where there are delays, the
past; input (T, rows, C), or the drive
(T, rows, G H) in the order of the gates, with any strides; the residuals (T, rows, K, H).
What a thread needs beside lies in a work space of its own, at offsets that are among the numbers.

No load or store is masked. Past the last row or unit a tile does the last ones again: it reads
nothing that it has written, so doing a thing twice is doing it once.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from llvmlite import ir

from longlag.recurrence import ARITY, Pattern, Program, Recurrence
from longlag.recurrence.lowered import Lowered, Product, lower
from longlag.scan.cpu import math
from longlag.scan.cpu.abreast import Abreast, part_of, together
from longlag.scan.cpu.builder import I8, I32, I64, Code, Value, of_each
from longlag.scan.cpu.math_values import constant
from longlag.scan.cpu.plan import Plan
from longlag.scan.cpu.sparse import add_slots, add_triples, add_turned, add_windows
from longlag.scan.cpu.team import Team
from longlag.scan.cpu.tile import Tile

UNROLLED = 330
"""Instructions up to which the pointwise programs of a tile stand one after the other."""

_COSTS = {"tanh": 22, "sigmoid": 19, "exp": 18, "log": 25, "sin": 25, "cos": 25, "constant": 0}


def vector_arithmetic(code: Code) -> dict[str, Callable[..., Value]]:
    """What the operations of a program are on vectors of a kernel, as instructions put there."""
    builder: Any = Abreast(code.b)  # with the methods of an IRBuilder
    operations = {name: functools.partial(math.emit, builder, name) for name in ARITY}
    return {**operations, "constant": functools.partial(constant, code.vector)}


def cost_of(program: Program) -> int:
    """About how many instructions a program is."""
    return 8 + sum(_COSTS.get(operation.name, 1) for operation in program.operations)


def lowered_of(recurrence: Recurrence, rests: bool) -> Lowered:
    """What a kernel does: it keeps itself what rests, if anything does."""
    return lower(recurrence.awake if rests else recurrence)


def schedule_arguments(recurrence: Recurrence, plan: Plan) -> tuple[list[str], list[str]]:
    """Names of the pointers, and of the constants, that tell which steps count, and where x is."""
    pointers = ["order", "counts"] if plan.ordered else []
    pointers += [name for name in ("keep", "mask") if getattr(plan, name)]
    pointers += ["clock"] if recurrence.timed else []
    pointers += ["places"] if plan.placed else []
    delayed = plan.keep and len(lower(recurrence).delays) > 1
    return pointers, ["keep_plane"] if delayed else []


class Arguments(NamedTuple):
    """Names of what a kernel is given.

    Attributes:
        tables: addresses of whole numbers that do not change from call to call.
        pointers: addresses, each with its stride by replica.
        numbers: whole numbers of a call.
        constants: whole numbers that do not change from call to call.
    """

    tables: tuple[str, ...]
    pointers: tuple[str, ...]
    numbers: tuple[str, ...]
    constants: tuple[str, ...]


@dataclass(frozen=True)
class Units:
    """One vector of units.

    Attributes:
        number: of the vector.
        start: its first unit.
        passed: how many of its units a vector before it has done already.
        opens_line: whether no vector of its block before it may be in its cache line.
    """

    number: Value
    start: Value
    passed: Value
    opens_line: bool = True


class Row(NamedTuple):
    """One sequence in a step.

    Attributes:
        slot: its number among the rows of this thread in this step.
        place: where its states and errors lie, times H.
        number: where they lie.
        again: whether it was done already; None where it cannot be.
    """

    slot: Value
    place: Value
    number: Value
    again: Value | None


Part: TypeAlias = tuple[Row, Units]
"""What a pointwise program is run for: a vector of units of one sequence."""


class Term(NamedTuple):
    """A product in a tile.

    Attributes:
        pattern: which of its blocks are there; None where all are.
        weights: the address of its weights for this block of units.
        numbers: by row, the address of the numbers that are multiplied; of a turned tile one
            address for all rows.
        count: how many numbers.
        slots: of a sparse matrix, number of the first vector of its wire, of a turned tile of its
            first line; None of a dense one.
        word: of which groups of units there are numbers, the others are left out; None where there
            are of all.
        next: how far behind its weights those of the next block begin.
        halves: whether two weights are in a word (:attr:`Plan.halves`).
    """

    pattern: Pattern | None
    weights: Value
    numbers: Sequence[Value]
    count: Value
    slots: Value | None = None
    word: Value | None = None
    next: Value | None = None
    halves: bool = False


_ELEMENTS = {"order": I64, "counts": I64, "keep": I8, "ranges": I64, "list": I64, "panels": I64,
             "ticks": I64, "reads": I64, "levels": I64, "heads": I64, "columns": I32,
             "meetings": I64, "places": I64}  # fmt: skip

AHEAD = 2
"""Steps by which input, and errors of the output, are asked for before they are read."""

WORD = 32
"""Bits of a word that tells which groups of units take a step: group g has bit g modulo these."""

BY_ROW, BY_ANY, BY_ALL = range(3)
"""Whose words there are: those of a row, what any row of a tile has, and what all have."""


class Kernel:
    """A function under construction: NAME(parameters, part, parts), for one of several threads.

    ``parameters`` is an array of 64-bit numbers: the replicas, the addresses of the tables, address
    and stride in bytes of every pointer, the numbers, the constants. A single network's tiles are
    shared among the parts, or in a team its blocks of units; replicas are taken whole.

    Steps of a dilated recurrence read the states of ``dilation`` steps before. Those of before the
    first steps are not in the path: ``before_k`` has them, ``before_t`` apart, which is 0 where all
    are the same. There are ``all_rows`` rows in all steps together.

    Args:
        recurrence: the traced cell.
        plan: what the kernel is compiled for.
        name: of the function.
        arguments: what it is given.
        by_thread: pointers of which each thread has its own, one behind the other: by name, the
            name of the number that is the stride in bytes.
    """

    t: Value
    """The step that is being emitted, and where the states before it begin."""
    old: Value

    def __init__(
        self,
        recurrence: Recurrence,
        plan: Plan,
        name: str,
        arguments: Arguments,
        by_thread: dict[str, str],
    ) -> None:
        self.module, self.recurrence, self.plan = ir.Module(name), recurrence, plan
        scalar = of_each(ir.DoubleType() if plan.double else ir.FloatType(), plan.networks)
        addresses = (*arguments.tables, *arguments.pointers)
        shares = ("part", "parts") if plan.team else ()
        tiles = ("first_tile", "tile_step", "end_tile")
        numbers = (*arguments.numbers, *arguments.constants, *tiles, *shares)
        kinds: list[ir.Type] = [
            _ELEMENTS.get(name.split("_")[0], scalar).as_pointer() for name in addresses
        ]
        kinds += [I64] * len(numbers)
        inner = ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), name + "_tiles")
        inner.linkage = "internal"
        inner.attributes.add("noinline")
        if not plan.team:  # where others write
            for argument in inner.args[: len(addresses)]:
                argument.add_attribute("noalias")
        self._emit_entry(name, inner, arguments, by_thread)
        self.code = Code(inner, plan.double, plan.lanes, plan.networks)
        names = (*addresses, *numbers)
        self.arg: dict[str, Value] = dict(zip(names, inner.args, strict=True))
        if plan.hidden:
            self.arg["H"] = self.code.i64(plan.hidden)
        self.arithmetic = vector_arithmetic(self.code)
        self.lowered = lowered = lowered_of(recurrence, plan.rests)
        self.rests = plan.rests
        self.products, self.patterns = lowered.products, lowered.patterns
        self.drives = lowered.drives
        self.states = range(len(lowered.stored))
        b, code = self.code.b, self.code
        self.vectors = b.sdiv(code.plus(self.arg["H"], plan.lanes - 1), code.i64(plan.lanes))
        blocks = b.sdiv(code.plus(self.arg["H"], plan.units - 1), code.i64(plan.units))
        self.all_blocks = code.i64(0), blocks
        self.team = Team(code, self.arg, blocks, plan) if plan.team else None

    def _emit_entry(
        self, name: str, inner: ir.Function, arguments: Arguments, by_thread: dict[str, str]
    ) -> None:
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64])
        code = Code(ir.Function(self.module, kind, name), self.plan.double, self.plan.lanes)
        b = code.b
        parameters, part, parts = code.function.args
        index = 0

        def read() -> Value:
            nonlocal index
            index += 1
            return b.load(b.gep(parameters, [code.i64(index - 1)]))

        replicas = read()
        tables = [read() for _ in arguments.tables]
        bases = [(read(), read()) for _ in arguments.pointers]
        numbers = {number: read() for number in (*arguments.numbers, *arguments.constants)}
        single = b.icmp_signed("==", replicas, code.i64(1))
        zero, one = code.i64(0), code.i64(1)
        first, step = b.select(single, zero, part), b.select(single, one, parts)
        with code.flushing(self.plan.arm), code.loop(first, replicas, step) as replica:
            addresses = [
                b.inttoptr(table, argument.type)
                for table, argument in zip(tables, inner.args, strict=False)
            ]
            for name, (base, stride), argument in zip(
                arguments.pointers, bases, inner.args[len(tables) :], strict=False
            ):
                address = code.plus(base, b.mul(replica, stride))
                if name in by_thread:
                    address = code.plus(address, b.mul(part, numbers[by_thread[name]]))
                addresses.append(b.inttoptr(address, argument.type))
            own, others = b.select(single, part, zero), b.select(single, parts, one)
            every = b.udiv(code.plus(numbers["N"], self.plan.rows - 1), code.i64(self.plan.rows))
            if self.plan.team:
                tiles = zero, one, every, part, parts
            elif self.plan.ordered:
                tiles = own, others, every
            else:
                ends = [b.udiv(b.mul(n, every), others) for n in (own, code.plus(own, 1))]
                tiles = ends[0], one, ends[1]
            b.call(inner, [*addresses, *numbers.values(), *tiles])
        b.ret_void()

    def call(self, function: str, *arguments: Value) -> None:
        """Call a function of :mod:`longlag.scan.cpu.matrix`, whose address is a number.

        Args:
            function: the name of that number.
            arguments: whole numbers and addresses.
        """
        b, kind = self.code.b, ir.FunctionType(ir.VoidType(), [I64] * len(arguments))
        words = [
            b.ptrtoint(value, I64) if isinstance(value.type, ir.PointerType) else value
            for value in arguments
        ]
        b.call(b.inttoptr(self.arg[function], kind.as_pointer()), words)

    def work(self, name: str, *offsets: Value) -> Value:
        """The address of a part of the work space, by the name of the number where it begins."""
        return self.code.at(self.arg["work"], self.arg[name], *offsets)

    def is_set(self, name: str) -> Value:
        """Whether a number among the arguments is not 0."""
        return self.code.b.icmp_signed("!=", self.arg[name], self.code.i64(0))

    # Rows

    def count(self, t: Value) -> Value:
        """How many rows count in step t."""
        if not self.plan.ordered:
            if self.plan.even or not self.plan.dilated:
                return self.arg["N"]
            before = self.code.times(t, self.arg["N"])
            return self.code.smaller(self.arg["N"], self.code.b.sub(self.arg["all_rows"], before))
        return self.code.b.load(self.code.b.gep(self.arg["counts"], [t]))

    def row(self, number: Value, slot: Value, again: Value | None = None) -> Row:
        """A row by its number within the step."""
        place = number
        if self.plan.ordered:
            place = self.code.b.load(self.code.b.gep(self.arg["order"], [number]))
        return Row(slot, self.code.times(place, self.arg["H"]), place, again)

    def input_of(self, t: Value, row: Row) -> Value:
        """The address of x of a row in step t."""
        if self.plan.placed:
            place = self.code.b.load(self.code.b.gep(self.arg["places"], [row.number]))
        else:
            place = self.code.times(row.number, self.arg["x_n"])
        return self.code.at(self.arg["x"], self.code.times(t, self.arg["x_t"]), place)

    def mine(self, count: Value) -> Value:
        """How many of the rows 0 .. count - 1 are this thread's."""
        code, b, size = self.code, self.code.b, self.plan.rows
        tiles = b.sdiv(code.plus(count, size - 1), code.i64(size))
        step, first = self.arg["tile_step"], self.arg["first_tile"]
        stop = code.smaller(tiles, self.arg["end_tile"])
        turns = b.sdiv(code.plus(b.sub(stop, first), code.plus(step, -1)), step)
        turns = b.select(b.icmp_signed("<", first, stop), turns, code.i64(0))
        last = code.plus(first, code.times(code.plus(turns, -1), step))  # tile
        missing = b.sub(code.times(tiles, size), count)
        ends = b.and_(
            b.icmp_signed(">", turns, code.i64(0)),
            b.icmp_signed("==", last, code.plus(tiles, -1)),
        )
        rows = code.times(turns, size)
        return b.select(ends, b.sub(rows, missing), rows)

    @contextmanager
    def tiles(self, count: Value, first: Value | None = None) -> Iterator[Callable[[Value], Row]]:
        """The loop over this thread's tiles of rows first .. count - 1: gives its rows.

        A row is in the same tile, so on the same thread, in every step. The tiles of a thread
        follow on each other; rows in the order of their lengths are dealt out in turn.
        """
        code, plan, b = self.code, self.plan, self.code.b
        size, step = code.i64(plan.rows), self.arg["tile_step"]
        last = code.plus(count, -1)
        stop = b.sdiv(code.plus(count, plan.rows - 1), size)
        stop = code.smaller(stop, self.arg["end_tile"])
        begin = self.arg["first_tile"]
        if first is not None:
            stop = b.select(b.icmp_signed("<", first, count), stop, code.i64(0))
            short = b.sub(b.sdiv(first, size), begin)
            turns = b.sdiv(code.plus(short, code.plus(step, -1)), step)
            some = b.icmp_signed(">", short, code.i64(0))
            begin = code.plus(begin, b.select(some, code.times(turns, step), code.i64(0)))
        with code.loop(begin, stop, step) as tile:
            turn = b.udiv(b.sub(tile, self.arg["first_tile"]), step)
            before = code.times(b.sub(turn, tile), plan.rows)  # from a number to its slot

            def row(offset: Value) -> Row:
                wanted = code.plus(code.times(tile, plan.rows), offset)
                if plan.rows == 1 or plan.even:
                    return self.row(wanted, b.add(before, wanted))
                number = code.smaller(wanted, last)
                if first is not None:
                    number = b.select(b.icmp_signed("<", number, first), first, number)
                again = b.icmp_signed("!=", number, wanted)
                return self.row(number, b.add(before, number), again)

            yield row

    # Units

    @property
    def blocks(self) -> tuple[Value, Value]:
        """This thread's first block of units, and that after its last."""
        return self.all_blocks if self.team is None else self.team.blocks

    @contextmanager
    def unit_blocks(self, everyone: bool = False) -> Iterator[tuple[Value, list[Units]]]:
        """The loop over this thread's blocks of units: gives its number and its vectors.

        Args:
            everyone: in a team, over the blocks of all.
        """
        code, plan = self.code, self.plan
        with code.loop(*(self.all_blocks if everyone else self.blocks)) as block:
            first = code.times(block, plan.vectors)
            by_line, numbers = max(1, 64 // code.bytes // plan.lanes), range(plan.vectors)
            yield block, [self._units(code.plus(first, v), v % by_line == 0) for v in numbers]

    @contextmanager
    def unit_tiles(
        self, count: Value, before: Callable[[Callable[[Value], Row]], None] | None = None
    ) -> Iterator[tuple[Value, list[Units], Callable[[Value], Row]]]:
        """Both loops: gives the block of units, its vectors, and the rows of a tile.

        Args:
            count: how many rows.
            before: what is done for the rows of a tile before their units.
        """
        if not self.plan.rows_first:
            if before is not None:
                with self.tiles(count) as row:
                    before(row)
            with self.unit_blocks() as (block, vectors), self.tiles(count) as row:
                yield block, vectors, row
            return
        with self.tiles(count) as row:
            for r in range(self.plan.rows):
                row(self.code.i64(r))  # LLVM sees that the blocks need it once
            if before is not None:
                before(row)
            with self.unit_blocks() as (block, vectors):
                yield block, vectors, row

    def _units(self, wanted: Value, opens_line: bool = True) -> Units:
        code, lanes = self.code, self.plan.lanes
        first = code.times(wanted, lanes)
        start = code.smaller(first, code.plus(self.arg["H"], -lanes))
        number = code.smaller(wanted, code.plus(self.vectors, -1))
        return Units(number, start, code.b.sub(first, start), opens_line)

    def load(self, name: str, units: Units, *offsets: Value) -> Value:
        """A vector of an argument's numbers at the sum of offsets, for these units."""
        return self.code.load(self.code.at(self.arg[name], *offsets, units.start))

    def store(self, value: Value, name: str, units: Units, *offsets: Value) -> None:
        """A vector to an argument's numbers at the sum of offsets, for these units."""
        self.code.store(value, self.code.at(self.arg[name], *offsets, units.start))

    def unit_parameters(self, units: Units) -> list[Value]:
        """The unit parameters of these units."""
        code, count = self.code, len(self.recurrence.units)
        return [self.load("units", units, code.times(self.arg["H"], u)) for u in range(count)]

    def past(self, steps: int) -> Value:
        """The offset of the states so many steps before those that the step begins with."""
        if steps == 0:
            return self.old
        return self.code.b.sub(self.old, self.code.times(self.arg["state_t"], steps))

    def find_held(self, t: Value) -> None:
        """Where the states are that step t reads."""
        code, arg = self.code, self.arg
        self.new, self.old = code.times(t, arg["state_t"]), code.i64(0)
        if not self.plan.dilated:
            self.old, self.new = self.new, code.b.add(self.new, arg["state_t"])
            return
        back = code.b.sub(t, arg["dilation"])
        inside = code.b.icmp_signed(">=", back, code.i64(0))
        places = {
            "state": code.times(back, arg["state_t"]),
            "before": code.times(t, arg["before_t"]),
        }
        self.held_from = [
            code.b.select(inside, *(code.at(arg[f"{name}_{k}"], at) for name, at in places.items()))
            for k in self.states
        ]

    def held_at(self, k: int, row: Row, *offsets: Value, back: int = 0) -> Value:
        """The address of a stored state as the step reads it, or so many steps before."""
        if self.plan.dilated:
            return self.code.at(self.held_from[k], row.place, *offsets)
        return self.code.at(self.arg[f"state_{k}"], self.past(back), row.place, *offsets)

    def held(self, k: int, row: Row, units: Units, back: int = 0) -> Value:
        """The same of these units, as a vector."""
        return self.code.load(self.held_at(k, row, units.start, back=back))

    def clock(self, t: Value, row: Row) -> list[Value]:
        """The step within the row's sequence, where the update reads it."""
        if not self.lowered.recurrence.timed:
            return []
        return [self.code.splat(self.code.b.load(self._clock_at(t, row)))]

    def _clock_at(self, t: Value, row: Row) -> Value:
        offset = self.code.b.add(self.code.times(t, self.arg["keep_t"]), row.number)
        return self.code.at(self.arg["clock"], offset)

    # Units that rest

    def _is_multiple(self, clock: Value, periods: Value) -> Value:
        """As the function ``multiple`` of equations."""
        b = self.code.b
        whole = math.emit(b, "floor", b.fdiv(clock, periods))
        return b.fcmp_ordered("<=", b.fsub(clock, b.fmul(periods, whole)), self.code.zero())

    def _word(self, clock: Value) -> Value:
        """Which groups of units take a step of the sequence, as bits."""
        code, b, lanes = self.code, self.code.b, self.plan.lanes
        periods, word, clock = self.recurrence.periods, code.i64(0), code.splat(clock)
        for first in range(0, len(periods), lanes):
            some = periods[first : first + lanes]
            vector = [float(period) for period in (*some, *some[:1] * (lanes - len(some)))]
            ticks = self._is_multiple(clock, ir.Constant(code.vector, vector))
            bits = b.zext(b.bitcast(ticks, ir.IntType(lanes)), I64)
            bits = b.and_(bits, code.i64((1 << len(some)) - 1))
            word = b.or_(word, b.shl(bits, code.i64(first % WORD)))
        return word

    def _word_at(self, kind: int, row: Row, at: Value) -> Value:
        """Where a word of a step is kept: of a row, or of the tile of which it is the first."""
        code = self.code
        place = code.plus(at, code.plus(code.times(self.arg["N"], kind), row.slot))
        return code.b.gep(code.b.bitcast(self.work("at_words"), I64.as_pointer()), [place])

    def word(self, kind: int, row: Row, at: Value) -> Value:
        """A word that :meth:`find_words` has found.

        Args:
            kind: one of BY_ROW, BY_ANY, BY_ALL.
            row: for the last two, the first of a tile.
            at: where the words of the step begin.
        """
        return self.code.b.load(self._word_at(kind, row, at))

    def find_words(self, count: Value, at: Value) -> None:
        """Which groups of units take this step, in the rows 0 .. count - 1 and their tiles."""
        code, b = self.code, self.code.b
        many = len(self.recurrence.periods) > WORD  # a bit is then not of one group alone
        latest, word = code.variable(code.scalar), code.variable(I64)
        some, every = code.variable(I64), code.variable(I64)
        b.store(ir.Constant(code.scalar, float("nan")), latest)
        with self.tiles(count) as row:
            b.store(code.i64(0), some)
            b.store(code.i64(-1), every)
            with code.loop(code.i64(0), code.i64(self.plan.rows)) as r:
                here = row(r)
                clock = b.load(self._clock_at(self.t, here))
                with b.if_then(b.fcmp_unordered("!=", clock, b.load(latest))):
                    b.store(clock, latest)
                    b.store(self._word(clock), word)
                now = b.load(word)
                b.store(now, self._word_at(BY_ROW, here, at))
                b.store(b.or_(b.load(some), now), some)
                b.store(b.and_(b.load(every), now), every)
            first = row(code.i64(0))
            b.store(b.load(some), self._word_at(BY_ANY, first, at))
            b.store(code.i64(0) if many else b.load(every), self._word_at(BY_ALL, first, at))

    def units_of(self, group: Value) -> tuple[Value, Value]:
        """The first unit of a group that rests, and that after its last."""
        code = self.code
        size = code.b.udiv(self.arg["H"], code.i64(len(self.recurrence.periods)))
        first = code.times(group, size)
        return first, code.plus(first, size)

    def of_block(self, block: Value) -> Value:
        """The bits of the groups that a block of units has a part of."""
        return self.code.b.load(self.code.b.gep(self.arg["ticks_blocks"], [block]))

    def has(self, word: Value, bits: Value, every: bool = False) -> Value:
        """Whether a word has any of some bits, or every one."""
        b = self.code.b
        common, zero = b.and_(word, bits), self.code.i64(0)
        return b.icmp_signed("==", common, bits) if every else b.icmp_signed("!=", common, zero)

    def taking(self, row: Row, parameters: Sequence[Value], known: Value | None) -> Value | None:
        """Which units take this step, as a mask; None where no unit ever rests.

        Args:
            row: the row.
            parameters: the unit parameters.
            known: whether all of them are known to; None for no.
        """
        if not self.rests:
            return None
        code, lanes = self.code, self.plan.lanes
        mask = code.variable(ir.VectorType(ir.IntType(1), lanes))
        code.b.store(ir.Constant(ir.VectorType(ir.IntType(1), lanes), [1] * lanes), mask)
        unknown = nullcontext() if known is None else code.b.if_then(code.b.not_(known))
        with unknown:
            periods = parameters[self.recurrence.units.index("period")]
            clock = code.splat(code.b.load(self._clock_at(self.t, row)))
            code.b.store(self._is_multiple(clock, periods), mask)
        return code.b.load(mask)

    def unreset(self, t: Value, row: Row, delay: int = 1) -> Value | None:
        """Whether what the row held so many steps before is there at step t, as a mask; None where
        nothing is ever reset."""
        if not self.plan.keep:
            return None
        offset = self.code.b.add(self.code.times(t, self.arg["keep_t"]), row.number)
        if delay > 1:
            plane = self.code.times(self.arg["keep_plane"], self.lowered.delays.index(delay))
            offset = self.code.b.add(offset, plane)
        flag = self.code.b.load(self.code.b.gep(self.arg["keep"], [offset]))
        return self.code.splat(self.code.b.icmp_signed("!=", flag, ir.Constant(I8, 0)))

    def select(self, mask: Value | None, yes: Value, no: Value | None = None) -> Value:
        """yes where the mask is True, or everywhere without one; else no, or zero."""
        if mask is None:
            return yes
        return self.code.b.select(mask, yes, self.code.zero() if no is None else no)

    # Tiles

    def sums(
        self,
        start: Callable[[int, int], Value],
        terms: Sequence[Term],
        block: Value,
        rows: int | None = None,
        slot: Value | None = None,
    ) -> list[list[Value]]:
        """Sums of products for a tile, by row and vector.

        Args:
            start: (row, vector) to what is added to.
            terms: what is added.
            block: number of the block of units.
            rows: how many; None for those of a tile.
            slot: of the first.
        """
        plan, rows = self.plan, rows or self.plan.rows
        if not plan.sparse:
            (sums,) = self.sums_at_once([start], [terms], block, rows, range(plan.vectors), slot)
            return sums
        # Each vector reads something else.
        by_vector = [
            self.sums_at_once([start], [terms], block, rows, range(v, v + 1))[0]
            for v in range(plan.vectors)
        ]
        return [[sums[r][0] for sums in by_vector] for r in range(rows)]

    def sums_at_once(
        self,
        starts: Sequence[Callable[[int, int], Value]],
        terms: Sequence[Sequence[Term]],
        block: Value,
        rows: int,
        some: range,
        slot: Value | None = None,
    ) -> list[list[list[Value]]]:
        """Several sums of some vectors of a tile, for which what they share is read once.

        Terms are shared that have the same numbers.

        Args:
            starts: of each sum, (row, vector) to what is added to.
            terms: of each sum, what is added.
            block: number of the block of units.
            rows: how many.
            some: the vectors.
            slot: of the first row; None where the next weights are not asked for.
        """
        code, plan, width = self.code, self.plan, len(some)
        tile = Tile(code, rows, width * len(starts), plan.chains)
        tile.begin(lambda r, v: starts[v // width](r, some[v % width]))
        groups: dict[int, list[tuple[int, Term]]] = {}
        for number, mine in enumerate(terms):
            for term in mine:
                groups.setdefault(id(term.numbers), []).append((number, term))
        stretch = functools.partial(self.stretch, tile, some=some, slot=slot)
        for group in groups.values():
            term = group[0][1]
            if term.slots is not None:
                self._add_slots(tile, term, code.plus(code.times(block, plan.vectors), some[0]))
                continue
            if term.pattern is None and term.word is None:
                stretch(group, code.i64(0), term.count)
                continue
            ranges = self.arg[f"ranges_{(*self.patterns, None).index(term.pattern)}"]

            def entry(index: Value, ranges: Value = ranges) -> Value:
                return code.b.load(code.b.gep(ranges, [index]))

            size = 2 if term.word is None else 3
            with code.loop(entry(block), entry(code.plus(block, 1)), size) as number:
                wanted = nullcontext()
                if term.word is not None:
                    bits = entry(code.plus(number, 2))
                    wanted = code.b.if_then(self.has(term.word, bits))
                with wanted:
                    stretch(group, entry(number), entry(code.plus(number, 1)))
        return self.by_sum(tile, width)

    def stretch(
        self, tile: Tile, group: Sequence[tuple[int, Term]], first: Value, stop: Value,
        some: range, slot: Value | None = None,
    ) -> None:  # fmt: skip
        """To sums of a tile, by number, dense terms that have the same numbers, of these first to
        stop, for some vectors of the block; and the next block's weights are asked for, if a slot
        tells which tile this is."""
        code, plan, width = self.code, self.plan, len(some)
        places = [number * width + v for number, _ in group for v in range(width)]
        ahead = self._next_weights(group[0][1], slot, len(places))

        def step(k: Value, chain: int) -> None:
            vectors = [vector for _, term in group for vector in self._weights(term, k, some)]
            numbers = [code.at(base, k) for base in group[0][1].numbers]
            if ahead is not None:
                code.prefetch(code.at(ahead, code.times(k, plan.lanes)), level=2)
            tile.add(vectors, numbers, chain, places)

        tile.stretch(first, stop, step)

    def _weights(self, term: Term, k: Value, some: range) -> list[Value]:
        """The weights that the number k of a dense term is multiplied with, by vector."""
        code, plan = self.code, self.plan
        at = code.times(k, plan.packed if term.halves else plan.units)

        def load(vector: int) -> Value:
            return code.load(code.at(term.weights, code.plus(at, vector * plan.lanes)))

        if not term.halves:
            return [load(v) for v in some]
        assert len(some) == plan.vectors
        return [half for pair in range(plan.vectors // 2) for half in code.halves(load(pair))]

    @staticmethod
    def by_sum(tile: Tile, width: int) -> list[list[list[Value]]]:
        """The sums of a tile that has some of so many vectors side by side: by number, row and
        vector."""
        totals = tile.totals()
        return [
            [by_vector[first : first + width] for by_vector in totals]
            for first in range(0, len(totals[0]), width)
        ]

    def _next_weights(self, term: Term, slot: Value | None, lines: int) -> Value | None:
        """Where the part of the next block's weights begins that a tile asks for.

        Each asks for a line for each of its numbers, so that as many tiles as there are vectors
        ask for all.
        """
        code, b = self.code, self.code.b
        if not self.plan.ahead or slot is None or term.next is None:
            return None
        part = b.urem(b.udiv(slot, code.i64(self.plan.rows)), code.i64(lines))
        lines_of_part = code.times(code.times(part, term.count), self.plan.lanes)
        return code.at(term.weights, term.next, lines_of_part)

    def recurrent_term(
        self,
        product: Product,
        wire: int,
        packed: Sequence[int],
        block: Value,
        numbers: Sequence[Value],
    ) -> Term:
        """The product with the matrix of a wire, or its transpose, for a block of units.

        Args:
            product: whose wire it is.
            wire: its number.
            packed: the numbers of the wires whose matrices stand side by side.
            block: number of the block of units.
            numbers: by row, the address of the numbers that are multiplied.
        """
        code, arg = self.code, self.arg
        if self.plan.sparse:
            lines = arg["H"] if self.plan.sparse == "turned" else self.vectors
            first = code.times(lines, wire)
            return Term(None, arg["recurrent"], numbers, arg["H"], first)
        place = code.plus(code.times(block, len(packed)), packed.index(wire))
        weights = self.work(
            "at_recurrent", code.times(code.times(place, arg["H"]), self.plan.packed)
        )
        size = code.times(code.times(arg["H"], self.plan.packed), len(packed))
        halves = self.plan.halves
        return Term(product.pattern, weights, numbers, arg["H"], next=size, halves=halves)

    def _add_slots(self, tile: Tile, term: Term, vector: Value) -> None:
        """To the sums of a tile of one vector of units the products with a sparse matrix."""
        code, slots = self.code, (self.arg["heads"], self.arg["columns"])
        assert term.slots is not None
        units = self._units(vector)
        if self.plan.sparse == "turned":
            line = code.plus(units.start, term.slots)
            rows = self.plan.rows
            add_turned(code, tile, slots, line, term.weights, term.numbers[0], rows)
            return
        number = code.plus(units.number, term.slots)
        if self.plan.sparse == "triples":
            vectors = code.times(self.vectors, len(self.recurrence.wires))
            add_triples(code, tile, slots, number, term.weights, term.numbers, vectors)
            return
        add = add_windows if self.plan.sparse == "windows" else add_slots
        add(code, tile, slots, number, term.weights, term.numbers)

    def finish_tile(
        self,
        row: Callable[[Value], Row],
        vectors: Sequence[Units],
        values: Sequence[Sequence[Sequence[Value]]],
        instructions: int,
        body: Callable[[Sequence[Part], list[list[Value]]], None],
    ) -> None:
        """Run the pointwise part for all rows and vectors of a tile, some abreast.

        Args:
            row: number within the tile to the row.
            vectors: the units.
            values: what the products gave: several numbers, each by row and vector.
            instructions: of the pointwise part.
            body: it, from some parts of the tile and those numbers, each by part.
        """
        code, plan = self.code, self.plan
        wide = min(plan.vectors, plan.abreast)
        high = next(n for n in range(max(1, plan.abreast // wide), 0, -1) if plan.rows % n == 0)
        some = [range(v, min(v + wide, plan.vectors)) for v in range(0, plan.vectors, wide)]

        def each(first: Value, given: Callable[[int, int, int], Value]) -> None:
            """Body for rows of a tile from the first on; ``given`` is by number, row and vector."""
            rows = [row(code.plus(first, r)) for r in range(high)]
            for few in some:
                places = [(r, v) for r in range(high) for v in few]
                totals = [[given(n, r, v) for r, v in places] for n in range(len(values))]
                body([(rows[r], vectors[v]) for r, v in places], totals)

        if plan.rows == high or plan.rows * plan.vectors * instructions <= UNROLLED:
            for first in range(0, plan.rows, high):
                each(code.i64(first), lambda n, r, v, first=first: values[n][first + r][v])
            return
        # In a loop over the rows, for which what the products gave goes through memory.
        size = plan.rows * plan.vectors * len(values)
        buffer = code.entry_builder.alloca(code.vector, max(1, size))

        def slot(number: int, r: Value) -> Value:
            return code.b.gep(
                buffer, [code.plus(code.times(r, plan.vectors * len(values)), number)]
            )

        for r in range(plan.rows):
            for n, value in enumerate(values):
                for v in range(plan.vectors):
                    code.b.store(value[r][v], slot(n * plan.vectors + v, code.i64(r)))
        with code.loop(code.i64(0), code.i64(plan.rows), high) as first:
            each(
                first,
                lambda n, r, v: code.b.load(slot(n * plan.vectors + v, code.plus(first, r))),
            )

    def values(self, program: Program, inputs: Sequence[Sequence[Value]]) -> list[list[Value]]:
        """All values of a program, by part: those of several parts are found abreast.

        Args:
            program: the program.
            inputs: by part, one value for each of its inputs.
        """
        count = len(inputs)
        joined = [together(values) for values in zip(*inputs, strict=True)]
        by_number = program.values(self.arithmetic, joined)
        return [[part_of(value, n) for value in by_number] for n in range(count)]

    def finish(self) -> str:
        """Close the function and give the module's text."""
        self.code.b.ret_void()
        return str(self.module)
