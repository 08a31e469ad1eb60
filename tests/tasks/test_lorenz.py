import math

import numpy as np
import pytest

from longlag.tasks import Lorenz


def slope(point, sigma, rho, beta):
    x, y, z = point
    return np.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])


def slow_trajectory(start, steps, step, parameters=(10.0, 28.0, 8 / 3)):
    point, points = np.array(start), []
    for _ in range(steps):
        k1 = slope(point, *parameters)
        k2 = slope(point + step / 2 * k1, *parameters)
        k3 = slope(point + step / 2 * k2, *parameters)
        k4 = slope(point + step * k3, *parameters)
        point = point + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        points.append(point)
    return np.array(points)


@pytest.mark.parametrize(
    "task", [Lorenz(), Lorenz(step=0.005), Lorenz(12, np.float32(20), 2, 0.01)], ids=repr
)
def test_against_a_plain_loop(task):
    series = task.series(60, seed=3)
    parameters = (float(task.sigma), float(task.rho), float(task.beta))
    expected = slow_trajectory(series[0], 59, task.step, parameters)
    np.testing.assert_allclose(series[1:], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(task.trajectory(series[9], 50), series[10:])


def test_the_error_falls_with_the_fourth_power_of_the_step():
    start, time = [1.0, 2.0, 20.0], 0.4
    exact = slow_trajectory(start, 4000, time / 4000)[-1]
    errors = [
        np.linalg.norm(Lorenz(step=step).trajectory(start, round(time / step))[-1] - exact)
        for step in (0.02, 0.01, 0.005)
    ]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (np.abs(orders - 4) < 0.4).all(), orders


def test_the_series_is_on_the_attractor_from_its_first_step():
    series = Lorenz().series(20_000, seed=0)
    low, high = series.min(axis=0), series.max(axis=0)
    assert (low > [-21, -28, 0]).all()
    assert (high < [21, 28, 49]).all()
    assert (low < [-17, -22, 4]).all()
    assert (high > [17, 22, 43]).all()
    assert np.abs(series.mean(axis=0)[:2]).max() < 1.5
    assert series.mean(axis=0)[2] == pytest.approx(23.55, abs=0.4)
    np.testing.assert_allclose(series.std(axis=0), [7.92, 9.0, 8.6], rtol=0.03)
    starts = np.array([Lorenz(step=0.05).series(1, seed=seed)[0] for seed in range(20)])
    assert len(np.unique(starts, axis=0)) == 20
    assert (starts[:, 2] > 3).all()


def test_two_nearby_trajectories_part_by_the_largest_exponent():
    task, distance, growth, rounds = Lorenz(), 1e-8, 0.0, 8000
    a = task.series(1, seed=0)[0]
    b = a + distance * np.array([1.0, 0.0, 0.0])
    for _ in range(rounds):
        a, b = task.trajectory(a, 10)[-1], task.trajectory(b, 10)[-1]
        now = np.linalg.norm(b - a)
        growth += math.log(now / distance)
        b = a + (b - a) * (distance / now)
    exponent = growth / (rounds * 10 * task.step)
    assert exponent == pytest.approx(Lorenz.CLASSIC_EXPONENT, abs=0.02)


def test_below_its_bifurcation_the_series_comes_to_rest():
    series = Lorenz(rho=10, step=0.01).series(5, seed=1)
    rest = math.sqrt(8 / 3 * 9)
    np.testing.assert_allclose(np.abs(series), np.tile([rest, rest, 9.0], (5, 1)), rtol=1e-9)


def errors_of(sizes, spread):
    """A target of the given spread, and predictions with these normalised errors."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=(len(sizes), 3)) * [1.0, 5.0, 20.0]
    direction = rng.normal(size=target.shape)
    direction *= math.sqrt(3) / np.linalg.norm(direction, axis=1, keepdims=True)
    return target + direction * np.array(sizes)[:, None] * spread(target), target


def test_valid_time_of_342_steps_is_6_2_lyapunov_times():
    sizes = [0.49] * 342 + [0.51] + [0.1] * 100
    prediction, target = errors_of(sizes, lambda target: target.std(axis=0))
    time = Lorenz().valid_time(prediction, target)
    assert time == pytest.approx(342 * 0.02 * 0.9056)
    assert round(time, 1) == 6.2


@pytest.mark.parametrize(("first", "steps"), [(0, 0), (1, 1), (7, 7), (None, 10)])
def test_valid_time_counts_the_steps_before_the_first_wrong_one(first, steps):
    sizes = [0.1] * 10
    if first is not None:
        sizes[first] = 0.6
    prediction, target = errors_of(sizes, lambda target: target.std(axis=0))
    task = Lorenz(step=0.01)
    assert task.valid_time(prediction, target) == pytest.approx(steps * 0.01 * 0.9056)
    assert task.valid_time(prediction, target, threshold=0.7, exponent=2) == pytest.approx(0.2)


def test_valid_time_with_other_deviations():
    sizes = [0.3, 0.3, 0.39, 0.41, 0.2]
    target = errors_of(sizes, np.std)[1]
    joint = math.sqrt((target**2).mean())  # Pathak et al. 2018
    prediction, _ = errors_of(sizes, lambda target: joint)
    time = Lorenz().valid_time(prediction, target, threshold=0.4, deviation=joint)
    assert time == pytest.approx(3 * 0.02 * 0.9056)
    e = [np.linalg.norm(p - t) for p, t in zip(prediction, target, strict=True)]
    norm = math.sqrt((np.linalg.norm(target, axis=1) ** 2).mean())
    np.testing.assert_allclose(np.divide(e, norm), sizes)
    prediction, _ = errors_of(sizes, lambda target: np.array([2.0, 3.0, 4.0]))
    one = Lorenz().valid_time(prediction[:1], target[:1], deviation=[2.0, 3.0, 4.0])
    assert one == pytest.approx(0.02 * 0.9056)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e300])
def test_a_run_that_diverges_is_wrong_from_there(wrong):
    prediction, target = errors_of([0.1] * 6, lambda target: target.std(axis=0))
    prediction[4, 1] = wrong
    assert Lorenz().valid_time(prediction, target) == pytest.approx(4 * 0.02 * 0.9056)


def test_a_small_disturbance_stays_valid_for_the_time_that_it_takes_to_grow():
    task = Lorenz()
    series = task.series(3000, seed=1)
    spread = series.std(axis=0)
    times = []
    for start in range(0, 2000, 100):
        free = task.trajectory(series[start] + 1e-5 * spread, 900)
        target = series[start + 1 : start + 901]
        times.append(task.valid_time(free, target, deviation=spread))
    assert np.mean(times) == pytest.approx(math.log(0.5 / 1e-5), rel=0.15)


def test_bad_arguments_are_named():
    for name in ("sigma", "rho", "beta", "step"):
        for wrong in (0, -1.0, np.nan, np.inf, "10", None, True):
            with pytest.raises(ValueError, match=rf"^{name} must be a finite number above 0, got "):
                Lorenz(**{name: wrong})
    task, run = Lorenz(), np.arange(12.0).reshape(4, 3)
    for wrong in ([1.0, 2.0], [[1.0, 2.0, 3.0]], [1.0, np.nan, 3.0]):
        with pytest.raises(ValueError, match=r"^start must be three finite numbers, got "):
            task.trajectory(wrong, 5)
    with pytest.raises(ValueError, match=r"^steps must be .* at least 1, got 0; "):
        task.trajectory(run[0], 0)
    with pytest.raises(ValueError, match=r"^step must be small enough .*, got 0\.5; "):
        Lorenz(step=0.5).series(10, seed=0)
    with pytest.raises(ValueError, match=r"^threshold must be a finite number above 0, got 0; "):
        task.valid_time(run, run, threshold=0)
    for wrong in (0.0, [1.0, 2.0], [1.0, 2.0, -3.0], np.inf, np.nan):
        with pytest.raises(ValueError, match=r"^deviation must be one or three finite numbers "):
            task.valid_time(run, run, deviation=wrong)
    with pytest.raises(ValueError, match=r"^target must vary and be finite, got a standard "):
        task.valid_time(run[:1], run[:1])
    with pytest.raises(ValueError, match=r"^target must have shape \(T, 3\), got \(3, 4\); "):
        task.valid_time(run.T, run.T)
    spoiled = np.where(run == 4, np.nan, run)
    with pytest.raises(ValueError, match=r"^target must be finite, got NaN or infinity; "):
        task.valid_time(run, spoiled, deviation=1.0)


def test_the_exponent_of_other_parameters_is_asked_for():
    run = np.arange(12.0).reshape(4, 3)
    with pytest.raises(ValueError, match=r"^exponent must be given for .* got None for Lorenz\("):
        Lorenz(rho=40.0).valid_time(run, run)
    assert Lorenz(rho=40.0).valid_time(run, run, exponent=1.0) == pytest.approx(4 * 0.02)
    with pytest.raises(ValueError, match=r"^exponent must be a finite number above 0, got 0; "):
        Lorenz().valid_time(run, run, exponent=0)
    assert Lorenz(sigma=10, rho=28).valid_time(run, run) == pytest.approx(4 * 0.02 * 0.9056)
