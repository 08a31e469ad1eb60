"""What holds for every series: shapes, types, bits, and the checks of its measures."""

import dataclasses
import itertools

import numpy as np
import pytest

from longlag import tasks
from longlag.tasks.series import check_pair, check_spread, squared_errors

SERIES = [
    tasks.MackeyGlass(),
    tasks.MackeyGlass(tau=30, mapped=True),
    tasks.Lorenz(),
    tasks.Lorenz(rho=40, step=0.01),
    tasks.NARMA10(),
    tasks.MemoryCapacity(delays=3),
    tasks.Delay(delay=4),
    tasks.Delay(delay=2, source=tasks.Lorenz()),
]
DRIVEN = [task for task in SERIES if isinstance(task, tasks.Driven)]
every_series = pytest.mark.parametrize("task", SERIES, ids=repr)
every_driven = pytest.mark.parametrize("task", DRIVEN, ids=repr)


def parts(drawn):
    return drawn if isinstance(drawn, tuple) else (drawn,)


def same(a, b):
    return all(p.tobytes() == q.tobytes() for p, q in zip(parts(a), parts(b), strict=True))


def test_the_list_above_names_every_public_series():
    public = {getattr(tasks, name) for name in tasks.__all__}
    classes = {c for c in public if isinstance(c, type) and issubclass(c, tasks.Series)}
    assert classes - {tasks.Series, tasks.Driven} == {type(task) for task in SERIES}


@every_series
@pytest.mark.parametrize("steps", [1, 30])
def test_shapes_and_types(task, steps):
    for drawn in (task.series(steps, seed=0), task.test_series(steps, seed=0)):
        widths = (task.input_size, task.output_size)
        for part, width in zip(parts(drawn), widths, strict=False):
            assert part.shape == (steps, width)
            assert part.dtype == np.float64
            assert part.flags.c_contiguous
            assert part.flags.writeable
        assert np.isfinite(parts(drawn)[0]).all()
    if not isinstance(task, tasks.Driven):
        assert task.input_size == task.output_size


@every_series
def test_same_arguments_same_bits_and_a_longer_series_begins_the_same(task):
    first = task.series(20, seed=3)
    assert same(first, dataclasses.replace(task).series(20, seed=3))
    for short, long in zip(parts(first), parts(task.series(33, seed=3)), strict=True):
        assert short.tobytes() == long[:20].tobytes()


@every_series
def test_seed_and_purpose_give_different_series(task):
    drawn = [task.series(30, seed=3), task.series(30, seed=4), task.test_series(30, seed=3)]
    for a, b in itertools.combinations(drawn, 2):
        assert (parts(a)[0] != parts(b)[0]).all()


@every_series
def test_a_series_is_not_shared_memory(task):
    before = task.series(9, seed=0)
    for part in parts(task.series(9, seed=0)):
        part[:] = 7
    assert same(task.series(9, seed=0), before)


@every_series
def test_tasks_are_frozen_and_compare_by_their_fields(task):
    assert dataclasses.replace(task) == task
    assert hash(dataclasses.replace(task)) == hash(task)
    assert sum(task == other for other in SERIES) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.anything = 3


@every_series
@pytest.mark.parametrize("steps", [0, -1, 2.5, True, None])
def test_steps_are_named(task, steps):
    for draw in (task.series, task.test_series):
        with pytest.raises(ValueError, match=r"^steps must be an integer of at least 1, got "):
            draw(steps, seed=0)


@every_series
def test_a_negative_seed_is_named(task):
    with pytest.raises(ValueError, match=r"^seed must be an integer of at least 0, got -1; "):
        task.series(5, seed=-1)


@every_driven
def test_nmse_against_a_loop(task):
    _, target = task.series(40, seed=0)
    rng = np.random.default_rng(1)
    prediction = target + rng.normal(size=target.shape)
    prediction[np.isnan(target)] = 1e9  # not due
    due = [t for t in range(40) if not np.isnan(target[t]).any()]
    mean = sum(target[t] for t in due) / len(due)
    error = sum((prediction[t, d] - target[t, d]) ** 2 for t in due for d in range(target.shape[1]))
    spread = sum((target[t, d] - mean[d]) ** 2 for t in due for d in range(target.shape[1]))
    assert task.nmse(prediction, target) == pytest.approx(error / spread, rel=1e-12)


@every_driven
def test_nmse_of_the_target_is_0_and_of_its_mean_1(task):
    _, target = task.series(50, seed=0)
    due = ~np.isnan(target).any(axis=1)
    assert task.nmse(np.nan_to_num(target), target) == 0.0
    mean = np.broadcast_to(target[due].mean(axis=0), target.shape)
    assert task.nmse(mean, target) == pytest.approx(1.0)


@every_driven
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e300])
def test_nmse_of_what_is_not_finite_is_infinite(task, wrong):
    _, target = task.series(20, seed=0)
    prediction = target.copy()
    prediction[-1, -1] = wrong
    assert task.nmse(prediction, target) == np.inf


def test_shapes_are_named():
    task = tasks.NARMA10()
    target = task.series(10, seed=0).target
    cases = [
        (target[:, 0], target, r"^prediction must have shape \(T, 1\), got \(10,\); "),
        (target, target[:, 0], r"^target must have shape \(T, 1\), got \(10,\); "),
        (target[:9], target, r"^prediction must have the target's shape \(10, 1\), got \(9, 1\); "),
        (target[:0], target[:0], r"^target must have shape \(T, 1\), got \(0, 1\); "),
    ]
    for prediction, true, message in cases:
        with pytest.raises(ValueError, match=message):
            task.nmse(prediction, true)
    with pytest.raises(ValueError, match=r"^target must have shape \(T,\), got \(10, 1\); "):
        check_pair(target, target, ("T",))


def test_a_target_without_spread_is_named():
    task = tasks.NARMA10()
    with pytest.raises(ValueError, match=r"^target must vary .* standard deviation of 0\.0; "):
        task.nmse(np.zeros((4, 1)), np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"^target must have a step where it is due, got none; "):
        task.nmse(np.zeros((4, 1)), np.full((4, 1), np.nan))
    np.testing.assert_allclose(check_spread(np.array([[1.0, 0.0], [3.0, 8.0]])), [1.0, 4.0])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_errors_need_a_finite_target(wrong):
    with pytest.raises(ValueError, match=r"^target must be finite, got NaN or infinity; "):
        squared_errors(np.zeros(3), np.array([0.0, wrong, 1.0]))
