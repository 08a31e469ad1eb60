import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import MackeyGlass
from longlag.tasks.arrays import TRAIN, generator


def slow_series(tau, steps, seed):
    """All Euler steps of the equation, by index from the start of the history."""
    history = 1.2 + 0.2 * (generator(seed, TRAIN, 0).random(10 * tau + 1) - 0.5)
    y = [float(number) for number in history]
    start = len(y) - 1  # time 0
    for n in range(start, start + 10 * (1000 + steps)):
        late = y[n - 10 * tau]
        y.append(y[n] + 0.1 * (0.2 * late / (1 + late**10) - 0.1 * y[n]))
    return np.array([y[start + 10 * (1001 + t)] for t in range(steps)])


@pytest.mark.parametrize("tau", [1, 5, 12])  # not chaotic: rounding errors do not grow
def test_against_a_plain_loop(tau):
    series = MackeyGlass(tau=tau).series(50, seed=2)
    np.testing.assert_allclose(series[:, 0], slow_series(tau, 50, seed=2), rtol=1e-9)


@pytest.mark.parametrize("tau", [17, 30])
def test_each_kept_step_is_ten_euler_steps_of_a_chaotic_series(tau):
    series = MackeyGlass(tau=tau).series(400, seed=1)[:, 0]
    np.testing.assert_allclose(series, slow_series(tau, 400, seed=1), rtol=1e-3)


@pytest.mark.parametrize(
    ("tau", "mean", "variance", "mapped", "low", "high", "tolerance"),
    [
        (17, 0.930, 0.051, 0.047, 0.41, 1.33, 0.001),
        (30, 0.896, 0.079, 0.067, 0.18, 1.42, 0.008),
    ],
)
def test_the_long_term_figures_of_the_docstring(tau, mean, variance, mapped, low, high, tolerance):
    series = MackeyGlass(tau=tau).series(10_000, seed=5)
    assert series.mean() == pytest.approx(mean, abs=tolerance)
    assert series.var() == pytest.approx(variance, abs=tolerance)
    assert MackeyGlass.map(series).var() == pytest.approx(mapped, abs=tolerance)
    assert low < series.min() < low + 0.05
    assert high - 0.06 < series.max() < high


def test_a_step_is_close_to_the_equation():
    series = MackeyGlass(tau=17).series(300, seed=0)[:, 0]
    slope = (series[2:] - series[:-2]) / 2  # at 1 .. 298
    late = series[1 : 299 - 17]
    expected = 0.2 * late / (1 + late**10) - 0.1 * series[18:299]
    assert np.abs(slope[17:] - expected).max() < 0.02
    assert np.abs(slope).max() > 0.06


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=5))
def test_unmap_is_the_inverse(numbers):
    np.testing.assert_allclose(
        MackeyGlass.unmap(MackeyGlass.map(numbers)), numbers, rtol=1e-12, atol=1e-12
    )
    assert MackeyGlass.map(numbers)[0] == pytest.approx(math.tanh(numbers[0] - 1))


def test_what_no_number_is_mapped_to_is_infinite():
    np.testing.assert_array_equal(
        MackeyGlass.unmap([-7.0, -1.0, 0.0, 1.0, np.inf, np.nan]),
        [-np.inf, -np.inf, 1.0, np.inf, np.inf, np.nan],
    )


def test_a_mapped_task_has_the_mapped_series():
    plain, mapped = (MackeyGlass(mapped=mapped).series(30, seed=4) for mapped in (False, True))
    np.testing.assert_array_equal(mapped, np.tanh(plain - 1))


@pytest.mark.parametrize(("tau", "number"), [(17, 20), (30, 50), (20, 50)])
def test_runs_cut_one_series_end_to_end(tau, number):
    task = MackeyGlass(tau=tau, mapped=True)
    training, forced, free = task.runs(seed=3)
    assert training.shape == (3000, 1)
    assert forced.shape == (number, 1000, 1)
    assert free.shape == (number, 84, 1)
    runs = [step for run in zip(forced, free, strict=True) for step in np.concatenate(run)]
    series = task.series(3000 + 1084 * number, seed=3)
    np.testing.assert_array_equal(np.concatenate([training, runs]), series)


def test_runs_of_other_sizes():
    training, forced, free = MackeyGlass().runs(seed=0, training=1001, number=2)
    assert [part.shape for part in (training, forced, free)] == [
        (1001, 1),
        (2, 1000, 1),
        (2, 84, 1),
    ]
    with pytest.raises(ValueError, match=r"^training must be .* at least 1001, got 1000; "):
        MackeyGlass().runs(seed=0, training=1000)
    with pytest.raises(ValueError, match=r"^number must be .* at least 1, got 0; "):
        MackeyGlass().runs(seed=0, number=0)
    with pytest.raises(ValueError, match=r"^seed must be .* at least 0, got -1; "):
        MackeyGlass().runs(seed=-1)


@pytest.mark.parametrize("mapped", [False, True])
def test_nrmse84_against_a_loop(mapped):
    task, rng = MackeyGlass(mapped=mapped), np.random.default_rng(0)
    y, predicted = rng.uniform(0.4, 1.3, 20), rng.uniform(0.4, 1.3, 20)
    total = 0.0
    for a, b in zip(predicted, y, strict=True):
        total += (a - b) ** 2
    columns = (predicted[:, None], y[:, None])
    if mapped:
        columns = tuple(map(task.map, columns))
    assert task.nrmse84(*columns) == pytest.approx(math.sqrt(total / (20 * 0.067)), rel=1e-9)
    own = task.nrmse84(*columns, variance=0.051)
    assert own == pytest.approx(math.sqrt(total / (20 * 0.051)), rel=1e-9)


def test_nrmse84_of_the_mean_is_1_by_the_series_own_variance():
    task = MackeyGlass()
    series = task.series(5000, seed=0)
    mean = np.full_like(series, series.mean())
    assert task.nrmse84(mean, series, variance=series.var()) == pytest.approx(1.0)
    assert task.nrmse84(series, series) == 0.0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.0, -3.0])
def test_a_run_that_leaves_the_range_has_an_infinite_error(wrong):
    task = MackeyGlass(mapped=True)
    assert task.nrmse84([[0.1], [wrong]], [[0.1], [0.2]]) == np.inf


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^tau must be an integer of at least 1, got 0; "):
        MackeyGlass(tau=0)
    with pytest.raises(ValueError, match=r"^tau must be an integer of at least 1, got 17\.5; "):
        MackeyGlass(tau=17.5)
    task, free = MackeyGlass(), np.ones((20, 84, 1))
    with pytest.raises(ValueError, match=r"^target must have shape \(R, 1\), got \(20, 84, 1\); "):
        task.nrmse84(free, free)
    for wrong in (0, -0.05, np.nan, np.inf, "0.067", True):
        with pytest.raises(ValueError, match=r"^variance must be a finite number above 0, got "):
            task.nrmse84([[1.0]], [[1.0]], variance=wrong)
