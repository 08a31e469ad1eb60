"""Lyapunov exponents against published values and exact linear cases."""

import math

import pytest
import torch
from tests.memory.brute import ALL, batch, made, stacked
from tests.scan.cases import random

import longlag as ll
from longlag.memory import lyapunov_exponents, lyapunov_of, state_jacobians
from longlag.recurrence import Absent, Cell


class Henon(Cell):
    """x' = 1 - 1.4 x^2 + y, y' = 0.3 x: Henon's map, pointwise, a system in each unit."""

    state = ("x", "y")
    gates = ("drive",)
    wiring = {"drive": Absent()}

    def update(self, pre, state, unit):
        x = 1 - 1.4 * state.x**2 + state.y + pre.drive
        return {"x": x, "y": 0.3 * state.x}


def henon(steps):
    """Jacobians (T, 2, 2) along the trajectory that begins near (0.1, 0.1)."""
    x, y, found = 0.1, 0.1, []
    for _ in range(steps):
        found.append([[-2.8 * x, 1.0], [0.3, 0.0]])
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.slow
def test_henon_s_map():
    """0.419 and -1.623; dimension 1.258: J. C. Sprott, Chaos and time-series analysis, 2003."""
    found = lyapunov_of(henon(12_000), discard=1000)
    assert found.exponents.tolist() == pytest.approx([0.419, -1.623], abs=0.01)
    assert found.kaplan_yorke.item() == pytest.approx(1.258, abs=0.005)
    assert float(found.total) == pytest.approx(math.log(0.3), abs=1e-12)
    assert (found.error < 0.015).all()
    assert (found.error > 1e-4).all()
    assert found.steps == 11_000
    rare = lyapunov_of(henon(12_000), discard=1000, every=7)
    torch.testing.assert_close(rare.exponents, found.exponents, rtol=0, atol=1e-6)


def test_henon_s_map_as_a_cell():
    """The same map declared as equations, of one unit and driven by nothing."""
    layer = ll.Recurrent(Henon(), 1, 1, bias=False, dtype=torch.float64)
    begin = (torch.full((1, 1), 0.1).double(),) * 2
    x = torch.zeros(1, 3000, 1).double()
    found = lyapunov_exponents(layer, x, state=begin, discard=500)
    expected = lyapunov_of(state_jacobians(layer, x, state=begin), discard=500)
    torch.testing.assert_close(found.exponents, expected.exponents)
    assert found.exponents.tolist() == pytest.approx([0.419, -1.623], abs=0.02)
    assert found.kaplan_yorke.item() == pytest.approx(1.258, abs=0.01)
    assert float(found.total) == pytest.approx(math.log(0.3), abs=1e-9)


def linear(matrix):
    layer = ll.Elman(1, len(matrix), activation="identity", dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh.copy_(matrix)
    return layer


def test_exact_linear_cases():
    rotation = torch.linalg.qr(random(4, 4)).Q
    found = lyapunov_exponents(linear(0.7 * rotation), random(2, 50, 1))
    torch.testing.assert_close(found.exponents, torch.full((4,), math.log(0.7)).double())
    assert (found.error < 1e-12).all()
    assert float(found.kaplan_yorke) == 0.0
    assert float(lyapunov_of((1.1 * rotation).expand(30, 4, 4)).kaplan_yorke) == 4.0
    triangle = torch.tensor([[0.3, 5.0, 1.0], [0.0, -1.4, 2.0], [0.0, 0.0, 0.8]]).double()
    found = lyapunov_exponents(linear(triangle), random(1, 600, 1), discard=200)
    expected = torch.tensor([1.4, 0.8, 0.3]).double().log()
    torch.testing.assert_close(found.exponents, expected, rtol=0, atol=1e-8)
    # 0.336 - 0.223 = 0.113, of 1.204
    assert float(found.kaplan_yorke) == pytest.approx(2 + 0.11333 / 1.20397, abs=1e-4)
    two = lyapunov_exponents(linear(triangle), random(1, 600, 1), 1, discard=200)
    assert two.exponents.shape == (1,)
    assert math.isnan(float(two.kaplan_yorke))


@pytest.mark.parametrize("name", ["LSTM with peepholes", "GRU", "Leaky", "Elman", "Delayed"])
def test_the_sum_is_the_mean_of_log_det(name):
    layer = made(name)
    x = random(3, 40, 2)
    found = lyapunov_exponents(layer, x, discard=10)
    volume = torch.linalg.slogdet(state_jacobians(layer, x)[:, 10:]).logabsdet.mean()
    torch.testing.assert_close(found.total, volume, rtol=1e-8, atol=1e-8)
    assert found.by_sequence.shape == (3, found.size)
    assert (found.exponents.diff() <= 0).all()
    assert found.steps == 90


def test_a_stack_and_the_jacobians_by_themselves():
    x = random(2, 30, 2)
    stack = ll.Stack(made("GRU"), ll.LSTM(3, 2, seed=0, dtype=torch.float64))
    found = lyapunov_exponents(stack, x, 4)
    expected = lyapunov_of(state_jacobians(stack, x), 4, discard=3)
    torch.testing.assert_close(found.exponents, expected.exponents)
    torch.testing.assert_close(found.error, expected.error)
    assert found.size == 7


def test_padding_does_not_count():
    layer, x = made("GRU"), random(3, 30, 2)
    lengths = torch.tensor([30, 12, 4])
    found = lyapunov_exponents(layer, x, lengths=lengths, discard=5)
    assert found.steps == 25 + 7
    one = lyapunov_exponents(layer, x[:1], discard=5)
    two = lyapunov_exponents(layer, x[1:2, :12], discard=5)
    torch.testing.assert_close(found.by_sequence[:1], one.by_sequence)
    torch.testing.assert_close(found.by_sequence[1:2], two.by_sequence)
    assert found.by_sequence[2].isnan().all()
    mean = (25 * one.by_sequence + 7 * two.by_sequence) / 32
    torch.testing.assert_close(found.exponents, mean[0].sort(descending=True).values)
    assert found.error.isfinite().all()


def test_the_standard_error_is_that_of_the_sequences():
    layer, x = made("Elman"), random(12, 60, 2)
    found = lyapunov_exponents(layer, x, discard=0)
    values = found.by_sequence
    order = values.mean(0).argsort(descending=True)
    expected = (values.std(0) / 12**0.5)[order]
    torch.testing.assert_close(found.error, expected)


def test_what_is_forgotten_at_once():
    found = lyapunov_exponents(made("LSTM1997"), random(1, 30, 2), discard=3)
    assert found.exponents[:3].tolist() == pytest.approx([0.0] * 3, abs=0.3)
    assert (found.exponents[3:] < -5).all()


def test_replicas_stand_in_front():
    layer = ll.GRU(2, 3, replicas=2, seed=1, dtype=torch.float64)
    x = random(2, 3, 20, 2)
    found = lyapunov_exponents(layer, x, 2)
    assert found.exponents.shape == found.error.shape == (2, 2)
    assert found.kaplan_yorke.shape == (2,)
    both = state_jacobians(layer, x)
    for replica in range(2):
        one = lyapunov_of(both[replica], 2, discard=2)
        torch.testing.assert_close(found.exponents[replica], one.exponents)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": 0}, ValueError, "count: got 0"),
        ({"count": 7}, ValueError, "count: got 7, expected at least 1 and at most 6"),
        ({"discard": 6}, ValueError, "discard: got 6, expected at least 0 and at most 5"),
        ({"every": 0}, ValueError, "every: got 0"),
        ({"every": 1.5}, TypeError, "every: got 1.5"),
    ],
)
def test_what_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        lyapunov_exponents(made("LSTM"), batch()[0], **options)


def test_what_else_is_refused():
    with pytest.raises(ValueError, match=r"jacobians: got shape \(3, 2\)"):
        lyapunov_of(torch.ones(3, 2))
    with pytest.raises(ValueError, match="bidirectional"):
        lyapunov_exponents(ll.Bidirectional(made("GRU")), batch()[0])
    assert "Lone" in ALL
    assert lyapunov_exponents(stacked(), batch()[0], 2).exponents.shape == (2,)
