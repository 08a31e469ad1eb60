import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlag.tasks.arrays import (
    TEST,
    TRAIN,
    check_integer,
    check_positive,
    generator,
    one_hot,
    padding,
)


@given(
    st.lists(
        st.lists(st.integers(-1, 4), min_size=3, max_size=3),
        min_size=0,
        max_size=5,
    )
)
def test_one_hot_against_a_loop(rows):
    symbols = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
    vectors = one_hot(symbols, 5, fill=np.nan)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(rows), 3, 5)
    for n, row in enumerate(rows):
        for t, symbol in enumerate(row):
            expected = [float(i == symbol) if symbol >= 0 else np.nan for i in range(5)]
            np.testing.assert_array_equal(vectors[n, t], expected)


def test_padding_starts_at_the_length():
    expected = [[False, False, True], [True, True, True], [False, False, False]]
    np.testing.assert_array_equal(padding(np.array([2, 0, 3]), 3), expected)


def test_generator_depends_on_every_argument():
    arguments = [(0, TRAIN, 0), (1, TRAIN, 0), (0, TEST, 0), (0, TRAIN, 1), (0, TRAIN, 2**32)]
    # A seed beyond 32 bits must not run into the index: SeedSequence([seed, index]) does so.
    arguments += [(1 + 5 * 2**32, TRAIN, 7), (1, TRAIN, 5), (1, 5, 7), (2**64, TRAIN, 0)]
    first = {generator(*key).integers(2**63) for key in arguments}
    assert len(first) == len(arguments)


@pytest.mark.parametrize("value", [1, 2.5, "3", None, True])
def test_error_says_argument_value_expectation_and_fix(value):
    with pytest.raises(ValueError, match=r"^delay must be an integer .* 2, got .*; do so$"):
        check_integer("delay", value, 2, "do so")


def test_numpy_integers_are_integers():
    number = check_integer("delay", np.int32(7), 2, "do so")
    assert type(number) is int
    assert number == 7


@pytest.mark.parametrize("value", [3, 0.5, np.float32(0.25), np.int64(7), Fraction(1, 4)])
def test_check_positive_gives_a_float(value):
    number = check_positive("step", value, "give one")
    assert type(number) is float
    assert number == value


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, True, "1", None, 1j, 10**400])
def test_check_positive_names_what_came(value):
    message = re.escape(f"step must be a finite number above 0, got {value!r}; give one")
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_positive("step", value, "give one")
