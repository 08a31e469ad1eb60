"""Arithmetic on LLVM values of one floating-point type, with Python numbers as constants.

The formulas of the pointwise functions are written on :class:`Arithmetic`, so that they read as
formulas: ``v.fma(x, 2.0, y)`` is 2 x + y in every lane, rounded once.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from llvmlite import ir

from longlag.scan.cpu.target import host

I32 = ir.IntType(32)

Value: TypeAlias = Any
"""A value in the program that is emitted; llvmlite's own annotations are too loose to check."""

Number: TypeAlias = Any
"""A value in that program, or a Python number that becomes a constant there."""


def _element(value_type: ir.Type) -> ir.Type:
    return value_type.element if isinstance(value_type, ir.VectorType) else value_type


def constant(value_type: ir.Type, value: float) -> ir.Constant:
    """The constant with ``value`` in every lane.

    Args:
        value_type: float or double, or a vector of one of them.
        value: the number, rounded to that type.
    """
    if isinstance(value_type, ir.VectorType):
        return ir.Constant(value_type, [float(value)] * value_type.count)
    return ir.Constant(value_type, float(value))


def splat(builder: ir.IRBuilder, scalar: Value, vector_type: ir.Type) -> Value:
    """The vector with ``scalar`` in every lane.

    Args:
        builder: where the instructions go.
        scalar: a value of the element type.
        vector_type: the type of the result. A scalar type gives ``scalar`` back.
    """
    if not isinstance(vector_type, ir.VectorType):
        return scalar
    undefined = ir.Constant(vector_type, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector_type.count), [0] * vector_type.count)
    return builder.shuffle_vector(first, undefined, lanes)


class Arithmetic:
    """Operations on values of one type: float, double, or a vector of them.

    Nothing here carries a fast-math flag: NaN, infinities and the sign of zero behave as IEEE 754
    says, and a product and a sum are fused only in :meth:`fma`.

    Attributes:
        type: the type of the values.
        bits: 32 or 64, the width of a lane.
        fraction: 23 or 52, the stored bits of a significand.
        bias: 127 or 1023, that of the exponent.
    """

    def __init__(self, builder: Value, value_type: ir.Type) -> None:
        element = _element(value_type)
        if not isinstance(element, (ir.FloatType, ir.DoubleType)):
            raise TypeError(
                f"the pointwise functions are emitted for float, double and vectors of them, "
                f"but a value has the type {value_type}"
            )
        self.builder = builder
        self.type = value_type
        self.bits, self.fraction, self.bias = (
            (32, 23, 127) if isinstance(element, ir.FloatType) else (64, 52, 1023)
        )
        integer = ir.IntType(self.bits)
        self.integer_type = (
            ir.VectorType(integer, value_type.count)
            if isinstance(value_type, ir.VectorType)
            else integer
        )

    def value(self, number: Number) -> Value:
        """The number as a value of this type."""
        return constant(self.type, number) if isinstance(number, (int, float)) else number

    def integer(self, number: int) -> Value:
        """The constant integer of the same width, in every lane."""
        if isinstance(self.integer_type, ir.VectorType):
            return ir.Constant(self.integer_type, [number] * self.integer_type.count)
        return ir.Constant(self.integer_type, number)

    def _call(self, name: str, *arguments: Number) -> Value:
        """Call an intrinsic whose arguments and result have this type."""
        element = f"f{self.bits}"
        lanes = f"v{self.type.count}" if isinstance(self.type, ir.VectorType) else ""
        name = f"llvm.{name}.{lanes}{element}"
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            signature = ir.FunctionType(self.type, [self.type] * len(arguments))
            function = ir.Function(module, signature, name)
        return self.builder.call(function, [self.value(argument) for argument in arguments])

    def add(self, x: Number, y: Number) -> Value:
        """The sum x + y."""
        return self.builder.fadd(self.value(x), self.value(y))

    def sub(self, x: Number, y: Number) -> Value:
        """The difference x - y."""
        return self.builder.fsub(self.value(x), self.value(y))

    def mul(self, x: Number, y: Number) -> Value:
        """The product x y."""
        return self.builder.fmul(self.value(x), self.value(y))

    def div(self, x: Number, y: Number) -> Value:
        """The quotient x / y."""
        return self.builder.fdiv(self.value(x), self.value(y))

    def inverse(self, x: Value) -> Value:
        """The number 1 / x, of x in [1, 2^127].

        With AVX-512 float32 has it from an estimate and one step of Newton's, within 0.57 ulp. Four
        instructions take two cycles of a processor whose one divider takes ten or more.
        """
        if self.bits == 64 or not host().avx512:
            return self.div(1.0, x)
        estimate = self._estimate(x)
        return self.fma(estimate, self.fma(self.neg(x), estimate, 1.0), estimate)

    def ratio(self, x: Value, y: Value) -> Value:
        """The number x / y, of 0 <= x <= y in [1, 2^127], by :meth:`inverse` where that is faster.

        It is at most 1, to which a number next to it is rounded.
        """
        if self.bits == 64 or not host().avx512:
            return self.div(x, y)
        return self.at_most(1.0, self.mul(x, self.inverse(y)))

    def _estimate(self, x: Value) -> Value:
        """The number 1 / x within 2^-14, by AVX-512's instruction for vectors of four and more."""
        b, count = self.builder, getattr(self.type, "count", 1)
        lanes = max(4, count)
        kind, mask = ir.VectorType(ir.FloatType(), lanes), ir.IntType(max(8, lanes))
        name = f"llvm.x86.avx512.rcp14.ps.{32 * lanes}"
        function = b.module.globals.get(name)
        if function is None:
            function = ir.Function(b.module, ir.FunctionType(kind, [kind, kind, mask]), name)

        def take(vector: Value, wanted: int) -> Value:
            numbers = [min(n, count - 1) for n in range(wanted)]
            places = ir.Constant(ir.VectorType(I32, wanted), numbers)
            return b.shuffle_vector(vector, vector, places)

        one = not isinstance(self.type, ir.VectorType)
        if one:
            x = b.bitcast(x, ir.VectorType(ir.FloatType(), 1))
        wide = x if count == lanes else take(x, lanes)
        found = b.call(function, [wide, ir.Constant(kind, None), ir.Constant(mask, -1)])
        found = found if count == lanes else take(found, count)
        return b.bitcast(found, self.type) if one else found

    def neg(self, x: Value) -> Value:
        """The opposite -x, by the sign bit."""
        return self.builder.fneg(x)

    def fma(self, x: Number, y: Number, z: Number) -> Value:
        """The sum x y + z, rounded once."""
        return self._call("fma", x, y, z)

    def sqrt(self, x: Value) -> Value:
        """The square root, correctly rounded."""
        return self._call("sqrt", x)

    def floor(self, x: Value) -> Value:
        """The largest whole number that is not above x."""
        return self._call("floor", x)

    def magnitude(self, x: Value) -> Value:
        """The absolute value of x: its sign bit cleared."""
        return self._call("fabs", x)

    def less(self, x: Number, y: Number) -> Value:
        """True where x < y, and neither is NaN."""
        return self.builder.fcmp_ordered("<", self.value(x), self.value(y))

    def equal(self, x: Number, y: Number) -> Value:
        """True where x = y, and neither is NaN."""
        return self.builder.fcmp_ordered("==", self.value(x), self.value(y))

    def select(self, condition: Value, x: Number, y: Number) -> Value:
        """The lanes of x where the condition holds, else those of y."""
        return self.builder.select(condition, self.value(x), self.value(y))

    def at_least(self, bound: float, x: Value) -> Value:
        """The larger of x and the bound; NaN stays NaN. One instruction on x86."""
        return self.select(self.less(x, bound), bound, x)

    def at_most(self, bound: float, x: Value) -> Value:
        """The smaller of x and the bound; NaN stays NaN. One instruction on x86."""
        return self.select(self.less(bound, x), bound, x)

    def to_bits(self, x: Value) -> Value:
        """The bits of x as an integer."""
        return self.builder.bitcast(x, self.integer_type)

    def from_bits(self, bits: Value) -> Value:
        """The number whose bits these are."""
        return self.builder.bitcast(bits, self.type)

    def sign(self, x: Value) -> Value:
        """The sign bit of x alone, as an integer."""
        return self.builder.and_(self.to_bits(x), self.integer(1 << (self.bits - 1)))

    def flip(self, x: Value, sign: Value) -> Value:
        """The number x with its sign changed where the sign bit in ``sign`` is set."""
        return self.from_bits(self.builder.xor(self.to_bits(x), sign))

    def nearest(self, x: Value, factor: float, offset: int = 0) -> tuple[Value, Value]:
        """Round ``factor`` x to an integer n, by adding a number too large for a fraction.

        Args:
            x: the argument, with abs(factor x) below 2^21 (float) or 2^50 (double).
            factor: the number that x is multiplied by, in the same rounding.
            offset: a number that is added to the second result, for nothing.

        Returns:
            n as a number of this type, and an integer whose low bits are n + offset (the low 22 of
            float and the low 51 of double).
        """
        shift = 1.5 * 2.0**self.fraction + offset
        shifted = self.fma(x, factor, shift)
        return self.sub(shifted, shift), self.to_bits(shifted)

    def power_of_two(self, biased: Value) -> Value:
        """The number 2^(biased - bias), from the low bits of an integer in 1 .. 2 bias."""
        return self.from_bits(self.builder.shl(biased, self.integer(self.fraction)))

    def polynomial(self, coefficients: Sequence[float], x: Value) -> Value:
        """The polynomial with these coefficients, the constant first.

        Neighbours are paired, in x, then in x^2, until three terms are left for Horner's rule
        (Estrin, 1960): a chain of fma half as long, which is what a step that waits for the last
        one costs.
        """
        terms: list[Number] = list(coefficients)
        while len(terms) > 3:
            pairs: list[Number] = [
                self.fma(high, x, low) for low, high in zip(terms[::2], terms[1::2], strict=False)
            ]
            terms = pairs + terms[len(pairs) * 2 :]
            x = self.mul(x, x)
        *rest, total = terms
        for term in reversed(rest):
            total = self.fma(total, x, term)
        return self.value(total)
