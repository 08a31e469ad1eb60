"""Forecasting from the command line: what the past would have said, and what is known ahead."""

from __future__ import annotations

import numpy as np
import pytest

TRAIN = ["train", "my.csv", "--task", "forecasting", "--columns.series", "shop", "--columns.time",
         "month", "--horizon", "3", "--hidden", "4", "--season", "4"]  # fmt: skip


@pytest.fixture
def shops(folder, table):
    """Three shops that sell more in one month of four, and where there is a promotion."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(3):
        for t in range(48):
            promotion = int(rng.random() < 0.3)
            sold = 10.0**n * (2 + (t % 4 == 0) + promotion + 0.1 * rng.random())
            rows.append([f"shop {n}", t, promotion, round(sold, 3)])
    return table(folder / "my.csv", ["shop", "month", "promotion", "sold"], rows)


def test_a_backtest_shows_each_step_ahead(longlag, shops):
    done = longlag(*TRAIN, "--columns.target", "sold", "--epochs", "2", "--backtest", "2",
                   "--no_backtest_refit")  # fmt: skip
    assert done.status == 0, done.err
    told = done.out[done.out.index("Backtest: forecasts from 2 origins") :]
    rows = [line.split("│")[1:-1] for line in told.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows if row[0].strip()] == ["1", "2", "3", "all"]
    assert all(cell.strip() for cell in rows[0])
    assert rows[0][-1].strip().endswith("%")


def test_a_backtest_of_what_has_none_is_refused(longlag, shops):
    done = longlag(*TRAIN, "--backtest", "2", "--no_relative")
    assert done.status == 2
    assert "--backtest: it is for forecasts relative to simple ones" in done.err
    done = longlag(*TRAIN, "--backtest", "2", "--validation_data", "my.csv")
    assert "leave --validation_data out" in done.err
    done = longlag(*TRAIN, "--columns.target", "sold", "--epochs", "1", "--backtest", "20")
    assert "Use a smaller --backtest or --horizon" in done.err
