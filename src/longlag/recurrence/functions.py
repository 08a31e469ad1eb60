"""The pointwise functions that an update may use, as SymPy functions.

``tanh``, ``exp``, ``log``, ``sqrt``, ``sin`` and ``cos`` are SymPy's own. Those that SymPy lacks,
or whose derivative at a corner it defines differently from PyTorch, are defined here. Each knows
its derivative; nothing else in the library knows one.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import sympy

Expression: TypeAlias = Any
"""A SymPy expression. SymPy's own annotations are too wide to be of use to a type checker."""


class _Pointwise(sympy.Function):
    """A real function of real numbers; its derivative is 0 where a class does not say otherwise."""

    is_real = True
    form: ClassVar[str]
    """Its LaTeX, ``{0}`` and so on being its arguments."""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        return super().__new__(cls, *arguments, **options)

    def fdiff(self, argindex: int = 1) -> Expression:
        return sympy.Integer(0)

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        """SymPy hands over the exponent where the function is raised to a power."""
        text = self.form.format(*map(printer._print, self.args))
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


class sigmoid(_Pointwise):
    r"""The logistic function :math:`\sigma(x) = 1 / (1 + e^{-x})`, with values in (0, 1)."""

    nargs = 1
    form = r"\sigma\left({0}\right)"

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        x = self.args[0]
        return sigmoid(x) * (1 - sigmoid(x))


class step(_Pointwise):
    r"""The unit step: 1 where :math:`x > 0`, else 0. Its derivative is 0 everywhere."""

    nargs = 1
    form = r"\mathbf{{1}}\left[{0} > 0\right]"


class relu(_Pointwise):
    r"""The rectifier :math:`\max(x, 0)`; its derivative at 0 is 0, as in PyTorch."""

    nargs = 1
    form = r"\operatorname{{relu}}\left({0}\right)"

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        return step(self.args[0])


class saturate(_Pointwise):
    r"""The saturated-linear function :math:`\min(1, \max(0, x))` of Siegelmann and Sontag."""

    nargs = 1
    form = r"\operatorname{{sat}}\left({0}\right)"

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        x: Any = self.args[0]
        return step(x) * step(1 - x)


class positive(_Pointwise):
    r"""Values above 0: :math:`x + 1/2` where :math:`x \ge 0`, else :math:`\sigma(x)`."""

    nargs = 1
    form = r"\operatorname{{positive}}\left({0}\right)"

    def fdiff(self, argindex: int = 1) -> Expression:  # noqa: D102
        x: Any = self.args[0]
        return 1 - step(-x) * (1 - sigmoid(x) * (1 - sigmoid(x)))

    @property
    def lowered(self) -> Expression:
        """The same of functions that backends have; its derivative at 0 is 1 too."""
        x: Any = self.args[0]
        return x + relu(-x) + sigmoid(-relu(-x))


class floor(_Pointwise):
    r"""The largest whole number :math:`\lfloor x \rfloor` not above x; its derivative is 0."""

    nargs = 1
    form = r"\lfloor {0} \rfloor"


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
    form = r"\mathbf{{1}}\left[{1} \mid {0}\right]"

    @property
    def lowered(self) -> Expression:
        """The same of functions that backends have."""
        return 1 - step(modulo(*self.args))


class stop_gradient(_Pointwise):
    """The identity, whose derivative is taken to be 0: the error is truncated here."""

    nargs = 1
    form = r"\operatorname{{sg}}\left({0}\right)"


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
    "positive": positive,
}
"""Activations by name. ``bipolar`` is 2 sigmoid - 1 in [-1, 1] and ``double_bipolar`` is
4 sigmoid - 2 in [-2, 2]: the h and g of Hochreiter and Schmidhuber (1997). ``positive`` is x + 1/2
where x >= 0 and sigmoid below: the g of Feng et al. (2024)."""


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
