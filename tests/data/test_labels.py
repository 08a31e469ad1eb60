from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from longlag.data.errors import DataError
from longlag.data.labels import encode, find_classes, softmax


def test_numbers_written_as_text_are_ordered_as_numbers():
    assert find_classes(np.array(["10", "9", "-1", "9"])) == ("-1", "9", "10")
    assert find_classes(np.array(["10", "9", "a"])) == ("10", "9", "a")
    assert find_classes(np.array([10, 9, 9])) == (9, 10)
    assert all(type(label) is int for label in find_classes(np.array([1, 2])))


def test_encode_gives_positions():
    codes = encode(np.array(["b", "c", "b"]), ("c", "b"), str)
    assert codes.tolist() == [1, 0, 1]
    assert codes.dtype == np.int64


def test_an_unknown_class_is_located_and_counted():
    with pytest.raises(DataError, match=r"^at 1: unknown class 'uqp'; .*'up'\?.*1 more problem"):
        encode(np.array(["up", "uqp", "x"]), ("up", "down"), lambda at: f"at {at}")
    with pytest.raises(DataError, match="unknown class '1'; the classes in training were 1, 2"):
        encode(np.array(["1"]), (1, 2), str)


@given(arrays.arrays(np.float64, (3, 4), elements=st.floats(-50, 50)), st.floats(-1e6, 1e6))
def test_softmax_is_its_definition_and_ignores_a_shift(logits, shift):
    powers = np.exp(logits)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-12)
    np.testing.assert_allclose(softmax(logits + shift), expected, rtol=1e-8, atol=1e-15)


def test_softmax_of_extreme_float32_logits():
    logits = np.array([[3e38, -3e38, 3e38]], np.float32)
    assert softmax(logits).tolist() == [[0.5, 0.0, 0.5]]
