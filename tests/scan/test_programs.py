import math

import pytest
import sympy
import torch

from longlag.recurrence import ARITY, Operation, Program
from longlag.recurrence.program import compile_program
from longlag.scan import programs
from longlag.scan.programs import TorchProgram

AT = torch.tensor([-2.3, -0.6, 0.0, 0.3, 1.0, 1.7], dtype=torch.float64)
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
    "stop_gradient": lambda x: x,
    "add": lambda x: x + 0.7,
    "sub": lambda x: x - 0.7,
    "mul": lambda x: x * 0.7,
    "div": lambda x: x / 0.7,
}


@pytest.mark.parametrize("name", sorted(set(ARITY) - {"constant"}))
def test_every_operation_has_its_meaning(name):
    operations = (Operation("constant", (), 0.7), Operation(name, (0, 1)[: ARITY[name]]))
    run = TorchProgram(Program(("x",), operations, (2,)))
    at = AT[AT > 0] if name in ("log", "sqrt") else AT
    expected = torch.tensor([PLAIN[name](x) for x in at.tolist()], dtype=torch.float64)
    torch.testing.assert_close(run([at])[0], expected, rtol=1e-15, atol=1e-16)


def test_stop_gradient_cuts_the_graph():
    x = torch.ones(2, requires_grad=True)
    run = TorchProgram(Program(("x",), (Operation("stop_gradient", (0,)),), (1,)))
    assert not run([x])[0].requires_grad


def test_a_constant_output_has_the_shape_of_the_first_input():
    x, y = sympy.symbols("x y", real=True)
    run = TorchProgram(compile_program([x, y], [sympy.Integer(3), y]))
    constant, same = run([torch.zeros(2, 4), torch.ones(4)])
    assert torch.equal(constant, torch.full((2, 4), 3.0))
    assert torch.equal(same, torch.ones(4))


def test_an_operation_without_a_form_here_is_an_error(monkeypatch):
    monkeypatch.delitem(programs._OPERATIONS, "sin")
    with pytest.raises(NotImplementedError, match=r"without a PyTorch form: \['sin'\]"):
        TorchProgram(Program(("x",), (), (0,)))
