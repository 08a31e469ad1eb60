"""Features that a forecaster is told for the steps that it forecasts."""

import numpy as np
import pandas as pd
import pytest

from longlag.data import Columns, DataError
from longlag.estimators import RecurrentForecaster
from longlag.pipeline.settings import SettingsError

QUICK = {"cell": "elman", "hidden": 8, "epochs": 30, "learning_rate": 0.02, "random_state": 0}
STEPS, AHEAD = 120, 4
RANDOM = np.random.default_rng(0)
PRICE = (RANDOM.random((3, STEPS + AHEAD)) < 0.3).astype(float)
NOISE = RANDOM.normal(size=(3, STEPS + AHEAD))
SOLD = 20 + 3 * np.sin(np.arange(STEPS + AHEAD) * np.pi / 6) - 10 * PRICE + 0.3 * NOISE
X = np.stack([NOISE, PRICE], axis=2)[:, :STEPS]


@pytest.fixture(scope="module")
def told():
    model = RecurrentForecaster(**QUICK, horizon=AHEAD, season=12, known=(1,))
    return model.fit(SOLD[:, :STEPS], X)


def test_what_is_known_ahead_is_used(told):
    after = PRICE[:, STEPS:, None]
    found = told.predict(X_future=after)
    assert found.shape == (3, AHEAD)
    blind = RecurrentForecaster(**QUICK, horizon=AHEAD, season=12).fit(SOLD[:, :STEPS], X)
    errors = [np.abs(one - SOLD[:, STEPS:]).mean() for one in (found, blind.predict())]
    assert errors[0] < 0.6 * errors[1]
    np.testing.assert_array_equal(told.predict(SOLD[:, :STEPS], X, X_future=after), found)
    np.testing.assert_array_equal(told.predict(X_future=after, horizon=2), found[:, :2])
    low, high = told.predict_interval(X_future=list(after))
    assert (low <= found).all()
    assert (found <= high).all()
    assert (told.predict(X_future=1 - after) != found).any()
    longer = np.concatenate([after, after], axis=1)
    np.testing.assert_array_equal(told.predict(X_future=longer), found)
    assert told.score(SOLD, np.stack([NOISE, PRICE], axis=2)) > 0.3


def test_it_is_what_a_frame_with_the_same_cells_gives(told, tmp_path):
    rows = [
        {"series": n, "time": t, "y": SOLD[n, t] if t < STEPS else None, "x0": NOISE[n, t],
         "x1": PRICE[n, t]}
        for n in range(3)
        for t in range(STEPS + AHEAD)
    ]  # fmt: skip
    columns = Columns(target="y", features=("y", "x0", "x1"), known=("x1",))
    framed = RecurrentForecaster(**QUICK, horizon=AHEAD, season=12, columns=columns)
    framed.fit(pd.DataFrame(rows))
    expected = told.predict(X_future=PRICE[:, STEPS:, None])
    np.testing.assert_array_equal(framed.predict(), expected)
    told.save(tmp_path / "model.longlag")
    loaded = RecurrentForecaster.load(tmp_path / "model.longlag")
    again = loaded.predict(SOLD[:, :STEPS], X, X_future=PRICE[:, STEPS:, None])
    np.testing.assert_array_equal(again, expected)


def test_one_series_with_one_feature():
    model = RecurrentForecaster(**{**QUICK, "epochs": 2}, horizon=AHEAD, season=12, known="all")
    model.fit(SOLD[0, :STEPS], PRICE[0, :STEPS])
    after = PRICE[0, STEPS:]
    assert model.predict(X_future=after).shape == (AHEAD,)
    np.testing.assert_array_equal(
        model.predict(X_future=after), model.predict(X_future=after[:, None])
    )
    past = model.backtest(SOLD[0, :STEPS], PRICE[0, :STEPS], origins=1)
    assert np.isfinite(past.mase()["model"])


@pytest.mark.parametrize(
    ("future", "message"),
    [
        (None, r"X_future: got None, but features \[1\] of X are known ahead; .* \(3, 4, 1\)"),
        (np.ones((3, 3, 1)), "X_future has 3 series of 3 steps .* expected 3 of 4 steps, the hor"),
        (np.ones((2, 4, 1)), "X_future has 2 series"),
        (np.ones((3, 4, 2)), "and 2 features, expected .* 1 features, those known"),
        (np.full((3, 4, 1), np.nan), "'x1' is missing, and it is known ahead; fill it in"),
    ],
)
def test_a_future_that_is_missing_or_short_is_refused(told, future, message):
    with pytest.raises(DataError, match=message):
        told.predict(X_future=future)


def test_what_is_known_must_be_there():
    y, quick = SOLD[:, :STEPS], {**QUICK, "epochs": 1}
    with pytest.raises(DataError, match="X: got None, but known="):
        RecurrentForecaster(**quick, known=(0,)).fit(y)
    with pytest.raises(
        SettingsError, match=r"known: got \(2,\), expected 'all', or places .* 0 to 1"
    ):
        RecurrentForecaster(**quick, known=(2,)).fit(y, X)
    with pytest.raises(SettingsError, match="known: got 'some', expected 'all'"):
        RecurrentForecaster(**quick, known="some").fit(y, X)
    model = RecurrentForecaster(**quick).fit(y, X)
    with pytest.raises(DataError, match="X_future: got features, but none is known ahead"):
        model.predict(X_future=np.ones((3, 4, 1)))
    with pytest.raises(SettingsError, match="relative: got false, but x0, x1 are known ahead"):
        RecurrentForecaster(**quick, known="all", relative=False).fit(y, X)
