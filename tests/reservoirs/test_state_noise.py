"""Noise on what drives the units while a readout is fitted, and what it is good for."""

import functools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

import longlag as ll
from longlag.layers.state_noise import StateNoise

DOUBLE = {"dtype": torch.float64}
NOISE = 0.03


def given(batch=3, steps=40):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(batch, steps, 3, generator=draw, **DOUBLE)
    return x, torch.randn(batch, steps, 2, generator=draw, **DOUBLE)


def model_of(seed=0, **options):
    """A feedback of two outputs, beside one input; the teacher's values are in x."""
    options = {"leak": 0.4, "bias_scaling": 0.2, "feedback_size": 2, **options}
    layer = ll.EchoState(1, 20, seed=seed, **options, **DOUBLE)
    return ll.SequenceModel(layer, 2, reduce=None, seed=seed)


def noise_of(seed, *shape):
    """As a layer that reads all steps at once draws it, time first."""
    return StateNoise(ll.Elman(1, 1), NOISE, seed).draw(torch.empty(*shape, **DOUBLE)).numpy()


def noisy_states(layer, x, seed):
    """The plain loop: h = (1 - a) h + a tanh(U x + W h + b + noise)."""
    matrix = layer.recurrent_matrix().detach().numpy()
    inputs, bias = layer.weight_ih.detach().numpy(), layer.bias.detach().numpy()
    leak = layer.unit("leak").numpy()
    noise = noise_of(seed, x.shape[1], len(x), layer.hidden_size)
    h, states = np.zeros((len(x), layer.hidden_size)), []
    for t in range(x.shape[1]):
        a = x[:, t].numpy() @ inputs.T + h @ matrix.T + bias + noise[t]
        h = (1 - leak) * h + leak * np.tanh(a)
        states.append(h)
    return np.stack(states, 1)


def least_squares(states, target, alpha):
    """Weights with a penalty, about the means."""
    f, y = states.reshape(-1, states.shape[-1]), target.reshape(-1, target.shape[-1])
    f, y = f - f.mean(0), y - y.mean(0)
    return np.linalg.solve(f.T @ f + alpha * np.eye(f.shape[1]), f.T @ y).T


METHODS = {
    "Cholesky": (ll.Ridge(0.1, washout=5, state_noise=NOISE), 0.1),
    "singular values": (ll.Ridge(0.1, washout=5, solver="svd", state_noise=NOISE), 0.1),
    "recursive": (ll.RecursiveLeastSquares(0.1, washout=5, state_noise=NOISE), 0.1),
    "scikit-learn": (
        ll.reservoirs.ScikitLearn(LinearRegression(), washout=5, state_noise=NOISE), 0.0
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_readout_is_fitted_on_the_states_of_the_plain_loop(name):
    method, alpha = METHODS[name]
    model, (x, target) = model_of(), given()
    history = ll.fit(model, (x, target), method=method, seed=7)
    states = noisy_states(model.layer, x, 7)
    expected = least_squares(states[:, 5:], target[:, 5:].numpy(), alpha)
    np.testing.assert_allclose(model.readout.weight.detach().numpy(), expected, atol=1e-9)
    # Neither the model nor the error that is told has noise.
    error = (model(x) - target)[:, 5:].detach().square().mean()
    assert history.losses[-1] == pytest.approx(float(error), rel=1e-12)


def test_a_seed_is_a_fit_and_nothing_else_is_drawn_from():
    (x, target), before = given(), torch.get_rng_state()
    method = ll.Ridge(0.1, state_noise=NOISE)

    def weights(seed, method=method):
        model = model_of()
        ll.fit(model, (x, target), method=method, seed=seed)
        return model.readout.weight.detach()

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
    assert torch.equal(weights(3, ll.Ridge(0.1)), weights(4, ll.Ridge(0.1, state_noise=0.0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ll.Bidirectional(ll.GRU(3, 5, **DOUBLE), ll.GRU(3, 5, **DOUBLE)),
        lambda: ll.Stack(ll.LSTM(3, 5, **DOUBLE), ll.Elman(5, 10, dilation=2, **DOUBLE)),
        lambda: ll.EchoState(1, 10, feedback_size=2, proximity=0.3, **DOUBLE),
    ],
    ids=["both directions", "stack, dilated", "edge of stability"],
)
@pytest.mark.parametrize("reduce", [None, "last"])
def test_layers_of_any_kind_have_noise_and_padding_changes_nothing(make, reduce):
    torch.manual_seed(0)
    model, (x, target) = ll.SequenceModel(make(), 2, reduce=reduce), given()
    lengths = torch.tensor([40, 21, 33])
    for row, length in enumerate(lengths):
        x[row, length:] = torch.nan
    target = target if reduce is None else target[:, 0]
    fitted = []
    for size in (0.0, NOISE, 2 * NOISE):
        ll.fit(model, (x, target, lengths), method=ll.Ridge(0.1, state_noise=size))
        fitted.append(model.readout.weight.detach().clone())
    assert all(bool(part.isfinite().all()) for part in fitted)
    assert len({part.sum().item() for part in fitted}) == 3


def test_an_error_leaves_no_noise_behind():
    model, (x, target) = model_of(), given()
    x[1, 7] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        ll.fit(model, (x, target), method=ll.Ridge(0.1, state_noise=NOISE))
    assert model.layer.drive_noise is None
    with pytest.raises(RuntimeError), StateNoise(model, 1.0):
        raise RuntimeError
    assert model.layer.drive_noise is None


@pytest.mark.parametrize(
    "make",
    [
        ll.Ridge,
        ll.RecursiveLeastSquares,
        functools.partial(ll.reservoirs.ScikitLearn, LinearRegression()),
    ],
)
def test_what_is_no_size_is_refused(make):
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="state_noise: got"):
            make(state_noise=wrong)


def test_a_model_without_units_is_refused():
    layer = ll.NextGeneration(3, delays=2, **DOUBLE)
    model, (x, target) = ll.SequenceModel(layer, 2, reduce=None), given()
    with pytest.raises(ValueError, match=r"state_noise: got 0\.1, but .* has no recurrent layer"):
        ll.fit(model, (x, target), method=ll.Ridge(0.1, state_noise=0.1))


def test_with_noise_a_network_comes_back_to_the_figure_that_it_draws():
    """A figure of eight, after a disturbance: without noise it is left, and with noise kept to."""
    t = torch.arange(1001, **DOUBLE)
    figure = 0.7 * torch.stack([(0.1 * t).sin(), (0.2 * t).sin()], -1)
    farthest = []
    for size in (0.0, 1e-3):
        layer = ll.EchoState(0, 100, feedback_size=2, spectral_radius=0.8, bias_scaling=0.3, seed=0,
                             **DOUBLE)  # fmt: skip
        model = ll.SequenceModel(layer, 2, reduce=None)
        series = figure.unsqueeze(0)
        method = ll.Ridge(1e-14, washout=100, state_noise=size)
        ll.fit(model, (series[:, :-1], series[:, 1:]), method=method, seed=0)
        with torch.no_grad():
            _, state = layer(series)
            disturbed = state.h + 0.01 * torch.from_numpy(np.random.default_rng(0).normal(size=100))
            ahead, _ = model.generate(2000, state=type(state)(disturbed))
        away = torch.cdist(ahead[0, 1000:], figure[100:]).amin(1)
        farthest.append(float(away.max()))
    without, with_noise = farthest
    assert without > 0.5
    assert with_noise < 0.03
