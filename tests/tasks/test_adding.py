import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import Adding, Adding1997
from longlag.tasks.adding import marked_pairs


@settings(max_examples=25, deadline=None)
@given(length=st.integers(20, 120), seed=st.integers(0, 1000))
def test_1997_against_the_papers_words(length, seed):
    batch = Adding1997(length=length).batch(8, seed, index=0)
    for x, target, steps in zip(batch.x, batch.target, batch.lengths, strict=True):
        value, marker = x[:steps].T
        assert length <= steps <= length + length // 10
        assert np.abs(value).max() <= 1
        assert marker[0] == marker[-1] == -1
        marked = np.flatnonzero(marker[1:-1]) + 1
        assert (marker[marked] == 1).all()
        # Two pairs are marked; one of them may be the first pair, which is then worth nothing.
        assert len(marked) == 2 or (len(marked) == 1 and value[0] == 0)
        if len(marked) == 2:
            assert marked.min() < 10
        # The second is one of the first T // 2 - 1 unmarked pairs: at most T // 2 - 1, from 0.
        assert marked.max() <= max(9, length // 2 - 1)
        total = value[marked].astype(float).sum()
        assert target[0] == pytest.approx(0.5 + total / 4, abs=1e-6)
        assert 0 <= target[0] <= 1


def slow_pair(rng, length):
    """Section 5.4 as it reads: mark one of the first ten, then one of the unmarked T/2 - 1."""
    first = int(rng.integers(10))
    unmarked = [i for i in range(length) if i != first][: length // 2 - 1]
    return first, unmarked[rng.integers(len(unmarked))]


@pytest.mark.slow
@pytest.mark.parametrize("length", [20, 23, 60])
def test_1997_positions_have_the_law_of_the_slow_construction(length):
    n = 40_000
    rng = np.random.default_rng(8)
    slow = np.zeros((length, length))
    for _ in range(n):
        slow[tuple(sorted(slow_pair(rng, length)))] += 1
    x = marked_pairs(np.random.default_rng(9), n, length, low=-1.0, neutral=5.0).x
    fast = np.zeros((length, length))
    for row in x[..., 1] == 1:
        places = np.flatnonzero(row)
        fast[tuple(places) if len(places) == 2 else (0, places[0])] += 1
    degenerate = x[:, 0, 0] == 5.0
    np.testing.assert_array_equal(degenerate, (x[..., 1] == 1).sum(axis=1) == 1)
    assert ((slow > 0) == (fast > 0)).all()
    assert (np.abs(slow - fast) <= 6 * np.sqrt(slow + fast)).all()


def test_1997_lengths_and_values_are_uniform():
    n = 20_000
    batch = Adding1997(length=40).batch(n, seed=0, index=0)
    counts = np.bincount(batch.lengths)[40:]
    assert len(counts) == 5  # 40 .. 44
    assert np.abs(counts - n / 5).max() < 5 * np.sqrt(n / 5)
    values = batch.x[:, 1:40, 0]
    assert abs(values.mean()) < 5 * np.sqrt(1 / 3 / values.size)
    assert abs(values.var() - 1 / 3) < 0.005
    assert values.min() < -0.999 < 0.999 < values.max()


def test_1997_degenerate_first_pair_counts_as_zero():
    batch = Adding1997(length=20).batch(4000, seed=0, index=0)
    marked = batch.x[..., 1] == 1
    degenerate = marked.sum(axis=1) == 1
    # X1 falls on the first pair with probability 1/10, X2 else with 0.9 / 9.
    assert abs(degenerate.mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 4000)
    other = batch.x[..., 0][degenerate][marked[degenerate]]
    assert (batch.x[degenerate, 0] == [0, -1]).all()
    np.testing.assert_allclose(batch.target[degenerate, 0], 0.5 + other / 4, atol=1e-7)


def sum_of_marked(x, _):
    return 0.5 + np.where(x[..., 1] == 1, x[..., 0], 0).sum(axis=1, keepdims=True) / 4


def test_1997_success():
    task = Adding1997(length=20)
    result = task.success(sum_of_marked)
    assert result.success
    assert (result.wrong, result.sequences) == (0, 2000)
    assert task.success(lambda x, n: sum_of_marked(x, n) + 0.009).success
    assert not task.success(lambda x, n: sum_of_marked(x, n) + 0.011).success  # the mean
    assert not task.success(lambda x, n: np.full((len(x), 1), 0.5)).success
    test = task.success(sum_of_marked, sequences=task.TEST_SEQUENCES)
    assert test.sequences == 2560


def test_1997_one_wrong_sequence_is_no_success():
    task, calls = Adding1997(length=20), []

    def errs_once(x, lengths):
        output = sum_of_marked(x, lengths)
        if not calls:
            output[7] += 0.041
        calls.append(1)
        return output

    result = task.success(errs_once)
    assert not result.success
    assert result.wrong == 1
    assert result.largest_error == pytest.approx(0.041, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(2, 60), seed=st.integers(0, 1000))
def test_adding_has_one_marker_in_each_half(length, seed):
    batch = Adding(length=length).batch(8, seed, index=0)
    assert batch.lengths is None
    half = length // 2
    value, marker = batch.x[..., 0], batch.x[..., 1]
    assert ((value >= 0) & (value < 1)).all()
    assert set(np.unique(marker)) <= {0.0, 1.0}
    assert (marker[:, :half].sum(axis=1) == 1).all()
    assert (marker[:, half:].sum(axis=1) == 1).all()
    np.testing.assert_allclose(batch.target[:, 0], (value * marker).sum(axis=1), atol=1e-6)


def test_adding_markers_are_uniform_and_reach_the_end():
    n = 40_000
    marker = Adding(length=10).batch(n, seed=0, index=0).x[..., 1]
    assert np.abs(marker.mean(axis=0) - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / n)


def test_adding_baseline_is_the_error_of_the_mean():
    task = Adding(length=4)
    result = task.success(lambda x, n: np.ones((len(x), 1)))
    assert not result.success
    assert pytest.approx(1 / 6) == task.BASELINE
    assert result.mean_squared_error == pytest.approx(task.BASELINE, rel=0.05)


@pytest.mark.parametrize(("wrong", "expected"), [(9, True), (10, False)])
def test_adding_allows_less_than_one_per_cent_wrong(wrong, expected):
    task, left = Adding(length=6), [wrong]

    def predict(x, _):
        output = (x[..., 0] * x[..., 1]).sum(axis=1, keepdims=True)
        output[: left[0]] += 0.21
        left[0] = 0
        return output

    result = task.success(predict, sequences=1000)
    assert (result.wrong, result.success) == (wrong, expected)


@pytest.mark.parametrize(("task", "least"), [(Adding1997, 20), (Adding, 2)])
def test_a_length_too_short_is_named(task, least):
    with pytest.raises(ValueError, match=rf"^length must be .* at least {least}, got {least - 1}"):
        task(length=least - 1)
    assert task(length=least).batch(500, seed=0, index=0).x.shape[0] == 500
