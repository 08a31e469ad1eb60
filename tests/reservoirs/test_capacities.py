"""Memory and information processing capacity: against NumPy, and where theory has the number."""

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre
from scipy.stats import chi2

import longlag as ll
from longlag.reservoirs import (
    Factor,
    driven,
    information_processing_capacity,
    memory_capacity,
    processing,
)

DOUBLE = {"dtype": torch.float64, "seed": 1}


def line_of(units, **options):
    """A delay line: the first unit alone reads the input."""
    layer = ll.EchoState(
        1, units, topology="line", spectral_radius=1.0, activation="identity", **DOUBLE, **options
    )
    with torch.no_grad():
        layer.weight_ih.zero_()[0] = 1.0
    return layer


def noise_of(layer, steps, role, amplitude=1.0, seed=0):
    return driven.noise(layer, 1, steps, amplitude, seed, role)


# Memory capacity


@pytest.mark.parametrize("alpha", [1e-9, 0.0, [1e-12, 1e-9]])
def test_a_delay_line_of_k_units_recalls_k_inputs(alpha):
    measured = memory_capacity(line_of(12), steps=400, alpha=alpha)
    assert measured.delays == tuple(range(25))
    assert measured.size == 12
    expected = np.repeat([1.0, 0.0], [12, 13])
    np.testing.assert_allclose(measured.capacities[:, 0], expected, atol=1e-9)
    assert measured.total == pytest.approx(12)


def test_an_orthogonal_linear_reservoir_reaches_its_number_of_units():
    layer = ll.EchoState(
        1, 100, topology="orthogonal", density=1.0, activation="identity", **DOUBLE
    )
    measured = memory_capacity(layer, steps=2000)
    assert 95.0 <= measured.total <= 100.01
    by_delay = measured.capacities[:, 0]
    assert bool((by_delay[:60] > 0.999).all())


@pytest.mark.parametrize("alpha", [1e-6, 10.0])
@pytest.mark.parametrize("options", [{}, {"leak": 0.4, "bias_scaling": 0.3}])
def test_it_is_the_squared_correlation_on_another_series(alpha, options):
    layer = ll.EchoState(2, 15, **options, **DOUBLE)
    delays, washout, steps = [3, 0, 1], 20, 300
    measured = memory_capacity(
        layer, delays, steps=steps, washout=washout, amplitude=0.5, alpha=alpha, chance=1.0, seed=4
    )

    def rows(role):
        x = noise_of(layer, washout + steps, role, 0.5, 4)
        h = layer(x)[0][0, washout:].numpy()
        u = np.stack([x[0, washout - k : washout + steps - k].numpy() for k in delays], 1)
        return h, u.reshape(steps, -1)

    h, u = rows("memory_capacity: fit")
    centred = h - h.mean(0)
    gram = centred.T @ centred + alpha * np.eye(15)
    weight = np.linalg.solve(gram, centred.T @ (u - u.mean(0)))
    h, u = rows("memory_capacity: test")
    y = h @ weight
    expected = [np.corrcoef(y[:, n], u[:, n])[0, 1] ** 2 for n in range(6)]
    np.testing.assert_allclose(measured.capacities, np.reshape(expected, (3, 2)), atol=1e-9)
    assert measured.total == pytest.approx(sum(expected))


def test_what_chance_recalls_counts_as_nothing():
    layer = ll.EchoState(1, 5, spectral_radius=0.0, **DOUBLE)
    without, cut = (memory_capacity(layer, 40, steps=200, chance=p) for p in (1.0, 1e-4))
    assert without.total > cut.total == pytest.approx(1.0, abs=0.01)
    assert bool((cut.capacities[1:] == 0.0).all())
    assert bool((without.capacities[1:] > 0.0).all())
    same = without.capacities >= 15.137 / 200
    assert torch.equal(cut.capacities, without.capacities.where(same, 0.0))


def test_nothing_is_recalled_where_nothing_is_read():
    layer = ll.EchoState(1, 5, input_scaling=0.0, bias_scaling=0.5, **DOUBLE)
    assert memory_capacity(layer, 5, steps=100, chance=1.0, alpha=1e-3).total == 0.0


@pytest.mark.parametrize("kind", [ll.LSTM, ll.GRU])
def test_any_layer_is_measured_and_left_as_it_is(kind):
    layer = ll.Stack(kind(1, 8, **DOUBLE), ll.Elman(8, 6, input_dropout=0.5, **DOUBLE))
    layer.train()
    before = {name: part.clone() for name, part in layer.state_dict().items()}
    state = torch.get_rng_state()
    first, second = (memory_capacity(layer, steps=200) for _ in range(2))
    assert torch.equal(first.capacities, second.capacities)
    assert 0.5 < first.total < 6.0
    assert layer.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(part, before[name]) for name, part in layer.state_dict().items())
    assert memory_capacity(layer, steps=200, seed=1).total != first.total


def test_a_series_is_read_in_pieces(monkeypatch):
    layer = ll.EchoState(1, 15, **DOUBLE)
    whole = memory_capacity(layer, steps=200), information_processing_capacity(layer, steps=200)
    monkeypatch.setattr("longlag.reservoirs.rows.NUMBERS", 15 * 7)
    monkeypatch.setattr(driven, "NUMBERS", 15 * 7)
    monkeypatch.setattr(processing, "AT_ONCE", 1)
    parts = memory_capacity(layer, steps=200), information_processing_capacity(layer, steps=200)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.capacities, other.capacities, rtol=1e-8, atol=1e-10)


# Information processing capacity


def basis_of(u, degree, longest, steps):
    """All products of Legendre polynomials, by the powers of each delay."""
    basis = {}
    for powers in itertools.product(range(degree + 1), repeat=longest + 1):
        if 1 <= sum(powers) <= degree:
            factors = [
                legendre.legval(u[len(u) - steps - k : len(u) - k], [0] * power + [1])
                for k, power in enumerate(powers)
            ]
            basis[powers] = np.prod(factors, 0)
    return basis


@pytest.mark.parametrize("options", [{}, {"bias_scaling": 1.0, "leak": 0.5}])
def test_it_is_what_a_regression_explains(options):
    layer = ll.EchoState(1, 12, input_scaling=2.0, **options, **DOUBLE)
    steps, washout = 600, 40
    measured = information_processing_capacity(
        layer, 3, 4, steps=steps, washout=washout, amplitude=0.7, chance=1e-3, seed=2
    )
    x = noise_of(layer, washout + steps, "information_processing_capacity", 0.7, 2)
    h = layer(x)[0][0, washout:].numpy()
    basis = basis_of(x[0, :, 0].numpy() / 0.7, 3, 4, steps)
    features = np.hstack([h, np.ones((steps, 1))])
    expected, shares = {}, {}
    for powers, y in basis.items():
        residual = y - features @ np.linalg.lstsq(features, y, rcond=None)[0]
        shares[powers] = 1 - residual @ residual / np.square(y - y.mean()).sum()
        adjusted = 1 - (1 - shares[powers]) * (steps - 1) / (steps - 1 - 12)
        expected[powers] = adjusted if shares[powers] * steps >= chi2.isf(1e-3, 12) else 0.0
    assert measured.rank == 12
    assert measured.threshold == pytest.approx(chi2.isf(1e-3, 12) / steps)
    got = {}
    for product, capacity in zip(measured.products, measured.capacities.tolist(), strict=True):
        powers = [0] * 5
        for factor in product:
            powers[factor.delay] += factor.degree
        got[tuple(powers)] = capacity
    assert got.keys() == expected.keys()
    np.testing.assert_allclose(*([d[key] for key in basis] for d in (got, expected)), atol=1e-9)
    assert measured.total == pytest.approx(sum(expected.values()))
    for degree in (1, 2, 3):
        total = sum(value for powers, value in expected.items() if sum(powers) == degree)
        assert measured.by_degree[degree] == pytest.approx(total)


@pytest.mark.parametrize("topology", ["ring", "orthogonal"])
def test_that_of_a_linear_reservoir_is_all_of_degree_one(topology):
    layer = ll.EchoState(1, 15, topology=topology, spectral_radius=0.7, density=1.0,
                         activation="identity", **DOUBLE)  # fmt: skip
    measured = information_processing_capacity(layer, steps=3000)
    assert measured.by_degree == {1: pytest.approx(15.0, abs=0.02), 2: 0.0, 3: 0.0}
    assert measured.rank == 15


def test_a_delay_line_computes_nothing():
    measured = information_processing_capacity(line_of(6), 2, [5, 3], steps=500)
    assert measured.by_degree == {1: pytest.approx(6.0), 2: 0.0}


@pytest.mark.parametrize("activation", ["relu", "tanh", "saturated"])
def test_of_one_unit_it_is_the_legendre_series_of_its_activation(activation):
    layer = ll.EchoState(1, 1, spectral_radius=0.0, activation=activation, **DOUBLE)
    with torch.no_grad():
        layer.weight_ih.fill_(2.0)
    measured = information_processing_capacity(layer, 5, 0, steps=20000)
    u = (np.arange(20000) + 0.5) / 10000 - 1
    functions = {
        "relu": np.maximum(2 * u, 0), "tanh": np.tanh(2 * u), "saturated": np.clip(2 * u, 0, 1),
    }  # fmt: skip
    h = functions[activation]
    for degree, capacity in measured.by_degree.items():
        polynomial = legendre.legval(u, [0] * degree + [1])
        share = np.mean(h * polynomial) ** 2 * (2 * degree + 1) / np.var(h)
        assert capacity == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("scaling", [0.1, 0.5, 3.0])
def test_no_more_than_the_number_of_units_is_computed(scaling):
    layer = ll.EchoState(1, 10, input_scaling=scaling, bias_scaling=0.2, **DOUBLE)
    measured = information_processing_capacity(layer, 4, steps=10000)
    assert 3.0 < measured.total <= 10.05
    assert bool((measured.capacities >= 0.0).all() and (measured.capacities <= 1.0).all())
    memory = memory_capacity(layer, steps=10000).total
    assert measured.by_degree[1] == pytest.approx(memory, abs=0.3)


def test_an_odd_network_computes_odd_functions():
    layer = ll.EchoState(1, 10, **DOUBLE)
    by_degree = information_processing_capacity(layer, 4, steps=5000).by_degree
    assert by_degree[2] + by_degree[4] < 0.05 < 1.0 < by_degree[3]


def test_units_that_do_the_same_count_once():
    layer = line_of(8)
    with torch.no_grad():
        layer.weight_hh.zero_()
        layer.weight_ih.fill_(1.0)
    measured = information_processing_capacity(layer, 1, steps=100)
    assert measured.rank == 1
    assert measured.total == pytest.approx(1.0)
    with torch.no_grad():
        layer.weight_ih.zero_()
    measured = information_processing_capacity(layer, 1, steps=100)
    assert (measured.rank, measured.total) == (0, 0.0)


def test_several_features_are_told_apart():
    layer = line_of(4)
    other = ll.EchoState(2, 4, topology="line", spectral_radius=1.0, activation="identity",
                         **DOUBLE)  # fmt: skip
    with torch.no_grad():
        other.weight_ih.zero_()[0, 1] = 1.0
    one = information_processing_capacity(layer, 2, 5, steps=300)
    two = information_processing_capacity(other, 2, 5, steps=300)
    assert len(one.products) == 6 + math.comb(7, 2)
    assert len(two.products) == 12 + math.comb(13, 2)
    seen = {p for p, c in zip(two.products, two.capacities.tolist(), strict=True) if c}
    assert seen == {(Factor(delay, 1, 1),) for delay in range(4)}
    assert memory_capacity(other, 5, steps=300).capacities[:4, 1].tolist() == pytest.approx([1] * 4)


def test_without_delays_each_degree_reaches_as_far_as_it_can():
    layer = ll.EchoState(1, 100, **DOUBLE)
    products = information_processing_capacity(layer, 4, steps=200).products
    counts = [sum(sum(f.degree for f in p) == d for p in products) for d in (1, 2, 3, 4)]
    assert counts == [201, math.comb(45, 2), math.comb(19, 3), math.comb(13, 4)]
    assert max(counts) <= 1000


# Errors


@pytest.mark.parametrize("measure", [memory_capacity, information_processing_capacity])
@pytest.mark.parametrize(
    ("layer", "options", "error", "message"),
    [
        (torch.nn.RNN(1, 2), {}, TypeError, "layer: got RNN, expected a recurrent module"),
        (ll.SequenceModel(ll.Elman(1, 2), 1), {}, TypeError, "of a model, give model.layer"),
        (ll.Elman(1, 2, replicas=3), {}, ValueError, "got replicas=3; measure each alone"),
        (ll.Bidirectional(ll.Elman(1, 2), ll.Elman(1, 2)), {}, ValueError, "both directions"),
        (ll.EchoState(0, 2), {}, ValueError, "it reads no features"),
        (ll.EchoState(1, 2), {"delays": 1.5}, TypeError, "delays: got 1.5"),
        (ll.EchoState(1, 2), {"delays": -1}, ValueError, "delays: got -1, expected at least 0"),
        (ll.EchoState(1, 2), {"delays": []}, ValueError, "delays: got "),
        (ll.EchoState(1, 2), {"delays": 9, "washout": 8}, ValueError, "washout: got 8, expected"),
        (ll.EchoState(1, 2), {"steps": 1}, ValueError, "steps: got 1, expected at least"),
        (ll.EchoState(1, 2), {"amplitude": 0}, ValueError, "amplitude: got 0, expected a number"),
        (ll.EchoState(1, 2), {"chance": 0.0}, ValueError, "chance: got 0.0, expected a number"),
        (ll.EchoState(1, 2), {"seed": "a"}, TypeError, "seed: got 'a'"),
        (
            ll.EchoState(1, 2, activation="identity", spectral_radius=1e9),
            {},
            ValueError,
            "not finite; expected finite ones. A spectral radius above 1",
        ),
    ],
)
def test_errors(measure, layer, options, error, message):
    with pytest.raises(error, match=message):
        measure(layer, **options)


def test_errors_of_degrees():
    layer = ll.EchoState(1, 2)
    with pytest.raises(ValueError, match="degree: got 0, expected at least 1"):
        information_processing_capacity(layer, 0)
    with pytest.raises(ValueError, match="got 2 numbers, expected one, or 3, one for each degree"):
        information_processing_capacity(layer, 3, [4, 5])
    with pytest.raises(ValueError, match="alpha: got -1"):
        memory_capacity(layer, alpha=-1)
