"""What the kernels share: arguments by name, loops over tiles and units, products, programs.

Shapes in memory, in numbers: states (T + 1, rows, H); drives (T, rows, G H) in the order of the
gates; errors of the drives (T, rows, drives, H) in the order of ``drive_symbols``. Loops go over
time, then blocks of units, then tiles of rows: the weights of a block are read once a step for all
rows of a thread, and a thread never waits for another.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from llvmlite import ir

from longlag.recurrence import Program, Recurrence
from longlag.scan.cpu import math
from longlag.scan.cpu.builder import I8, I64, Code, Value
from longlag.scan.cpu.plan import Plan
from longlag.scan.step import products

__all__ = ["Kernel", "Units", "run_program"]


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


@dataclass(frozen=True)
class Units:
    """One vector of units: the number of its first, and its mask where it may pass the last."""

    start: Value
    mask: Value | None


class Row(NamedTuple):
    """One sequence: its number, and number times H."""

    number: Value
    offset: Value


class Kernel:
    """A function under construction.

    Args:
        recurrence: the traced cell.
        plan: what the kernel is compiled for.
        name: of the function.
        pointers: names of its pointers; all to numbers, but ``lengths`` (64-bit integers) and
            ``keep`` (bytes).
        numbers: names of its 64-bit integers.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        plan: Plan,
        name: str,
        pointers: Sequence[str],
        numbers: Sequence[str],
    ) -> None:
        module = ir.Module(name)
        scalar = ir.DoubleType() if plan.double else ir.FloatType()
        elements = {"lengths": I64, "keep": I8}
        kinds: list[ir.Type] = [elements.get(p, scalar).as_pointer() for p in pointers]
        kinds += [I64] * len(numbers)
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        for argument in function.args[: len(pointers)]:
            argument.add_attribute("noalias")
        self.module, self.recurrence, self.plan = module, recurrence, plan
        self.code = Code(function, plan.double, plan.lanes)
        self.arg: dict[str, Value] = dict(zip((*pointers, *numbers), function.args, strict=True))
        self.products = products(recurrence)
        self.states = range(len(recurrence.states))

    def row(self, number: Value) -> Row:
        """A row by its number."""
        return Row(number, self.code.times(number, self.arg["H"]))

    @contextmanager
    def tiles(self) -> Iterator[list[Row]]:
        """The loop over tiles of this call; a row past the last stands for the last again."""
        code, arg = self.code, self.arg
        with code.loop(arg["first_tile"], arg["stop_tile"]) as tile:
            last = code.plus(arg["N"], -1)
            first = code.times(tile, self.plan.rows)
            rows = []
            for offset in range(self.plan.rows):
                number = code.plus(first, offset)
                within = code.b.icmp_signed("<", number, last)
                rows.append(self.row(code.b.select(within, number, last)))
            yield rows

    @contextmanager
    def each_row(self) -> Iterator[Row]:
        """The loop over the rows of this call's tiles, each once."""
        code, arg = self.code, self.arg
        first = code.times(arg["first_tile"], self.plan.rows)
        stop = code.times(arg["stop_tile"], self.plan.rows)
        stop = code.b.select(code.b.icmp_signed("<", stop, arg["N"]), stop, arg["N"])
        with code.loop(first, stop) as number:
            yield self.row(number)

    @contextmanager
    def unit_blocks(self) -> Iterator[tuple[Value, list[Units]]]:
        """The loop over blocks of units: gives its number and its vectors."""
        code, plan = self.code, self.plan
        with code.loop(code.i64(0), self.block_count()) as block:
            first = code.times(block, plan.units)
            vectors = []
            for v in range(plan.vectors):
                start = code.plus(first, v * plan.lanes)
                ragged = plan.ragged_units
                vectors.append(Units(start, self._mask(start) if ragged else None))
            yield block, vectors

    @contextmanager
    def unit_vectors(self) -> Iterator[Units]:
        """The loop over single vectors of units."""
        code, plan = self.code, self.plan
        with code.loop(code.i64(0), self.arg["H"], plan.lanes) as start:
            yield Units(start, self._mask(start) if plan.ragged_lanes else None)

    def _mask(self, start: Value) -> Value:
        return self.code.lane_mask(start, self.arg["H"])

    def block_count(self) -> Value:
        """How many blocks of units there are."""
        code, units = self.code, self.plan.units
        return code.b.sdiv(code.plus(self.arg["H"], units - 1), code.i64(units))

    def load(self, name: str, units: Units, *offsets: Value) -> Value:
        """A vector of an argument's numbers at the sum of offsets, for these units."""
        return self.code.load(self.code.at(self.arg[name], *offsets, units.start), units.mask)

    def store(self, value: Value, name: str, units: Units, *offsets: Value) -> None:
        """A vector to an argument's numbers at the sum of offsets, for these units."""
        self.code.store(value, self.code.at(self.arg[name], *offsets, units.start), units.mask)

    def unit_parameters(self, units: Units) -> list[Value]:
        """The unit parameters of these units."""
        code, count = self.code, len(self.recurrence.units)
        return [self.load("units", units, code.times(self.arg["H"], u)) for u in range(count)]

    def active(self, t: Value, row: Row) -> Value | None:
        """Whether step t of the row counts, as a mask; None where all do."""
        if not self.plan.lengths:
            return None
        length = self.code.b.load(self.code.b.gep(self.arg["lengths"], [row.number]))
        return self.code.splat(self.code.b.icmp_signed("<", t, length))

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

    def product(
        self,
        accumulators: int,
        count: Value,
        weights: Callable[[Value], list[Value]],
        read: Callable[[Value, int], Value],
    ) -> list[list[Value]]:
        """Sum over k of weights(k)[j] * read(k, row), for every j and row of a tile.

        Args:
            accumulators: how many j there are.
            count: how many k there are.
            weights: k to one vector for each j.
            read: (k, row of the tile) to a number.

        Returns:
            By j, then row.
        """
        code, plan = self.code, self.plan
        sums = [
            [[code.variable(code.vector) for _ in range(plan.chains)] for _ in range(plan.rows)]
            for _ in range(accumulators)
        ]
        for by_row in sums:
            for chains in by_row:
                for chain in chains:
                    code.b.store(code.zero(), chain)

        def step(k: Value, chain: int) -> None:
            vectors = weights(k)
            for row in range(plan.rows):
                number = code.splat(read(k, row))
                for j, vector in enumerate(vectors):
                    place = sums[j][row][chain]
                    code.b.store(code.fma(vector, number, code.b.load(place)), place)

        unroll = max(2, plan.chains)
        whole = code.b.sub(count, code.b.srem(count, code.i64(unroll)))
        with code.loop(code.i64(0), whole, unroll) as k:
            for offset in range(unroll):
                step(code.plus(k, offset), offset % plan.chains)
        with code.loop(whole, count) as k:
            step(k, 0)
        return [[self._total(chains) for chains in by_row] for by_row in sums]

    def _total(self, chains: list[Value]) -> Value:
        parts: list[Value] = [self.code.b.load(chain) for chain in chains]
        while len(parts) > 1:
            parts = [self.code.b.fadd(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
        return parts[0]

    def finish(self) -> str:
        """Close the function and give the module's text."""
        self.code.b.ret_void()
        return str(self.module)
