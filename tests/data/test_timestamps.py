from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longlag.data.errors import DataError, Problems
from longlag.data.timestamps import parse_times


def parse(*cells: str) -> np.ndarray:
    problems = Problems(Path("log.csv"))
    values = parse_times(cells, np.arange(2, 2 + len(cells)), "when", problems).keys
    problems.raise_any()
    return values


def test_nanoseconds_since_1970_stay_distinct():
    first, second = 1_700_000_000_000_000_001, 1_700_000_000_000_000_002
    assert float(first) == float(second)
    assert parse(str(first), str(second)).tolist() == [first, second]


def test_numbers_and_integers_beyond_64_bits_sort():
    assert np.argsort(parse("2.5", "-1", "1e3")).tolist() == [1, 0, 2]
    assert np.argsort(parse("1" + "0" * 30, "1")).tolist() == [1, 0]


def test_a_date_of_digits_among_decimals_is_a_number():
    assert parse("20240301", "20240301.5").tolist() == [20240301.0, 20240301.5]


def test_timestamps_sort_with_microseconds():
    values = parse("2024-03-01T12:30:00.000002", "2024-03-01 12:30:00.000001", "2024-02-29")
    assert np.argsort(values).tolist() == [2, 1, 0]


def test_a_fraction_among_whole_seconds():
    whole = ("2024-03-01T12:30:01", "2024-03-01 12:30", "2024-03-01")
    assert parse(*whole).dtype == parse(*whole, "2024-03-01T12:30:00.5").dtype == "datetime64[us]"
    assert np.argsort(parse(*whole, "2024-03-01T12:30:00.5")).tolist() == [2, 1, 3, 0]
    assert parse(*whole).tolist() == parse(*whole, "2024-03-01T12:30:00.5").tolist()[:3]


def test_time_zones_are_compared_as_instants():
    values = parse("2024-03-01T12:00:00Z", "2024-03-01T12:30:00+01:00", "2024-03-01T12:00:00-01:00")
    assert np.argsort(values).tolist() == [1, 0, 2]
    assert parse("2024-03-01T12:00:00Z")[0] == parse("2024-03-01T13:00:00+01:00")[0]


@pytest.mark.parametrize(
    ("cells", "row", "expected"),
    [
        (("2024-01-01", "2024-01-02T00:00:00Z"), 3, "without a time zone"),
        (("2024-01-01T00:00:00Z", "2024-01-02"), 3, "with a time zone"),
        (("2024-01-01", "2024-01-02T00:00:00-01:00"), 3, "without a time zone"),
        (("2024-01-01", "7"), 3, "ISO 8601"),
        (("2024-13-01",), 2, "a number or an ISO 8601 timestamp"),
        (("2024-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00"), 3, "with a time zone"),
        (("1", "1_0"), 3, "a number"),
        (("1.5", "nan"), 3, "a number"),
    ],
)
def test_mixed_or_unreadable_times_are_errors(cells, row, expected):
    with pytest.raises(
        DataError, match=f"log.csv, row {row}, column 'when': expected .*{expected}"
    ):
        parse(*cells)
