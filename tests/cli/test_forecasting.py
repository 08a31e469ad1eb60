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


KNOWN = ["--columns.target", "sold", "--columns.known", "promotion"]


def future_rows(first=48, count=3, **changed):
    return [[f"shop {n}", t, changed.get("promotion", t % 2), changed.get("sold", "")]
            for n in range(3) for t in range(first, first + count)]  # fmt: skip


def test_what_is_known_ahead_is_read_from_rows_after_the_last_target(
    longlag, folder, shops, table, rows_of
):
    done = longlag(*TRAIN, *KNOWN, "--epochs", "60", "--learning_rate", "0.01", "--refit", "true")
    assert done.status == 0, done.err
    header, *rows = (line.split(",") for line in shops.read_text().splitlines())
    forecasts = {}
    for promotion in (0, 1):
        table(folder / "new.csv", header, rows + future_rows(promotion=promotion))
        done = longlag("predict", "model.longlag", "new.csv", "--overwrite")
        assert done.status == 0, done.err
        found = rows_of(folder / "predictions.csv")
        forecasts[promotion] = np.array([float(row["sold"]) for row in found]).reshape(3, 3)
    gained = (forecasts[1] - forecasts[0]) / 10.0 ** np.arange(3)[:, None]
    assert gained.mean() == pytest.approx(1.0, abs=0.4)  # what a promotion sells
    assert (gained > 0).all()


@pytest.mark.parametrize(("rows", "told"), [
    (0, "'shop 0' has 0 rows after the last known value of 'sold', expected 3, the horizon"),
    (2, "'shop 0' has 2 rows after the last known value of 'sold', expected 3"),
    ("gap", "row 1 after the last known value of 'sold': 'promotion' is missing"),
])  # fmt: skip
def test_a_file_without_what_is_known_ahead_is_refused(longlag, folder, shops, table, rows, told):
    assert longlag(*TRAIN, *KNOWN, "--epochs", "1").status == 0
    header, *past = (line.split(",") for line in shops.read_text().splitlines())
    more = future_rows(promotion="") if rows == "gap" else future_rows(count=rows)
    table(folder / "new.csv", header, past + more)
    done = longlag("predict", "model.longlag", "new.csv")
    assert done.status == 2
    assert told in done.err
    assert not (folder / "predictions.csv").exists()


@pytest.mark.filterwarnings("ignore:.*one value in the whole training part")
def test_what_is_static_may_stand_once_and_only_once(longlag, folder, shops, table):
    header, *rows = (line.split(",") for line in shops.read_text().splitlines())
    size = [["large" if row[1] == "5" else ""] for row in rows]
    table(
        folder / "my.csv",
        [*header, "size"],
        [row + one for row, one in zip(rows, size, strict=True)],
    )
    size[60] = ["small"]
    table(
        folder / "two.csv",
        [*header, "size"],
        [row + one for row, one in zip(rows, size, strict=True)],
    )
    options = [*KNOWN, "--columns.static", "size", "--epochs", "1"]
    done = longlag(*TRAIN, *options)
    assert done.status == 0, done.err
    assert "size: 1 categories" in done.out
    done = longlag("train", "two.csv", *TRAIN[2:], *options, "--overwrite")
    assert done.status == 2
    assert "column 'size': series 'shop 1' has another value in row" in done.err


def test_roles_of_covariates_are_checked(longlag, shops):
    for options, told in (
        (["--columns.target", "sold", "--columns.known", "sold"], "it is not known"),
        (["--columns.known", "price"], "'price', named in known, is not among the features"),
        ([*KNOWN, "--columns.static", "promotion"], "among known and static"),
        ([*KNOWN, "--no_relative"], "promotion are known ahead"),
    ):
        done = longlag(*TRAIN, *options)
        assert done.status == 2
        assert told in done.err


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


def test_quantiles_are_columns_of_their_own(longlag, folder, shops, rows_of):
    sold = ["--columns.target", "sold", "--epochs", "2"]
    done = longlag(*TRAIN, *sold, "--quantiles", "0.05,0.5,0.95")
    assert done.status == 0, done.err
    assert "intervals made to hold 90 % of the values" in done.out
    done = longlag("predict", "model.longlag", "my.csv")
    assert done.status == 0, done.err
    assert "intervals made to hold 90 % of the values" in done.out
    row = rows_of(folder / "predictions.csv")[0]
    assert float(row["sold_q0.05"]) <= float(row["sold_q0.5"]) <= float(row["sold_q0.95"])
    assert row["sold"] == row["sold_q0.5"]
    for levels, told in (("0.1;0.9", "expected numbers between 0 and 1 with commas"),
                         ("0.9,0.1", "each larger than the one before")):  # fmt: skip
        done = longlag(*TRAIN, *sold, "--quantiles", levels, "--overwrite")
        assert done.status == 2
        assert "--quantiles" in done.err
        assert told in done.err
