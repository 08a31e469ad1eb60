from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from longlag.data import DataError, Scaling

values = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 20), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6).map(lambda value: round(value, 6)),
)


@given(values)
def test_the_plain_formula(table):
    scaling = Scaling.fit(table)
    constant = (table == table[0]).all(axis=0)
    mean = np.where(constant, table[0], table.mean(axis=0))
    scale = np.where(constant, 1.0, np.sqrt(((table - table.mean(axis=0)) ** 2).mean(axis=0)))
    size = np.abs(table).max(axis=0)
    np.testing.assert_allclose(scaling.mean, mean, rtol=1e-12, atol=1e-14 * size.max())
    spread = np.ptp(table, axis=0)
    for c in np.flatnonzero(constant | (spread > 1e-6 * size)):
        np.testing.assert_allclose(scaling.scale[c], scale[c], rtol=1e-8)


@given(values)
def test_restore_inverts_apply(table):
    scaling = Scaling.fit(table)
    size = np.abs(table).max()
    np.testing.assert_allclose(scaling.restore(scaling.apply(table)), table, atol=1e-14 * size)


@given(values)
def test_json_round_trip_is_exact(table):
    scaling = Scaling.fit(table)
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_constant_columns_get_scale_one_even_when_their_mean_rounds():
    column = np.full((3, 1), 0.1)
    assert column.std() != 0
    assert Scaling.fit(column) == Scaling((0.1,), (1.0,))


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_squares_neither_vanish_nor_overflow(unit):
    scaling = Scaling.fit(np.array([[-3.0], [1.0], [5.0]]) * unit)
    np.testing.assert_allclose(scaling.mean, [unit], rtol=1e-12)
    np.testing.assert_allclose(scaling.scale, [np.sqrt(32 / 3) * unit], rtol=1e-12)


def test_a_spread_beyond_float64_is_refused():
    with pytest.raises(DataError, match=r"column 1: from -1e\+308 to 1e\+308"):
        Scaling.fit(np.array([[0.0, 1e308], [1.0, -1e308]]))


def test_a_far_mean_costs_no_digits():
    column = 1e9 + np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(Scaling.fit(column).scale, np.sqrt(2 / 3), rtol=1e-12)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"mean": [0.0], "scale": [0.0]}, "positive finite scales"),
        ({"mean": [0.0], "scale": [1.0, 1.0]}, "1 means and 2 scales"),
        ({"mean": [float("nan")], "scale": [1.0]}, "mean: expected finite numbers, got nan"),
        ({"mean": [True], "scale": [1.0]}, "expected finite numbers, got True"),
        ({"mean": 0.0, "scale": [1.0]}, "expected a list of numbers, got 0.0"),
        ({"mean": [0.0], "std": [1.0]}, "unknown key 'std'"),
        ({"mean": [0.0]}, "the key 'scale' is missing"),
    ],
)
def test_the_schema_is_closed(record, message):
    with pytest.raises(DataError, match=message):
        Scaling.from_dict(record)
