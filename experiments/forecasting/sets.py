"""The sets: some that come with aeon, two drawn here.

Each is a list of series (T,) of one variable, and how many steps to forecast.
"""

import csv
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from longlag.data import SequenceData


class Set(NamedTuple):
    """Series of one variable."""

    data: SequenceData
    horizon: int


def _data(series: list[NDArray[np.float64]], horizon: int) -> Set:
    lengths = np.array([len(one) for one in series], np.int64)
    x = np.zeros((len(series), lengths.max(), 1), np.float32)
    for row, one in zip(x, series, strict=True):
        row[: len(one), 0] = one
    names = tuple(f"s{number}" for number in range(len(series)))
    return Set(SequenceData(x, lengths, None, names, ("value",), ("value",)), horizon)


def _aeon(file: str) -> Path:
    import aeon.datasets

    return Path(aeon.datasets.__file__).parent / "data" / file


def _table(file: str, column: str, horizon: int) -> Set:
    with open(_aeon(file), newline="") as rows:
        return _data([np.array([float(row[column]) for row in csv.DictReader(rows)])], horizon)


def m1() -> Set:
    """181 yearly series of the M1 competition (Makridakis et al., 1982)."""
    with open(_aeon("m1_yearly_dataset/m1_yearly_dataset.tsf"), encoding="utf-8") as lines:
        rows = itertools.dropwhile(lambda line: not line.startswith("@data"), lines)
        values = [line.rsplit(":", 1)[1].split(",") for line in itertools.islice(rows, 1, None)]
    return _data([np.array([float(value) for value in row]) for row in values], 6)


def load() -> Set:
    """Electric load as of eight houses: hours of ten weeks, by day and by week, with weather."""
    rng = np.random.default_rng(0)
    hours, series = np.arange(24 * 70), []
    for _ in range(8):
        day = np.sin(2 * np.pi * (hours - rng.uniform(6, 10)) / 24) + 0.5 * np.sin(
            4 * np.pi * (hours - rng.uniform(0, 4)) / 24
        )
        weekend = 1 - 0.3 * (hours // 24 % 7 >= 5)
        weather = np.zeros(len(hours))
        for hour in hours[1:]:
            weather[hour] = 0.97 * weather[hour - 1] + 0.08 * rng.normal()
        noise = np.exp(0.08 * rng.normal(size=len(hours)))
        series.append(rng.uniform(0.5, 50) * (2 + day * weekend + weather).clip(0.1) * noise)
    return _data(series, 24)


def trend_and_season() -> Set:
    """20 series of 20 years of months: a trend, a season that grows with it, noise."""
    rng = np.random.default_rng(0)
    months, series = np.arange(240), []
    for _ in range(20):
        season = rng.normal(size=12)
        level = np.exp(rng.uniform(0, 6)) * (1 + rng.uniform(0.001, 0.01) * months)
        noise = 0.03 * rng.normal(size=240)
        series.append(level * (1 + 0.2 * season[months % 12] + noise))
    return _data(series, 12)


SETS: dict[str, Callable[[], Set]] = {
    "airline": lambda: _table("Airline/Airline.csv", "Passengers", 12),
    "solar": lambda: _table("solar/solar.csv", "solar_gen", 24),
    "load": load,
    "M1 yearly": m1,
    "trend and season": trend_and_season,
}
