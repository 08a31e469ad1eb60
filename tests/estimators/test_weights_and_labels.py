"""Weights of series and of classes, and labels of which several may hold."""

import numpy as np
import pandas as pd
import pytest

from longlag.data import Columns, DataError
from longlag.estimators import RecurrentClassifier, RecurrentRegressor
from longlag.pipeline.settings import SettingsError

QUICK = {"cell": "gru", "hidden": 6, "epochs": 15, "learning_rate": 0.03, "random_state": 0}
X = np.random.default_rng(0).normal(size=(40, 6, 2))
MANY = (X.mean(axis=1) > 0).astype(int)
NAMES = np.array(["calm", "hot"])
SETS = [set(NAMES[row == 1].tolist()) for row in MANY]
RAGGED = [series[: 3 + n % 4] for n, series in enumerate(X)]


def test_weights_of_classes_are_followed():
    labels = np.random.default_rng(1).integers(0, 2, 40)
    for kind in (int, bool, str):
        y = labels.astype(kind)
        first, second = np.unique(y)
        model = RecurrentClassifier(**QUICK, class_weight={first: 1000, second: 1e-3})
        assert (model.fit(X, y).predict(X) == first).mean() > 0.8
    with pytest.raises(SettingsError, match=r"class_weight: 'up' is none of the classes .* 0, 1"):
        RecurrentClassifier(**QUICK, class_weight={"up": 2}).fit(X, labels)
    with pytest.raises(SettingsError, match="class_weight: got -1 for '0', expected a finite"):
        RecurrentClassifier(**QUICK, class_weight={0: -1}).fit(X, labels)


@pytest.mark.parametrize("cell", ["gru", "echo"])
def test_series_without_weight_are_not_learnt(cell):
    """A part of the series, of weight 0, says the opposite."""
    given = QUICK if cell == "gru" else {"cell": "echo", "hidden": 30, "random_state": 0}
    wrong = np.arange(40) % 4 == 0
    up = MANY[:, 0] == 1
    weights = np.where(wrong, 0.0, 2.0)
    model = RecurrentClassifier(**given).fit(X, up ^ wrong, sample_weight=weights)
    assert model.score(X, up) > 0.8
    assert model.score(X, up ^ wrong, weights) == model.score(X[~wrong], up[~wrong])
    total = X.sum(axis=(1, 2))
    numbers = RecurrentRegressor(**given)
    numbers.fit(X, np.where(wrong, -5 * total, total), sample_weight=weights)
    assert numbers.score(X, total) > 0.3
    if cell == "gru":
        online = RecurrentClassifier(**QUICK)
        for _ in range(15):
            online.partial_fit(X, up ^ wrong, sample_weight=weights)
        assert online.score(X, up) > 0.8


@pytest.mark.filterwarnings("ignore:alpha. the best")
@pytest.mark.parametrize("cell", ["gru", "echo", "auto"])
def test_series_without_weight_are_not_held_out(cell):
    """Whatever is drawn, what judges has a weight: five series of each class are enough."""
    given = {**QUICK, "epochs": 2} if cell == "gru" else {"cell": cell}
    up = MANY[:, 0]
    weights = np.zeros(40)
    for label in (0, 1):
        weights[np.flatnonzero(up == label)[:5]] = 1.0
    for seed in range(1 if cell == "auto" else 3):  # "auto" draws folds of its own
        model = RecurrentClassifier(**{**given, "random_state": seed})
        model.fit(X, up, sample_weight=weights)
        assert np.isfinite([measure.model for measure in model.fitted_.score.measures]).all()
    if cell != "auto":
        RecurrentRegressor(**given).fit(X, X.sum(axis=(1, 2)), sample_weight=weights)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"sample_weight: got shape \(3,\) of float64, expected \(40,\) numbers"),
        (np.ones((40, 1)), r"got shape \(40, 1\)"),
        (["heavy"] * 40, "expected .40,. numbers, one for each series of X"),
        (np.full(40, -1.0), r"sample_weight\[0\] is -1.0, expected a finite number >= 0.*39"),
        (np.r_[np.ones(39), np.nan], r"sample_weight\[39\] is nan, expected a finite number >= 0"),
        (np.eye(40)[3], "needs at least 2 series of a weight above 0 to hold one out, got 1"),
        (np.zeros(40), "all weights are zero"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    for kind in (RecurrentClassifier, RecurrentRegressor):
        with pytest.raises(DataError, match=message):
            kind(**QUICK).fit(X, MANY[:, 0], sample_weight=weights)


def test_weights_may_be_a_column_of_a_frame():
    up, weights = MANY[:, 0], np.arange(40) % 3 * 1.0
    frame = pd.DataFrame(X.reshape(-1, 2), columns=["f", "g"])
    frame.insert(0, "time", np.tile(np.arange(6), 40))
    for name, column in (("series", np.arange(40)), ("trust", weights), ("target", up)):
        frame[name] = column.repeat(6)
    columns = Columns(weight="trust")
    model = RecurrentClassifier(**QUICK, columns=columns).fit(frame)
    other = RecurrentClassifier(**QUICK).fit(X, up.astype(str), sample_weight=weights)
    np.testing.assert_allclose(model.predict_proba(frame), other.predict_proba(X), atol=1e-5)
    assert model.score(frame) == other.score(X, up.astype(str), weights)
    new = frame.drop(columns=["trust", "target"])
    np.testing.assert_array_equal(model.predict(new), model.predict(frame))
    with pytest.raises(DataError, match="sample_weight: given, and so is Columns"):
        model.fit(frame, sample_weight=weights)
    with pytest.raises(DataError, match="weight='trust' is for targets that are columns of the f"):
        model.fit(new.assign(trust=1.0), up)


@pytest.mark.parametrize("form", ["array", "lists", "frame", "sets", "column of sets"])
def test_several_labels_may_hold(form, tmp_path):
    y = {
        "array": MANY, "lists": MANY.tolist(), "frame": pd.DataFrame(MANY, columns=NAMES),
        "sets": SETS, "column of sets": pd.Series(SETS),
    }[form]  # fmt: skip
    model = RecurrentClassifier(**QUICK).fit(X, y)
    assert model.classes_.tolist() == (["calm", "hot"] if "sets" in form else [0, 1])
    said, shares = model.predict(X), model.predict_proba(X)
    assert shares.shape == (40, 2)
    holds = shares >= 0.5
    if "sets" in form:
        assert said == [set(NAMES[row].tolist()) for row in holds]
    else:
        np.testing.assert_array_equal(said, holds.astype(int))
    right = (holds == (MANY == 1)).all(axis=1)
    assert model.score(X, y) == right.mean() > 0.6
    weights = np.arange(40.0)
    assert model.score(X, y, weights) == pytest.approx(weights @ right / weights.sum())
    model.save(tmp_path / "labels.longlag")
    loaded = RecurrentClassifier.load(tmp_path / "labels.longlag")
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.score(X, y) == model.score(X, y)
    assert type(loaded.predict(X)) is type(said)


@pytest.mark.parametrize("form", ["array", "ragged", "sets"])
def test_several_labels_of_a_step_may_hold(form):
    series = RAGGED if form != "array" else list(X)
    tags = [(one > 0).astype(int) for one in series]
    given, y = series, tags
    if form == "array":
        given, y = X, np.stack(tags)
    elif form == "sets":
        y = [[set(NAMES[row == 1].tolist()) for row in one] for one in tags]
    model = RecurrentClassifier(**QUICK, per_step=True).fit(given, y)
    said = model.predict(given)
    if form == "sets":
        assert [len(one) for one in said] == [len(one) for one in series]
        assert all(isinstance(row, set) for row in said[0])
    else:
        assert [np.shape(one) for one in said] == [one.shape for one in tags]
    assert [np.shape(p) for p in model.predict_proba(given)] == [one.shape for one in tags]
    assert model.score(given, y) > 0.6


def test_weights_of_labels_and_a_metric():
    model = RecurrentClassifier(**QUICK, class_weight={"hot": 1e4}).fit(X, SETS)
    assert np.mean(["hot" in one for one in model.predict(X)]) > 0.8
    model = RecurrentClassifier(**QUICK, metric="macro_f1").fit(X, SETS)
    assert "macro_f1" in model.fitted_.history.records[0].metrics


def test_labels_go_on():
    model = RecurrentClassifier(**QUICK)
    for _ in range(15):
        model.partial_fit(X[:20], SETS[:20], classes=NAMES).partial_fit(X[20:], SETS[20:])
    assert model.score(X, SETS) > 0.6


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (MANY + 1, "other numbers than 0 and 1; expected 0 or 1 for each label"),
        ([{"a"}] * 39 + ["b"], "expected a set each"),
        ([set()] * 40, "all sets are empty"),
        (SETS[:5], "inconsistent numbers of samples: 5, expected 40"),
        ([{"a"}] * 40, "the label 'a' holds everywhere"),
    ],
)
def test_labels_that_cannot_be_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        RecurrentClassifier(**QUICK).fit(X, y)
    model = RecurrentClassifier(**QUICK).fit(X, SETS)
    with pytest.raises(DataError, match="the label 'cold' is none of those in fit: 'calm', 'hot'"):
        model.score(X, [{"cold"}] * 40)
