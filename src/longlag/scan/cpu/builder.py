"""A thin layer over llvmlite's IR builder: loops, vectors, addresses, the mode of arithmetic."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from longlag.scan.cpu.math_values import Value, constant, splat

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)

PERMUTES = {
    (4, 8): "avx2.permps", (4, 16): "avx512.permvar.sf.512", (8, 8): "avx512.permvar.df.512",
}  # fmt: skip
"""By bytes of a number and numbers of a vector, LLVM's name of the one instruction that puts them
in any order. No other processor has vectors of these sizes."""

PERMUTES_OF_TWO = {(4, 16): "avx512.vpermi2var.ps.512", (8, 8): "avx512.vpermi2var.pd.512"}
"""The same, for an instruction that takes the numbers from two vectors."""


def of_each(kind: ir.Type, networks: int) -> ir.Type:
    """The type of a number of each of some networks."""
    return kind if networks == 1 else ir.VectorType(kind, networks)


def _words(kind: ir.Type) -> ir.Type:
    """The type of whole numbers with the bits of float32, or of a vector of such."""
    return ir.VectorType(I32, kind.count) if isinstance(kind, ir.VectorType) else I32


def _word(kind: ir.Type, value: int) -> ir.Constant:
    """A whole number, or a vector of the same one."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


class Code:
    """Code for one floating type and vector width, in one function.

    Args:
        function: the function that is written.
        double: float64, else float32.
        lanes: numbers in a vector.
        networks: of how many networks the numbers lie side by side. What is one number for the
            function is then one of each network, and so is a vector, of one lane.
    """

    def __init__(self, function: ir.Function, double: bool, lanes: int, networks: int = 1) -> None:
        assert networks == 1 or lanes == 1
        self.function = function
        self.number = ir.DoubleType() if double else ir.FloatType()
        self.scalar = of_each(self.number, networks)
        self.bytes = 8 if double else 4
        self.lanes, self.networks = lanes, networks
        self.vector = self.vector_of(lanes)
        self.pointer = self.scalar.as_pointer()
        self.entry = function.append_basic_block("entry")
        body = function.append_basic_block("body")
        self.entry_builder = ir.IRBuilder(self.entry)
        self.entry_builder.branch(body)
        self.entry_builder.position_before(self.entry.terminator)
        self.b = ir.IRBuilder(body)

    def vector_of(self, count: int) -> ir.Type:
        """The type of a vector of so many numbers."""
        return ir.VectorType(self.scalar, count) if self.networks == 1 else self.scalar

    def i64(self, value: int) -> ir.Constant:
        """A whole number."""
        return ir.Constant(I64, value)

    def variable(self, kind: ir.Type) -> Value:
        """A local variable, which LLVM turns into a register."""
        return self.entry_builder.alloca(kind)

    @contextmanager
    def loop(self, start: Value, stop: Value, step: Value | int = 1) -> Iterator[Value]:
        """for i in range(start, stop, step); a step that is a Python number may be negative."""
        b = self.b
        head = b.append_basic_block("head")
        body = b.append_basic_block("loop")
        done = b.append_basic_block("done")
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(start, before)
        backwards = isinstance(step, int) and step < 0
        more = b.icmp_signed(">" if backwards else "<", index, stop)
        b.cbranch(more, body, done)
        b.position_at_end(body)
        yield index
        index.add_incoming(self.plus(index, step), b.block)
        b.branch(head)
        b.position_at_end(done)

    @contextmanager
    def bits(self, word: Value) -> Iterator[Value]:
        """for the numbers of the bits of a word that are 1, the lowest first."""
        b = self.b
        head, body, done = (b.append_basic_block(name) for name in ("bits", "bit", "no_bits"))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        left = b.phi(I64)
        left.add_incoming(word, before)
        b.cbranch(b.icmp_signed("!=", left, self.i64(0)), body, done)
        b.position_at_end(body)
        yield b.cttz(left, ir.Constant(ir.IntType(1), 1))
        left.add_incoming(b.and_(left, self.plus(left, -1)), b.block)
        b.branch(head)
        b.position_at_end(done)

    @contextmanager
    def flushing(self, arm: bool) -> Iterator[None]:
        """Subnormal numbers count as zero in what is called inside; then all is as it was.

        Some processors take a hundred cycles for an operation with one. LLVM does not know of the
        mode: what depends on it must be in a function that is not inlined.
        """
        b = self.b
        if arm:
            before = b.call(self.intrinsic("llvm.aarch64.get.fpcr", I64), [])
            change = self.intrinsic("llvm.aarch64.set.fpcr", ir.VoidType(), I64)
            b.call(change, [b.or_(before, self.i64(1 << 24))])
            yield
            b.call(change, [before])
            return
        word = self.variable(I32)
        place = [b.bitcast(word, I8.as_pointer())]
        change = self.intrinsic("llvm.x86.sse.ldmxcsr", ir.VoidType(), I8.as_pointer())
        b.call(self.intrinsic("llvm.x86.sse.stmxcsr", ir.VoidType(), I8.as_pointer()), place)
        before = b.load(word)
        b.store(b.or_(before, I32(0x8040)), word)  # results, and what is read
        b.call(change, place)
        yield
        b.store(before, word)
        b.call(change, place)

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
        if isinstance(scalar.type, ir.VectorType):  # one of each network
            return scalar
        return splat(self.b, scalar, ir.VectorType(scalar.type, self.lanes * self.networks))

    def lane_numbers(self) -> Value:
        """The vector 0, 1, 2, ..."""
        numbers = [lane for lane in range(self.lanes) for _ in range(self.networks)]
        return ir.Constant(ir.VectorType(I64, len(numbers)), numbers)

    def smaller(self, value: Value, other: Value) -> Value:
        """The smaller of two whole numbers."""
        return self.b.select(self.b.icmp_signed("<", value, other), value, other)

    def zero(self) -> Value:
        """A vector of zeros."""
        return constant(self.vector, 0.0)

    def load(self, address: Value) -> Value:
        """A vector from memory."""
        pointer = self.b.bitcast(address, self.vector.as_pointer())
        return self.b.load(pointer, align=self.bytes)

    def store(self, value: Value, address: Value) -> None:
        """A vector to memory."""
        pointer = self.b.bitcast(address, self.vector.as_pointer())
        self.b.store(value, pointer, align=self.bytes)

    def halves(self, words: Value) -> tuple[Value, Value]:
        """The two vectors of numbers of bfloat16 that :meth:`joined` has put in one."""
        b, kind = self.b, _words(words.type)
        whole = b.bitcast(words, kind)
        low = b.shl(whole, _word(kind, 16))
        high = b.and_(whole, _word(kind, -1 << 16))
        return b.bitcast(low, words.type), b.bitcast(high, words.type)

    def joined(self, low: Value, high: Value) -> Value:
        """Two numbers of bfloat16, or vectors of such, in one word each."""
        b, kind = self.b, _words(low.type)
        first = b.lshr(b.bitcast(low, kind), _word(kind, 16))
        return b.bitcast(b.or_(first, b.bitcast(high, kind)), low.type)

    def as_bfloat16(self, value: Value) -> Value:
        """A number of float32, or a vector of such, rounded to the nearest of bfloat16, of two as
        near to the even one."""
        b, kind = self.b, _words(value.type)
        bits = b.bitcast(value, kind)
        even = b.and_(b.lshr(bits, _word(kind, 16)), _word(kind, 1))
        rounded = b.add(bits, b.add(even, _word(kind, 0x7FFF)))
        # Of a number that is none the sum might run over.
        whole = b.select(b.fcmp_unordered("uno", value, value), _word(kind, 0x7FC00000), rounded)
        return b.bitcast(b.and_(whole, _word(kind, -1 << 16)), value.type)

    def turned(self, rows: Sequence[Value]) -> list[Value]:
        """The columns of a square of vectors, as many as each has numbers."""
        lanes, turned, apart = len(rows), list(rows), 1
        while apart < lanes:  # squares of that size change places
            one = [n if n & apart == 0 else lanes + n - apart for n in range(lanes)]
            two = [n + apart if n & apart == 0 else lanes + n for n in range(lanes)]
            for n in range(lanes):
                if n & apart == 0:
                    pair = turned[n], turned[n + apart]
                    turned[n], turned[n + apart] = (self._shuffled(*pair, to) for to in (one, two))
            apart *= 2
        return turned

    def _shuffled(self, x: Value, y: Value, places: Sequence[int]) -> Value:
        mask = ir.Constant(ir.VectorType(I32, len(places)), list(places))
        return self.b.shuffle_vector(x, y, mask)

    @property
    def places(self) -> ir.Type:
        """The type of what :meth:`permuted` is told."""
        return ir.VectorType(ir.IntType(8 * self.bytes), self.lanes)

    def permuted(self, vector: Value, places: Value, bit: int) -> Value:
        """The numbers of a vector at places that begin at a bit of whole numbers, above which
        nothing counts; see :data:`PERMUTES`."""
        shifts = ir.Constant(self.places, [bit] * self.lanes)
        name = f"llvm.x86.{PERMUTES[self.bytes, self.lanes]}"
        function = self.intrinsic(name, self.vector, self.vector, self.places)
        return self.b.call(function, [self._apart(vector), self.b.lshr(places, shifts)])

    def permuted_pair(self, one: Value, other: Value, places: Value, bit: int) -> Value:
        """As :meth:`permuted`, of the numbers of two vectors, one behind the other; see
        :data:`PERMUTES_OF_TWO`."""
        shifts = ir.Constant(self.places, [bit] * self.lanes)
        name = f"llvm.x86.{PERMUTES_OF_TWO[self.bytes, self.lanes]}"
        function = self.intrinsic(name, self.vector, self.vector, self.places, self.vector)
        return self.b.call(function, [one, self.b.lshr(places, shifts), other])

    def _apart(self, vector: Value) -> Value:
        """The same, in a register: an instruction that also reads from memory takes longer."""
        kind = ir.FunctionType(self.vector, [self.vector])
        return self.b.call(ir.InlineAsm(kind, "", "=v,0"), [vector])

    def pause(self, arm: bool) -> None:
        """Tell the processor that the thread waits for another."""
        if arm:
            self.b.call(self.intrinsic("llvm.aarch64.hint", ir.VoidType(), I32), [I32(1)])
        else:
            self.b.call(self.intrinsic("llvm.x86.sse2.pause", ir.VoidType()), [])

    def prefetch(self, address: Value, level: int = 1) -> None:
        """Ask for the cache line of an address, which may be any, in the cache of a level."""
        kind = I8.as_pointer()
        function = self.intrinsic("llvm.prefetch.p0", ir.VoidType(), kind, I32, I32, I32)
        flags = [I32(0), I32(4 - level), I32(1)]  # to read, and keep
        self.b.call(function, [self.b.bitcast(address, kind), *flags])

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x * y + z, rounded once."""
        name = f"llvm.fma.v{self.lanes * self.networks}f{8 * self.bytes}"
        return self.b.call(self.intrinsic(name, self.vector, *[self.vector] * 3), [x, y, z])

    def intrinsic(self, name: str, result: ir.Type, *arguments: ir.Type) -> Value:
        """A function of LLVM's own, by its full name."""
        module = self.function.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, arguments), name)
        return function
