"""Networks written as equations: each unit is sat of a linear form of units."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import inf
from typing import Any

import torch

from longlag.layers import Elman


class Form:
    """A linear form of units and a constant, with rational coefficients.

    >>> left = Form.of("left")
    >>> print((left / 4 + Form.of("top") - 1) * 2)
    left/2 + 2 top - 2
    """

    __slots__ = ("coefficients", "constant")

    def __init__(self, coefficients: Mapping[str, Fraction], constant: Fraction) -> None:
        self.coefficients = {unit: number for unit, number in coefficients.items() if number}
        self.constant = constant

    @classmethod
    def of(cls, *units: str) -> "Form":
        """The sum of units."""
        return cls(dict.fromkeys(units, Fraction(1)), Fraction(0))

    @classmethod
    def sum(cls, forms: Iterable["Form"]) -> "Form":
        """The sum of forms; 0 without any."""
        total: dict[str, Fraction] = {}
        constant = Fraction(0)
        for form in forms:
            constant += form.constant
            for unit, number in form.coefficients.items():
                total[unit] = total.get(unit, Fraction(0)) + number
        return cls(total, constant)

    def __add__(self, other: "Form | Fraction | int") -> "Form":
        if isinstance(other, Form):
            return Form.sum((self, other))
        return Form(self.coefficients, self.constant + Fraction(other))

    def __mul__(self, factor: Fraction | int) -> "Form":
        factor = Fraction(factor)
        scaled = {unit: number * factor for unit, number in self.coefficients.items()}
        return Form(scaled, self.constant * factor)

    def __truediv__(self, divisor: Fraction | int) -> "Form":
        return self * (1 / Fraction(divisor))

    def __neg__(self) -> "Form":
        return self * -1

    def __sub__(self, other: "Form | Fraction | int") -> "Form":
        return self + (-other)

    __radd__, __rmul__ = __add__, __mul__

    def __str__(self) -> str:
        text = ""
        for unit, number in [*self.coefficients.items(), ("", self.constant)]:
            if number or not (unit or text):
                size = abs(number)
                sign = ("-" if number < 0 else "") if not text else " - " if number < 0 else " + "
                factor = "" if size.numerator == 1 else f"{size.numerator} "
                part = f"{factor}{unit}" if unit else f"{size.numerator}"
                text += sign + part + (f"/{size.denominator}" if size.denominator > 1 else "")
        return text


class Equations:
    """The units of a network by name, and the form that each saturates.

    Example:
        >>> turn = Equations()
        >>> turn["a"] = Form.of("b")
        >>> turn["b"] = Form.of("a") * -1 + 1
        >>> print(turn)
        a' = sat(b)
        b' = sat(-a + 1)
        >>> turn.layer().weight_hh.tolist()
        [[0.0, 1.0], [-1.0, 0.0]]
    """

    def __init__(self) -> None:
        self.forms: dict[str, Form] = {}

    def __setitem__(self, unit: str, form: Form) -> None:
        self.forms[unit] = form

    @property
    def units(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.forms)

    def layer(self) -> Any:
        """The same as an :class:`~longlag.Elman` layer, in float64, which no input reaches.

        Raises:
            OverflowError: a weight is no float64.
        """
        places = {unit: place for place, unit in enumerate(self.units)}
        layer = Elman(0, len(places), activation="saturated", dtype=torch.float64)
        assert layer.weight_hh is not None
        assert layer.bias is not None
        weights, biases = torch.zeros_like(layer.weight_hh), torch.zeros_like(layer.bias)
        for unit, form in self.forms.items():
            biases[places[unit]] = _exactly(form.constant)
            for other, number in form.coefficients.items():
                weights[places[unit], places[other]] = _exactly(number)
        with torch.no_grad():
            layer.weight_hh.copy_(weights)
            layer.bias.copy_(biases)
        return layer

    def __str__(self) -> str:
        return "\n".join(f"{unit}' = sat({form})" for unit, form in self.forms.items())


def _exactly(number: Fraction) -> float:
    value = float(number)
    if abs(value) == inf or Fraction(value) != number:
        raise OverflowError(f"the weight {number} is no number of float64")
    return value
