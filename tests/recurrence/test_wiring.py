import dataclasses

import pytest

from longlag.recurrence import Absent, Dense, Diagonal, Uniform, UnitParameter


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


@pytest.mark.parametrize("initial", [0.0, 1.0, -3.0, (0.5, 1.0), Uniform(0.5, 1.0)])
def test_a_trained_value_starts_where_it_can_move(initial):
    with pytest.raises(ValueError, match="expected one strictly inside"):
        UnitParameter(initial, interval=(0.0, 1.0))
    assert UnitParameter(initial, trained=False, interval=(0.0, 1.0)).initial == initial


@pytest.mark.parametrize("initial", [0.5, (0.5, 0.9), Uniform(0.2, 0.8)])
def test_inside_the_interval_is_fine(initial):
    assert UnitParameter(initial, interval=(0.0, 1.0)).initial == initial
