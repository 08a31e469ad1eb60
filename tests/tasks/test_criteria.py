from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlag.batch import IGNORED_CLASS
from longlag.tasks import Errors, Rule
from longlag.tasks.criteria import measure

STRICT = Rule(tolerance=0.25, sequences=10, source="here")


def test_float_errors_are_due_where_the_target_is_a_number():
    target = np.array([[[0.5, 0.0], [np.nan, np.nan]], [[1.0, 1.0], [0.0, 2.0]]], dtype=np.float32)
    output = np.array([[[0.25, 0.5], [np.nan, 9.0]], [[1.0, 1.0], [-1.0, 2.0]]])
    errors = Errors.of(output, target)
    np.testing.assert_array_equal(errors.value, [[0.25, 0.5, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(errors.due, [[True, True, False, False], [True] * 4])
    np.testing.assert_array_equal(errors.largest(), [0.5, 1.0])
    np.testing.assert_array_equal(errors.mean(), [0.375, 0.25])
    np.testing.assert_array_equal(errors.mean(2), [(0.0625 + 0.25) / 2, 0.25])


def test_class_errors_are_due_where_the_class_is():
    target = np.array([[1, IGNORED_CLASS, 0], [2, 2, 2]])
    scores = np.zeros((2, 3, 3))
    scores[0, 0, 1] = 1.0
    scores[0, 1] = np.nan
    scores[0, 2, 2] = 1.0
    scores[1, :, 2] = 1.0
    scores[1, 1, 2] = np.nan  # argmax would take it for the highest
    errors = Errors.of(scores, target)
    np.testing.assert_array_equal(errors.value, [[0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(errors.due, [[True, False, True], [True] * 3])


def test_nan_is_never_within_and_shows_as_the_largest():
    errors = Errors.of(np.array([[np.nan], [0.1]]), np.zeros((2, 1), dtype=np.float32))
    assert errors.within(1e9).tolist() == [False, True]
    result = measure([errors], STRICT)
    assert not result.success
    assert result.wrong == 1
    assert np.isnan(result.largest_error)


def test_tolerance_is_exclusive():
    errors = Errors.of(np.array([[0.25], [0.2499]]), np.zeros((2, 1), dtype=np.float32))
    assert errors.within(0.25).tolist() == [False, True]


@given(wrong=st.integers(0, 300), sequences=st.integers(1, 300), mean=st.floats(0, 1))
def test_rule_against_its_words(wrong, sequences, mean):
    assert STRICT.met(wrong, sequences, mean) == (wrong == 0)
    share = Rule(0.2, 256, "here", wrong_below=Fraction(6, 256), mean_error_below=0.04)
    assert share.met(wrong, sequences, mean) == (256 * wrong < 6 * sequences and mean < 0.04)


def test_fewer_than_140_of_2000_is_exact():
    rule = Rule(0.04, 2000, "here", wrong_below=Fraction(140, 2000))
    assert rule.met(139, 2000, 0.0)
    assert not rule.met(140, 2000, 0.0)


def test_a_mean_of_nan_fails_a_rule_on_the_mean():
    assert not Rule(0.2, 1, "here", mean_error_below=0.1).met(0, 1, float("nan"))


@pytest.mark.parametrize(("wrong", "word"), [(0, "success: 0"), (1, "no success: 1")])
def test_result_reads_well(wrong, word):
    value = np.full((4, 1), 0.125)
    value[:wrong] = 0.5
    result = measure([Errors(value[:3], value[:3] > 0), Errors(value[3:], value[3:] > 0)], STRICT)
    assert result.sequences == 4
    assert str(result).startswith(f"{word} of 4 sequences wrong, largest error ")
    assert str(result).endswith("(no sequence wrong at |error| < 0.25; here)")


def test_a_mean_square_has_to_be_there_and_small():
    rule = Rule(float("inf"), 2, "here", mean_squared_error_below=0.01)
    assert rule.met(0, 2, 0.2, 0.009)
    assert not rule.met(0, 2, 0.2, 0.01)
    assert not rule.met(0, 2, 0.2)
    assert not rule.met(0, 2, 0.2, float("nan"))
    assert "mean square < 0.01" in str(rule)
