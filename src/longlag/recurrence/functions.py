"""The pointwise functions that an update may use, as SymPy functions.

``tanh``, ``exp``, ``log``, ``sqrt``, ``sin`` and ``cos`` are SymPy's own. Those that SymPy lacks,
or whose derivative at a corner it defines differently from PyTorch, are defined here. Each knows
its derivative; nothing else in the library knows one.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import sympy

Expression: TypeAlias = Any
"""A SymPy expression. SymPy's own annotations are too wide to be of use to a type checker."""


class _Pointwise(sympy.Function):
    """A real function of one real number."""

    is_real = True

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        return super().__new__(cls, *arguments, **options)


class sigmoid(_Pointwise):
    r"""The logistic function :math:`\sigma(x) = 1 / (1 + e^{-x})`, with values in (0, 1)."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        x = self.args[0]
        return sigmoid(x) * (1 - sigmoid(x))

    def _latex(self, printer: Any, exp: Any = None) -> str:
        return _power(rf"\sigma\left({printer._print(self.args[0])}\right)", exp)


class step(_Pointwise):
    r"""The unit step: 1 where :math:`x > 0`, else 0. Its derivative is 0 everywhere."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        return sympy.Integer(0)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        return _power(rf"\mathbf{{1}}\left[{printer._print(self.args[0])} > 0\right]", exp)


class relu(_Pointwise):
    r"""The rectifier :math:`\max(x, 0)`; its derivative at 0 is 0, as in PyTorch."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        return step(self.args[0])

    def _latex(self, printer: Any, exp: Any = None) -> str:
        return _power(rf"\operatorname{{relu}}\left({printer._print(self.args[0])}\right)", exp)


class saturate(_Pointwise):
    r"""The saturated-linear function :math:`\min(1, \max(0, x))` of Siegelmann and Sontag."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        x: Any = self.args[0]
        return step(x) * step(1 - x)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        return _power(rf"\operatorname{{sat}}\left({printer._print(self.args[0])}\right)", exp)


class floor(_Pointwise):
    r"""The largest whole number :math:`\lfloor x \rfloor` not above x; its derivative is 0."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        return sympy.Integer(0)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        return _power(rf"\lfloor {printer._print(self.args[0])} \rfloor", exp)


def modulo(x: Any, period: Any) -> Expression:
    r"""What is left of x after whole periods, in [0, period): :math:`x - T \lfloor x / T \rfloor`.

    >>> t = sympy.Symbol("t", real=True)
    >>> modulo(t, 3)
    t - 3*floor(t/3)
    """
    return x - period * floor(x / period)


class multiple(_Pointwise):
    r"""1 where x is a whole multiple of the period, :math:`T \mid x`, else 0; of derivative 0."""

    nargs = 2

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        return sympy.Integer(0)

    @property
    def lowered(self) -> Expression:
        """The same of functions that backends have."""
        return 1 - step(modulo(*self.args))

    def _latex(self, printer: Any, exp: Any = None) -> str:
        x, period = map(printer._print, self.args)
        return _power(rf"\mathbf{{1}}\left[{period} \mid {x}\right]", exp)


class stop_gradient(_Pointwise):
    """The identity, whose derivative is taken to be 0: the error is truncated here."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        return sympy.Integer(0)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        return _power(rf"\operatorname{{sg}}\left({printer._print(self.args[0])}\right)", exp)


def _power(text: str, exponent: str | None) -> str:
    """A function's LaTeX; SymPy hands over the exponent where it is raised to a power."""
    return text if exponent is None else rf"\left({text}\right)^{{{exponent}}}"


def _identity(x: Any) -> Any:
    return x


def _bipolar(x: Any) -> Any:
    return 2 * sigmoid(x) - 1


def _double_bipolar(x: Any) -> Any:
    return 4 * sigmoid(x) - 2


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": sympy.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "identity": _identity,
    "saturated": saturate,
    "bipolar": _bipolar,
    "double_bipolar": _double_bipolar,
}
"""Activations by name. ``bipolar`` is 2 sigmoid - 1 in [-1, 1] and ``double_bipolar`` is
4 sigmoid - 2 in [-2, 2]: the h and g of Hochreiter and Schmidhuber (1997)."""


def activation(name: str) -> Callable[[Any], Any]:
    """Look an activation up by its name.

    Args:
        name: one of the keys of :data:`ACTIVATIONS`.

    Raises:
        ValueError: for any other name.

    >>> activation("identity")(3)
    3
    """
    if name not in ACTIVATIONS:
        known = ", ".join(repr(known) for known in ACTIVATIONS)
        raise ValueError(f"activation: got {name!r}, expected one of {known}")
    return ACTIVATIONS[name]
