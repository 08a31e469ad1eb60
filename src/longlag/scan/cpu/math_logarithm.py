"""The natural logarithm."""

import math
from dataclasses import dataclass

from longlag.scan.cpu.math_exponential import EXPONENTIALS
from longlag.scan.cpu.math_values import Arithmetic, Value


@dataclass(frozen=True)
class Logarithm:
    """The constants of one precision.

    Attributes:
        series: coefficients of L, the constant first.
        root_half: the bits of the square root of 1/2.
        smallest: the smallest normal number.
    """

    series: tuple[float, ...]
    root_half: int
    smallest: float


LOGARITHMS = {
    32: Logarithm(
        series=(0.6666677594184875, 0.3997756838798523, 0.29871463775634766),
        root_half=0x3F3504F3,
        smallest=2.0**-126,
    ),
    64: Logarithm(
        series=(
            0.6666666666666735,
            0.39999999999409347,
            0.2857142874368915,
            0.2222219842857419,
            0.18183572382171762,
            0.15313831317611196,
            0.14798268690469252,
        ),
        root_half=0x3FE6A09E667F3BCD,
        smallest=2.0**-1022,
    ),
}
"""By the width of a lane. L minimises the largest error of s (2 + z L(z)) to 2 artanh(s), relative
to 2 s, where z = s^2 and abs(s) <= 0.1717, found by the Remez exchange in 40 digits, with the
coefficients rounded and fixed one after the other; that error is 8.2e-10 and 1.3e-18."""


def log(v: Arithmetic, x: Value) -> Value:
    r"""The logarithm :math:`k \ln 2 + \log(1 + f)` of :math:`x = 2^k (1 + f)`.

    Here :math:`\sqrt{1/2} \le 1 + f < \sqrt 2`. With :math:`s = f / (2 + f)`,
    :math:`\log(1 + f) = 2 \operatorname{artanh} s = s (2 + R)`, which is
    :math:`f - (f^2/2 - s (f^2/2 + R))`, a form whose first term is exact; :math:`R = z L(z)` and
    :math:`z = s^2`. Numbers below the normal ones are scaled up first.

    Largest error: float32 0.83 ulp, and 1 from the correctly rounded value, over all arguments;
    float64 0.85 ulp on samples. The logarithm of 0 is -inf, that of a negative number NaN.
    """
    c = LOGARITHMS[v.bits]
    b = v.builder
    ln2 = EXPONENTIALS[v.bits].ln2
    small = v.less(x, c.smallest)
    normal = v.select(small, v.mul(x, 2.0 ** (v.fraction + 2)), x)

    one = v.bias << v.fraction
    bits = b.add(v.to_bits(normal), v.integer(one - c.root_half))
    significand = b.and_(bits, v.integer((1 << v.fraction) - 1))
    f = v.sub(v.from_bits(b.add(significand, v.integer(c.root_half))), 1.0)
    # The exponent becomes a number as the low bits of 2^fraction.
    exponent = b.lshr(bits, v.integer(v.fraction))
    exponent = b.or_(exponent, v.integer((v.bias + v.fraction) << v.fraction))
    base = 2.0**v.fraction + v.bias
    k = v.sub(v.from_bits(exponent), v.select(small, base + v.fraction + 2, base))

    s = v.div(f, v.add(f, 2.0))
    z = v.mul(s, s)
    half = v.mul(v.mul(f, 0.5), f)
    tail = v.fma(z, v.polynomial(c.series, z), half)
    tail = v.fma(s, tail, v.mul(k, ln2[1]))
    result = v.fma(k, ln2[0], v.sub(f, v.sub(half, tail)))

    result = v.select(v.less(x, math.inf), result, x)
    result = v.select(v.less(x, 0.0), math.nan, result)
    return v.select(v.equal(x, 0.0), -math.inf, result)
