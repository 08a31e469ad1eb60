"""Intrinsic plasticity: against a loop in NumPy, and what becomes of the outputs."""

import numpy as np
import pytest
import torch
from scipy import stats

import longlag as ll
from longlag.reservoirs import IntrinsicPlasticity

DOUBLE = {"dtype": torch.float64, "seed": 1}


def noise(batch, steps, features=1):
    draw = torch.Generator().manual_seed(0)
    return torch.rand(batch, steps, features, dtype=torch.float64, generator=draw) * 2 - 1


def adapted_by_hand(layer, x, rule, rate, every, epochs, leak):
    u, w, b = (p.numpy().copy() for p in (layer.weight_ih, layer.recurrent_matrix(), layer.bias))
    phi = {"tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}[layer.cell.activation]
    g = np.ones(len(b))
    for _ in range(epochs):
        h = np.zeros((len(x), len(b)))
        for first in range(0, x.shape[1], every):
            d_g, d_b = np.zeros_like(g), np.zeros_like(b)
            for t in range(first, min(first + every, x.shape[1])):
                z = x[:, t] @ u.T + h @ w.T
                y = phi(g * z + b)
                h = (1 - leak) * h + leak * y
                change = rate * rule(y)
                d_b += change.mean(0)
                d_g += (rate / g + change * z).mean(0)
            g, b = g + d_g, b + d_b
    return g, g[:, None] * u, g[:, None] * w, b


def gaussian(mean, std):
    def rule(y):
        return -(-mean / std**2 + y / std**2 * (2 * std**2 + 1 - y**2 + mean * y))

    return rule


def exponential(mean):
    return lambda y: 1 - (2 + 1 / mean) * y + y**2 / mean


@pytest.mark.parametrize(("every", "epochs"), [(1, 1), (7, 2)])
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("leak", [1.0, 0.3])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_it_is_the_rule(every, epochs, density, leak, activation):
    layer = ll.EchoState(2, 15, bias_scaling=0.3, density=density, leak=leak,
                         activation=activation, **DOUBLE)  # fmt: skip
    x = noise(3, 40, 2)
    if activation == "tanh":
        method, rule = IntrinsicPlasticity(0.1, 0.3, 1e-2, every), gaussian(0.1, 0.3)
    else:
        method, rule = IntrinsicPlasticity(0.2, None, 1e-2, every), exponential(0.2)
    expected = adapted_by_hand(layer, x.numpy(), rule, 1e-2, every, epochs, leak)
    before = layer.state_dict().keys()
    gain = method.adapt(layer, x, epochs=epochs)
    got = (gain, layer.weight_ih, layer.recurrent_matrix(), layer.bias)
    for part, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(part, wanted, rtol=1e-9, atol=1e-12)
    assert float((gain - 1).abs().min()) > 1e-4
    assert layer.state_dict().keys() == before
    assert not any(p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize(
    ("scaling", "mean"),
    [(3.0, 0.2), *(pytest.param(*case, marks=pytest.mark.long)
                   for case in ((0.1, 0.0), (3.0, 0.0), (0.1, 0.2)))],
)  # fmt: skip
def test_outputs_come_near_the_gaussian(scaling, mean):
    layer = ll.EchoState(1, 60, density=1.0, input_scaling=scaling, bias_scaling=0.1, **DOUBLE)
    x, held_out = noise(1, 8000).split(6000, 1)

    def distance():
        h = layer(held_out)[0].flatten().numpy()
        return stats.kstest(h, stats.norm(mean, 0.2).cdf).statistic, h

    before, _ = distance()
    IntrinsicPlasticity(mean, 0.2, rate=1e-3).adapt(layer, x, epochs=3)
    after, h = distance()
    assert h.mean() == pytest.approx(mean, abs=0.03)
    assert h.std() == pytest.approx(0.2, abs=0.03)
    assert after < 0.08 < 0.15 < before


def test_outputs_come_near_the_exponential():
    layer = ll.EchoState(1, 60, density=1.0, bias_scaling=0.1, activation="sigmoid", **DOUBLE)
    x, held_out = noise(1, 8000).split(6000, 1)
    IntrinsicPlasticity(0.2, None, rate=2e-3).adapt(layer, x, epochs=4)
    h = layer(held_out)[0].flatten().numpy()
    assert h.mean() == pytest.approx(0.2, abs=0.02)
    assert np.median(h) == pytest.approx(0.2 * np.log(2), abs=0.04)


def test_the_adapted_layer_is_saved_and_fitted_as_any_other(tmp_path):
    layer = ll.EchoState(1, 20, bias_scaling=0.1, seed=0)
    layer.train()
    radius = layer.effective_spectral_radius()
    IntrinsicPlasticity().adapt(layer, noise(1, 500).float())
    assert layer.training
    assert layer.effective_spectral_radius() != pytest.approx(radius, abs=1e-3)
    model = ll.SequenceModel(layer, 1, reduce=None)
    x = noise(1, 300).float()
    ll.fit(model, (x[:, 1:], x[:, :-1]), method=ll.Ridge(1e-6, washout=20))
    ll.save(model, tmp_path / "model.longlag")
    torch.testing.assert_close(ll.load(tmp_path / "model.longlag")(x), model(x))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"std": 0.0}, ValueError, "std: got 0.0, expected a number above 0.0"),
        ({"std": None}, ValueError, "mean: got 0.0, expected a number above 0.0"),
        ({"mean": 2.0}, ValueError, "mean: got 2.0, expected a number above -1.0"),
        ({"rate": 0}, ValueError, "rate: got 0, expected a number above 0.0"),
        ({"every": 0}, ValueError, "every: got 0, expected at least 1"),
    ],
)
def test_errors_of_arguments(options, error, message):
    with pytest.raises(error, match=message):
        IntrinsicPlasticity(**options)


@pytest.mark.parametrize(
    ("layer", "method", "x", "error", "message"),
    [
        (ll.LSTM(1, 3), {}, noise(1, 9), TypeError, "layer: got LSTM, expected leaky units"),
        (ll.EchoState(1, 3, activation="relu", bias_scaling=1.0), {}, noise(1, 9), ValueError,
         "activation='relu', expected 'tanh' for a Gaussian"),
        (ll.EchoState(1, 3, bias_scaling=1.0), {"mean": 0.1, "std": None}, noise(1, 9), ValueError,
         "activation='tanh', expected 'sigmoid' for an exponential"),
        (ll.EchoState(1, 3), {}, noise(1, 9), ValueError, "it has no biases"),
        (ll.EchoState(1, 3, bias_scaling=1.0, replicas=2), {}, noise(1, 9), ValueError,
         "got replicas=2"),
        (ll.EchoState(1, 3, bias_scaling=1.0, **DOUBLE), {}, noise(1, 9, 2), ValueError, "x: got"),
    ],
)  # fmt: skip
def test_errors_of_layers(layer, method, x, error, message):
    with pytest.raises(error, match=message):
        IntrinsicPlasticity(**method).adapt(layer, x)


@pytest.mark.parametrize("broken", ["rate", "x"])
def test_an_error_leaves_the_layer_as_it_was(broken):
    layer = ll.EchoState(1, 10, bias_scaling=0.1, **DOUBLE)
    before = {name: part.clone() for name, part in layer.state_dict().items()}
    x = noise(1, 100)
    if broken == "x":
        x[0, 50] = np.nan
    method = IntrinsicPlasticity(rate=1e3 if broken == "rate" else 1e-3)
    with pytest.raises(ValueError, match="a gain did not stay finite and above 0"):
        method.adapt(layer, x)
    assert all(torch.equal(part, before[name]) for name, part in layer.state_dict().items())


def test_computed_weights_are_refused():
    layer = ll.EchoState(1, 10, bias_scaling=0.1, density=1.0, **DOUBLE)
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_ih")
    with pytest.raises(ValueError, match="layer: weight_ih is computed from other parameters"):
        IntrinsicPlasticity().adapt(layer, noise(1, 20))
