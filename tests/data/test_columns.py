from __future__ import annotations

import json

import pytest

from longlag.data import Columns, DataError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ("a", "time")}, "'time' is both time and among features"),
        ({"target": "series"}, "'series' is both series and among target"),
        ({"features": ("a", "a")}, "names a column twice"),
        ({"features": ()}, "features is empty"),
        ({"features": "ab"}, "is text, expected a tuple"),
        ({"series": "t", "time": "t"}, "'t' is both series and time"),
        ({"weight": "time"}, "'time' is both time and weight"),
        ({"weight": "a", "features": ("a",)}, "'a' is both weight and among features"),
        ({"weight": "a", "target": "a"}, "'a' is both weight and among target"),
    ],
)
def test_a_column_has_one_role(arguments, message):
    with pytest.raises(DataError, match=message):
        Columns(**arguments)


def test_the_answer_is_no_input_except_in_forecasting():
    columns = Columns(features=("a", "b"), target="b")
    with pytest.raises(DataError, match="'b' is the target of regression and also a feature"):
        columns.targets("regression")
    assert columns.targets("forecasting") == ("b",)


def test_several_targets_are_for_all_tasks():
    columns = Columns(target=("a", "b"))
    assert columns.targets("classification") == ("a", "b")
    assert columns.targets("regression") == columns.targets("tagging") == ("a", "b")


@pytest.mark.parametrize(
    "columns",
    [
        Columns(),
        Columns(target="y", weight="w"),
        Columns(series=None, time=None, features=("a",), target=("u", "v")),
    ],
)
def test_json_round_trip(columns):
    assert Columns.from_dict(json.loads(json.dumps(columns.to_dict()))) == columns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tim": "t"}, "unknown key 'tim'; did you mean 'time'"),
        ({"time": 3}, "time must be text or null"),
        ({"weight": 3}, "weight must be text or null"),
        ({"features": "ab"}, "expected a list of strings"),
    ],
)
def test_the_schema_is_closed(change, message):
    with pytest.raises(DataError, match=message):
        Columns.from_dict({**Columns().to_dict(), **change})
    with pytest.raises(DataError, match="the key 'target' is missing"):
        Columns.from_dict({"series": "a", "time": "b", "features": None})
    with pytest.raises(DataError, match="expected a mapping, got list"):
        Columns.from_dict([])
