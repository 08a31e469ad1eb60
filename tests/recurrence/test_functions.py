import numpy as np
import pytest
import sympy

from longlag.recurrence import functions
from longlag.recurrence.functions import ACTIVATIONS, activation

X = sympy.Symbol("x", real=True)


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (functions.sigmoid, lambda s: 1 / (2 + np.exp(-s) + np.exp(s))),
        (functions.step, lambda s: 0),
        (functions.relu, lambda s: float(s > 0)),
        (functions.saturate, lambda s: float(0 < s < 1)),
        (functions.stop_gradient, lambda s: 0),
        (functions.positive, lambda s: 1 if s > 0 else 1 / (2 + np.exp(-s) + np.exp(s))),
    ],
)
@pytest.mark.parametrize("at", [-1.7, -0.2, 0.4, 0.9, 2.3])
def test_each_knows_its_derivative(function, slope, at):
    def plain(expression):
        """The functions of longlag as Python's: a derivative is made of sigmoid and step."""
        expression = expression.replace(functions.sigmoid, lambda x: 1 / (1 + sympy.exp(-x)))
        return expression.replace(functions.step, lambda x: sympy.Integer(int(bool(x > 0))))

    derivative = plain(sympy.diff(function(X), X).subs(X, at))
    assert float(derivative) == pytest.approx(slope(at), rel=1e-12)


@pytest.mark.parametrize("function", [functions.relu, functions.saturate, functions.step])
def test_at_the_corner_the_derivative_is_that_of_pytorch(function):
    derivative = sympy.diff(function(X), X).subs(X, 0)
    assert derivative.replace(functions.step, lambda x: sympy.Integer(int(bool(x > 0)))) == 0


def test_positive_has_the_slope_of_its_right_side_at_the_corner():
    derivative = sympy.diff(functions.positive(X), X).subs(X, 0)
    assert derivative.replace(functions.step, lambda x: sympy.Integer(int(bool(x > 0)))) == 1


def test_they_are_real_so_that_an_absolute_value_has_a_slope():
    for function in (functions.sigmoid, functions.relu, functions.saturate, functions.step):
        assert function(X).is_real
    assert sympy.diff(abs(functions.sigmoid(X)), X).has(sympy.sign)


@pytest.mark.parametrize(
    ("function", "written"),
    [
        (functions.sigmoid, r"\sigma\left(x\right)"),
        (functions.step, r"\mathbf{1}\left[x > 0\right]"),
        (functions.relu, r"\operatorname{relu}\left(x\right)"),
        (functions.saturate, r"\operatorname{sat}\left(x\right)"),
        (functions.stop_gradient, r"\operatorname{sg}\left(x\right)"),
        (functions.positive, r"\operatorname{positive}\left(x\right)"),
    ],
)
def test_each_is_written_in_latex(function, written):
    assert sympy.latex(function(X)) == written
    assert sympy.latex(function(X) ** 2) == rf"\left({written}\right)^{{2}}"


def test_activations_by_name():
    assert list(ACTIVATIONS) == [
        "tanh", "sigmoid", "relu", "identity", "saturated", "bipolar", "double_bipolar",
        "positive",
    ]  # fmt: skip
    assert activation("identity")(X) is X
    assert activation("bipolar")(X) == 2 * functions.sigmoid(X) - 1
    assert activation("double_bipolar")(X) == 4 * functions.sigmoid(X) - 2


def test_an_unknown_activation_is_refused_with_all_that_there_are():
    with pytest.raises(ValueError, match="got 'softmax'") as caught:
        activation("softmax")
    assert all(repr(name) in str(caught.value) for name in ACTIVATIONS)
