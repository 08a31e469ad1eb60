import math

import pytest
import sympy

from longlag.recurrence import ARITY, DeclarationError, Operation, functions
from longlag.recurrence.program import compile_program

X, Y = sympy.symbols("x y", real=True)

PYTHON = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "abs": abs,
    "sign": lambda x: math.copysign(1, x) if x else 0,
    "relu": lambda x: max(x, 0),
    "saturate": lambda x: min(1, max(0, x)),
    "step": lambda x: float(x > 0),
    "floor": math.floor,
    "stop_gradient": lambda x: x,
}


def run(program, *inputs):
    values = list(inputs)
    for operation in program.operations:
        assert len(operation.arguments) == ARITY[operation.name]
        arguments = [values[number] for number in operation.arguments]
        constant = operation.name == "constant"
        values.append(operation.value if constant else PYTHON[operation.name](*arguments))
    return [values[number] for number in program.outputs]


def names(program):
    return [operation.name for operation in program.operations]


def test_the_set_of_operations_is_closed():
    assert set(ARITY) == set(PYTHON) | {"constant"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (X + Y, lambda x, y: x + y),
        (X - Y, lambda x, y: x - y),
        (-X - Y, lambda x, y: -x - y),
        (-X * Y, lambda x, y: -x * y),
        (X / Y, lambda x, y: x / y),
        (1 / Y, lambda x, y: 1 / y),
        (-1 / Y, lambda x, y: -1 / y),
        (X / (3 * Y), lambda x, y: x / (3 * y)),
        (2 * X / 3 - Y / 7, lambda x, y: 2 * x / 3 - y / 7),
        (X**2, lambda x, y: x**2),
        (X**7, lambda x, y: x**7),
        (X**-3, lambda x, y: x**-3),
        (Y**0.5, lambda x, y: y**0.5),
        (Y ** sympy.Rational(5, 2), lambda x, y: y**2.5),
        (Y**-0.5, lambda x, y: y**-0.5),
        (X * Y**-1.5, lambda x, y: x * y**-1.5),
        (1 - X, lambda x, y: 1 - x),
        (sympy.pi * X + sympy.E, lambda x, y: math.pi * x + math.e),
        (sympy.sqrt(2) * X, lambda x, y: 2**0.5 * x),
        (sympy.exp(X) / sympy.exp(Y), lambda x, y: math.exp(x - y)),
        (sympy.exp(-X) * Y, lambda x, y: math.exp(-x) * y),
        (sympy.log(Y), lambda x, y: math.log(y)),
        (sympy.sin(X) * sympy.cos(X), lambda x, y: math.sin(x) * math.cos(x)),
        (sympy.sqrt(X**2), lambda x, y: abs(x)),
        (sympy.sign(X), lambda x, y: math.copysign(1, x)),
        (functions.relu(X) + functions.saturate(Y), lambda x, y: max(x, 0) + min(1, y)),
        (functions.step(X - Y), lambda x, y: float(x > y)),
        (functions.stop_gradient(X) * X, lambda x, y: x * x),
        (functions.sigmoid(sympy.tanh(X)), lambda x, y: 1 / (1 + math.exp(-math.tanh(x)))),
        (sympy.Integer(3), lambda x, y: 3),
        (X, lambda x, y: x),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
@pytest.mark.parametrize("at", [(-0.7, 0.4), (1.3, 2.6)], ids=str)
def test_a_program_computes_its_expression(expression, expected, at):
    (value,) = run(compile_program([X, Y], [expression]), *at)
    assert value == pytest.approx(expected(*at), rel=1e-14)


def test_equal_operations_are_one_between_outputs_too():
    program = compile_program([X, Y], [sympy.tanh(X) * Y, sympy.tanh(X), sympy.tanh(X) ** 2])
    assert names(program).count("tanh") == 1
    assert program.outputs[1] == 2
    shared = compile_program([X, Y], [(X + Y) * X, (X + Y) / X])
    assert sorted(names(shared)) == ["add", "div", "mul"]


def test_sums_and_products_are_shared_in_any_order():
    program = compile_program([X, Y], [sympy.tanh(X + Y), sympy.sin(Y + X)])
    assert names(program).count("add") == 1


def test_a_power_takes_few_products():
    assert names(compile_program([X], [X**8])) == ["mul"] * 3
    assert names(compile_program([X], [X**0.5])) == ["sqrt"]
    assert names(compile_program([X], [1 / sympy.sqrt(X)])) == ["sqrt", "constant", "div"]


def test_subtraction_takes_no_negation():
    assert names(compile_program([X, Y], [X - Y])) == ["sub"]
    assert names(compile_program([X, Y], [-X + Y])) == ["sub"]


def test_it_prints_as_straight_line_code():
    program = compile_program([X, Y], [2 * X, X - Y])
    assert str(program) == ("v0 = constant(2.0)\nv1 = mul(x, v0)\nv2 = sub(x, y)\nreturn v1, v2")
    assert program.operations[0] == Operation("constant", (), 2.0)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            X ** sympy.Rational(1, 3),
            r"to the power 1/3 in 'x\*\*\(1/3\)'; expected a whole or half",
        ),
        (X**0.3, r"to the power 0.3"),
        (X**Y, r"to the power y in 'x\*\*y'.*write exp\(power \* log\(base\)\)"),
        (X**-Y, r"to the power y in"),
        (2**X, r"to the power x in '2\*\*x'"),
        (sympy.Max(X, Y), "uses Max in .* not a pointwise operation .*use .* relu"),
        (sympy.Piecewise((X, X > 0), (Y, True)), "uses Piecewise in"),
        (sympy.Integral(X * Y, (X, 0, 1)), "uses Integral in"),
        (sympy.Derivative(sympy.Function("f")(X), X), "uses Derivative in"),
        (sympy.Function("f")(X), r"uses f in 'f\(x\)'"),
        (sympy.asin(X), "uses asin in"),
        (X * sympy.I, "contains I, which is not a finite real number"),
        (X + sympy.Integer(10) ** 400, "which is not a finite real number"),
        (X * sympy.Float("inf"), "contains oo, which is not a finite real number"),
        (X * sympy.Symbol("k"), "uses the symbol k, which is not one of its arguments; use only"),
        (sympy.Symbol("x0") * (X + Y) + sympy.sin(X + Y), "uses the symbol x0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_has_no_meaning_is_refused(expression, message):
    with pytest.raises(DeclarationError, match=message):
        compile_program([X, Y], [expression])
