"""Networks without input: x is (N, T, 0), and what happens comes from state, W and biases."""

import pytest
import torch
from tests.scan import cases

import longlag as ll


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Elman", "LSTM", "GRU", "Wired", "Clockwork", "Mixed"])
@pytest.mark.parametrize("front", [(1,), (6,), (2, 3)], ids=["one", "six", "replicas"])
def test_every_backend_runs_one(name, front):
    cell = cases.CELLS[name]
    hidden = cases.hidden_of(cell, 5)
    layer = cases.layer_of(cell, 0, hidden, 1, replicas=front[0] if len(front) > 1 else None)
    state = cases.states_of(cell, front, hidden)
    x = torch.zeros(*front, 7, 0, dtype=torch.float64)
    expected = cases.run(layer, x, state, "reference")
    assert expected["output"].count_nonzero() > 0
    for backend in ("derived", "cpu"):
        cases.assert_same(cases.run(layer, x, state, backend), expected)


def test_a_pendulum_swings_by_itself():
    """h_t = W h_{t-1} with a rotation W comes back after a whole turn."""
    layer = ll.Elman(0, 2, activation="identity", bias=False, dtype=torch.float64)
    angle = torch.tensor(2 * torch.pi / 50, dtype=torch.float64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    with torch.no_grad():
        layer.weight_hh.copy_(turn)
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    output, state = layer(torch.zeros(1, 50, 0, dtype=torch.float64), start)
    assert layer.backend_used == "cpu"
    torch.testing.assert_close(state.h, start, rtol=0, atol=1e-13)
    torch.testing.assert_close(output[0, 24], -start[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", [ll.RTRL(), ll.CheckpointedBPTT(3), ll.TruncatedBPTT(2, 20)])
def test_gradient_methods_train_one(method):
    model = ll.SequenceModel(ll.LSTM(0, 3, seed=0), 2, reduce=None, seed=1).double()
    torch.nn.init.normal_(model.layer.bias, generator=torch.Generator().manual_seed(0))
    x, target = torch.zeros(2, 8, 0, dtype=torch.float64), cases.random(2, 8, 2)
    loss = torch.nn.functional.mse_loss
    expected = ll.BPTT().gradients(model, x, target, loss)
    for name, gradient in method.gradients(model, x, target, loss).items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-12)
    assert expected["layer.weight_hh"].count_nonzero() > 0


def test_it_is_saved_and_reported(tmp_path):
    layer = ll.GRU(0, 4, seed=0)
    ll.save(layer, tmp_path / "free.longlag")
    x, state = torch.zeros(3, 9, 0), torch.ones(3, 4)
    assert torch.equal(ll.load(tmp_path / "free.longlag")(x, state)[0], layer(x, state)[0])
    assert ll.state_jacobians(layer, x).shape == (3, 9, 4, 4)
