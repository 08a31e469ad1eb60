import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import LongLag, LongLagRandom


def paper_vectors(names, p):
    """Section 5.2: a_i is the unit vector with a 1 at its i-th component; x = a_p, y = a_{p+1}."""
    number = {f"a{i}": i for i in range(1, p)} | {"x": p, "y": p + 1}
    return [[1.0 if i == number[name] else 0.0 for i in range(1, p + 2)] for name in names]


@settings(max_examples=20, deadline=None)
@given(p=st.integers(2, 12), seed=st.integers(0, 1000))
def test_2a_has_the_papers_two_sequences(p, seed):
    middle = [f"a{i}" for i in range(1, p)]
    both = [paper_vectors([key, *middle, key], p) for key in "xy"]
    batch = LongLag(delay=p).batch(8, seed, index=0)
    for x, target in zip(batch.x.tolist(), batch.target.tolist(), strict=True):
        assert x[1:] == target[:-1]
        assert [*x, target[-1]] in both


@pytest.mark.parametrize("task", [LongLag(delay=3), LongLagRandom(delay=3)], ids=repr)
def test_x_and_y_are_equally_likely_and_independent(task):
    batch = task.batch(40_000, seed=1, index=0)
    y = batch.x[:, 0, 3]
    assert abs(y.mean() - 0.5) < 5 * 0.5 / np.sqrt(40_000)
    assert abs((y[1:] * y[:-1]).mean() - 0.25) < 5 * 0.5 / np.sqrt(40_000)
    other = task.batch(40_000, seed=1, index=1).x[:, 0, 3]
    assert abs((y * other).mean() - 0.25) < 5 * 0.5 / np.sqrt(40_000)


def test_2b_has_random_symbols_between_equal_ends():
    p, n = 5, 20_000
    batch = LongLagRandom(delay=p).batch(n, seed=0, index=0)
    assert batch.x.shape == batch.target.shape == (n, p, p + 1)
    sequence = np.concatenate([batch.x, batch.target[:, -1:]], axis=1)
    np.testing.assert_array_equal(sequence[:, 1:], batch.target)
    assert (sequence.sum(axis=2) == 1).all()
    np.testing.assert_array_equal(sequence[:, 0], sequence[:, -1])
    assert (sequence[:, 0, p - 1 :].sum(axis=1) == 1).all()
    middle = sequence[:, 1:-1].argmax(axis=2)  # (n, p - 1), uniform in 0 .. p - 2
    counts = np.zeros((p - 1, p - 1))
    np.add.at(counts, (middle[:, 0], middle[:, 1]), 1)
    expected = n / (p - 1) ** 2
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    share = np.bincount(middle.ravel()) / middle.size
    assert len(share) == p - 1
    assert np.abs(share - 1 / (p - 1)).max() < 0.01


def test_2a_judges_every_step_and_2b_the_last_one():
    for task, expected in ((LongLag(delay=6), False), (LongLagRandom(delay=6), True)):
        target = task.batch(1, seed=0, index=0).target
        output = target.copy()
        output[0, 2, 1] += 0.3
        assert task.correct(output, target).tolist() == [expected]
        output = target.copy()
        output[0, -1, 0] += 0.3
        assert task.correct(output, target).tolist() == [False]
        output[0, -1, 0] -= 0.1
        assert task.correct(output, target).tolist() == [True]


def remember_first(x, _):
    """Solves 2a: the next symbol from this one, and the last from the first."""
    output = np.zeros_like(x)
    p = x.shape[1]
    output[:, np.arange(p - 1), np.arange(p - 1)] = 1.0
    output[:, -1] = x[:, 0]
    return output


def test_success_of_a_net_that_remembers():
    result = LongLag(delay=20).success(remember_first)
    assert result.success
    assert (result.wrong, result.sequences, result.largest_error) == (0, 10_000, 0.0)
    result = LongLagRandom(delay=20).success(remember_first)
    assert result.success
    assert result.sequences == 10_000


@pytest.mark.parametrize("task", [LongLag(delay=20), LongLagRandom(delay=20)], ids=repr)
def test_no_success_of_a_net_that_guesses_one_key_or_errs_once(task):
    def always_x(x, lengths):
        output = remember_first(x, lengths)
        output[:, -1] = 0.0
        output[:, -1, 19] = 1.0
        return output

    result = task.success(always_x)
    assert not result.success
    assert abs(result.wrong - 5000) < 5 * 50
    assert result.largest_error == 1.0

    calls = []

    def errs_once(x, lengths):
        output = remember_first(x, lengths)
        if not calls:
            output[0, -1, 3] = 0.26
        calls.append(1)
        return output

    result = task.success(errs_once)
    assert not result.success
    if isinstance(task, LongLagRandom):
        assert result.wrong == 1
    else:  # of its two sequences each is asked for once, and counts as often as it is drawn
        assert abs(result.wrong - 5000) < 5 * 50


@pytest.mark.parametrize("task", [LongLag, LongLagRandom])
@pytest.mark.parametrize("delay", [1, 0, -3, 4.0])
def test_a_delay_too_short_is_named(task, delay):
    with pytest.raises(ValueError, match=r"^delay must be an integer of at least 2, got .*p = 100"):
        task(delay=delay)


def test_2b_can_have_error_at_the_end_only():
    everywhere = LongLagRandom(delay=5).batch(4, seed=0, index=0)
    at_end = LongLagRandom(delay=5, at_end=True).batch(4, seed=0, index=0)
    np.testing.assert_array_equal(at_end.x, everywhere.x)
    np.testing.assert_array_equal(at_end.target[:, -1], everywhere.target[:, -1])
    assert np.isnan(at_end.target[:, :-1]).all()
