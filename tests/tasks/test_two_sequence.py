import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.tasks import TwoSequence

VARIANTS = ("3a", "3b", "3c")


@settings(max_examples=40, deadline=None)
@given(
    variant=st.sampled_from(VARIANTS),
    length=st.integers(3, 120),
    informative=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_lengths_signs_and_targets(variant, length, informative, seed):
    task = TwoSequence(variant, length, informative)
    batch = task.test_batch(6, seed, index=0)
    assert ((batch.lengths >= length) & (batch.lengths <= length + length // 10)).all()
    class_1 = batch.target[:, 0] == np.float32({"3a": 1.0, "3b": 1.0, "3c": 0.2}[variant])
    class_2 = batch.target[:, 0] == np.float32({"3a": 0.0, "3b": 0.0, "3c": 0.8}[variant])
    assert (class_1 ^ class_2).all()
    told = batch.x[:, :informative, 0]
    if variant == "3b":
        assert (np.abs(np.abs(told) - 1) > 0).all()
    else:
        assert (told[class_1] == 1).all()
        assert (told[class_2] == -1).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_noise_has_mean_zero_and_variance_one_fifth(variant):
    n = 20_000
    batch = TwoSequence(variant, length=30, informative=3).batch(n, seed=0, index=0)
    noise = batch.x[:, 3:30, 0]
    assert abs(noise.mean()) < 5 * np.sqrt(0.2 / noise.size)
    assert abs(noise.var() - 0.2) < 5 * 0.2 * np.sqrt(2 / noise.size)
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 5 * 0.2 / np.sqrt(noise[:, 1:].size)
    if variant == "3b":
        centre = np.where(batch.target > 0.5, 1.0, -1.0)
        told = batch.x[:, :3, 0] - centre
        assert abs(told.mean()) < 5 * np.sqrt(0.2 / told.size)
        assert abs(told.var() - 0.2) < 5 * 0.2 * np.sqrt(2 / told.size)
    counts = np.bincount(batch.lengths)[30:]
    assert len(counts) == 4
    assert np.abs(counts - n / 4).max() < 5 * np.sqrt(n / 4)


def test_3c_targets_are_noisy_in_training_only():
    n = 20_000
    batch = TwoSequence("3c", length=5).batch(n, seed=0, index=0)
    mean = np.where(batch.x[:, 0, 0] > 0, 0.2, 0.8)
    noise = batch.target[:, 0] - mean
    assert abs(noise.mean()) < 5 * np.sqrt(0.1 / n)
    assert abs(noise.var() - 0.1) < 5 * 0.1 * np.sqrt(2 / n)
    test = TwoSequence("3c", length=5).test_batch(n, seed=0, index=0).target
    np.testing.assert_array_equal(np.unique(test), np.float32([0.2, 0.8]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_classes_are_equally_likely(variant):
    target = TwoSequence(variant, length=5).test_batch(40_000, seed=0, index=0).target
    assert abs((target > 0.5).mean() - 0.5) < 5 * 0.5 / np.sqrt(40_000)


def answer(task, x):
    high, low = task.TARGETS[task.variant]
    told = x[:, : task.informative, 0].mean(axis=1, keepdims=True)
    return np.where(told > 0, high, low)


@pytest.mark.parametrize("variant", ["3a", "3c"])
def test_3a_and_3c_allow_no_wrong_sequence(variant):
    task = TwoSequence(variant, length=10)
    tolerance = task.rule.tolerance
    result = task.success(lambda x, n: answer(task, x))
    assert result.success
    assert result.sequences == 256

    def errs_once(x, _):
        output = answer(task, x)
        output[17] += tolerance + 0.01
        return output

    result = task.success(errs_once)
    assert not result.success
    assert result.wrong == 1


@pytest.mark.parametrize(("wrong", "expected"), [(5, True), (6, False)])
def test_3b_allows_fewer_than_six_wrong(wrong, expected):
    task = TwoSequence("3b", length=10)

    def predict(x, _):
        perfect = task.test_batch(256, seed=0, index=0)
        assert perfect.x.tobytes() == x.tobytes()
        output = perfect.target.copy()
        output[:wrong] += 0.25
        return output

    for stopping in ("ST1", "ST2"):
        result = task.success(predict, stopping=stopping)
        assert (result.wrong, result.success) == (wrong, expected)


@pytest.mark.parametrize(("variant", "limit"), [("3a", 0.01), ("3b", 0.04), ("3c", 0.015)])
def test_st2_asks_for_a_small_mean_error(variant, limit):
    task = TwoSequence(variant, length=10)
    target = task.test_batch(256, seed=0, index=0).target
    assert task.success(lambda x, n: target + 0.99 * limit).success
    result = task.success(lambda x, n: target + 1.01 * limit)
    assert not result.success
    assert result.wrong == 0
    if variant != "3c":
        assert task.success(lambda x, n: target + 1.01 * limit, stopping="ST1").success


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^variant must be one of '3a', '3b', '3c', got '3d'; "):
        TwoSequence("3d")
    with pytest.raises(ValueError, match=r"^length must be .* at least 1, got 0; "):
        TwoSequence("3a", length=0)
    with pytest.raises(ValueError, match=r"^informative must be .* at least 1, got 0; "):
        TwoSequence("3a", informative=0)
    with pytest.raises(ValueError, match=r"^informative must be at most length = 2, got 3; "):
        TwoSequence("3a", length=2, informative=3)
    with pytest.raises(ValueError, match=r"^stopping must be one of 'ST2', got 'ST1'; "):
        TwoSequence("3c").success(lambda x, n: x[:, 0], stopping="ST1")
