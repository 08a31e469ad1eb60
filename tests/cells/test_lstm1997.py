import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import LSTM1997

CELLS = {
    "paper": LSTM1997(),
    "no output gate": LSTM1997(output_gate=False),
    "no recurrence": LSTM1997(recurrent=False),
    "experiment 2a": LSTM1997(False, False, cell_input="sigmoid", cell_output="identity"),
    "tanh": LSTM1997(cell_input="tanh", cell_output="tanh"),
}


def equations(cell, x, s, p):
    """The five lines of the docstring, sg the identity that no derivative passes."""
    h, c = oracle.stop(p.read(s["h"])), s["c"]
    a = {g: x @ p.U[g].T + p.b[g] + (h @ p.W[g].T if cell.recurrent else 0) for g in p.U}
    c = c + oracle.sigma(a["input"]) * oracle.PHI[cell.cell_input](a["candidate"])
    h = oracle.PHI[cell.cell_output](c)
    return {"h": oracle.sigma(a["output"]) * h if cell.output_gate else h, "c": c}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_it_is_its_equation(cell, backend):
    layer = oracle.layer_of(cell, backend=backend)
    given = oracle.problem(cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


def by_hand(layer, x, h, c, detached):
    """The paper's network as a loop in torch; h is cut off where a gate reads it."""
    outputs = []
    for t in range(x.shape[1]):
        read = h.detach() if detached else h
        i, g, o = (x[:, t] @ layer.weight_ih.T + read @ layer.weight_hh.T + layer.bias).chunk(3, 1)
        c = c + torch.sigmoid(i) * (4 * torch.sigmoid(g) - 2)
        h = torch.sigmoid(o) * (2 * torch.sigmoid(c) - 1)
        outputs.append(h)
    return torch.stack(outputs, 1), c


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
def test_the_error_is_truncated_at_the_gates_and_nowhere_else(backend):
    layer = oracle.layer_of(LSTM1997(), backend=backend, recurrent_dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    x, h, c = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in ((2, 7, oracle.INPUTS), (2, oracle.HIDDEN), (2, oracle.HIDDEN))
    )
    inputs = [x, c, *layer.parameters()]

    def gradients(output, memory):
        return torch.autograd.grad(output.square().sum() + memory.sum(), inputs)

    output, state = layer(x, (h, c))
    ours = gradients(output, state.c)
    truncated = gradients(*by_hand(layer, x, h, c, detached=True))
    whole = gradients(*by_hand(layer, x, h, c, detached=False))
    for mine, theirs in zip(ours, truncated, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)
    assert all(not torch.allclose(a, b) for a, b in zip(ours, whole, strict=True))


def test_error_inside_the_memory_flows_unchanged():
    """The constant error carousel: dc_T/dc_0 is the identity, at any lag."""
    layer = ll.LSTM1997(2, 3, dtype=torch.float64, seed=0)
    c = torch.randn(1, 3, dtype=torch.float64).requires_grad_()
    x = torch.randn(1, 200, 2, dtype=torch.float64)
    _, state = layer(x, (torch.zeros_like(c), c))
    jacobian = torch.stack([torch.autograd.grad(u, c, retain_graph=True)[0][0] for u in state.c[0]])
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64), rtol=0, atol=0)


def test_which_gates_and_weights_there_are():
    assert LSTM1997().gates == ("input", "candidate", "output")
    assert ll.LSTM1997(2, 3, output_gate=False).weight_hh.shape == (6, 3)
    assert ll.LSTM1997(2, 3, recurrent=False).weight_hh is None


@pytest.mark.parametrize("argument", ["cell_input", "cell_output"])
def test_an_unknown_squashing_is_refused(argument):
    with pytest.raises(ValueError, match="activation: got 'softmax', expected one of 'tanh'"):
        LSTM1997(**{argument: "softmax"})
