import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import Copy


@settings(max_examples=25, deadline=None)
@given(delay=st.integers(1, 60), seed=st.integers(0, 1000))
def test_against_the_papers_words(delay, seed):
    batch = Copy(delay=delay).batch(4, seed, index=0)
    for x, target in zip(batch.x, batch.target, strict=True):
        assert (x.sum(axis=1) == 1).all()
        symbols = x.argmax(axis=1).tolist()
        held = symbols[:10]
        assert set(held) <= set(range(1, 9))
        assert symbols == [*held, *[0] * (delay - 1), 9, *[0] * 10]
        assert target.tolist() == [*[0] * (delay + 10), *held]


def test_symbols_are_uniform():
    held = Copy(delay=1).batch(8000, seed=0, index=0).target[:, -10:]
    share = np.bincount(held.ravel(), minlength=9)[1:] / held.size
    assert len(share) == 8
    assert np.abs(share - 1 / 8).max() < 5 * np.sqrt(1 / 8 * 7 / 8 / held.size)


def test_baseline_is_the_cross_entropy_without_memory():
    task = Copy(delay=30)
    target = task.batch(50, seed=0, index=0).target
    probability = np.zeros((50, 50, 9))
    probability[:, :-10, 0] = 1.0  # blanks are certain
    probability[:, -10:, 1:] = 1 / 8
    chosen = np.take_along_axis(probability, target[..., None], axis=2)
    assert -np.log(chosen).mean() == pytest.approx(task.baseline)
    assert Copy(delay=1000).baseline == pytest.approx(10 * math.log(8) / 1020)


def repeat(x, _):
    output = np.zeros((*x.shape[:2], 9))
    output[:, :-10, 0] = 1.0
    output[:, -10:] = x[:, :10, :9]
    return output


def test_success():
    task = Copy(delay=5)
    result = task.success(repeat, sequences=300)
    assert result.success
    assert result.wrong == 0

    left = [3]

    def errs(x, lengths):
        output = repeat(x, lengths)
        output[: left[0], 4] = np.eye(9)[3]  # one wrong blank each
        left[0] = 0
        return output

    result = task.success(errs, sequences=300)
    assert (result.wrong, result.success) == (3, False)
    left = [2]
    result = task.success(errs, sequences=300)
    assert (result.wrong, result.success) == (2, True)
    assert task.success(lambda x, n: np.full((*x.shape[:2], 9), 1 / 9), sequences=300).wrong == 300


def test_a_delay_too_short_is_named():
    with pytest.raises(ValueError, match=r"^delay must be an integer of at least 1, got 0; "):
        Copy(delay=0)
