import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import NARMA10, Delay, Lorenz, MackeyGlass, MemoryCapacity


@settings(max_examples=40, deadline=None)
@given(delays=st.integers(1, 12), steps=st.integers(1, 20), seed=st.integers(0, 1000))
def test_targets_are_past_inputs(delays, steps, seed):
    x, target = MemoryCapacity(delays=delays).series(steps, seed)
    for t in range(steps):
        for k in range(1, delays + 1):
            expected = x[t - k, 0] if t >= k else np.nan
            np.testing.assert_equal(target[t, k - 1], expected)


@settings(max_examples=40, deadline=None)
@given(delay=st.integers(1, 12), steps=st.integers(1, 20), seed=st.integers(0, 1000))
def test_the_delayed_series_is_one_column_of_the_capacitys(delay, steps, seed):
    x, target = Delay(delay=delay).series(steps, seed)
    all_x, all_targets = MemoryCapacity(delays=12).series(steps, seed)
    np.testing.assert_array_equal(x, all_x)
    np.testing.assert_array_equal(target[:, 0], all_targets[:, delay - 1])


@pytest.mark.parametrize("source", [Lorenz(step=0.05), MackeyGlass(mapped=True)], ids=repr)
def test_delay_of_another_series(source):
    task = Delay(delay=3, source=source)
    assert task.input_size == task.output_size == source.input_size
    for x, target, series in (
        (*task.series(9, seed=1), source.series(9, seed=1)),
        (*task.test_series(9, seed=1), source.test_series(9, seed=1)),
    ):
        np.testing.assert_array_equal(x, series)
        np.testing.assert_array_equal(target[3:], series[:6])
        assert np.isnan(target[:3]).all()


@pytest.mark.parametrize("amplitude", [0.5, 1.0, 3])
def test_inputs_are_uniform(amplitude):
    x, _ = MemoryCapacity(delays=2, amplitude=amplitude).series(20_000, seed=0)
    assert -amplitude <= x.min() < -0.999 * amplitude
    assert 0.999 * amplitude < x.max() < amplitude
    assert abs(x.mean()) < 5 * amplitude / np.sqrt(3 * 20_000)
    assert x.var() == pytest.approx(amplitude**2 / 3, rel=0.03)
    assert abs((x[1:] * x[:-1]).mean()) < 5 * amplitude**2 / 3 / np.sqrt(20_000)


def test_capacities_against_a_loop():
    task = MemoryCapacity(delays=4)
    _, target = task.test_series(60, seed=0)
    rng = np.random.default_rng(2)
    output = np.nan_to_num(target) + rng.normal(size=target.shape) * [0.0, 0.3, 1.0, 4.0] + 7.0
    expected = []
    for k in range(4):
        a, b = output[k + 1 :, k], target[k + 1 :, k]
        a_mean, b_mean = sum(a) / len(a), sum(b) / len(b)
        both = sum((p - a_mean) * (q - b_mean) for p, q in zip(a, b, strict=True))
        own = sum((p - a_mean) ** 2 for p in a) * sum((q - b_mean) ** 2 for q in b)
        expected.append(both**2 / own)
    np.testing.assert_allclose(task.capacities(output, target), expected, rtol=1e-10)
    assert task.capacity(output, target) == pytest.approx(sum(expected))
    assert expected[0] == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1.0, -2.0, 1e-200, 1e200])
def test_a_line_that_recalls_all_has_capacity_k_whatever_its_scale(scale):
    task = MemoryCapacity(delays=30)
    _, target = task.test_series(500, seed=0)
    assert task.capacity(scale * np.nan_to_num(target), target) == pytest.approx(30.0)


def test_a_delay_line_of_n_units_has_capacity_n():
    units, task = 8, MemoryCapacity(delays=20)

    def states(x):  # unit i holds u(t - 1 - i)
        shifted = [np.pad(x, ((k, 0), (0, 0)))[: len(x)] for k in range(1, units + 1)]
        return np.hstack([np.ones_like(x), *shifted])

    x, target = task.series(4000, seed=0)
    weights = np.linalg.lstsq(states(x)[20:], target[20:], rcond=None)[0]
    x, target = task.test_series(4000, seed=0)
    outputs = states(x) @ weights
    # The other twelve outputs recall nothing, which by chance is 1 / T each.
    assert task.capacity(outputs, target) == pytest.approx(units, abs=0.02)
    assert task.capacity(outputs, target) > units
    assert task.capacity(outputs, target, chance=1e-4) == pytest.approx(units, abs=1e-9)


def test_chance_is_the_rate_at_which_outputs_without_memory_count():
    columns, steps = 2000, 100
    task = MemoryCapacity(delays=columns)
    rng = np.random.default_rng(0)
    target, output = rng.uniform(-1, 1, (steps, columns)), rng.normal(size=(steps, columns))
    plain = task.capacities(output, target)
    assert plain.mean() == pytest.approx(1 / (steps - 1), rel=0.1)
    for chance in (0.3, 0.05):
        counted = task.capacities(output, target, chance)
        kept = counted > 0
        np.testing.assert_array_equal(counted[kept], plain[kept])
        assert kept.mean() == pytest.approx(chance, abs=5 * np.sqrt(chance / columns))
    assert (task.capacities(output, target, chance=1e-12) == 0).all()


def test_the_threshold_of_the_docstring():
    task = MemoryCapacity(delays=1)
    target = np.array([1.0, -1.0] * 500)[:, None]
    other = np.array([1.0, 1.0, -1.0, -1.0] * 250)[:, None]
    for size, counts in ((0.0150, False), (0.0153, True)):
        output = np.sqrt(size) * target + np.sqrt(1 - size) * other
        assert task.capacity(output, target) == pytest.approx(size)
        assert (task.capacity(output, target, chance=1e-4) > 0) == counts


def test_an_output_that_tells_nothing_has_no_capacity():
    task = MemoryCapacity(delays=4)
    _, target = task.test_series(50, seed=0)
    output = np.nan_to_num(target)
    output[:, 0] = 0.3
    output[20, 1] = np.nan
    output[20, 2] = np.inf
    np.testing.assert_allclose(task.capacities(output, target), [0, 0, 0, 1])


def test_one_minus_the_nmse_of_the_best_readout_is_a_capacity():
    task, rng = Delay(delay=2), np.random.default_rng(0)
    _, target = (part[2:] for part in task.series(3000, seed=0))
    features = np.hstack([np.ones_like(target), target + rng.normal(size=target.shape)])
    output = features @ np.linalg.lstsq(features, target, rcond=None)[0]
    capacity = MemoryCapacity(delays=1).capacity(output, target)
    assert 0.1 < capacity < 0.5
    assert task.nmse(output, target) == pytest.approx(1 - capacity)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^delays must be an integer of at least 1, got 0; "):
        MemoryCapacity(delays=0)
    for wrong in (0, -1.0, np.nan, "1", False):
        with pytest.raises(ValueError, match=r"^amplitude must be a finite number above 0, got "):
            MemoryCapacity(amplitude=wrong)
    with pytest.raises(ValueError, match=r"^delay must be an integer of at least 1, got 0; "):
        Delay(delay=0)
    for wrong in (NARMA10(), MackeyGlass, "lorenz", np.zeros((5, 1))):
        with pytest.raises(ValueError, match=r"^source must be a series that makes itself, or "):
            Delay(source=wrong)
    task = MemoryCapacity(delays=2)
    _, target = task.series(10, seed=0)
    for wrong in (0.0, -0.1, np.nan, None):
        with pytest.raises(ValueError, match=r"^chance must be a finite number above 0, got "):
            task.capacity(target, target, wrong)
    with pytest.raises(ValueError, match=r"^chance must be at most 1, got 1\.5; "):
        task.capacity(target, target, 1.5)
    with pytest.raises(ValueError, match=r"^target must have shape \(T, 2\), got \(10, 1\); "):
        task.capacity(target[:, :1], target[:, :1])
    with pytest.raises(ValueError, match=r"^target must have a step where it is due, got none; "):
        task.capacity(target[:1], target[:1])
    with pytest.raises(ValueError, match=r"^target must vary and be finite, got a standard "):
        task.capacity(target, np.ones_like(target))
