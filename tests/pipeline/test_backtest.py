"""Rolling origins: from each, only what was known then."""

import numpy as np
import pytest

from longlag.data import DataError, SequenceData
from longlag.pipeline import backtest as module
from longlag.pipeline.backtest import Backtest, backtest, by_step
from longlag.pipeline.settings import Settings, SettingsError

QUICK = Settings("forecasting", horizon=3, hidden=4, epochs=2, season=4)


def series(values):
    x = np.asarray(values, np.float32)[..., None]
    names = tuple(f"s{n}" for n in range(len(x)))
    return SequenceData(x, np.full(len(x), x.shape[1]), None, names, ("v",), ("v",))


def waves(count=3, steps=48):
    rng = np.random.default_rng(0)
    at = np.arange(steps) * np.pi / 2
    return 3 + np.sin(at) + 0.2 * rng.normal(size=(count, steps))


def test_errors_are_those_of_the_origins_and_in_units_of_what_was_known_at_the_first():
    values = waves()
    found = backtest(series(values), QUICK, 2)
    assert found.names == ("model", "seasonal naive", "last value", "drift", "simple")
    assert found.absolute.shape == (5, 6, 3)  # two origins of three series, three steps ahead
    assert found.level == 0.8
    y = values.astype(np.float32).astype(np.float64)
    unit = np.abs(y[:, 4:42] - y[:, :38]).mean(axis=1)
    square = np.square(y[:, 4:42] - y[:, :38]).mean(axis=1)
    last = np.concatenate(
        [y[:, origin - 1, None] - y[:, origin : origin + 3] for origin in (42, 45)]
    )
    units = np.tile(unit, 2)[:, None]
    np.testing.assert_allclose(found.absolute[2], np.abs(last) / units, rtol=1e-5)
    assert found.mase(2)["last value"] == pytest.approx(
        np.mean(np.abs(last[:, 1]) / units[:, 0]), rel=1e-5
    )
    expected = np.sqrt(np.mean(last**2 / np.tile(square, 2)[:, None]))
    assert found.rmsse()["last value"] == pytest.approx(expected, rel=1e-5)
    assert found.coverage() == found.inside.mean()
    rows = dict(by_step(found))
    assert list(rows) == ["1", "2", "3", "all"]
    assert rows["2"][2] == found.mase(2)["last value"]
    assert rows["all"][-1] == found.coverage()


def test_nothing_after_an_origin_changes_what_was_forecast_there():
    values = waves()
    other = values.copy()
    other[:, 45:] += 100.0
    one, two = (backtest(series(y), QUICK, 2) for y in (values, other))
    np.testing.assert_array_equal(two.absolute[:, :3], one.absolute[:, :3])
    assert (two.absolute[:, 3:] != one.absolute[:, 3:]).all()


def test_a_network_may_be_trained_for_the_first_origin_alone(monkeypatch):
    lengths = []
    whole = module.hold_out

    def spy(data, *arguments, **options):
        lengths.append(int(data.lengths[0]))
        return whole(data, *arguments, **options)

    monkeypatch.setattr(module, "hold_out", spy)
    assert backtest(series(waves()), QUICK, 3).absolute.shape == (5, 9, 3)
    assert lengths == [39, 42, 45]
    lengths.clear()
    found = backtest(series(waves()), QUICK, 3, every=False)
    assert found.absolute.shape == (5, 9, 3)
    assert lengths == [39]


def test_what_cannot_be_is_refused():
    told = "s0. has 48 steps, and 14 origins .* leave 6 before the first; expected at least 8"
    with pytest.raises(DataError, match=told):
        backtest(series(waves()), QUICK, 14)
    for settings in (Settings("tagging"), Settings("forecasting", relative=False)):
        with pytest.raises(SettingsError, match="backtest: it is for forecasts"):
            backtest(series(waves()), settings, 2)


def test_the_summary_leaves_out_what_is_not_known():
    absolute = np.array([[[1.0, np.nan]], [[2.0, 3.0]]])
    found = Backtest(
        ("model", "drift"), 2, 1, absolute, absolute**2, np.array([[1.0, np.nan]]), 0.8
    )
    assert found.mase() == {"model": 1.0, "drift": 2.5}
    assert found.coverage() == 1.0
