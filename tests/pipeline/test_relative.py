"""Forecasts relative to the season before: what is read, restored, judged, and how sure it is."""

from dataclasses import replace

import numpy as np
import pytest

from longlag.batch import Batch
from longlag.data import (
    Columns,
    DataError,
    DataWarning,
    SequenceData,
    ValuePredictions,
    write_predictions,
)
from longlag.data.scaling import Scaling
from longlag.layers import Embedded
from longlag.onnx import export_onnx
from longlag.pipeline import simple
from longlag.pipeline.dataset import earlier, hold_out, judged, prepare
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.intervals import Intervals, blend, coverage
from longlag.pipeline.network import run_model
from longlag.pipeline.relative import Relative
from longlag.pipeline.scores import score
from longlag.pipeline.season import find_season
from longlag.pipeline.settings import Settings, SettingsError
from longlag.pipeline.simple import simple_forecasts


def series(count=6, steps=90, season=7, seed=0):
    """Seasons that grow along a trend, each series of a size of its own, with another feature."""
    rng = np.random.default_rng(seed)
    at = np.arange(steps)
    x = np.zeros((count, steps, 2), np.float32)
    lengths = rng.integers(steps - 20, steps + 1, count)
    lengths[0] = steps
    shape = rng.normal(size=season)
    for n, length in enumerate(lengths):
        trend = 1 + 0.02 * at + 0.2 * shape[at % season] * (1 + 0.02 * at)
        x[n, :length, 0] = (10.0 ** (n - 2) * (trend + 0.02 * rng.normal(size=steps)))[:length]
        x[n, :length, 1] = rng.normal(size=length) + 5
    names = tuple(f"s{n}" for n in range(count))
    return SequenceData(x, lengths, None, names, ("sales", "heat"), ("sales",))


def raw(horizon=3):
    data = series()
    parts = hold_out(data, "forecasting", share=0.3, seed=0, horizon=horizon)
    pipeline = Pipeline.of(parts, Settings("forecasting", horizon=horizon, hidden=4))
    return data, parts, pipeline


@pytest.mark.parametrize("season", [5, 7, 12, 24])
def test_a_season_is_found_and_not_its_double(season):
    data = series(steps=130, season=season)
    assert find_season(data.x[:, :, :1], data.lengths) == season


def test_a_season_that_no_series_is_longer_than_is_told():
    _, parts, pipeline = raw()
    train = prepare(pipeline.preparation, parts.train)
    longest = int(parts.train.lengths.max())
    said = rf"season \(--season\) {longest}: .* series of at most {longest} steps"
    with pytest.warns(DataWarning, match=said):
        Relative.fit(train, [0], 3, longest)
    assert Relative.fit(train, [0], 3, longest - 1).season == longest - 1


def test_the_simple_forecasts_are_those_of_the_equations():
    m, horizon, t = 4, 6, 17
    rng = np.random.default_rng(0)
    y = rng.uniform(1, 2, 20)
    found = [one[0, t, :, 0] for one in simple_forecasts(y.reshape(1, 20, 1), m, horizon)]
    assert len(found) == simple.count(m)
    level = np.array([y[max(0, at - m + 1) : at + 1].mean() for at in range(20)])
    before = [t + k - m * -(-k // m) for k in range(1, horizon + 1)]
    cycles = np.array([m * -(-k // m) for k in range(1, horizon + 1)])

    def smoothed(values, alpha):
        made = list(values)
        for at in range(m, 20):
            made[at] = alpha * values[at] + (1 - alpha) * made[at - m]
        return np.array(made)[before]

    expected = [y[before]]
    expected += [y[before] + cycles * (y[t] - y[t - w]) / w for w in (m, 4 * m, t)]
    expected += [smoothed(y, alpha) for alpha in (0.5, 0.2)]
    expected += [level[t] * smoothed(y / level, alpha) for alpha in (0.5, 0.2)]
    np.testing.assert_allclose(found, expected)
    y[3] = -0.5  # from there on the shape is added to the level
    level = np.array([y[max(0, at - m + 1) : at + 1].mean() for at in range(20)])
    *_, last = (one[0, t, :, 0] for one in simple_forecasts(y.reshape(1, 20, 1), m, horizon))
    np.testing.assert_allclose(last, level[t] + smoothed(y - level, 0.2))
    assert simple.count(1) == len(list(simple_forecasts(y.reshape(1, 20, 1), 1, 2)))


def test_few_data_leave_the_season_before_half_the_weight_and_many_find_what_is_best():
    rng = np.random.default_rng(0)
    steps = np.arange(400)
    y = (np.sin(steps * np.pi / 3) + 0.4 * rng.normal(size=(10, 400)))[:, :, None]
    target = np.moveaxis(np.stack([np.roll(y, -k, axis=1) for k in (1, 2)]), 0, 2)
    target[:, -2:] = np.nan
    ones = np.ones((10, 1))
    (many,) = simple.weights(y, target, ones, np.full(10, 400), 6)
    (few,) = simple.weights(y[:1, :13], target[:1, :13], ones[:1], np.array([13]), 6)
    assert many[5] == max(many) > 0.5  # noise is best smoothed away
    assert many[0] < 0.1
    assert few[0] == max(few) > 0.3
    assert sum(many) == pytest.approx(1)
    nothing = np.full_like(target, np.nan)
    assert simple.weights(y, nothing, ones, np.full(10, 400), 6)[0][0] == simple.PRIOR


def test_it_reads_and_puts_out_what_the_equations_say():
    data, parts, pipeline = raw()
    relative, m = pipeline.relative, 7
    assert relative.season == m
    values = prepare(pipeline.preparation, data)
    read = relative.apply(values, parts.known)
    assert relative.levelled == (True,)
    base = relative.base(values)[..., 0]
    for n, t in ((0, 40), (3, 69), (5, 9)):
        y, known = data.x[n, :, 0].astype(np.float64), parts.known[n]
        levels = [y[max(0, at - 2 * m + 1) : at + 1].mean() for at in range(max(known, t + 1))]
        s = np.abs(y[m:known] - y[: known - m]).mean() * levels[t] / np.mean(levels[:known])
        b = base[n, t]
        expected = [(y[t] - y[t - 1]) / s, (y[t] - y[t - m]) / s, *((b - y[t]) / s)]
        np.testing.assert_allclose(read.x[n, t, :5], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(read.target[n, t], (y[t + 1 : t + 4] - b) / s, rtol=1e-4)
    heat = parts.train.x[parts.train.valid][:, 1]
    expected = (data.x[0, :, 1] - heat.mean()) / heat.std()
    np.testing.assert_allclose(read.x[0, :, 5], expected, rtol=1e-3, atol=1e-4)
    back = relative.restore(read.target, values, parts.known)
    np.testing.assert_allclose(back, values.target, rtol=1e-4)
    for n, length in enumerate(data.lengths):
        assert not read.x[n, length:].any()


def test_beyond_a_season_the_last_one_goes_on_and_before_the_first_the_last_value():
    y = np.arange(1.0, 6.0, dtype=np.float32).reshape(1, 5, 1)
    relative = Relative(2, 5, (0,), (), Scaling.identity(0))
    naive = relative.naive(Batch(y))[0, :, :, 0]
    assert naive[3].tolist() == [3.0, 4.0, 3.0, 4.0, 3.0]
    assert naive[0].tolist() == [1.0, 1.0, 1.0, 1.0, 1.0]
    assert relative.drift(Batch(y))[0, 4, :, 0].tolist() == [6.0, 7.0, 8.0, 9.0, 10.0]


def test_the_size_of_a_series_does_not_matter():
    data, parts, pipeline = raw()
    values = prepare(pipeline.preparation, data)
    other = values.x.copy()
    other[..., 0] *= 1000
    one, two = (
        pipeline.relative.apply(values._replace(x=x), parts.known).x for x in (values.x, other)
    )
    np.testing.assert_allclose(two[0], one[0], atol=2e-3)


def test_validation_starts_warm_and_only_held_out_steps_count():
    data, parts, pipeline = raw()
    assert parts.held_out is data
    assert (parts.judged == data.lengths - parts.train.lengths).all()
    due = np.isfinite(pipeline.held_out.target).any(-1)
    for n, (known, length) in enumerate(zip(parts.known, data.lengths, strict=True)):
        assert np.flatnonzero(due[n]).tolist() == list(range(known - 1, length - 1))
    assert pipeline.held_out.x[:, : parts.known.min()].any()
    one = Batch(np.zeros((1, 3, 1)), np.ones((1, 3, 1)))
    assert judged(one, None) is one


def test_an_untrained_network_makes_the_simple_forecasts():
    data, _, pipeline = raw()
    untrained = Fitted(pipeline.model, pipeline.preparation, None, relative=pipeline.relative)
    values = untrained.predict(data).predictions.values
    base = pipeline.relative.base(prepare(pipeline.preparation, data))
    for n, length in enumerate(data.lengths):
        np.testing.assert_allclose(values[n], base[n, length - 1], rtol=1e-5)


def test_the_measures_are_those_of_the_papers():
    data, parts, pipeline = raw(horizon=2)
    values = judged(prepare(pipeline.preparation, data), parts.known)
    outputs = np.zeros((*values.x.shape[:2], 2)) + 3.0
    found = score(pipeline.preparation, None, values, outputs, pipeline.relative, parts.known)
    ratios, squares, last = [], [], []
    for n, length in enumerate(data.lengths):
        y, known = data.x[n, :length, 0].astype(np.float64), parts.known[n]
        seasonal = y[7:known] - y[: known - 7]
        for t in range(known - 1, length):
            for k in (1, 2):
                if t + k < length:
                    ratios.append(abs(3.0 - y[t + k]) / np.abs(seasonal).mean())
                    squares.append((3.0 - y[t + k]) ** 2 / np.square(seasonal).mean())
                    last.append(abs(y[t] - y[t + k]) / np.abs(seasonal).mean())
    mase, rmsse, rmse, mae = found.measures
    assert [one.name.split(" of ")[0] for one in found.measures][:2] == ["MASE", "RMSSE"]
    assert mase.model == pytest.approx(np.mean(ratios), rel=1e-4)
    assert rmsse.model == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-4)
    assert found.others == ("last value", "drift", "simple")
    assert mase.others[0] == pytest.approx(np.mean(last), rel=1e-4)
    assert "seasonal naive, 7 steps" in found.baseline
    assert found.places == len(ratios)
    assert rmse.model >= mae.model


@pytest.mark.slow
def test_it_beats_seasonal_naive_and_is_saved_with_its_intervals(tmp_path):
    data = series(count=6, steps=120)
    past = data.split_time(0.2)[0]
    settings = Settings("forecasting", horizon=3, hidden=16, epochs=40, learning_rate=0.01)
    parts = hold_out(past, "forecasting", share=0.25, seed=0, horizon=3)
    fitted = Pipeline.of(parts, settings).fit(progress=False, refit=True)
    mase = fitted.score.measures[0]
    assert mase.model < 0.8 * mase.baseline
    assert 0.5 < fitted.score.coverage <= 1.0
    fitted.save(tmp_path / "sales.longlag")
    again = Fitted.load(tmp_path / "sales.longlag")
    assert (again.relative, again.intervals) == (fitted.relative, fitted.intervals)
    predictions, reached = again.predict(past)
    assert (predictions.low < predictions.high).all()
    assert 0.6 < reached.coverage <= 1.0
    truth = np.stack([data.x[n, at : at + 3, :1] for n, at in enumerate(past.lengths)])
    inside = (predictions.low <= truth) & (truth <= predictions.high)
    assert inside.mean() >= 0.5
    write_predictions(tmp_path / "sales.csv", past, predictions)
    head, first, *_ = (tmp_path / "sales.csv").read_text().splitlines()
    assert head == "series,step_ahead,sales,sales_low,sales_high"
    low, value, high = (float(first.split(",")[at]) for at in (3, 2, 4))
    assert low <= value <= high
    with pytest.raises(ValueError, match="train it with relative=False"):
        export_onnx(again, tmp_path / "sales.onnx")


@pytest.mark.slow
def test_a_reservoir_forecasts_so_too():
    settings = Settings("forecasting", cell="echo", hidden=30, horizon=2, washout=8, alpha=1.0)
    parts = hold_out(series(), "forecasting", share=0.3, seed=0, horizon=2)
    reached = Pipeline.of(parts, settings).fit(progress=False).score
    assert reached.measures[0].model < reached.measures[0].baseline


def against(errors):
    """Values that were all forecast to be 0."""
    return errors, np.zeros_like(errors)


def test_intervals_hold_what_they_are_to_hold():
    rng = np.random.default_rng(0)
    errors = rng.exponential(size=(400, 5, 2))
    errors[:100] = np.nan
    intervals = Intervals.fit([against(errors)])
    assert intervals.hold(against(rng.exponential(size=(4000, 2)))) == pytest.approx(0.8, abs=0.02)
    ordered = np.sort(errors[100:, :, 0].ravel())
    assert intervals.high[0] == ordered[int(np.ceil(1501 * 0.9)) - 1]
    assert intervals.low[0] == ordered[1500 - int(np.ceil(1501 * 0.9))]
    assert Intervals.from_dict(intervals.to_dict(), 2) == intervals
    assert Intervals.fit([against(np.array([[1.0, np.nan]]))]) is None
    few = Intervals.fit([against(np.array([[1.0], [5.0]]))])
    assert (few.low, few.high) == ((1.0,), (5.0,))
    lengths, known = np.full(50, 30), np.full(50, 10)
    held = coverage(against(rng.normal(size=(50, 30, 2))), known, lengths)
    assert held == pytest.approx(0.8, abs=0.04)
    assert coverage(against(np.full((1, 4, 1), np.nan)), None, np.array([4])) is None


def test_errors_of_earlier_origins_weigh_less():
    wide, narrow = (against(np.linspace(-end, end, 201)[:, None]) for end in (10, 1))
    ends = [Intervals.fit(origins).high[0] for origins in ([narrow, wide], [wide, narrow])]
    assert ends[0] > ends[1]
    # 2/3 of the narrow ones and 1/3 of the wide ones: P(e <= h) = 2/3 + 1/3 (h + 10) / 20 = 0.9
    assert ends[1] == pytest.approx(4.0, abs=0.3)
    assert Intervals.fit([wide, against(np.full((9, 1), np.nan))]) == Intervals.fit([wide])


def test_a_network_is_followed_as_far_as_it_helps():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 2))
    truth[0, 0] = np.nan
    assert blend([(truth, truth)]) == 1.0
    assert blend([(truth, -truth)]) == 0.0
    assert blend([(truth, 2 * truth)]) == 0.5


def test_earlier_origins_judge_as_many_steps_each_one_season_before_the_next():
    data = series(steps=60)
    held = np.full(6, 10)
    first, second = earlier(data, held, 7, 2, 16)
    assert (second.known == data.lengths - 17).all()
    assert (first.known == data.lengths - 24).all()
    assert (first.judged == 10).all()
    np.testing.assert_array_equal(first.train.x[0, :36], data.x[0, :36])
    assert (first.held_out.lengths == data.lengths - 14).all()
    assert [part.known.min() for part in earlier(data, held, 7, 2, 17)] == [second.known.min()]


@pytest.mark.parametrize("record", [
    {"level": 1.5, "low": [0.0], "high": [1.0]}, {"level": 0.8, "low": [0.0], "high": []},
    {"level": 0.8, "low": [0.0, 0.0], "high": [1.0, 1.0]}, {"level": 0.8, "low": [0.0]},
])  # fmt: skip
def test_damaged_intervals_are_refused(record):
    with pytest.raises(DataError, match="intervals"):
        Intervals.from_dict(record, 1)


def test_a_damaged_relation_is_refused():
    preparation = raw()[2].preparation
    scaling = {"mean": [0.0], "scale": [1.0]}
    assert Relative.from_dict({"season": 7, "scaling": scaling}, preparation).season == 7
    for season in (0, 2.5, None):
        with pytest.raises(DataError, match="season: expected a whole number"):
            Relative.from_dict({"season": season, "scaling": scaling}, preparation)
    for damage, message in (
        ({"weights": [[0.5, 0.5]]}, "1 rows of 8"),
        ({"weights": [[2.0, -1.0, *[0.0] * 6]]}, "shares of sum 1"),
        ({"levelled": [True, True]}, "expected 1, one a target"),
        ({"levelled": [1]}, "true or false"),
    ):
        with pytest.raises(DataError, match=message):
            Relative.from_dict({"season": 7, "scaling": scaling} | damage, preparation)
    wrong = {"mean": [0.0, 0.0], "scale": [1.0, 1.0]}
    with pytest.raises(DataError, match="2 scales, expected 1"):
        Relative.from_dict({"season": 7, "scaling": wrong}, preparation)


def test_what_is_for_forecasts_is_refused_elsewhere():
    for options in ({"season": 3}, {"relative": False}):
        with pytest.raises(SettingsError, match="tagging has none"):
            Settings("tagging", **options)


def test_intervals_are_columns_of_their_own(tmp_path):
    data = SequenceData(np.ones((1, 1, 1), np.float32), np.array([1]), None, ("a",))
    values = np.array([[[1.0, 2.0]]])
    made = ValuePredictions(values, ("u", "v"), low=values - 0.5, high=values + 0.5)
    write_predictions(tmp_path / "p.csv", data, made)
    head, row = (tmp_path / "p.csv").read_text().split()
    assert head == "series,step_ahead,u,v,u_low,v_low,u_high,v_high"
    assert row == "a,1,1.0,2.0,0.5,1.5,1.5,2.5"


def test_numbers_of_categories_are_read_as_they_are():
    random = np.random.default_rng(0)
    x = np.stack([random.normal(50, 9, (4, 30)), np.arange(120).reshape(4, 30) % 7], 2)
    data = SequenceData(
        x.astype(np.float32), np.full(4, 30), None, tuple("abcd"), ("sold", "shop"), ("sold",),
        categories={"shop": tuple("pqrstuv")},
    )  # fmt: skip
    settings = Settings("forecasting", horizon=2, hidden=4, season=5, embed=("shop",))
    pipeline = Pipeline.of(hold_out(data, "forecasting", share=0.3, seed=0, horizon=2), settings)
    embedded = pipeline.model.layer
    assert isinstance(embedded, Embedded)
    ((place, count),) = embedded.categories.items()
    assert count == 7
    assert set(np.unique(pipeline.train.x[:, :, place])) == set(range(7))
    assert not run_model(pipeline.model, pipeline.held_out, 16).any()  # before it is trained
    with pytest.raises(DataError, match="embed: 'shop' is known ahead"):
        Pipeline.of(
            hold_out(data, "forecasting", share=0.3, seed=0, horizon=2), settings,
            Columns(known=("shop",)),
        )  # fmt: skip
    with pytest.raises(SettingsError, match="embed: got shop, but a network that puts out"):
        replace(settings, relative=False, season=None)
