import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import LSTM


def equations(cell, x, s, p):
    """The six lines of the docstring, peepholes on c_{t-1}, c_{t-1} and c_t."""
    h, c = p.read(s["h"]), s["c"]
    a = {g: x @ p.U[g].T + h @ p.W[g].T + p.b[g] for g in p.U}
    peep = {g: p.unit.get(f"peephole_{g}", 0) for g in p.U}
    i = oracle.sigma(a["input"] + peep["input"] * c)
    f = oracle.sigma(a["forget"] + peep["forget"] * c)
    c = f * c + i * np.tanh(a["candidate"])
    o = oracle.sigma(a["output"] + peep["output"] * c)
    return {"h": o * np.tanh(c), "c": c}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("peepholes", [False, True])
def test_it_is_its_equation(peepholes, backend):
    layer = oracle.layer_of(LSTM(peepholes=peepholes), backend=backend)
    given = oracle.problem(layer.cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert ("peephole_output" in expected.gradients) == peepholes
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


@pytest.mark.parametrize("forget", [1.0, -2.5])
def test_initial_values(forget):
    layer = ll.LSTM(3, 4, forget_bias=forget, peepholes=True)
    i, f, g, o = layer.bias.split(4)
    assert (f == forget).all()
    assert all((part == 0).all() for part in (i, g, o))
    for name in ("peephole_input", "peephole_forget", "peephole_output"):
        assert (layer.unit(name) == 0).all()


def test_the_forget_bias_is_one_by_default():
    assert (ll.LSTM(3, 4).bias.split(4)[1] == 1).all()


def test_states_and_output():
    output, state = ll.LSTM(3, 4)(torch.ones(2, 5, 3))
    assert type(state).__name__ == "LSTMState"
    assert state._fields == ("h", "c")
    torch.testing.assert_close(state.h, output[:, -1])
    assert not torch.allclose(state.c, state.h)
