"""jacobian_norms against products multiplied out, and the method of vectors against the exact."""

import math

import pytest
import torch
from tests.memory.brute import ALL, assert_relative, batch, made, stacked, step_jacobians
from tests.scan.cases import random

import longlag as ll
from longlag.memory import jacobian_norms, spectral_facts, state_jacobians
from longlag.memory.measures import chain_norms


def by_hand(jacobians, n, end, lag, resets=None):
    """Singular values of J_end ... J_{end-lag+1}; None where the chain does not reach so far."""
    if lag > end or (resets is not None and resets[n, end - lag : end].any()):
        return None
    product = torch.eye(jacobians.shape[-1]).double()
    for t in range(end - 1, end - lag - 1, -1):
        product = product @ jacobians[n, t]
    return torch.linalg.svdvals(product)


def assert_same(found, jacobians, resets=None):
    """All three norms of all chains and lags; the smallest as far as the product still holds it."""
    seen = 0
    for chain, (n, end) in enumerate(zip(found.sequences, found.ends, strict=True)):
        for number, lag in enumerate(found.lags.tolist()):
            values = by_hand(jacobians, int(n), int(end), lag, resets)
            mine = found.largest.values[chain, number]
            if values is None:
                assert mine.isnan()
                assert found.frobenius.values[chain, number].isnan()
                continue
            seen += 1
            assert_relative(mine.exp(), values[0])
            assert_relative(found.frobenius.values[chain, number].exp(), values.norm())
            smallest = found.smallest.values[chain, number].exp()
            torch.testing.assert_close(
                smallest, values[-1], rtol=1e-8, atol=1e-13 * float(values[0])
            )
    assert seen > 10
    assert found.exact
    assert (found.largest_error.nan_to_num() == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_any_cell_at_every_step_with_padding_and_resets(name):
    layer = made(name)
    x, lengths, resets = batch()
    jacobians = step_jacobians(layer, x, lengths, resets)
    found = jacobian_norms(layer, x, lengths=lengths, resets=resets, sample="all", method="exact")
    assert_same(found, jacobians, resets)


def test_a_stack():
    x, lengths, resets = batch()
    jacobians = step_jacobians(stacked(), x, lengths, resets)
    found = jacobian_norms(
        ll.SequenceModel(stacked(), 1), x, lengths=lengths, resets=resets, sample="all",
        smallest=True,
    )  # fmt: skip
    assert_same(found, jacobians, resets)
    assert found.size == 12


def test_both_directions():
    layer = ll.Bidirectional(made("LSTM"), made("Elman"))
    x, lengths, _ = batch()
    found = jacobian_norms(layer, x, lengths=lengths, sample="ends", smallest=True)
    alone = jacobian_norms(made("LSTM"), x, lengths=lengths, sample="ends")
    assert torch.equal(found.forward.largest.mean, alone.largest.mean)
    jacobians = step_jacobians(layer.backward_layer, x[:1].flip(1))
    values = by_hand(jacobians, 0, 6, 6)
    assert_relative(found.backward.largest.values[0, 6].exp(), values[0])


def test_replicas_stand_in_front():
    layer = ll.LSTM(2, 3, replicas=2, seed=1, dtype=torch.float64)
    x = random(2, 3, 8, 2)
    for method in ("exact", "vectors"):
        found = jacobian_norms(layer, x, sample="ends", method=method)
        jacobians = state_jacobians(layer, x)
        assert found.largest.mean.shape == found.largest_error.shape == (2, 9)
        assert found.count.tolist() == [[3] * 9] * 2
        for replica in range(2):
            values = by_hand(jacobians[replica], 1, 8, 5)
            assert_relative(found.largest.values[replica, 1, 5].exp(), values[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "stack", "wide"])
def test_vectors_are_close_from_below_and_know_their_error(kind):
    steps, double = 120, {"dtype": torch.float64}
    if kind == "lstm":
        layer = ll.LSTM(3, 40, seed=0, forget_bias=3.0, **double)
    elif kind == "stack":
        layer = ll.Stack(ll.GRU(3, 40, seed=0, **double), ll.LSTM(40, 20, seed=1, **double))
    else:  # singular values that lie close together: the hardest case
        layer = ll.Elman(3, 80, seed=0, **double)
    x = 0.3 * random(4, steps, 3)
    lags = [0, 1, 2, 5, 9, 14, 30, 40, 60, 100, 120]
    exact = jacobian_norms(layer, x, lags=lags, sample=6, method="exact", smallest=False)
    found = jacobian_norms(layer, x, lags=lags, sample=6, method="vectors")
    assert torch.equal(found.ends, exact.ends)
    assert not found.exact
    assert found.smallest is None
    below = (exact.largest.values - found.largest.values).nan_to_num()
    assert (below > -1e-9).all()
    assert below.max() < (0.1 if kind == "wide" else 0.003)
    assert below.abs().max() > 0  # it is no exact method in disguise
    assert ((exact.largest.mean - found.largest.mean) <= found.largest_error + 1e-9).all()
    off = (exact.frobenius.mean - found.frobenius.mean).abs()
    assert (off <= 6 * found.frobenius_error + 1e-9).all()
    assert off.max() < 0.1
    assert found.frobenius_error.max() < 0.1


def test_vectors_of_a_small_state_are_exact():
    layer, (x, lengths, resets) = made("LSTM with peepholes"), batch()
    given = {"lengths": lengths, "resets": resets, "sample": "all"}
    exact = jacobian_norms(layer, x, method="exact", **given)
    found = jacobian_norms(layer, x, method="vectors", **given)
    assert_relative(
        found.largest.values.nan_to_num().exp(), exact.largest.values.nan_to_num().exp()
    )
    assert found.frobenius.mean.shape == (7,)
    assert_relative(found.frobenius.mean[:3].exp(), exact.frobenius.mean[:3].exp())


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1500, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_lags_neither_overflow_nor_underflow(steps):
    """J = W = scale times a rotation: log of the norm is k log scale.

    Of 1,500 lags that is -1,040 and 1,374: float64 ends at -745 and 710.
    """
    for scale, method in ((0.5, "exact"), (2.5, "vectors")):
        layer = ll.Elman(1, 2, activation="identity", bias=False)
        with torch.no_grad():
            layer.weight_hh.copy_(scale * torch.tensor([[0.6, -0.8], [0.8, 0.6]]))
        x = torch.zeros(1, steps, 1)
        lags = [1, 10, 1000, steps]
        found = jacobian_norms(layer, x, lags=lags, sample=1, method=method)
        expected = found.lags.double() * math.log(scale)
        torch.testing.assert_close(found.largest.mean, expected, rtol=1e-5, atol=1e-5)
        assert (found.smallest is not None) == (method == "exact")
        if found.smallest is not None:
            torch.testing.assert_close(found.smallest.mean, expected, rtol=1e-5, atol=1e-5)


def test_the_smallest_is_held_where_the_product_has_lost_it():
    """A diagonal J of 1.1 and 0.5: after 500 steps they are 10^171 apart."""
    layer = ll.Elman(1, 2, activation="identity", bias=False, dtype=torch.float64)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh.copy_(
            turn @ torch.diag(torch.tensor([1.1, 0.5], dtype=torch.float64)) @ turn.T
        )
    found = jacobian_norms(layer, torch.zeros(1, 500, 1).double(), sample=1)
    torch.testing.assert_close(found.largest.mean, found.lags.double() * math.log(1.1))
    torch.testing.assert_close(found.smallest.mean, found.lags.double() * math.log(0.5))


def test_a_dead_layer_has_minus_infinity():
    layer = ll.Elman(1, 3, activation="relu")
    with torch.no_grad():
        layer.bias.fill_(-100.0)
    found = jacobian_norms(layer, torch.zeros(2, 4, 1), sample="ends")
    assert found.largest.mean.tolist() == [0.0] + [-math.inf] * 4
    assert found.largest.quantiles[:, 2].tolist() == [-math.inf] * 3
    assert found.smallest.mean.tolist() == [0.0] + [-math.inf] * 4


@pytest.mark.slow
def test_a_linear_network_is_the_powers_of_its_matrix():
    """||W^k|| to 1e-10, for lags to 1000."""
    layer = ll.Elman(2, 12, activation="identity", seed=0, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh.copy_(0.29 * random(12, 12))
    found = jacobian_norms(layer, random(2, 1000, 2), sample="ends")
    power, scale = torch.eye(12).double(), 0.0
    for lag in range(1, 1001):
        power = layer.weight_hh.detach() @ power
        scale += math.log(float(power.abs().max()))
        power = power / power.abs().max()
        expected = float(torch.linalg.matrix_norm(power, 2).log()) + scale
        assert abs(float(found.largest.mean[lag]) - expected) < 1e-10 * max(1.0, abs(expected))
    bound = spectral_facts(layer).log_bound(found.lags)
    assert (found.largest.mean <= bound + 1e-9).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        ll.Elman(2, 8, activation="sigmoid", seed=0, dtype=torch.float64),
        ll.Elman(2, 8, activation="double_bipolar", seed=0, dtype=torch.float64),
        ll.Leaky(2, 8, leak=0.3, seed=0, dtype=torch.float64),
        ll.IndRNN(2, 8, seed=0, dtype=torch.float64),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_measured_never_exceeds_the_bound(layer):
    if layer.weight_hh is not None:
        with torch.no_grad():
            norm = torch.linalg.matrix_norm(layer.weight_hh, 2)
            layer.weight_hh.mul_(3.9 / norm if layer.cell.activation == "sigmoid" else 0.9 / norm)
    facts = spectral_facts(layer)
    found = jacobian_norms(layer, random(5, 60, 2), sample="all")
    bound = facts.log_bound(found.lags)
    assert bool(facts.vanishes)
    assert (found.largest.values.nan_to_num(nan=-math.inf) <= bound + 1e-12).all()
    assert found.largest.values[:, 1].nan_to_num(nan=-9).max() > bound[1] - 3  # it says something


def test_what_is_sampled():
    layer, x = made("Elman"), random(5, 40, 2)
    lengths = torch.tensor([40, 30, 0, 7, 1])
    found = jacobian_norms(layer, x, lengths=lengths, sample=20)
    own = lengths[found.sequences]
    assert found.sequences.bincount().tolist() == [4] * 5
    assert (found.ends <= own).all()
    assert (found.ends[::2] == own[::2]).all()
    assert (found.ends[1::2] < own[1::2]).any()
    assert found.count[0] == 20
    again = jacobian_norms(layer, x, lengths=lengths, sample=20)
    assert torch.equal(again.largest.mean.nan_to_num(), found.largest.mean.nan_to_num())
    other = jacobian_norms(layer, x, lengths=lengths, sample=20, seed=1)
    assert not torch.equal(other.ends, found.ends)
    assert jacobian_norms(layer, x, lags=[3, 1]).lags.tolist() == [1, 3]
    assert jacobian_norms(layer, x, lags=3).lags.tolist() == [0, 1, 2, 3]
    ends = jacobian_norms(layer, x, lengths=lengths, sample="ends")
    assert ends.ends.tolist() == lengths.tolist()
    quantiles = found.largest.quantiles[:, 1]
    values = found.largest.values[:, 1]
    values = values[~values.isnan()]
    levels = torch.tensor([0.1, 0.5, 0.9]).double()
    torch.testing.assert_close(quantiles, values.quantile(levels))
    torch.testing.assert_close(found.largest.mean[1], values.mean())


def test_chains_a_few_at_a_time_and_steps_in_blocks(monkeypatch):
    layer, (x, lengths, resets) = stacked(), batch()
    given = {"lengths": lengths, "resets": resets, "sample": "all", "method": "exact"}
    whole = jacobian_norms(layer, x, **given)
    monkeypatch.setattr(chain_norms, "AT_ONCE", 1)
    monkeypatch.setattr("longlag.memory.measures.chains.AT_ONCE", 1)
    parts = jacobian_norms(layer, x, **given)
    torch.testing.assert_close(parts.largest.values, whole.largest.values, equal_nan=True)
    torch.testing.assert_close(parts.smallest.values, whole.smallest.values, equal_nan=True)


@pytest.mark.slow
def test_auto_takes_vectors_for_large_states_only():
    x = random(2, 300, 2)
    assert jacobian_norms(made("GRU"), x).exact
    large = ll.LSTM(2, 100, seed=0, dtype=torch.float64)
    assert jacobian_norms(large, x, sample=2).method == "vectors"
    assert jacobian_norms(large, x[:, :2], lags=1, sample=1, smallest=True).exact


@pytest.mark.parametrize(("count", "steps"), [(0, 4), (2, 0)])
@pytest.mark.parametrize("method", ["exact", "vectors"])
def test_nothing_to_read(count, steps, method):
    found = jacobian_norms(made("LSTM"), torch.ones(count, steps, 2).double(), method=method)
    assert found.largest.mean.shape == (steps + 1,)
    assert found.largest.quantiles.shape == (3, steps + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lags": -1}, "lags: got -1"),
        ({"lags": [1, 0.5]}, "lags: got"),
        ({"sample": 0}, "sample: got 0"),
        ({"sample": "some"}, "sample: got 'some'"),
        ({"method": "fast"}, "method: got 'fast'"),
        ({"method": "vectors", "smallest": True}, "smallest: got True with method='vectors'"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jacobian_norms(made("LSTM"), torch.ones(2, 4, 2).double(), **options)
