"""What may be given, in which shapes answers come back, and what is said of all else."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import NotFittedError

from longlag.data import Columns, DataError, from_arrays
from longlag.estimators import RecurrentClassifier, RecurrentForecaster, RecurrentRegressor
from longlag.estimators.inputs import arrays, is_ragged
from longlag.pipeline.backtest import backtest
from longlag.pipeline.settings import Settings, SettingsError

QUICK = {"cell": "elman", "hidden": 4, "epochs": 2, "random_state": 0}
X = np.random.default_rng(0).normal(size=(20, 6, 2))
LABELS = np.where(X[:, :, 0].sum(axis=1) > 0, "up", "down")
RAGGED = [series[: 3 + n % 4] for n, series in enumerate(X)]


@pytest.mark.parametrize(
    ("given", "ragged", "shape"),
    [
        (X, False, (20, 6, 2)),
        (X[:, :, 0], False, (20, 6)),
        (X.tolist(), False, (20, 6, 2)),
        (list(X), True, (20, 6, 2)),
        (RAGGED, True, (20, 6, 2)),
        ([one[:, 0] for one in RAGGED], True, (20, 6, 1)),
        ([one[:, 0].tolist() for one in RAGGED], True, (20, 6, 1)),
        (np.array([*RAGGED, None], object)[:-1], True, (20, 6, 2)),
        (pd.DataFrame(X[:, :, 0]).to_numpy(), False, (20, 6)),
    ],
)
def test_series_are_taken_as_they_come(given, ragged, shape):
    values, lengths = arrays(given)
    assert is_ragged(given) == ragged
    assert values.shape == shape
    if ragged:
        assert lengths is not None
        assert lengths.tolist() == [len(one) for one in given]
        short = values[0, : lengths[0]]
        np.testing.assert_array_equal(short, np.asarray(given[0]).reshape(short.shape))
        assert not values[0, lengths[0] :].any()


def test_axes_of_aeon_are_turned():
    np.testing.assert_array_equal(arrays(X.transpose(0, 2, 1), "NCT")[0], X)
    np.testing.assert_array_equal(arrays([one.T for one in RAGGED], "NCT")[0], arrays(RAGGED)[0])
    with pytest.raises(ValueError, match="layout: got 'NTF', expected 'NTC' or 'NCT'"):
        arrays(X, "NTF")


@pytest.mark.parametrize(
    ("series", "labels", "message"),
    [
        (X[0, :, 0], LABELS, "Expected 2D array, got 1D array"),
        ([X[0], X[1][:, :1]], LABELS[:2], r"X\[1\] has 1 features, expected 2 as in X\[0\]"),
        ([X[0], X[1][:0]], LABELS[:2], r"X\[1\] has shape \(0, 2\) .* at least one of each"),
        (X[:1], LABELS[:1], "n_samples=1, expected 2 series or more"),
        (X, LABELS[:5], "inconsistent numbers of samples: 5, expected 20"),
        (X, None, "requires y to be passed, but the target y is None"),
        (X, np.linspace(0, 1, 20), "Unknown label type"),
        (X, ["up"] * 20, "single class 'up'; expected at least two"),
        (
            np.where(X > 2, np.nan, X),
            LABELS,
            r"is nan, .* list of shorter.* set missing='previous'",
        ),
        (pd.DataFrame(X[:, :, 0]), None, r"no column 'series'.*a row a series give X\.to_numpy"),
    ],
)
def test_an_error_says_what_came_and_the_fix(series, labels, message):
    with pytest.raises(ValueError, match=message):
        RecurrentClassifier(**QUICK).fit(series, labels)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hidden": 0}, "hidden: got 0, expected at least 1"),
        ({"cell": "gur"}, "cell: got 'gur', expected one of"),
        ({"class_weight": "even"}, "class_weight: got 'even', expected one of none, balanced"),
        ({"reduce": "median"}, "reduce: got 'median', expected one of last, mean"),
        ({"random_state": -1}, "random_state: got -1"),
        ({"validation_fraction": 1.5}, "^validation_fraction: got 1.5, expected a share"),
        ({"validation_fraction": 0.95}, "validation_fraction: it would .* smaller validation_frac"),
        ({"learning_rate": -1.0}, "learning_rate: got -1.0, expected a number above 0"),
        ({"threads": 0}, "threads: got 0, expected at least 1"),
        ({"missing": "drop"}, "missing"),
    ],
)
def test_parameters_are_checked_by_fit(given, message):
    model = RecurrentClassifier(**{**QUICK, **given})
    with pytest.raises(ValueError, match=message):
        model.fit(X, LABELS)


@pytest.mark.parametrize("kind", [RecurrentClassifier, RecurrentRegressor, RecurrentForecaster])
def test_what_is_not_fitted_says_so(kind, tmp_path):
    with pytest.raises(NotFittedError):
        kind().predict(X)
    with pytest.raises(NotFittedError):
        kind().save(tmp_path / "model.longlag")


def test_labels_come_back_as_they_were():
    for labels in (LABELS, LABELS == "up", np.where(LABELS == "up", 10, 9), LABELS.astype(object)):
        model = RecurrentClassifier(**QUICK).fit(X, labels)
        assert model.classes_.tolist() == sorted(set(labels.tolist()))
        assert model.classes_.dtype == labels.dtype
        assert set(model.predict(X).tolist()) <= set(labels.tolist())
        assert model.score(X, labels) == np.mean(model.predict(X) == labels)


def test_texts_of_numbers_are_sorted_as_texts():
    """The pipeline sorts them as numbers; probabilities are in the order of ``classes_``."""
    labels = np.where(LABELS == "up", "10", "9")
    model = RecurrentClassifier(**{**QUICK, "epochs": 40, "learning_rate": 0.03}).fit(X, labels)
    assert model.classes_.tolist() == ["10", "9"]
    best = model.classes_[model.predict_proba(X).argmax(axis=1)]
    assert best.tolist() == model.predict(X).tolist()
    assert model.score(X, labels) > 0.8
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))


def test_each_step_has_a_class():
    tags = [np.where(series[:, 0] > 0, "up", "down") for series in RAGGED]
    model = RecurrentClassifier(**{**QUICK, "epochs": 30, "learning_rate": 0.03}, per_step=True)
    model.fit(RAGGED, tags)
    said = model.predict(RAGGED)
    assert [one.shape for one in said] == [one.shape for one in tags]
    right = np.concatenate(said) == np.concatenate(tags)
    assert model.score(RAGGED, tags) == right.mean() > 0.8
    assert [one.shape for one in model.predict_proba(RAGGED)] == [(len(t), 2) for t in tags]
    assert model.predict(X).shape == (20, 6)
    with pytest.raises(DataError, match=r"y\[1\] has shape \(2,\), expected \(4,\): one a step"):
        model.fit(RAGGED, [tags[0], tags[1][:2], *tags[2:]])


def test_numbers_have_the_axes_of_y():
    numbers = X.sum(axis=1)
    for y in (numbers[:, 0], numbers[:, :1], numbers):
        assert RecurrentRegressor(**QUICK).fit(X, y).predict(X).shape == y.shape
    steps = [series.cumsum(axis=0) for series in RAGGED]
    steps[0][1] = np.nan
    model = RecurrentRegressor(**QUICK, per_step=True).fit(RAGGED, steps)
    assert [one.shape for one in model.predict(RAGGED)] == [one.shape for one in steps]
    assert np.isfinite(model.score(RAGGED, steps))
    model = RecurrentRegressor(**QUICK, per_step=True).fit(X, X[:, :, 0])
    assert model.predict(X).shape == (20, 6)


def test_weights_of_series_count_in_scores():
    tags = np.where(X[:, :, 0] > 0, 1, 0)
    model = RecurrentClassifier(**QUICK, per_step=True).fit(X, tags)
    weights = np.arange(20.0)
    right = (model.predict(X) == tags).mean(axis=1)
    assert model.score(X, tags, weights) == pytest.approx((weights * right).sum() / weights.sum())


def test_a_frame_may_lack_what_is_not_asked_for():
    rows = [
        {"series": n, "time": t, "a": X[n, t, 0], "b": X[n, t, 1], "target": LABELS[n]}
        for n in range(20)
        for t in range(6)
    ]
    frame = pl.DataFrame(rows)
    model = RecurrentClassifier(**QUICK).fit(frame)
    assert model.predict(frame.drop("target")).tolist() == model.predict(frame).tolist()
    assert model.fit(frame.drop("target"), LABELS).classes_.tolist() == ["down", "up"]
    with pytest.raises(DataError, match="there is no column 'b'"):
        model.predict(frame.drop("b"))
    named = Columns(features=("b",))
    assert model.set_params(columns=named).fit(frame).feature_names_in_.tolist() == ["b"]
    forecaster = RecurrentForecaster(**QUICK, columns=Columns(target="a"))
    forecaster.fit(frame.drop("target"))
    assert forecaster.predict().shape == (20, 1)
    with pytest.raises(DataError, match="X: got features beside a frame"):
        forecaster.fit(frame, X)


def test_missing_values_are_filled_where_that_is_said():
    holed = X.copy()
    holed[3, 2, 0] = np.nan
    model = RecurrentClassifier(**QUICK, missing="indicator").fit(holed, LABELS)
    assert model.n_features_in_ == 2
    assert model.predict(holed).shape == (20,)


def test_features_are_as_many_as_in_fit():
    model = RecurrentClassifier(**QUICK).fit(X, LABELS)
    with pytest.raises(DataError, match="1 features, expected 2 as in the training data"):
        model.predict(X[:, :, :1])
    with pytest.raises(DataError, match=r"got shape \(6, 2\), which is 6 series .* X\[None\]"):
        model.predict(X[0])
    assert model.predict(X[:, :4]).shape == (20,)  # fewer steps are no matter


def test_it_goes_on_with_more_series():
    model = RecurrentClassifier(cell="gru", hidden=8, learning_rate=0.03, random_state=0)
    first, second = slice(None, 10), slice(10, None)
    up = LABELS[first] == "up"
    model.partial_fit(X[first][up], LABELS[first][up], classes=["down", "up"])
    for _ in range(15):
        model.partial_fit(X[first], LABELS[first]).partial_fit(X[second], LABELS[second])
    assert model.score(X, LABELS) > 0.9
    with pytest.raises(DataError, match="the label 'sideways' is none of the classes"):
        model.partial_fit(X[:2], ["up", "sideways"])
    numbers = RecurrentRegressor(cell="gru", hidden=8, learning_rate=0.02, random_state=0)
    for _ in range(12):
        numbers.partial_fit(X, X[:, :, 0].mean(axis=1))
    assert numbers.score(X, X[:, :, 0].mean(axis=1)) > 0.5


def test_its_optimizer_goes_on_too():
    """Two passes are those of one optimizer, not two that begin anew."""
    anew = RecurrentRegressor(**QUICK)
    target = X[:, 0, 0]
    again = RecurrentRegressor(**QUICK).partial_fit(X, target).partial_fit(X, target)
    anew.partial_fit(X, target)
    del anew._going_on
    anew.partial_fit(X, target)
    state = again._going_on[0].state_dict()["state"]
    assert {int(one["step"]) for one in state.values()} == {2 * -(-20 // 3)}
    assert (again.predict(X) != anew.predict(X)).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cell": "echo"}, "fitted in one step, on all data; use fit, or another cell"),
        ({"scheduler": "one_cycle"}, "how many updates there will be; use scheduler='none'"),
    ],
)
def test_what_cannot_go_on_says_why(given, message):
    with pytest.raises(SettingsError, match=message):
        RecurrentClassifier(**given).partial_fit(X, LABELS)


STEPS = np.arange(60)
WAVE = np.sin(2 * np.pi * STEPS / 6) + 0.05 * STEPS


@pytest.mark.parametrize(
    ("y", "shape", "features"),
    [
        (WAVE, (3,), None),
        (pd.Series(WAVE), (3,), None),
        (WAVE.tolist(), (3,), None),
        (WAVE, (3,), np.stack([STEPS, STEPS % 5], axis=1)),
        (np.stack([WAVE, 100 * WAVE]), (2, 3), None),
        (np.stack([WAVE, WAVE], axis=1)[None], (1, 3, 2), None),
        ([WAVE, WAVE[:40]], (2, 3), [STEPS, STEPS[:40]]),
        ([np.stack([WAVE, WAVE], axis=1), np.ones((30, 2))], (2, 3, 2), None),
    ],
)
def test_forecasts_have_the_axes_of_y(y, shape, features):
    model = RecurrentForecaster(**QUICK, horizon=3).fit(y, features)
    low, high = model.predict_interval(y, features)
    values = model.predict()
    assert values.shape == low.shape == high.shape == shape
    assert (low <= high).all()
    np.testing.assert_array_equal(model.predict(y, features), values)
    axis = list(shape).index(3)
    np.testing.assert_array_equal(model.predict(horizon=2), np.take(values, [0, 1], axis=axis))
    assert model.score(y, features) > -1


def test_a_past_of_its_own_is_continued():
    model = RecurrentForecaster(**{**QUICK, "epochs": 20}, horizon=6).fit(WAVE[:48])
    assert model.season_ == 6
    np.testing.assert_allclose(model.predict(), WAVE[48:54], atol=0.5)
    np.testing.assert_allclose(model.predict(WAVE[:54]), WAVE[54:60], atol=0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.predict(horizon=4), "horizon: got 4, but the network forecasts 3"),
        (lambda model: model.predict(X=np.ones((60, 1))), "X: got features without y"),
        (lambda model: model.predict(WAVE[:, None]), r"60 series of one step; .* give y\[:, 0\]"),
        (lambda model: model.fit(WAVE, np.ones((50, 1))), "X has 1 series of at most 50 steps"),
        (lambda model: model.fit(WAVE[:4]), "too few to forecast 3 ahead"),
        (lambda model: model.score(WAVE[:1]), "no forecast can be compared with a value"),
    ],
)
def test_a_forecaster_says_what_is_wrong(call, message):
    model = RecurrentForecaster(**QUICK, horizon=3).fit(WAVE)
    with pytest.raises(ValueError, match=message):
        call(model)


def test_forecasts_from_the_past_are_compared_with_simple_ones():
    model = RecurrentForecaster(**QUICK, horizon=3)
    found = model.backtest(WAVE, origins=2)
    data = from_arrays(WAVE[None], task="forecasting")
    settings = Settings("forecasting", horizon=3, cell="elman", hidden=4, epochs=2, seed=0)
    assert found.mase() == backtest(data, settings, 2).mase()
    assert "seasonal naive" in found.mase()
    assert not hasattr(model, "fitted_")
    with pytest.raises(ValueError, match=r"at least 8\. Use a smaller origins or horizon"):
        model.backtest(WAVE[:12], origins=9)


def test_forecasts_of_values_themselves_have_no_intervals():
    model = RecurrentForecaster(**QUICK, relative=False).fit(WAVE)
    assert model.season_ is None
    assert model.score(WAVE) < 1
    with pytest.raises(SettingsError, match="no intervals; they need relative=True"):
        model.predict_interval()
