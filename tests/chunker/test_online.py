import numpy as np
import pytest
import torch
from tests.chunker import cases

import longlag as ll
from longlag.chunker import OnlineBPTT, OnlineRTRL

ROWS = np.arange(3)


def started(method, nets, rate=1.0):
    model = nets.automatizer
    return method.start(model, rate, [nets.imitation])


@pytest.mark.slow
@pytest.mark.parametrize("method", [OnlineRTRL(), OnlineBPTT(9)])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "identity"])
@pytest.mark.parametrize(("direct", "bias"), [(True, True), (False, False)])
def test_a_step_after_a_sequence_is_its_exact_gradient(method, activation, direct, bias):
    nets = cases.nets(activation=activation, direct=direct, bias=bias, targets=0)
    before = cases.weights(nets)
    x, _, _ = cases.stream(9, targets=0, seed=1)
    parts = {k: p for k, p in nets.named_parameters() if not k.startswith("chunker")}
    given = nets.inputs(torch.from_numpy(x)[:, None])
    h, _ = nets.automatizer.layer(given)
    seen = given[..., -1, :] if direct else None
    outputs = [
        readout(h[..., -1, :], seen)[:, 0] for readout in (nets.automatizer.readout, nets.imitation)
    ]
    wanted = [torch.rand_like(output) for output in outputs]
    loss = sum(0.5 * (o - w).square().sum() for o, w in zip(outputs, wanted, strict=True))
    gradients = torch.autograd.grad(loss, list(parts.values()))
    net = started(method, nets)
    net.reset(ROWS)
    for t in range(9):
        net.read(ROWS, x[:, t])
    np.testing.assert_allclose(net.hidden(), h[:, 0, -1].detach(), rtol=1e-12)
    errors = []
    for mine, output, goal in zip(net.outputs(), outputs, wanted, strict=True):
        np.testing.assert_allclose(mine, output.detach(), rtol=1e-12, atol=1e-15)
        errors.append(mine - goal.numpy())
    net.learn(ROWS[:2], errors)
    for (name, parameter), gradient in zip(parts.items(), gradients, strict=True):
        torch.testing.assert_close(
            parameter.detach()[:2], before[name][:2] - gradient[:2], rtol=1e-9, atol=1e-12
        )
        assert torch.equal(parameter.detach()[2], before[name][2])


@pytest.mark.parametrize("method", [OnlineRTRL(), OnlineBPTT(3)])
def test_what_is_not_trained_stays(method):
    for frozen in ("layer.weight_ih", "layer.weight_hh", "layer.bias", "readout.weight",
                   "readout.weight_direct", "readout.bias"):  # fmt: skip
        nets = cases.nets(targets=0)
        before = cases.weights(nets.automatizer)
        nets.automatizer.get_parameter(frozen).requires_grad_(False)
        net = started(method, nets)
        for t in range(3):
            net.read(ROWS, np.array([t, 1, 2]))
        net.learn(ROWS, [np.ones_like(output) for output in net.outputs()])
        for name, value in cases.weights(nets.automatizer).items():
            assert torch.equal(value, before[name]) == (name == frozen), name


def test_the_window_of_one_step_gives_no_credit_to_the_state_before():
    nets = cases.nets(targets=0)
    before = cases.weights(nets)
    net = started(OnlineBPTT(1), nets)
    net.reset(ROWS)
    net.read(ROWS, np.array([0, 0, 0]))
    net.read(ROWS, np.array([1, 1, 1]))
    net.learn(ROWS, [np.ones_like(output) for output in net.outputs()])
    name = "automatizer.layer.weight_ih"
    changed = (cases.weights(nets)[name] != before[name]).any(1)
    assert changed.tolist() == [[False, True, False, False]] * 3


def test_rtrl_is_for_elman_layers():
    def start(layer):
        OnlineRTRL().start(layer, 1.0)

    with pytest.raises(TypeError, match=r"layer: OnlineRTRL\(\) is for ll.Elman layers, got LSTM"):
        start(ll.LSTM(3, 2))
    with pytest.raises(
        ValueError, match="knows the activations identity, sigmoid, tanh, got 'relu'"
    ):
        start(ll.Elman(3, 2, activation="relu"))
    with pytest.raises(ValueError, match="knows no dropout"):
        start(ll.Elman(3, 2, input_dropout=0.5))
    with pytest.raises(ValueError, match="knows no sparse W"):
        start(ll.Elman(3, 2, density=0.5))
    with pytest.raises(ValueError, match="knows no dilation, got 2"):
        start(ll.Elman(3, 2, dilation=2))
    with pytest.raises(ValueError, match="runs on the CPU, got meta"):
        start(ll.Elman(3, 2, device="meta"))


def test_windows_out_of_range():
    with pytest.raises(ValueError, match="steps: got 0, expected at least 1"):
        OnlineBPTT(0)
    with pytest.raises(TypeError, match=r"steps: got 1\.5"):
        OnlineBPTT(1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="drops out units"):
        OnlineBPTT(3).start(ll.Elman(3, 2, input_dropout=0.5), 1.0)
