"""A program means the same on tensors, arrays and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch

from longlag.recurrence import ARITY, Operation, Program
from longlag.recurrence.arithmetic import EXACT, NUMPY
from longlag.recurrence.program import compile_program
from longlag.scan.programs import TORCH, run_program

AT = [-2.3, -0.6, 0.0, 0.3, 1.0, 1.7]
PLAIN = {
    "neg": lambda x: -x,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "abs": abs,
    "sign": lambda x: (x > 0) - (x < 0),
    "relu": lambda x: max(x, 0),
    "saturate": lambda x: min(1, max(0, x)),
    "step": lambda x: int(x > 0),
    "floor": math.floor,
    "stop_gradient": lambda x: x,
    "add": lambda x: x + 0.7,
    "sub": lambda x: x - 0.7,
    "mul": lambda x: x * 0.7,
    "div": lambda x: x / 0.7,
}
IRRATIONAL = ("tanh", "sigmoid", "exp", "log", "sqrt", "sin", "cos")


def program_of(name):
    """f(x), or f(x, 0.7)."""
    operations = (Operation("constant", (), 0.7), Operation(name, (0, 1)[: ARITY[name]]))
    return Program(("x",), operations, (2,))


@pytest.mark.parametrize("table", [TORCH, NUMPY, EXACT], ids=["TORCH", "NUMPY", "EXACT"])
def test_a_table_has_every_operation(table):
    assert set(table) == set(ARITY)


@pytest.mark.parametrize("name", sorted(set(ARITY) - {"constant"}))
def test_every_operation_has_its_meaning(name):
    program = program_of(name)
    points = [x for x in AT if x > 0] if name in ("log", "sqrt") else AT
    expected = torch.tensor([PLAIN[name](x) for x in points], dtype=torch.float64)
    at = torch.tensor(points, dtype=torch.float64)
    torch.testing.assert_close(run_program(program, [at])[0], expected, rtol=1e-15, atol=1e-16)
    (found,) = program.evaluate(NUMPY, [np.array(points)])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize("name", sorted(set(ARITY) - {"constant", *IRRATIONAL}))
def test_fractions_are_exact(name):
    for x in (Fraction(-7, 3), Fraction(-1, 10**30), Fraction(0), Fraction(1, 7), Fraction(22, 7)):
        (found,) = program_of(name).evaluate(EXACT, [x])
        constant = Fraction(0.7)
        expected = {
            "add": lambda x, c=constant: x + c,
            "sub": lambda x, c=constant: x - c,
            "mul": lambda x, c=constant: x * c,
            "div": lambda x, c=constant: x / c,
        }.get(name, PLAIN[name])(x)
        assert found == expected
        assert isinstance(found, Fraction | int)


@pytest.mark.parametrize("name", IRRATIONAL)
def test_what_is_no_fraction_is_refused(name):
    with pytest.raises(ValueError, match=f"exact: the recurrence uses {name}, whose values"):
        program_of(name).evaluate(EXACT, [Fraction(1, 2)])


def test_stop_gradient_cuts_the_graph():
    x = torch.ones(2, requires_grad=True)
    program = Program(("x",), (Operation("stop_gradient", (0,)),), (1,))
    assert not run_program(program, [x])[0].requires_grad


def test_a_constant_output_has_the_shape_of_the_first_input():
    x, y = sympy.symbols("x y", real=True)
    program = compile_program([x, y], [sympy.Integer(3), y, sympy.Integer(3)])
    constant, same, again = run_program(program, [torch.zeros(2, 4), torch.ones(4)])
    assert torch.equal(constant, torch.full((2, 4), 3.0))
    assert torch.equal(same, torch.ones(4))
    assert again is constant


def test_an_operation_that_a_table_lacks_is_an_error():
    with pytest.raises(KeyError, match="sin"):
        program_of("sin").evaluate({"constant": float}, [0.5])
