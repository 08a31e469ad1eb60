"""A thin layer over llvmlite's IR builder: loops, vectors, addresses."""

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from longlag.scan.cpu.math_values import Value, constant, splat

__all__ = ["I1", "I8", "I64", "Code", "Value"]

I1, I8, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(64)


class Code:
    """Code for one floating type and vector width, in one function.

    Args:
        function: the function that is written.
        double: float64, else float32.
        lanes: numbers in a vector.
    """

    def __init__(self, function: ir.Function, double: bool, lanes: int) -> None:
        self.function = function
        self.scalar = ir.DoubleType() if double else ir.FloatType()
        self.bytes = 8 if double else 4
        self.lanes = lanes
        self.vector = ir.VectorType(self.scalar, lanes)
        self.mask_type = ir.VectorType(I1, lanes)
        self.pointer = self.scalar.as_pointer()
        self.entry = function.append_basic_block("entry")
        body = function.append_basic_block("body")
        self.entry_builder = ir.IRBuilder(self.entry)
        self.entry_builder.branch(body)
        self.entry_builder.position_before(self.entry.terminator)
        self.b = ir.IRBuilder(body)

    def i64(self, value: int) -> ir.Constant:
        """A whole number."""
        return ir.Constant(I64, value)

    def variable(self, kind: ir.Type) -> Value:
        """A local variable, which LLVM turns into a register."""
        return self.entry_builder.alloca(kind)

    @contextmanager
    def loop(self, start: Value, stop: Value, step: int = 1) -> Iterator[Value]:
        """for i in range(start, stop, step); the step may be negative."""
        b = self.b
        head = b.append_basic_block("head")
        body = b.append_basic_block("loop")
        done = b.append_basic_block("done")
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(start, before)
        more = b.icmp_signed("<" if step > 0 else ">", index, stop)
        b.cbranch(more, body, done)
        b.position_at_end(body)
        yield index
        index.add_incoming(b.add(index, self.i64(step)), b.block)
        b.branch(head)
        b.position_at_end(done)

    def at(self, base: Value, *offsets: Value) -> Value:
        """The address base + sum of offsets, in numbers."""
        total = offsets[0]
        for offset in offsets[1:]:
            total = self.b.add(total, offset)
        return self.b.gep(base, [total])

    def times(self, value: Value, factor: Value | int) -> Value:
        """value * factor, whole numbers."""
        return self.b.mul(value, self.i64(factor) if isinstance(factor, int) else factor)

    def plus(self, value: Value, other: Value | int) -> Value:
        """value + other, whole numbers."""
        return self.b.add(value, self.i64(other) if isinstance(other, int) else other)

    def splat(self, scalar: Value) -> Value:
        """A vector of one number."""
        return splat(self.b, scalar, ir.VectorType(scalar.type, self.lanes))

    def zero(self) -> Value:
        """A vector of zeros."""
        return constant(self.vector, 0.0)

    def lane_mask(self, first: Value, stop: Value) -> Value:
        """Which lanes of the vector that begins at number ``first`` lie before ``stop``."""
        iota = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
        left = self.b.sub(stop, first)
        return self.b.icmp_signed("<", iota, self.splat(left))

    def load(self, address: Value, mask: Value | None = None) -> Value:
        """A vector from memory; zero where the mask is False."""
        pointer = self.b.bitcast(address, self.vector.as_pointer())
        if mask is None:
            return self.b.load(pointer, align=self.bytes)
        function = self._intrinsic(
            f"llvm.masked.load.{self._name}.p0",
            ir.FunctionType(
                self.vector,
                [self.vector.as_pointer(), ir.IntType(32), self.mask_type, self.vector],
            ),
        )
        align = ir.Constant(ir.IntType(32), self.bytes)
        return self.b.call(function, [pointer, align, mask, self.zero()])

    def store(self, value: Value, address: Value, mask: Value | None = None) -> None:
        """A vector to memory, where the mask is True."""
        pointer = self.b.bitcast(address, self.vector.as_pointer())
        if mask is None:
            self.b.store(value, pointer, align=self.bytes)
            return
        function = self._intrinsic(
            f"llvm.masked.store.{self._name}.p0",
            ir.FunctionType(
                ir.VoidType(),
                [self.vector, self.vector.as_pointer(), ir.IntType(32), self.mask_type],
            ),
        )
        align = ir.Constant(ir.IntType(32), self.bytes)
        self.b.call(function, [value, pointer, align, mask])

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x * y + z, rounded once."""
        function = self._intrinsic(
            f"llvm.fma.{self._name}", ir.FunctionType(self.vector, [self.vector] * 3)
        )
        return self.b.call(function, [x, y, z])

    @property
    def _name(self) -> str:
        return f"v{self.lanes}f{8 * self.bytes}"

    def _intrinsic(self, name: str, kind: ir.FunctionType) -> ir.Function:
        module = self.function.module
        found = module.globals.get(name)
        return found if found is not None else ir.Function(module, kind, name)
