r"""The exponential, the logistic function and the hyperbolic tangent, from one polynomial.

With n the integer nearest to x / ln 2 and r = x - n ln 2, all three need
:math:`e^r - 1 = r + r^2 q(r)` for :math:`|r| \le \tfrac12 \ln 2`, as in W. J. Cody and W. Waite,
Software Manual for the Elementary Functions (1980), with ln 2 subtracted in two parts.
"""

from dataclasses import dataclass

from longlag.scan.cpu.math_values import Arithmetic, Value


@dataclass(frozen=True)
class Exponential:
    """The constants of one precision.

    Attributes:
        q: coefficients of q, the constant first.
        per_ln2: 1 / ln 2.
        ln2: ln 2 as a sum of two numbers of this precision.
        overflow: a little above the largest x whose exponential is finite.
        underflow: a little below the smallest x whose exponential is not rounded to 0.
        saturation: an x whose tanh is rounded to 1.
        normal: an x whose e^-x has a normal number 2^n, and 1 + e^-x is 1.
        vanishing: an x whose e^x has a finite number 2^n, and e^-x is below the normal numbers.
    """

    q: tuple[float, ...]
    per_ln2: float
    ln2: tuple[float, float]
    overflow: float
    underflow: float
    saturation: float
    normal: float
    vanishing: float


EXPONENTIALS = {
    32: Exponential(
        q=(
            0.5,
            0.1666654497385025,
            0.04166640713810921,
            0.008366396650671959,
            0.0013940358767285943,
        ),
        per_ln2=1.4426950216293335,
        ln2=(0.6931471824645996, -1.9046542121259336e-09),
        overflow=89.0,
        underflow=-104.0,
        saturation=10.0,
        normal=87.0,
        vanishing=88.0,
    ),
    64: Exponential(
        q=(
            0.5000000000000006,
            0.16666666666666685,
            0.04166666666657332,
            0.008333333333314534,
            0.0013888888932484544,
            0.00019841269903174264,
            2.480150431220266e-05,
            2.7557227811199764e-06,
            2.762638208787183e-07,
            2.5114522160407563e-08,
        ),
        per_ln2=1.4426950408889634,
        ln2=(0.6931471805599453, 2.3190468138462996e-17),
        overflow=710.0,
        underflow=-746.0,
        saturation=20.0,
        normal=708.0,
        vanishing=709.0,
    ),
}
"""By the width of a lane. q minimises the largest error of r + r^2 q(r) to e^r - 1, relative to r,
where abs(r) <= ln(2) / 2, found by the Remez exchange in 40 digits, then rounded. That error is
1.4e-8 (5 coefficients) and 2.0e-17 (10), rounding of the coefficients included."""


def _expm1(v: Arithmetic, r: Value, q: tuple[float, ...]) -> Value:
    """The value r + r^2 q(r)."""
    return v.fma(v.mul(r, r), v.polynomial(q, r), r)


def exp(v: Arithmetic, x: Value) -> Value:
    r"""The exponential :math:`e^x = 2^n + 2^n (e^r - 1)`.

    2^n is multiplied in as two factors, so that infinity and numbers below the normal ones come
    out of a multiplication, rounded once.

    Largest error: float32 1.06 ulp, and 1 from the correctly rounded value, over all arguments;
    float64 1.04 ulp on samples.
    """
    c = EXPONENTIALS[v.bits]
    b = v.builder
    x = v.at_most(c.overflow, v.at_least(c.underflow, x))
    n, exponent = v.nearest(x, c.per_ln2, offset=2 * v.bias)
    r = v.fma(n, -c.ln2[1], v.fma(n, -c.ln2[0], x))
    half = b.lshr(exponent, v.integer(1))
    scale = v.power_of_two(half)
    rest = v.power_of_two(b.sub(exponent, half))
    return v.mul(v.fma(_expm1(v, r, c.q), scale, scale), rest)


def sigmoid(v: Arithmetic, x: Value) -> Value:
    r"""The logistic function :math:`1 / (1 + e^{-x})`, where :math:`e^{-x} = 2^n e^r`.

    A small result keeps the relative precision of the exponential. Below the smallest normal number
    results are one such number, which a thread that flushes makes 0.

    Largest error of those above: float32 2.49 ulp, and 2 from the correctly rounded value, over all
    arguments; float64 2.4 ulp on samples. sigmoid(-80) is 1.8e-35.
    Cost: 19 instructions in float32 with AVX-512; elsewhere 16, one of them a division.
    """
    c = EXPONENTIALS[v.bits]
    x = v.at_least(-c.vanishing, v.at_most(c.normal, x))
    n, exponent = v.nearest(x, -c.per_ln2, offset=v.bias)
    r = v.fma(n, c.ln2[1], v.fma(n, c.ln2[0], x))  # of the other sign
    q = v.polynomial([number * (-1) ** k for k, number in enumerate(c.q)], r)
    scale = v.power_of_two(exponent)
    e = v.fma(v.fma(v.mul(r, r), q, v.neg(r)), scale, scale)
    return v.inverse(v.add(e, 1.0))


def tanh(v: Arithmetic, x: Value) -> Value:
    r"""The hyperbolic tangent :math:`h / (h + 1)` of :math:`|x|`, with the sign of x.

    Here :math:`h = \tfrac12 (e^{2|x|} - 1) = 2^n p + \tfrac12 (2^n - 1)` and
    :math:`p = \tfrac12 (e^{2r} - 1) = r + r^2 \, 2 q(2r)`. Where n = 0 this is h = p, which keeps
    the relative precision of a small x, so that no other formula is needed there.

    Largest error: float32 2.94 ulp with AVX-512, else 2.53, and 3 from the correctly rounded value,
    over all arguments; float64 2.7 ulp on samples. It is odd bit for bit, and within [-1, 1].
    Cost: 22 instructions in float32 with AVX-512; elsewhere 17, one of them a division.
    """
    c = EXPONENTIALS[v.bits]
    sign = v.sign(x)
    absolute = v.at_most(c.saturation, v.flip(x, sign))
    n, exponent = v.nearest(absolute, 2 * c.per_ln2, offset=v.bias)
    r = v.fma(n, -c.ln2[0] / 2, absolute)
    if v.bits == 64:
        # For float32, n <= 29, the low part of ln 2 would change tanh by less than 0.1 ulp.
        r = v.fma(n, -c.ln2[1] / 2, r)
    p = _expm1(v, r, tuple(number * 2.0 ** (k + 1) for k, number in enumerate(c.q)))
    scale = v.power_of_two(exponent)
    h = v.fma(scale, p, v.fma(scale, 0.5, -0.5))
    return v.flip(v.ratio(h, v.add(h, 1.0)), sign)
