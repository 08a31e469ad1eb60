"""The pointwise functions of a scalar program, as LLVM instructions.

:func:`emit` writes straight-line code for float, double and vectors of them: no branch, no call, no
table in memory. A condition is a select, and 2^n is made from the bits of its exponent. The same
instructions become AVX2, AVX-512 or NEON, but for divisions (:meth:`Arithmetic.inverse`). Corners
and NaN are PyTorch's.

Errors are in units in the last place (ulp) of the exact result; 0.5 cannot be avoided. Those of
float32 were measured over every argument for which the function is neither constant nor the
identity, those of float64 on millions of samples.

Imperfections: the target must have a fused multiply-add, or LLVM calls a slow ``fma`` of the C
library in its place. A thread that flushes numbers below the normal ones to zero gets zeros there.

Cost in float32 with AVX-512: tanh 22 instructions a vector, exp 18, sigmoid 19, besides copies of
registers.
"""

from collections.abc import Callable

from llvmlite import ir

from longlag.recurrence.program import ARITY
from longlag.scan.cpu import math_circular, math_exponential, math_logarithm
from longlag.scan.cpu.math_values import Arithmetic, Value


def _sign(v: Arithmetic, x: Value) -> Value:
    """The sign of x: 1, -1, or 0 for zeros and NaN."""
    return v.select(v.less(0.0, x), 1.0, v.select(v.less(x, 0.0), -1.0, 0.0))


def _relu(v: Arithmetic, x: Value) -> Value:
    """The larger of x and 0; NaN stays NaN."""
    return v.at_least(0.0, x)


def _saturate(v: Arithmetic, x: Value) -> Value:
    """The number in [0, 1] nearest to x; NaN stays NaN."""
    return v.at_most(1.0, v.at_least(0.0, x))


def _step(v: Arithmetic, x: Value) -> Value:
    """One where x > 0, else 0, for NaN too."""
    return v.select(v.less(0.0, x), 1.0, 0.0)


def _floor(v: Arithmetic, x: Value) -> Value:
    """The largest whole number that is not above x; NaN, infinity and zeros stay as they are."""
    return v.floor(x)


def _stop_gradient(v: Arithmetic, x: Value) -> Value:
    """The number x itself."""
    return x


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "add": Arithmetic.add,
    "sub": Arithmetic.sub,
    "mul": Arithmetic.mul,
    "div": Arithmetic.div,
    "neg": Arithmetic.neg,
    "tanh": math_exponential.tanh,
    "sigmoid": math_exponential.sigmoid,
    "exp": math_exponential.exp,
    "log": math_logarithm.log,
    "sqrt": Arithmetic.sqrt,
    "sin": math_circular.sin,
    "cos": math_circular.cos,
    "abs": Arithmetic.magnitude,
    "sign": _sign,
    "relu": _relu,
    "saturate": _saturate,
    "floor": _floor,
    "step": _step,
    "stop_gradient": _stop_gradient,
}


def emit(builder: ir.IRBuilder, name: str, *arguments: Value) -> Value:
    """Emit one operation of a scalar program.

    Args:
        builder: where the instructions go.
        name: a key of :data:`longlag.recurrence.program.ARITY` other than ``"constant"``.
        arguments: as many values as the operation has arguments, all float, all double, or all one
            vector type of them.

    Returns:
        The result, of the type of the arguments.

    Raises:
        ValueError: the name or the number of arguments is wrong.
        TypeError: the arguments are of different types, or not floating-point.

    Example:
        >>> vector = ir.VectorType(ir.FloatType(), 8)
        >>> module = ir.Module()
        >>> function = ir.Function(module, ir.FunctionType(vector, [vector]), "unit")
        >>> builder = ir.IRBuilder(function.append_basic_block())
        >>> result = builder.ret(emit(builder, "tanh", function.args[0]))
    """
    function = _FUNCTIONS.get(name)
    if function is None:
        raise ValueError(
            f"there is no operation {name!r} to emit; use one of {', '.join(sorted(_FUNCTIONS))}, "
            "and constant() for constants"
        )
    if len(arguments) != ARITY[name]:
        raise ValueError(f"{name} takes {ARITY[name]} argument(s), but got {len(arguments)}")
    types = [argument.type for argument in arguments]
    if any(kind != types[0] for kind in types):
        raise TypeError(f"the arguments of {name} must have one type, but they have {types}")
    return function(Arithmetic(builder, types[0]), *arguments)
