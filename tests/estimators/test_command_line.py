"""Estimators and the command line are one pipeline: the same data and seed, the same network."""

import csv
from dataclasses import fields

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import longlag as ll
from longlag.cli import main, train
from longlag.data import Columns
from longlag.estimators import RecurrentClassifier, RecurrentForecaster, RecurrentRegressor
from longlag.estimators.base import OURS
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """What `longlag train` makes of a file with some options."""
    monkeypatch.chdir(tmp_path)

    def train(data, *options):
        words = ["train", str(data), "--seed", "3", "--logger", "none", "--overwrite", *options]
        assert main(words) == 0
        return Fitted.load("model.longlag")

    return train


def assert_same(fitted: Fitted, other: Fitted):
    ours, theirs = fitted.model.state_dict(), other.model.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name
    assert fitted.preparation == other.preparation
    assert fitted.intervals == other.intervals
    assert fitted.seen == other.seen
    assert fitted.card is not None
    assert other.card is not None
    assert fitted.card.metrics == other.card.metrics


def test_every_setting_is_a_parameter_with_its_default():
    kinds = (RecurrentClassifier, RecurrentRegressor, RecurrentForecaster)
    parameters = [{own.name: own.default for own in fields(kind)} for kind in kinds]
    others = {"seed", "cell"}  # drawn, and chosen
    instead = {"horizon": 1, "class_weights": None}
    for setting in fields(Settings)[1:]:  # the task is the class
        name = OURS.get(setting.name, setting.name)
        found = [own[name] for own in parameters if name in own]
        assert found, f"no estimator has {name}"
        if setting.name not in others:
            assert set(found) == {instead.get(setting.name, setting.default)}, name


def table(steps=12, count=10, season=4):
    """A frame in long form: a machine, its steps, two features, a class, and a number of each."""
    random = np.random.default_rng(0)
    rows = []
    for n in range(count):
        for t in range(steps + n):
            heat = np.sin(2 * np.pi * t / season) * (n + 1) + 0.1 * random.normal()
            rows.append((f"m{n}", t, heat, random.normal(), "ab"[n % 2], float(n)))
    return pd.DataFrame(rows, columns=["series", "time", "heat", "load", "kind", "life"])


def test_where_nothing_is_said_a_network_is_chosen():
    for given in ({}, {"missing": "mean"}, {"hidden": 8}, {"cell": "lstm"}, {"metric": "auc"}):
        options = train.Options(task="classification", seed=3, **given)
        assert RecurrentClassifier(**given)._settings(3) == train._settings(options)


@pytest.mark.long  # a dozen reservoirs of 1000 units
def test_a_network_is_chosen_as_on_the_command_line(tmp_path, trained):
    y = np.arange(24) % 2
    X = np.sin((1 + 2 * y[:, None]) * np.linspace(0, 6, 12) + np.linspace(0, 1, 24)[:, None])
    np.savez(tmp_path / "walks.npz", x=X, y=y)
    command = trained("walks.npz", "--task", "classification")
    model = RecurrentClassifier(random_state=3).fit(X, y)
    assert_same(model.fitted_, command)
    assert model.settings_ in [tried.settings for tried in model.tried_]
    loaded = RecurrentClassifier.load("model.longlag")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.classes_.tolist() == [0, 1]


def test_ragged_lists_are_padded_arrays(tmp_path, trained):
    random = np.random.default_rng(1)
    X = [random.normal(size=(int(steps), 2)) for steps in random.integers(3, 9, 20)]
    y = np.array([series.sum() for series in X])
    lengths = np.array([len(series) for series in X])
    x = np.full((20, 8, 2), np.nan)
    for n, series in enumerate(X):
        x[n, : len(series)] = series
    np.savez(tmp_path / "walks.npz", x=x, y=y, lengths=lengths)
    options = ("--hidden", "4", "--epochs", "3", "--refit", "true")
    command = trained("walks.npz", "--task", "regression", *options)
    model = RecurrentRegressor(hidden=4, epochs=3, refit=True, random_state=3).fit(X, y)
    assert_same(model.fitted_, command)
    turned = [series.T for series in X]
    aeon = RecurrentRegressor(hidden=4, epochs=3, refit=True, random_state=3, layout="NCT")
    assert_same(aeon.fit(turned, y).fitted_, command)


def test_a_frame_is_the_file_with_the_same_cells(tmp_path, trained):
    frame = table()
    frame.to_csv(tmp_path / "machines.csv", index=False)
    columns = ("--columns.features", "heat,load", "--columns.target", "kind")
    options = ("--hidden", "4", "--epochs", "3", "--class_weights", "balanced")
    command = trained("machines.csv", "--task", "classification", *columns, *options)
    model = RecurrentClassifier(
        columns=Columns(features=("heat", "load"), target="kind"),
        hidden=4, epochs=3, class_weight="balanced", random_state=3,
    )  # fmt: skip
    assert_same(model.fit(pl.from_pandas(frame)).fitted_, command)
    assert model.feature_names_in_.tolist() == ["heat", "load"]
    assert model.score(frame) == model.score(frame, np.array(list("ababababab")))
    shares = model.predict_proba(frame.drop(columns=["kind", "life"]))
    np.testing.assert_array_equal(shares, model.predict_proba(frame))

    assert main(["predict", "model.longlag", "machines.csv"]) == 0
    with open("predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction"] for row in rows] == model.predict(frame).tolist()


def test_a_forecast_is_that_of_the_command_line(tmp_path, trained):
    frame = table(steps=40)
    frame.to_csv(tmp_path / "machines.csv", index=False)
    columns = ("--columns.features", "heat,load", "--columns.target", "heat")
    options = ("--horizon", "3", "--hidden", "4", "--epochs", "3")
    command = trained("machines.csv", "--task", "forecasting", *columns, *options)
    given = {"horizon": 3, "hidden": 4, "epochs": 3, "random_state": 3}
    model = RecurrentForecaster(
        columns=Columns(features=("heat", "load"), target="heat"), **given
    ).fit(frame)
    assert_same(model.fitted_, command)
    assert model.season_ == 4

    assert main(["predict", "model.longlag", "machines.csv"]) == 0
    with open("predictions.csv") as file:
        rows = list(csv.DictReader(file))
    low, high = model.predict_interval()
    for name, values in (("heat", model.predict()), ("heat_low", low), ("heat_high", high)):
        assert [float(row[name]) for row in rows] == values.ravel().tolist()

    series = [group for _, group in frame.groupby("series", sort=False)]
    y, X = ([group[name].to_numpy() for group in series] for name in ("heat", "load"))
    arrays = RecurrentForecaster(**given).fit(y, X)
    np.testing.assert_array_equal(arrays.predict(), model.predict())
    assert arrays.score(y, X) == model.score(frame)


def test_numbers_at_each_step_are_tagging(tmp_path, trained):
    random = np.random.default_rng(2)
    X = random.normal(size=(12, 6, 1))
    y = X.cumsum(axis=1)[:, :, 0]
    np.savez(tmp_path / "walks.npz", x=X, y=y)
    options = ("--tags", "numbers", "--hidden", "4", "--epochs", "3")
    command = trained("walks.npz", "--task", "tagging", *options)
    model = RecurrentRegressor(per_step=True, hidden=4, epochs=3, random_state=3).fit(X, y)
    assert_same(model.fitted_, command)
    assert RecurrentRegressor.load("model.longlag").per_step
    assert ll.load("model.longlag").output_size == 1


def test_a_forecaster_says_how_far_values_are_spread():
    y = np.random.default_rng(0).normal(size=(3, 150)).cumsum(1)
    quick = {"horizon": 2, "hidden": 4, "epochs": 3, "random_state": 0}
    spread = RecurrentForecaster(quantiles=[0.1, 0.5, 0.9], **quick).fit(y).predict_spread()
    assert list(spread) == ["q0.1", "q0.5", "q0.9"]
    low, middle, high = spread.values()
    assert low.shape == (3, 2)
    assert (low <= middle).all()
    assert (middle <= high).all()
    normal = RecurrentForecaster(gaussian=True, **quick).fit(y)
    assert (normal.predict_spread(horizon=1)["sd"] > 0).all()
    with pytest.raises(ValueError, match=r"quantiles=\(0\.1, 0\.5, 0\.9\) or gaussian=True"):
        RecurrentForecaster(**quick).fit(y).predict_spread()
    with pytest.raises(ValueError, match="quantiles"):
        RecurrentForecaster(quantiles=(0.9, 0.1), **quick).fit(y)
