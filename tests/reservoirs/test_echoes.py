"""Echo states: what is proved and disproved, and what is measured, against NumPy and `memory`."""

import math

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.layers.init import as_generator
from longlag.recurrence.functions import ACTIVATIONS, activation
from longlag.reservoirs import echo_states, echoes
from longlag.reservoirs.echoes import ODD, STEEPEST

DOUBLE = {"dtype": torch.float64, "seed": 1}


def test_every_activation_has_its_steepest_slope():
    assert STEEPEST.keys() == ACTIVATIONS.keys()
    z = np.linspace(-20, 20, 40001)
    for name, most in STEEPEST.items():
        layer = ll.Elman(1, 1, activation=name, dtype=torch.float64)
        with torch.no_grad():
            layer.weight_ih.fill_(1.0), layer.bias.zero_()
            values = layer(torch.from_numpy(z)[:, None, None])[0].flatten().numpy()
        slopes = np.diff(values) / np.diff(z)
        assert np.abs(slopes).max() == pytest.approx(most, rel=1e-5)
        odd = np.allclose(values, -values[::-1]) and slopes[20000] == pytest.approx(most, rel=1e-5)
        assert odd == (name in ODD)
        assert callable(activation(name))


def set_matrix(layer, matrix):
    with torch.no_grad():
        layer.weight_hh.copy_(torch.as_tensor(matrix, dtype=torch.float64))
    return layer


def dense(hidden, **options):
    return ll.EchoState(1, hidden, density=1.0, **options, **DOUBLE)


@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_a_norm_below_one_is_a_proof(leak):
    layer = dense(20, leak=leak)
    matrix = torch.randn(20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    for size, proved in ((0.99, True), (1.3, False)):
        verdict = echo_states(set_matrix(layer, matrix * size / norm), steps=300)
        assert verdict.proved == proved
        assert 1 - leak + leak * size - 0.1 < verdict.bound <= 1 - leak + leak * size + 1e-9
        assert verdict.bound >= verdict.radius
        assert verdict.holds
    assert not verdict.disproved


def test_the_bound_holds_in_every_step():
    """Random pairs of states shrink by no more than ||W|| allows, in the norm of the proof."""
    layer = dense(10, leak=0.4)
    matrix = 0.08 * np.random.default_rng(0).normal(size=(10, 10))
    bound = echo_states(set_matrix(layer, matrix), steps=10).bound
    assert bound < 1
    draw = np.random.default_rng(1)
    one, other = draw.uniform(-1, 1, (2, 1000, 10))
    drive = draw.normal(size=(1000, 10))
    after = [0.6 * s + 0.4 * np.tanh(s @ matrix.T + drive) for s in (one, other)]
    growth = np.linalg.norm(after[0] - after[1], axis=1) / np.linalg.norm(one - other, axis=1)
    assert growth.max() < 1 - 0.4 + 0.4 * np.linalg.norm(matrix, 2) + 1e-12


@pytest.mark.parametrize("leak", [1.0, 0.2, tuple([0.5, 0.1, 0.9, 1.0] * 5)])
@pytest.mark.parametrize(("topology", "radius"), [("ring", 0.95), ("line", 5.0)])
def test_scaled_norms_prove_where_the_plain_one_does_not(topology, radius, leak):
    layer = ll.EchoState(1, 20, topology=topology, spectral_radius=radius, leak=leak, **DOUBLE)
    scale = torch.logspace(-2, 2, 20, dtype=torch.float64)
    there = scale.unsqueeze(-1) * layer.recurrent_matrix() / scale
    with torch.no_grad():
        layer.weight_hh.copy_(layer.entries.values(there))
    assert torch.linalg.matrix_norm(layer.recurrent_matrix(), 2) > 1.0
    verdict = echo_states(layer, steps=200)
    assert verdict.proved
    assert verdict.radius - 1e-9 <= verdict.bound < 1
    assert str(verdict).startswith("Echo states for every input: differences shrink by ")


def test_slopes_of_other_activations_count():
    matrix = 3.0 * torch.eye(4, dtype=torch.float64)
    verdicts = {
        name: echo_states(set_matrix(dense(4, activation=name), matrix), steps=500)
        for name in STEEPEST
    }
    assert {name for name, verdict in verdicts.items() if verdict.proved} == {"sigmoid"}
    assert {name for name, verdict in verdicts.items() if verdict.disproved} == set(ODD)
    assert verdicts["sigmoid"].bound == pytest.approx(0.75)
    assert verdicts["bipolar"].radius == pytest.approx(1.5)


def test_a_radius_above_one_is_a_disproof_where_zero_is_admissible():
    layer = ll.EchoState(1, 50, spectral_radius=1.5, **DOUBLE)
    verdict = echo_states(layer)
    assert verdict.disproved
    assert not verdict.proved
    assert not verdict.holds
    assert verdict.radius == pytest.approx(1.5)
    assert str(verdict).startswith("No echo states near zero: the spectral radius is 1.5; under")
    assert not echo_states(layer, zero_input=False).disproved
    assert not echo_states(ll.EchoState(1, 50, spectral_radius=0.9, **DOUBLE)).disproved
    biased = ll.EchoState(1, 50, spectral_radius=1.5, bias_scaling=0.1, **DOUBLE)
    assert not echo_states(biased).disproved
    # Slow units: the effective radius counts, not that of W.
    slow = ll.EchoState(1, 50, spectral_radius=1.1, leak=0.1, **DOUBLE)
    assert echo_states(slow).radius == pytest.approx(slow.effective_spectral_radius())


def test_of_a_linear_network_the_radius_decides():
    for radius in (0.97, 1.03):
        layer = ll.EchoState(1, 30, spectral_radius=radius, bias_scaling=0.3,
                             activation="identity", **DOUBLE)  # fmt: skip
        verdict = echo_states(layer, zero_input=False, steps=500)
        assert verdict.bound == verdict.radius == pytest.approx(radius)
        assert (verdict.proved, verdict.disproved) == (radius < 1, radius > 1)
        assert verdict.exponent == pytest.approx(math.log(radius), abs=2e-3)


def test_strong_input_gives_echo_states_to_an_unstable_unit():
    """W = 2 with u in [3, 4]: Jaeger 2001."""
    layer = set_matrix(dense(1), [[2.0]])
    with torch.no_grad():
        layer.weight_ih.fill_(1.0)
    u = 3.0 + torch.rand(2, 100, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    verdict = echo_states(layer, u, zero_input=False)
    assert verdict.forgets
    assert verdict.holds
    assert verdict.exponent < -5
    assert "Echo states, as measured: under the measured input" in str(verdict)
    still = echo_states(layer, torch.zeros_like(u), zero_input=False)
    assert not still.forgets
    assert not still.holds
    assert still.distance > 0.5  # two fixed points
    assert str(still).startswith("No echo states seen: under the measured input")
    assert echo_states(layer, u).disproved


@pytest.mark.parametrize(
    "options",
    [
        {"leak": tuple([0.9, 0.05] * 15), "bias_scaling": 0.4},
        *(
            pytest.param(options, marks=pytest.mark.long)
            for options in (
                {}, {"leak": 0.3, "bias_scaling": 0.4}, {"activation": "relu"},
                {"spectral_radius": 2.5}, {"topology": "line"}, {"activation": "sigmoid"},
            )
        ),
    ],
)  # fmt: skip
def test_the_exponent_is_the_one_that_memory_finds(options, monkeypatch):
    monkeypatch.setattr(echoes, "NUMBERS", 8 * 2 * 30 * 7)
    layer = ll.EchoState(2, 30, **options, **DOUBLE)
    x = torch.randn(2, 1500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first = torch.empty(8, 2, 30, dtype=torch.float64)
    first.uniform_(-1, 1, generator=as_generator(0, "first states"))
    exact = ll.memory.lyapunov_exponents(layer, x, 1, state=layer.state_of([first[0]]))
    expected = float(exact.exponents)
    assert echo_states(layer, x).exponent == pytest.approx(expected, abs=1e-3)


def test_the_distance_is_that_of_the_states():
    layer = ll.EchoState(1, 30, spectral_radius=0.99, leak=0.2, dtype=torch.float64, seed=0)
    x = torch.randn(1, 40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    verdict = echo_states(layer, x, starts=3, tolerance=1e-3)
    first = torch.empty(3, 1, 30, dtype=torch.float64)
    first.uniform_(-1, 1, generator=as_generator(0, "first states"))
    last = torch.stack([layer(x, layer.state_of([start]))[0][0, -1] for start in first])
    left = (last[1:] - last[0]).norm(dim=-1) / (first[1:, 0] - first[0, 0]).norm(dim=-1)
    assert verdict.distance == pytest.approx(float(left.max()))
    assert not verdict.forgets
    assert echo_states(layer, x, starts=3, tolerance=1.0).forgets


@pytest.mark.parametrize(
    "layer",
    [ll.EchoState(0, 20, seed=0),
     ll.Leaky(1, 20, weight_hh_init=ll.init.SpectralRadius(0.8), seed=0),
     ll.Leaky(1, 20, recurrent=False, seed=0),
     ll.EchoState(1, 20, seed=0, trained=True), ll.EchoState(1, 20, feedback_size=2, seed=0)],
)  # fmt: skip
def test_all_layers_of_leaky_units(layer):
    layer.train()
    verdict = echo_states(layer, steps=1000)
    assert verdict.holds
    assert verdict.exponent < 0
    assert layer.training


def test_states_that_overflow_are_not_forgotten():
    layer = dense(3, activation="identity", spectral_radius=1e9)
    verdict = echo_states(layer, steps=100)
    assert verdict.distance == math.inf
    assert verdict.disproved
    assert not verdict.forgets
    assert verdict.exponent == pytest.approx(math.log(1e9), abs=0.5)


@pytest.mark.parametrize(
    ("layer", "options", "error", "message"),
    [
        (ll.LSTM(1, 3), {}, TypeError, "layer: got LSTM, expected leaky units"),
        (torch.nn.RNN(1, 3), {}, TypeError, "layer: got RNN, expected leaky units"),
        (ll.EchoState(1, 3, replicas=2), {}, ValueError, "got replicas=2; measure each alone"),
        (ll.EchoState(1, 3), {"starts": 1}, ValueError, "starts: got 1, expected at least 2"),
        (ll.EchoState(1, 3), {"steps": 0}, ValueError, "steps: got 0, expected at least 1"),
        (ll.EchoState(1, 3), {"tolerance": 0.0}, ValueError, "tolerance: got 0.0"),
        (ll.EchoState(1, 3), {"amplitude": -0.1}, ValueError, "amplitude: got -0.1"),
        (ll.EchoState(1, 3), {"x": torch.zeros(4, 1)}, ValueError, "x: got"),
        (ll.EchoState(1, 3), {"x": torch.zeros(0, 4, 1)}, ValueError, "at least one sequence"),
        (ll.EchoState(1, 3), {"x": [1.0]}, TypeError, "x: got list"),
    ],
)
def test_errors(layer, options, error, message):
    with pytest.raises(error, match=message):
        echo_states(layer, **options)
