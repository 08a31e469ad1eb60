"""Kernel and generalisation rank: against NumPy, and of delay lines."""

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.reservoirs import driven, generalisation_rank, kernel_rank

DOUBLE = {"dtype": torch.float64, "seed": 1}


def line_of(units):
    return ll.EchoState(1, units, topology="line", activation="identity", **DOUBLE)


def test_a_delay_line_tells_apart_what_it_holds():
    line = line_of(12)
    assert kernel_rank(line) == 12
    assert kernel_rank(line, steps=7) == 7
    assert kernel_rank(line, 5) == 5
    assert kernel_rank(line, 40) == 12
    assert [generalisation_rank(line, common=k) for k in (1, 8, 11, 12, 50)] == [12, 5, 2, 1, 1]


@pytest.mark.parametrize("tolerance", [1e-12, 0.01, 0.2])
@pytest.mark.parametrize("common", [None, 4])
def test_it_is_the_rank_of_the_last_states(tolerance, common, monkeypatch):
    monkeypatch.setattr(driven, "NUMBERS", 25 * 20 * 7)  # seven steps at a time
    layer = ll.EchoState(2, 20, bias_scaling=0.5, leak=0.7, **DOUBLE)
    options = {"steps": 30, "amplitude": 0.5, "tolerance": tolerance, "seed": 3}
    if common is None:
        got, role = kernel_rank(layer, 25, **options), "kernel_rank"
    else:
        got, role = generalisation_rank(layer, 25, common=common, **options), "generalisation_rank"
    x = driven.noise(layer, 25, 30, 0.5, 3, role).numpy()
    if common is not None:
        x[:, -common:] = x[0, -common:]
    states = np.zeros((25, 20))
    w, u, b = (part.numpy() for part in (layer.recurrent_matrix(), layer.weight_ih, layer.bias))
    for t in range(30):
        states = 0.3 * states + 0.7 * np.tanh(x[:, t] @ u.T + states @ w.T + b)
    values = np.linalg.svd(states, compute_uv=False)
    assert got == (values > tolerance * values[0]).sum()
    assert 1 <= got <= 20


def test_a_chaotic_reservoir_does_not_generalise():
    calm, chaotic = (ll.EchoState(1, 40, spectral_radius=r, **DOUBLE) for r in (0.8, 3.0))
    assert generalisation_rank(calm, 80, common=80, tolerance=1e-3) == 1
    assert generalisation_rank(chaotic, 80, common=80, tolerance=1e-3) > 30
    assert kernel_rank(calm, 80, tolerance=1e-3) > 30


def test_states_of_zero_have_rank_zero():
    layer = ll.EchoState(1, 5, input_scaling=0.0, seed=0)
    assert kernel_rank(layer) == generalisation_rank(layer) == 0


@pytest.mark.parametrize("measure", [kernel_rank, generalisation_rank])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"streams": 0}, ValueError, "streams: got 0, expected at least 1"),
        ({"steps": 0}, ValueError, "steps: got 0, expected at least"),
        ({"amplitude": -1.0}, ValueError, "amplitude: got -1.0"),
        ({"tolerance": 1.5}, ValueError, "tolerance: got 1.5"),
        ({"tolerance": "x"}, TypeError, "tolerance: got 'x'"),
    ],
)
def test_errors(measure, options, error, message):
    with pytest.raises(error, match=message):
        measure(ll.EchoState(1, 4), **options)


def test_errors_of_the_common_end():
    with pytest.raises(ValueError, match="common: got 0, expected at least 1"):
        generalisation_rank(ll.EchoState(1, 4), common=0)
    with pytest.raises(ValueError, match="steps: got 9, expected at least 10"):
        generalisation_rank(ll.EchoState(1, 4), steps=9)
