"""Quantiles and normal distributions in place of a value: losses, order, files, and coverage."""

import numpy as np
import pytest
import torch

from longlag.data import DataError, SequenceData, write_predictions
from longlag.pipeline.backtest import backtest
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.outputs import Gaussian, Point, Quantiles, from_dict
from longlag.pipeline.settings import Settings, SettingsError

LEVELS = (0.1, 0.5, 0.9)


def test_the_pinball_loss_is_least_at_the_quantiles_and_knows_what_is_missing():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.exponential(size=(4000, 1)))
    loss = Quantiles(LEVELS).loss
    best = torch.from_numpy(np.quantile(values, LEVELS)).expand(4000, 3)
    for at in range(3):
        for move in (-0.1, 0.1):
            other = best.clone()
            other[:, at] += move
            assert loss(other, values) > loss(best, values)
    median = Quantiles((0.5, 0.6)).loss
    outputs, target = torch.tensor([[2.0, 2.0, 5.0, 9.0]]), torch.tensor([[3.0, float("nan")]])
    expected = (1.0 + 2 * 0.6 * 1.0) / 2  # |y - q| of the median, and of the other level
    assert median(outputs, target).item() == pytest.approx(expected)
    outputs.requires_grad_()
    median(outputs, target).backward()
    assert outputs.grad[0, 2:].tolist() == [0.0, 0.0]


def test_the_likelihood_is_that_of_a_normal_distribution():
    outputs = torch.tensor([[1.0, 0.3, -2.0, 1.5]], dtype=torch.float64)
    target = torch.tensor([[2.0, float("nan")]], dtype=torch.float64)
    deviation = Gaussian().deviation(outputs.numpy())[0, 0]
    assert deviation == pytest.approx(np.log(1 + np.exp(0.3)) + 0.001)
    normal = torch.distributions.Normal(1.0, deviation)
    expected = -normal.log_prob(torch.tensor(2.0)).item() - 0.5 * np.log(2 * np.pi)
    assert Gaussian().loss(outputs, target).item() == pytest.approx(expected, rel=1e-6)


def test_quantiles_never_cross():
    outputs = np.random.default_rng(0).normal(size=(5, 7, 2 * 3))
    found = Quantiles(LEVELS).beside(outputs)
    assert list(found) == ["q0.1", "q0.5", "q0.9"]
    assert (found["q0.1"] <= found["q0.5"]).all()
    assert (found["q0.5"] <= found["q0.9"]).all()
    np.testing.assert_array_equal(Quantiles(LEVELS).point(outputs), found["q0.5"])


def noisy(count=20, steps=150, seed=0):
    """Seasons with noise that is three times as large in every second half of them, skewed."""
    rng = np.random.default_rng(seed)
    at = np.arange(steps)
    wide = np.where(at % 8 < 4, 0.1, 0.3)
    noise = wide * (rng.exponential(size=(count, steps)) - 1)
    x = (3 + np.sin(2 * np.pi * at / 8) + noise)[:, :, None].astype(np.float32)
    return SequenceData(
        x, np.full(count, steps), None, tuple(f"s{n}" for n in range(count)), ("v",), ("v",)
    )


@pytest.mark.parametrize("options", [
    {"quantiles": LEVELS}, {"gaussian": True}, {"quantiles": (0.05, 0.5, 0.6, 0.75)},
])  # fmt: skip
def test_intervals_hold_what_they_say_and_are_wide_where_noise_is(tmp_path, options):
    data = noisy()
    past = data.first(data.lengths - 30)
    quick = {"hidden": 8, "epochs": 25, "learning_rate": 0.01}
    settings = Settings("forecasting", horizon=2, season=8, **quick, **options)
    parts = hold_out(past, "forecasting", share=0.25, seed=0, horizon=2)
    fitted = Pipeline.of(parts, settings).fit(progress=False)
    fitted.save(tmp_path / "kept.longlag")
    again = Fitted.load(tmp_path / "kept.longlag")
    assert again.puts_out == fitted.puts_out
    level = 0.7 if len(options.get("quantiles", LEVELS)) == 4 else 0.8
    assert again.intervals.level == pytest.approx(level)
    widths, held = {}, []
    for begin in range(120, 148):
        found = again.predict(data.first(np.full(20, begin))).predictions
        truth = data.x[:, begin : begin + 2]
        held.append((found.low <= truth) & (truth <= found.high))
        for step in range(2):
            widths.setdefault((begin + step) % 8 < 4, []).append((found.high - found.low)[:, step])
        assert (found.low <= found.values).all()
        assert (found.values <= found.high).all()
    assert np.mean(held) == pytest.approx(level, abs=0.05)
    assert np.mean(widths[False]) > 1.5 * np.mean(widths[True])
    write_predictions(tmp_path / "p.csv", data, again.predict(data).predictions)
    head = (tmp_path / "p.csv").read_text().split()[0]
    names = [f"q{one:g}" for one in options.get("quantiles", ())] or ["sd"]
    assert head == ",".join(["series,step_ahead,v,v_low,v_high", *(f"v_{name}" for name in names)])


def test_a_backtest_knows_of_them():
    settings = Settings("forecasting", horizon=2, season=8, hidden=4, epochs=1, quantiles=LEVELS)
    found = backtest(noisy(steps=60), settings, 2)
    assert found.level == pytest.approx(0.8)
    assert 0 <= found.coverage() <= 1


def test_what_does_not_go_together_is_refused():
    for options, told in (
        ({"quantiles": (0.9, 0.1)}, "expected two or more levels between 0 and 1"),
        ({"quantiles": (0.5,)}, "expected two or more levels"),
        ({"quantiles": LEVELS, "gaussian": True}, "quantiles or mean and deviation"),
        ({"gaussian": True, "relative": False}, "relative to simple forecasts"),
        ({"gaussian": True, "cell": "echo"}, "readout fitted in one step"),
    ):
        with pytest.raises(SettingsError, match=told):
            Settings("forecasting", **options)
    with pytest.raises(SettingsError, match="quantiles"):
        Settings("regression", quantiles=LEVELS)
    for record in ({"quantiles": [0.5]}, {"quantiles": ["a"]}, {"other": 1}):
        with pytest.raises(DataError):
            from_dict(record)
    assert from_dict(None) == Point()
