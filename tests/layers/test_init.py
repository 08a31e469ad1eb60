import math

import pytest
import torch

import longlag as ll
from longlag.layers import init


def blocks(weight, hidden):
    return weight.detach().split(hidden)


def drawn(initial, *shape, seed=0):
    block = torch.empty(*shape, dtype=torch.float64)
    initial.fill_(block, torch.Generator().manual_seed(seed))
    return block


ALL = [
    init.Glorot(), init.Orthogonal(), init.Uniform(), init.Normal(), init.SpectralRadius(0.9)
]  # fmt: skip


@pytest.mark.parametrize("initial", ALL, ids=repr)
def test_a_generator_decides_the_numbers(initial):
    assert torch.equal(drawn(initial, 5, 5), drawn(initial, 5, 5))
    assert not torch.equal(drawn(initial, 5, 5), drawn(initial, 5, 5, seed=1))


@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("shape", [(40, 60), (3, 200), (50, 50)])
def test_glorot_fills_its_bounds(shape, gain):
    bound = gain * math.sqrt(6 / sum(shape))
    block = drawn(init.Glorot(gain), *shape)
    assert 0.97 * bound < block.abs().max() <= bound
    assert abs(block.mean()) < 0.1 * bound


@pytest.mark.parametrize("gain", [1.0, 1.5])
@pytest.mark.parametrize("shape", [(6, 6), (3, 7), (7, 3), (1, 1)])
def test_orthogonal_has_equal_singular_values(shape, gain):
    values = torch.linalg.svdvals(drawn(init.Orthogonal(gain), *shape))
    torch.testing.assert_close(values, torch.full_like(values, gain))


def test_orthogonal_matrices_are_uniform_over_all_such():
    """The trace of a Haar matrix has mean 0 and variance 1; without the sign of r it has not."""
    generator = torch.Generator().manual_seed(0)
    block, traces = torch.empty(3, 3, dtype=torch.float64), []
    for _ in range(300):
        init.Orthogonal().fill_(block, generator)
        traces.append(block.trace())
    traces = torch.stack(traces)
    assert abs(traces.mean()) < 0.2
    assert abs(traces.var() - 1) < 0.3


def test_identity():
    assert torch.equal(drawn(init.Identity(), 3, 3), torch.eye(3).double())
    assert torch.equal(drawn(init.Identity(0.5), 2, 3), 0.5 * torch.eye(2, 3).double())


def test_uniform_and_normal():
    block = drawn(init.Uniform(0.2, 0.4), 100, 100)
    assert 0.2 <= block.min() < 0.201
    assert 0.399 < block.max() <= 0.4
    block = drawn(init.Normal(0.3), 200, 200)
    assert abs(block.std() - 0.3) < 0.01
    assert abs(block.mean()) < 0.01


@pytest.mark.parametrize("base", [init.Normal(2.0), init.Uniform(-1, 1), init.Orthogonal()])
@pytest.mark.parametrize("radius", [0.0, 0.95, 1.3])
def test_spectral_radius(base, radius):
    block = drawn(init.SpectralRadius(radius, base), 8, 8)
    found = torch.linalg.eigvals(block).abs().max()
    assert float(found) == pytest.approx(radius, abs=1e-12)
    assert init.spectral_radius(block) == pytest.approx(radius, abs=1e-12)
    assert init.spectral_radius(torch.empty(0, 0)) == 0.0


def test_a_radius_that_cannot_be_had_is_refused():
    with pytest.raises(ValueError, match=r"block of shape \(2, 3\), expected a square one"):
        drawn(init.SpectralRadius(1.0), 2, 3)
    with pytest.raises(ValueError, match="has radius 0 and cannot be scaled to"):
        drawn(init.SpectralRadius(0.9, init.Normal(0.0)), 3, 3)


def test_each_gate_has_a_block_of_its_own():
    layer = ll.LSTM(5, 4, seed=0, dtype=torch.float64)
    for block in blocks(layer.weight_hh, 4):
        torch.testing.assert_close(block @ block.T, torch.eye(4).double())
    assert not torch.equal(*blocks(layer.weight_hh, 4)[:2])
    bound = math.sqrt(6 / (5 + 4))
    assert 0.9 * bound < layer.weight_ih.abs().max() <= bound


@pytest.mark.parametrize("given", ["identity", init.Identity()])
def test_an_initializer_by_name_or_as_an_object(given):
    layer = ll.GRU(3, 3, weight_ih_init=given, weight_hh_init=given)
    for block in (*blocks(layer.weight_ih, 3), *blocks(layer.weight_hh, 3)):
        assert torch.equal(block, torch.eye(3))


@pytest.mark.parametrize("argument", ["weight_ih_init", "weight_hh_init"])
def test_an_unknown_name_is_refused(argument):
    message = f"{argument}: got 'he', expected one of 'glorot', 'orthogonal', 'identity', 'uniform'"
    with pytest.raises(ValueError, match=message):
        ll.GRU(3, 3, **{argument: "he"})


def test_chrono_draws_time_scales_between_one_and_the_longest():
    scale = init.Chrono(50).draw(4000, torch.Generator().manual_seed(0)).exp()
    assert 1.0 <= scale.min() < 1.1
    assert 48.5 < scale.max() <= 49.0001
    assert abs(scale.mean() - 25) < 0.7


@pytest.mark.parametrize("replicas", [None, 2])
def test_chrono_sets_the_gates_that_keep_and_overwrite(replicas):
    """b_f = log U(1, T - 1) and b_i = -b_f; the rest as the cell declares it."""
    options = {"bias_init": init.Chrono(50), "seed": 0, "replicas": replicas}
    layer = ll.LSTM(2, 8, **options)
    i, f, g, o = layer.bias.detach().split(8, dim=-1)
    assert 0 <= f.min() < f.max() <= math.log(49)
    assert torch.equal(i, -f)
    assert g.count_nonzero() == o.count_nonzero() == 0
    assert torch.equal(layer.bias, ll.LSTM(2, 8, **options).bias)
    assert not torch.equal(f, ll.LSTM(2, 8, **{**options, "seed": 1}).bias.split(8, dim=-1)[1])
    r, z, n = ll.GRU(2, 8, **options).bias.detach().split(8, dim=-1)
    assert 0 <= z.min() < z.max() <= math.log(49)
    assert r.count_nonzero() == n.count_nonzero() == 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: init.Chrono(2), ValueError, "longest: got 2, expected a lag of more than 2"),
        (lambda: init.Chrono(float("nan")), ValueError, "longest: got nan"),
        (
            lambda: ll.Elman(2, 3, bias_init=init.Chrono(9)),
            ValueError,
            "bias_init: Elman declares no keeping_gates, whose biases Chrono sets; use it with",
        ),
        (
            lambda: ll.LSTM(2, 3, bias_init=init.Chrono(9), bias=False),
            ValueError,
            r"bias_init: got Chrono\(longest=9\) with bias=False, expected bias=True",
        ),
        (lambda: ll.LSTM(2, 3, bias_init=9), TypeError, "bias_init: got 9, expected None or"),
    ],
)
def test_what_chrono_cannot_do_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
