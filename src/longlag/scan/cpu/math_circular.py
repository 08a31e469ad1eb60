r"""The sine and the cosine, from their polynomials on :math:`[-\pi/4, \pi/4]`.

Imperfection: the argument is reduced with a sum of three numbers for :math:`\pi / 2`, not with all
the digits that a huge argument would need. The stated errors hold up to 1e5 (float32) and 1e12
(float64); far above, a result is only some number in [-1, 1].
"""

from dataclasses import dataclass

from longlag.scan.cpu.math_values import Arithmetic, Value


@dataclass(frozen=True)
class Circular:
    """The constants of one precision.

    Attributes:
        sine: coefficients of S, the constant first.
        cosine: coefficients of C, the constant first.
        per_quarter: 2 / pi.
        quarter: pi / 2 as a sum of three numbers of this precision.
    """

    sine: tuple[float, ...]
    cosine: tuple[float, ...]
    per_quarter: float
    quarter: tuple[float, float, float]


CIRCULARS = {
    32: Circular(
        sine=(-0.16666655242443085, 0.00833218265324831, -0.0001951682206708938),
        cosine=(0.04166664555668831, -0.00138873013202101, 2.4430672056041658e-05),
        per_quarter=0.6366197466850281,
        quarter=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    ),
    64: Circular(
        sine=(
            -0.1666666666666663,
            0.008333333333321787,
            -0.00019841269829281048,
            2.755731350163226e-06,
            -2.5050727268846222e-08,
            1.5894952357277725e-10,
        ),
        cosine=(
            0.041666666666666595,
            -0.0013888888888873292,
            2.4801587288935282e-05,
            -2.7557314187304097e-07,
            2.0875699978006323e-09,
            -1.135840087742992e-11,
        ),
        per_quarter=0.6366197723675814,
        quarter=(1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
    ),
}
"""By the width of a lane. With z = r^2, S and C minimise the largest errors of r + r z S(z) to
sin(r), relative to r, and of 1 - z / 2 + z^2 C(z) to cos(r), over abs(r) <= 0.79, found by the
Remez exchange in 40 digits, with the coefficients rounded and fixed one after the other; these
errors are 4.0e-9 and 1.1e-10 (float32), 3.8e-18 and 5.2e-20 (float64)."""

_LARGEST = 0.9
"""A bound on abs(r). Above pi / 4, because 2 / pi is rounded, so that n may not be the nearest
where x is large; it binds only where x is too large for the reduction at all."""


def _quadrant(v: Arithmetic, x: Value, sign: Value | None, shift: int) -> Value:
    """The sine of abs(x) + shift pi / 2, with its sign changed by a sign bit."""
    c = CIRCULARS[v.bits]
    b = v.builder
    x = v.magnitude(x)
    n, quadrant = v.nearest(x, c.per_quarter)
    r = x
    for part in c.quarter:
        r = v.fma(n, -part, r)
    r = v.at_most(_LARGEST, v.at_least(-_LARGEST, r))
    z = v.mul(r, r)
    sine = v.fma(v.mul(r, z), v.polynomial(c.sine, z), r)
    cosine = v.fma(z, v.fma(z, v.polynomial(c.cosine, z), -0.5), 1.0)

    if shift:
        quadrant = b.add(quadrant, v.integer(shift))
    odd = b.icmp_signed("!=", b.and_(quadrant, v.integer(1)), v.integer(0))
    minus = b.shl(b.and_(quadrant, v.integer(2)), v.integer(v.bits - 2))
    if sign is not None:
        minus = b.xor(minus, sign)
    return v.flip(v.select(odd, cosine, sine), minus)


def sin(v: Arithmetic, x: Value) -> Value:
    r"""The sine, from the quadrant of its argument.

    With n the integer nearest to :math:`2 |x| / \pi`, it is, up to its sign, the sine (n even) or
    the cosine (n odd) of :math:`r = |x| - n \pi / 2`, where :math:`\pi / 2` is
    subtracted in three parts (W. J. Cody and W. Waite, Software Manual for the Elementary
    Functions, 1980).

    Largest error: float32 1.53 ulp for all abs(x) <= 1e4 and on samples up to 1e5 (1.9 up to
    1e6); float64 1.52 ulp
    on samples up to 1e12. A zero keeps its sign; the sine of an infinity is NaN.
    """
    return _quadrant(v, x, v.sign(x), 0)


def cos(v: Arithmetic, x: Value) -> Value:
    r"""The cosine, which is the sine of :math:`|x| + \pi / 2`: the quadrant moved on by one.

    Largest error: as that of :func:`sin`.
    """
    return _quadrant(v, x, None, 1)
