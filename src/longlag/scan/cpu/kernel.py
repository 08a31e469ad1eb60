"""What the kernels share: arguments by name, loops over tiles and units, products, programs.

A kernel runs some steps of all sequences of its thread. Loops go over time, then blocks of units,
then tiles of rows: the weights of a block are read once a step for all rows of a thread, and a
thread never waits for another. A tile is a product in registers and then, before anything is stored
to be read again, the pointwise program of its units.

Shapes in memory, in numbers: states (T + 1, rows, H); drives (packed rows, G H) in the order of the
gates; drives that are kept for the backward pass, and errors of the drives, (packed rows, drives,
H) in the order of ``drive_symbols``. Packed rows are those that count: step by step, and within a
step in the order of falling length.

No load or store is masked. Past the last row or unit a tile does the last ones again: it reads
nothing that it has written, so doing a thing twice is doing it once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir

from longlag.recurrence import Pattern, Program, Recurrence
from longlag.scan.cpu import math
from longlag.scan.cpu.builder import I8, I64, Code, Value
from longlag.scan.cpu.plan import Plan
from longlag.scan.step import Product, products

__all__ = ["Arguments", "Kernel", "Row", "Units", "patterns", "run_program"]

UNROLLED = 330
"""Instructions up to which the pointwise programs of a tile stand one after the other."""

_COSTS = {"tanh": 19, "sigmoid": 20, "exp": 19, "log": 25, "sin": 25, "cos": 25, "constant": 0}


def patterns(recurrence: Recurrence) -> tuple[Pattern, ...]:
    """The block patterns that occur in the recurrent matrix, each once."""
    found = dict.fromkeys(product.pattern for product in products(recurrence))
    return tuple(pattern for pattern in found if pattern is not None)


def run_program(code: Code, program: Program, inputs: Sequence[Value]) -> list[Value]:
    """The operations of a scalar program, on vectors."""
    values = list(inputs)
    for operation in program.operations:
        if operation.name == "constant":
            value = math.constant(code.vector, operation.value)
        else:
            arguments = (values[index] for index in operation.arguments)
            value = math.emit(code.b, operation.name, *arguments)
        values.append(value)
    return [values[index] for index in program.outputs]


def cost_of(program: Program) -> int:
    """About how many instructions a program is."""
    return 8 + sum(_COSTS.get(operation.name, 1) for operation in program.operations)


class Arguments(NamedTuple):
    """Names of what a kernel is given: addresses, each with its stride by replica; numbers."""

    pointers: tuple[str, ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Units:
    """One vector of units.

    Attributes:
        start: its first unit.
        passed: how many of its units a vector before it has done already.
    """

    start: Value
    passed: Value


class Row(NamedTuple):
    """One sequence in a step.

    Attributes:
        packed: its number among the rows that count.
        place: where its states and errors lie, times H.
        number: where they lie.
        again: whether it was done already; None where it cannot be.
    """

    packed: Value
    place: Value
    number: Value
    again: Value | None


_ELEMENTS = {"order": I64, "counts": I64, "offsets": I64, "keep": I8, "ranges": I64}


class Kernel:
    """A function under construction: NAME(parameters, part, parts), for one of several threads.

    ``parameters`` is an array of 64-bit numbers: the replicas, then address and stride in bytes of
    every pointer, then the numbers. A single network's tiles are shared among the parts, replicas
    are taken whole.

    Args:
        recurrence: the traced cell.
        plan: what the kernel is compiled for.
        name: of the function.
        arguments: what it is given.
        shared: pointers of which each thread has its own, one behind the other: by name, the name
            of the number that is the stride.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        plan: Plan,
        name: str,
        arguments: Arguments,
        by_thread: dict[str, str] | None = None,
    ) -> None:
        self.module, self.recurrence, self.plan = ir.Module(name), recurrence, plan
        scalar = ir.DoubleType() if plan.double else ir.FloatType()
        kinds: list[ir.Type] = [
            _ELEMENTS.get(name.split("_")[0], scalar).as_pointer() for name in arguments.pointers
        ]
        names = (*arguments.pointers, *arguments.numbers, "first_tile", "tile_step")
        kinds += [I64] * (len(arguments.numbers) + 2)
        inner = ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), name + "_tiles")
        inner.linkage = "internal"
        for argument in inner.args[: len(arguments.pointers)]:
            argument.add_attribute("noalias")
        self._emit_entry(name, inner, arguments, by_thread or {})
        self.code = Code(inner, plan.double, plan.lanes)
        self.arg: dict[str, Value] = dict(zip(names, inner.args, strict=True))
        self.products = products(recurrence)
        self.patterns = patterns(recurrence)
        self.states = range(len(recurrence.states))
        self.drives = len(recurrence.drive_symbols)

    def _emit_entry(
        self, name: str, inner: ir.Function, arguments: Arguments, by_thread: dict[str, str]
    ) -> None:
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64])
        code = Code(ir.Function(self.module, kind, name), self.plan.double, self.plan.lanes)
        b = code.b
        parameters, part, parts = code.function.args
        place = iter(range(1 + 2 * len(arguments.pointers) + len(arguments.numbers)))

        def read() -> Value:
            return b.load(b.gep(parameters, [code.i64(next(place))]))

        replicas = read()
        bases = [(read(), read()) for _ in arguments.pointers]
        numbers = {number: read() for number in arguments.numbers}
        single = b.icmp_signed("==", replicas, code.i64(1))
        zero, one = code.i64(0), code.i64(1)
        with code.loop(
            b.select(single, zero, part), replicas, b.select(single, one, parts)
        ) as replica:
            addresses = []
            for name, (base, stride), argument in zip(
                arguments.pointers, bases, inner.args, strict=False
            ):
                address = code.plus(base, b.mul(replica, stride))
                if name in by_thread:
                    address = code.plus(address, b.mul(part, numbers[by_thread[name]]))
                addresses.append(b.inttoptr(address, argument.type))
            tiles = b.select(single, part, zero), b.select(single, parts, one)
            b.call(inner, [*addresses, *numbers.values(), *tiles])
        b.ret_void()

    # Rows

    def count(self, t: Value) -> Value:
        """How many rows count in step t."""
        if not self.plan.ordered:
            return self.arg["N"]
        return self.code.b.load(self.code.b.gep(self.arg["counts"], [t]))

    def packed_row(self, t: Value) -> Value:
        """The packed row at which step t begins."""
        if not self.plan.ordered:
            return self.code.times(t, self.arg["N"])
        return self.code.b.load(self.code.b.gep(self.arg["offsets"], [t]))

    def row(self, number: Value, again: Value | None = None) -> Row:
        """A row by its number within the step."""
        place = number
        if self.plan.ordered:
            place = self.code.b.load(self.code.b.gep(self.arg["order"], [number]))
        return Row(number, self.code.times(place, self.arg["H"]), place, again)

    @contextmanager
    def tiles(self, count: Value, first: Value | None = None) -> Iterator[Callable[[Value], Row]]:
        """The loop over this thread's tiles of rows first .. count - 1: gives its rows.

        A row is in the same tile, so on the same thread, in every step.
        """
        code, plan, b = self.code, self.plan, self.code.b
        size, step = code.i64(plan.rows), self.arg["tile_step"]
        last = code.plus(count, -1)
        stop = b.sdiv(code.plus(count, plan.rows - 1), size)
        begin = self.arg["first_tile"]
        if first is not None:
            stop = b.select(b.icmp_signed("<", first, count), stop, code.i64(0))
            short = b.sub(b.sdiv(first, size), begin)
            turns = b.sdiv(code.plus(short, code.plus(step, -1)), step)
            some = b.icmp_signed(">", short, code.i64(0))
            begin = code.plus(begin, b.select(some, code.times(turns, step), code.i64(0)))
        with code.loop(begin, stop, step) as tile:

            def row(offset: Value) -> Row:
                wanted = code.plus(code.times(tile, plan.rows), offset)
                if plan.rows == 1:
                    return self.row(wanted)
                number = code.smaller(wanted, last)
                if first is not None:
                    number = b.select(b.icmp_signed("<", number, first), first, number)
                return self.row(number, b.icmp_signed("!=", number, wanted))

            yield row

    # Units

    @contextmanager
    def unit_blocks(self) -> Iterator[tuple[Value, list[Units]]]:
        """The loop over blocks of units: gives its number and its vectors."""
        code, plan = self.code, self.plan
        size = code.i64(plan.units)
        count = code.b.sdiv(code.plus(self.arg["H"], plan.units - 1), size)
        with code.loop(code.i64(0), count) as block:
            first = code.times(block, plan.units)
            vectors = [self._units(code.plus(first, v * plan.lanes)) for v in range(plan.vectors)]
            yield block, vectors

    def _units(self, wanted: Value) -> Units:
        start = self.code.smaller(wanted, self.code.plus(self.arg["H"], -self.plan.lanes))
        return Units(start, self.code.b.sub(wanted, start))

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

    def kept(self, t: Value, row: Row) -> Value | None:
        """Whether the row keeps its state before step t, as a mask; None where all do."""
        if not self.plan.keep:
            return None
        offset = self.code.b.add(self.code.times(t, self.arg["keep_t"]), row.number)
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
        terms: Sequence[tuple[Product, Value, Sequence[Value]]],
        block: Value,
    ) -> list[list[Value]]:
        """Sums of products for a tile, by row and vector.

        Args:
            start: (row, vector) to what is added to.
            terms: for each block of rows of W: its product; the address of its weights for this
                block of units; and for each row the address of the numbers that are multiplied.
            block: number of the block of units.
        """
        code, plan = self.code, self.plan
        places = [
            [[code.variable(code.vector) for _ in range(plan.chains)] for _ in range(plan.vectors)]
            for _ in range(plan.rows)
        ]
        for r, by_vector in enumerate(places):
            for v, chains in enumerate(by_vector):
                for c, chain in enumerate(chains):
                    code.b.store(start(r, v) if c == 0 else code.zero(), chain)
        for product, weights, numbers in terms:
            self._add(places, product, weights, numbers, block)
        return [[self._total(chains) for chains in by_vector] for by_vector in places]

    def _add(
        self,
        places: list[list[list[Value]]],
        product: Product,
        weights: Value,
        numbers: Sequence[Value],
        block: Value,
    ) -> None:
        code, plan = self.code, self.plan

        def step(k: Value, chain: int) -> None:
            at = code.times(k, plan.units)
            vectors = [
                code.load(code.at(weights, code.plus(at, v * plan.lanes)))
                for v in range(plan.vectors)
            ]
            for by_vector, base in zip(places, numbers, strict=True):
                number = code.splat(code.b.load(code.b.gep(base, [k])))
                for chains, vector in zip(by_vector, vectors, strict=True):
                    place = chains[chain]
                    code.b.store(code.fma(vector, number, code.b.load(place)), place)

        def stretch(first: Value, stop: Value) -> None:
            unroll = max(2, plan.chains)
            count = code.b.sub(stop, first)
            whole = code.b.sub(stop, code.b.and_(count, code.i64(unroll - 1)))
            with code.loop(first, whole, unroll) as k:
                for offset in range(unroll):
                    step(code.plus(k, offset), offset % plan.chains)
            with code.loop(whole, stop) as k:
                step(k, 0)

        pattern = product.pattern
        if pattern is None:
            stretch(code.i64(0), self.arg["H"])
            return
        ranges = self.arg[f"ranges_{self.patterns.index(pattern)}"]

        def entry(index: Value) -> Value:
            return code.b.load(code.b.gep(ranges, [index]))

        with code.loop(entry(block), entry(code.plus(block, 1)), 2) as number:
            stretch(entry(number), entry(code.plus(number, 1)))

    def _total(self, chains: list[Value]) -> Value:
        parts: list[Value] = [self.code.b.load(chain) for chain in chains]
        while len(parts) > 1:
            parts = [self.code.b.fadd(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
        return parts[0]

    def finish_tile(
        self,
        row: Callable[[Value], Row],
        vectors: Sequence[Units],
        values: Sequence[Sequence[Sequence[Value]]],
        instructions: int,
        body: Callable[[Row, Units, list[Value]], None],
    ) -> None:
        """Run the pointwise part for each row and vector of a tile.

        Args:
            row: number within the tile to the row.
            vectors: the units.
            values: what the products gave: several numbers, each by row and vector.
            instructions: of the pointwise part.
            body: it, from row, units and those numbers.
        """
        code, plan = self.code, self.plan
        if plan.rows == 1 or plan.rows * plan.vectors * instructions <= UNROLLED:
            for r in range(plan.rows):
                here = row(code.i64(r))
                for v, units in enumerate(vectors):
                    body(here, units, [value[r][v] for value in values])
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
        with code.loop(code.i64(0), code.i64(plan.rows)) as r:
            here = row(r)
            for v, units in enumerate(vectors):
                found = [code.b.load(slot(n * plan.vectors + v, r)) for n in range(len(values))]
                body(here, units, found)

    def finish(self) -> str:
        """Close the function and give the module's text."""
        self.code.b.ret_void()
        return str(self.module)
