"""What a compiled step is made of: functions that are called one after the other.

A piece is compiled as a function NAME(parameters, part, parts), as the kernels of a layer are.
``parameters`` is an array of 64-bit whole numbers, addresses among them. What changes from update
to update a piece finds by the number of the update, which it reads at the address ``clock``.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir
from torch import Tensor

from longlag.scan.cpu.builder import I64, Code, Value, of_each
from longlag.scan.cpu.math_values import splat
from longlag.scan.cpu.passes import Noted
from longlag.scan.cpu.target import ARGUMENTS, addresses_of, host

DOUBLE = ir.DoubleType()


class Compiled(NamedTuple):
    """A compiled piece.

    Attributes:
        address: of the function.
        names: of its parameters, in order.
        called: of the functions among them that it calls, with how many arguments.
    """

    address: int
    names: tuple[str, ...]
    called: tuple[tuple[str, int], ...] = ()

    def noted(self, **values: int | Tensor) -> Noted:
        """The piece with its parameters: numbers, or tensors, which the caller keeps.

        Raises:
            TypeError: a function has more or fewer arguments than it is called with.
        """
        for name, count in self.called:
            address = values[name]
            known = ARGUMENTS[address] if isinstance(address, int) else None
            if known != count:
                raise TypeError(f"{name}: is called with {count} arguments, and has {known}")
        numbers = [values[name] for name in self.names]
        words = [n.data_ptr() if isinstance(n, Tensor) else n for n in numbers]
        tensors = {place: n for place, n in enumerate(numbers) if isinstance(n, Tensor)}
        parameters = bytes((ctypes.c_int64 * len(words))(*words))
        return Noted(
            self.address, parameters, places=tuple(tensors), memory=tuple(tensors.values())
        )  # fmt: skip


class Piece(Code):
    """A piece under construction.

    Args:
        name: of the function.
        names: of its parameters, as words.
        double: float64, else float32.
        lanes: numbers in a vector.
        networks: whose numbers lie side by side, and are one (:class:`Code`).
    """

    def __init__(self, name: str, names: str, double: bool, lanes: int, networks: int = 1) -> None:
        self.name, self.names = name, tuple(names.split())
        self.called: dict[tuple[str, int], None] = {}
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64])
        function = ir.Function(ir.Module(name), kind, name)
        super().__init__(function, double, lanes, networks)
        self.wide, self.whole = of_each(DOUBLE, networks), of_each(I64, networks)
        self.wide_vector = ir.VectorType(DOUBLE, lanes * networks)
        self.arg: dict[str, Value] = {
            argument: self.b.load(self.b.gep(function.args[0], [self.i64(number)]))
            for number, argument in enumerate(self.names)
        }

    def numbers(self, name: str, kind: ir.Type | None = None) -> Value:
        """A parameter as the address of numbers, by default of the floating type."""
        return self.b.inttoptr(self.arg[name], (kind or self.scalar).as_pointer())

    def table(self, name: str, kind: ir.Type | None = None) -> Value:
        """A parameter as the address of numbers that all networks share; see :meth:`look_up`."""
        return self.b.inttoptr(self.arg[name], (kind or self.number).as_pointer())

    def order(self) -> Value:
        """The address of the parameter ``order``: of each network numbers of sequences."""
        return self.numbers("order", self.whole)

    def same(self, value: Value) -> Value:
        """A number that is the same for all networks."""
        return splat(self.b, value, of_each(value.type, self.networks))

    def each(self, value: Value) -> list[Value]:
        """The numbers of all networks, one by one."""
        if self.networks == 1:
            return [value]
        return [self.b.extract_element(value, self.i64(n)) for n in range(self.networks)]

    def look_up(self, table: Value, index: Value) -> Value:
        """Numbers of a table that all networks share, each at an index of its own."""
        if self.networks == 1:
            return self.read(table, index)
        found = ir.Constant(of_each(table.type.pointee, self.networks), ir.Undefined)
        for n, place in enumerate(self.each(index)):
            found = self.b.insert_element(found, self.read(table, place), self.i64(n))
        return found

    def pick(self, row: Value, index: Value) -> Value:
        """Numbers of a row of which each network has its own, each at an index of its own."""
        if self.networks == 1:
            return self.read(row, index)
        numbers = self.b.bitcast(row, self.number.as_pointer())
        lanes = ir.Constant(self.whole, list(range(self.networks)))
        index = self.b.add(self.b.mul(index, self.same(self.i64(self.networks))), lanes)
        return self.look_up(numbers, index)

    def read(self, address: Value, *offsets: Value) -> Value:
        """One number at the sum of offsets."""
        return self.b.load(self.at(address, *offsets) if offsets else address)

    def clock(self) -> Value:
        """The number of the update."""
        return self.read(self.numbers("clock", I64))

    def call(self, function: str, *arguments: Value) -> None:
        """Call a function of whole numbers, whose address is a parameter."""
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(arguments))
        self.called[function, len(arguments)] = None
        words = [
            self.b.ptrtoint(value, I64) if isinstance(value.type, ir.PointerType) else value
            for value in arguments
        ]
        self.b.call(self.b.inttoptr(self.arg[function], kind.as_pointer()), words)

    def total_over(self, vector: Value) -> Value:
        """The sum over a vector."""
        return self._folded(vector, self.b.fadd)

    def all_of(self, words: Value) -> Value:
        """The bits that the words of all networks have."""
        return functools.reduce(self.b.and_, self.each(words))

    def largest(self, vector: Value) -> Value:
        """The largest number of a vector."""

        def larger(x: Value, y: Value) -> Value:
            return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

        return self._folded(vector, larger)

    def _folded(self, vector: Value, combine: Callable[[Value, Value], Value]) -> Value:
        if self.networks > 1:
            return vector
        parts = [self.b.extract_element(vector, self.i64(n)) for n in range(vector.type.count)]
        while len(parts) > 1:
            parts = [combine(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
        return parts[0]

    def widened(self, value: Value) -> Value:
        """A number, or a vector, in double precision."""
        kind = value.type
        if not isinstance(kind, ir.VectorType):
            return value if kind == DOUBLE else self.b.fpext(value, DOUBLE)
        wide = ir.VectorType(DOUBLE, kind.count)
        return value if kind == wide else self.b.fpext(value, wide)

    def narrowed(self, value: Value) -> Value:
        """A double in the floating type."""
        return value if self.number == DOUBLE else self.b.fptrunc(value, self.scalar)

    def finish(self) -> Compiled:
        """Close the function and compile it."""
        self.b.ret_void()
        text = str(self.function.module)
        address = addresses_of(text, (self.name,))[self.name]
        return Compiled(address, self.names, tuple(self.called))


def full_lanes(double: bool, networks: int = 1) -> int:
    """Numbers in a vector of this processor; one, where several networks fill it."""
    return host().lanes(8 if double else 4) if networks == 1 else 1
