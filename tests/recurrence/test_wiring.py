import dataclasses
import re

import pytest

from longlag.recurrence import (
    Absent,
    DeclarationError,
    Dense,
    Diagonal,
    Geometric,
    Uniform,
    UnitParameter,
    block_diagonal,
    block_triangular,
)


def test_they_are_frozen_values():
    assert Dense() == Dense(None, False) != Dense(truncated=True)
    assert Diagonal("c") != Diagonal("h")
    assert Absent() == Absent()
    assert UnitParameter(0.5, interval=(0, 1)) == UnitParameter(0.5, True, False, (0, 1))
    for value in (Dense(), Diagonal(), UnitParameter(), Uniform(0, 1)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.trained = False


def test_uniform_bounds_in_order():
    assert Uniform(0.5, 0.5).low == 0.5
    with pytest.raises(ValueError, match=r"got low = 1.0 and high = 0.0, expected low <= high"):
        Uniform(1.0, 0.0)
    with pytest.raises(ValueError, match="expected low <= high"):
        Uniform(0.0, float("nan"))


def test_a_shared_parameter_has_one_initial_value():
    assert UnitParameter((0.5,), shared=True).shared
    with pytest.raises(ValueError, match="shared=True with 2 initial values, expected one; give a"):
        UnitParameter((0.5, 0.2), shared=True)


@pytest.mark.parametrize("interval", [(1.0, 0.0), (1.0, 1.0)])
def test_an_interval_has_an_inside(interval):
    with pytest.raises(ValueError, match="expected low < high"):
        UnitParameter(0.5, interval=interval)


@pytest.mark.parametrize(("first", "last"), [(0.0, 1.0), (1.0, -2.0), (1.0, float("inf"))])
def test_a_logarithmic_scale_is_of_numbers_above_zero(first, last):
    with pytest.raises(ValueError, match=f"Geometric: got first = {first} and last = {last}"):
        Geometric(first, last)


def test_a_shared_parameter_has_no_scale_over_the_units():
    with pytest.raises(ValueError, match=r"got shared=True with Geometric\(first=1.0, last=2.0\)"):
        UnitParameter(Geometric(1.0, 2.0), shared=True)


@pytest.mark.parametrize(
    "initial", [0.0, 1.0, -3.0, (0.5, 1.0), Uniform(0.5, 1.0), Geometric(0.5, 1.0)]
)
def test_a_trained_value_starts_where_it_can_move(initial):
    with pytest.raises(ValueError, match="expected one strictly inside"):
        UnitParameter(initial, interval=(0.0, 1.0))
    assert UnitParameter(initial, trained=False, interval=(0.0, 1.0)).initial == initial


@pytest.mark.parametrize("initial", [0.5, (0.5, 0.9), Uniform(0.2, 0.8), Geometric(0.9, 0.1)])
def test_inside_the_interval_is_fine(initial):
    assert UnitParameter(initial, interval=(0.0, 1.0)).initial == initial


def test_heads_read_themselves_and_a_clockwork_what_is_slower():
    assert block_diagonal(2) == ((1, 0), (0, 1))
    assert block_triangular(3) == ((1, 1, 1), (0, 1, 1), (0, 0, 1))


@pytest.mark.parametrize("function", [block_diagonal, block_triangular])
@pytest.mark.parametrize("blocks", [0, -1, True, 2.0, "2", None])
def test_a_number_of_groups_is_a_whole_number(function, blocks):
    message = f"{function.__name__}: got blocks = {blocks!r}, expected a whole number of groups"
    with pytest.raises(DeclarationError, match=re.escape(message)):
        function(blocks)


def test_patterns_are_tuples_of_numbers_and_all_ones_are_none():
    assert Dense(pattern=[[1, False], (True, 1)]).pattern == ((1, 0), (1, 1))
    assert type(Dense(pattern=[[True, False], [1, 1]]).pattern[0][0]) is int
    assert Dense(pattern=((1, 1), (True, 1))) == Dense()
    assert Dense(pattern=block_diagonal(1)) == Dense(pattern=[[True]]) == Dense()
    assert len({Dense(pattern=[[1, 0], [0, 1]]), Dense(pattern=block_diagonal(2))}) == 1


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ((), "that is no tuple of rows"),
        ("10", "that is no tuple of rows"),
        (2, "that is no tuple of rows"),
        ((1, 0), "row 0 is no row of 2"),
        (((1, 0),), "row 0 is no row of 1"),
        (((1, 0), (1,)), "row 1 is no row of 2"),
        (((1, 0), (1, 2)), "row 1 has something else than 0 and 1"),
        (((1, 0), (1, 1.0)), "row 1 has something else than 0 and 1"),
        (((0, None), (1, 1)), "row 0 has something else than 0 and 1"),
        (((0, 0), (0, 0)), "no block is there; write Absent() for a gate that reads no past"),
    ],
)
def test_a_pattern_without_meaning_is_refused(pattern, why):
    message = f"Dense: got pattern = {pattern!r}, expected None, or B rows of B numbers 0 or 1"
    with pytest.raises(DeclarationError, match=f"{re.escape(message)}.*{re.escape(why)}$"):
        Dense(pattern=pattern)


@pytest.mark.parametrize("delay", [-1, -3, True, 2.0, "2", None])
def test_a_delay_is_a_whole_number_of_steps(delay):
    message = f"Dense: got delay = {delay!r}, expected a whole number of steps, at least 0; 1 reads"
    with pytest.raises(DeclarationError, match=re.escape(message)):
        Dense(delay=delay)
