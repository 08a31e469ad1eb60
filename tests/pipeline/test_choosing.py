"""Which network is taken for a classification, the changes of features, and fitting anew."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

import longlag as ll
from longlag.batch import Batch
from longlag.data import SequenceData
from longlag.data.predictions import ClassPredictions
from longlag.pipeline import choosing
from longlag.pipeline.changes import Changes
from longlag.pipeline.dataset import Parts, hold_out
from longlag.pipeline.fitted import Answers, Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import Settings

AUTO = Settings("classification", cell="auto")
SMALL = {"hidden": 60, "alpha": 0.1}


def waves(count=40, seed=0):
    """Fast and slow waves of several lengths, with noise."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(30, 41, count)
    fast = np.arange(count) % 2 == 1
    steps = np.arange(40) * np.where(fast, 0.9, 0.5)[:, None] + rng.uniform(0, 6, (count, 1))
    x = np.sin(steps) + 0.1 * rng.normal(size=(count, 40))
    x = (x * (np.arange(40) < lengths[:, None]))[..., None].astype(np.float32)
    return SequenceData(x, lengths, np.where(fast, "fast", "slow"), tuple(map(str, range(count))))


def test_changes_are_in_units_of_their_spread_and_zero_beyond_the_end():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(3, 9, 2)) * (1.0, 50.0)).astype(np.float32)
    lengths = np.array([9, 4, 1])
    x[np.arange(9) >= lengths[:, None]] = 0.0
    changes = Changes.fit(Batch(x, None, lengths))
    inside = np.concatenate([np.diff(s[:n], axis=0) for s, n in zip(x, lengths, strict=True)])
    np.testing.assert_allclose(changes.scale, inside.std(0), rtol=1e-5)
    both = changes.apply(Batch(x, None, lengths)).x
    np.testing.assert_array_equal(both[..., :2], x)
    np.testing.assert_allclose(both[1, 1:4, 2:], np.diff(x[1, :4], axis=0) / inside.std(0), 1e-4)
    assert not both[:, 0, 2:].any()
    assert not both[1, 4:].any()
    assert not both[2, 1:].any()


def test_places_are_cosines_of_the_longest_series():
    """Of 1 to 8 halves of a period over 9 steps; a shorter series has those of its steps."""
    x = np.random.default_rng(0).normal(size=(2, 9, 2)).astype(np.float32)
    lengths = np.array([9, 4])
    batch = Batch(x * (np.arange(9) < lengths[:, None])[..., None], None, lengths)
    with_places = Changes.fit(batch, places=True)
    told, plain = with_places.apply(batch).x, Changes.fit(batch).apply(batch).x
    assert told.shape[2] == 2 + with_places.size == 12
    np.testing.assert_array_equal(told[..., :4], plain)
    expected = np.array([[np.cos(np.pi * k * t / 8) for k in range(1, 9)] for t in range(9)])
    np.testing.assert_allclose(told[0, :, 4:], expected, atol=1e-6)
    np.testing.assert_allclose(told[1, :4, 4:], expected[:4], atol=1e-6)
    assert not told[1, 4:].any()
    longer = with_places.apply(Batch(np.zeros((1, 12, 2), np.float32))).x
    np.testing.assert_allclose(longer[0, :9, 4:], expected, atol=1e-6)
    assert np.isfinite(Changes((1.0,), 1).apply(Batch(np.zeros((1, 3, 1)))).x).all()


def test_a_feature_that_never_changes_is_left_alone():
    assert Changes.fit(Batch(np.ones((2, 5, 1), np.float32))).scale == (1.0,)
    assert Changes.fit(Batch(np.ones((2, 1, 1), np.float32))).scale == (1.0,)
    with pytest.raises(ValueError, match="expected positive finite scales"):
        Changes((0.0,))
    with pytest.raises(ValueError, match="places: got 0"):
        Changes((1.0,), 0)


@pytest.mark.slow
def test_a_reservoir_whose_shares_are_read_tells_classes_apart(tmp_path):
    settings = Settings("classification", cell="echo", **SMALL)
    fitted = Pipeline.of(hold_out(waves(), "classification", share=0.3, seed=0), settings).fit()
    layer = fitted.model.layer
    assert isinstance(layer, ll.EchoState)
    leaks = layer.unit("leak")
    assert float(leaks.max()) == 1.0
    assert float(leaks.min()) == pytest.approx(4 / 40)
    assert fitted.model.reduce == "share_max"
    new = waves(seed=1)
    answers, reached = fitted.predict(new)
    assert reached.measures[0].model > 0.9
    fitted.save(tmp_path / "waves.longlag")
    again = Fitted.load(tmp_path / "waves.longlag")
    assert again.changes == fitted.changes
    np.testing.assert_array_equal(again.predict(new)[0].probabilities, answers.probabilities)


def early_or_late(count=40, seed=0):
    """One bump, in the first or in the second half; shares alone cannot tell which."""
    rng = np.random.default_rng(seed)
    late = np.arange(count) % 2 == 1
    x = 0.2 * rng.normal(size=(count, 20))
    for row, at in zip(x, rng.integers(1, 6, count) + 10 * late, strict=True):
        row[at : at + 3] += 2.0
    lengths, names = np.full(count, 20), tuple(map(str, range(count)))
    label = np.where(late, "late", "early")
    return SequenceData(x[..., None].astype(np.float32), lengths, label, names)


@pytest.mark.slow
def test_where_something_was_is_told_by_places(tmp_path):
    data = early_or_late()
    settings = Settings("classification", cell="echo", hidden=200, spectral_radius=0.1, leak=1.0)
    accuracies = []
    for places in (False, True):
        parts = hold_out(data, "classification", share=0.3, seed=0)
        fitted = Pipeline.of(parts, replace(settings, places=places)).fit()
        answers, reached = fitted.predict(early_or_late(seed=1))
        accuracies.append(reached.measures[0].model)
    assert accuracies[0] < 0.75
    assert accuracies[1] == 1.0
    fitted.save(tmp_path / "late.longlag")
    again = Fitted.load(tmp_path / "late.longlag")
    assert again.changes == fitted.changes
    told = again.predict(early_or_late(seed=1))[0].probabilities
    np.testing.assert_array_equal(told, answers.probabilities)


@pytest.mark.slow
def test_no_fold_says_when_a_training_ends():
    """What is judged on a fold is not fitted to it: its labels change nothing."""
    data = waves()
    parts = hold_out(data, "classification", share=0.3, seed=0)
    swapped = np.where(parts.held_out.target == "fast", "slow", "fast")
    other = replace(parts, held_out=replace(parts.held_out, target=swapped))
    settings = Settings("classification", hidden=4, epochs=3, patience=1)
    first, second = (Pipeline.of(p, settings).fit_blind() for p in (parts, other))
    assert first.score is None
    mine, theirs = (one.predict(parts.held_out)[0].probabilities for one in (first, second))
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["echo", "gru"])
def test_fitted_anew_it_has_seen_all_data(cell):
    own = SMALL if cell == "echo" else {"hidden": 4, "epochs": 3}
    data = waves()
    parts = hold_out(data, "classification", share=0.3, seed=0)
    pipeline = Pipeline.of(parts, Settings("classification", cell=cell, **own))
    done = pipeline.fit(progress=False, refit=True)
    assert done.preparation == Pipeline.of(Parts(data, data), pipeline.settings).preparation
    assert done.preparation != pipeline.preparation
    assert done.model is not pipeline.model
    assert done.score is not None
    assert done.score.places == len(parts.held_out)  # by the network that has not seen them
    once = Pipeline.of(parts, pipeline.settings).fit(progress=False)
    assert once.score.measures == done.score.measures
    assert done.card.data["series"] == len(data)


def candidates(settings):
    """Those of the module, small and quick; the second has one update and learns nothing."""
    yield "echo", replace(settings, cell="echo", **SMALL)
    yield "gru", replace(settings, cell="gru", hidden=4, epochs=1, batch_size=40)


@pytest.mark.slow
def test_what_the_data_are_warned_of_is_said_once(monkeypatch):
    """Not for each network on each fold as well, nor for the one that is fitted anew."""
    few = replace(AUTO, cell="echo", hidden=8, alpha=0.1)
    monkeypatch.setattr(choosing, "candidates", lambda _: iter([("echo", few)]))
    data = waves(10)
    data = replace(data, x=np.concatenate([data.x, np.ones_like(data.x)], axis=2))
    parts = hold_out(data, "classification", share=0.2, seed=0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        settings, _ = choosing.choose(parts, AUTO)
        Pipeline.of(parts, settings).fit(progress=False, refit=True)
    assert [str(one.message).count("one value in the whole") for one in told] == [1]


@pytest.mark.slow
def test_what_tells_most_right_on_folds_is_taken(monkeypatch):
    monkeypatch.setattr(choosing, "candidates", candidates)
    monkeypatch.setattr(choosing, "SURE", 1.1)
    monkeypatch.setattr(choosing, "FEW", 1)
    parts = hold_out(waves(), "classification", share=0.2, seed=0)
    settings, tried = choosing.choose(parts, AUTO)
    assert [one.name for one in tried] == ["echo", "gru"]
    assert settings == tried[0].settings
    assert tried[1].why_not == "it is far behind on the first folds"
    monkeypatch.setattr(choosing, "candidates", lambda s: reversed([*candidates(s)]))
    settings, (gru, echo) = choosing.choose(parts, AUTO)
    assert settings.cell == "echo"
    assert (echo.accuracy, echo.error) == (tried[0].accuracy, tried[0].error)
    assert echo.accuracy > max(0.8, gru.accuracy)
    assert echo.error < gru.error < 2.0


@pytest.mark.slow
def test_of_few_series_what_is_close_is_judged_on_several_draws(monkeypatch):
    def reservoirs(settings):
        echo = replace(settings, cell="echo", **SMALL)
        yield "shares", replace(echo, reduce="share")
        yield "and maxima", replace(echo, reduce="share_max")
        yield "mean", replace(echo, reduce="mean", input_scaling=0.0)  # sees nothing

    monkeypatch.setattr(choosing, "candidates", reservoirs)
    monkeypatch.setattr(choosing, "CLOSE", 1.3)
    monkeypatch.setattr(choosing, "DRAWS", 3)
    rng = np.random.default_rng(0)
    noisy = waves()
    noisy = replace(noisy, x=noisy.x + 0.7 * rng.normal(size=noisy.x.shape).astype(np.float32))
    parts = hold_out(noisy, "classification", share=0.2, seed=0)

    def draw(seed, one):
        return choosing._validated(parts.train, choosing._folds(parts.train, seed), one.settings)

    settings, tried = choosing.choose(parts, AUTO)
    assert [one.accuracy is None for one in tried] == [False, False, True]
    for one in tried[:2]:
        seeds = [0, *(np.random.SeedSequence((0, n)).generate_state(1)[0] for n in (1, 2))]
        draws = [draw(int(seed), one) for seed in seeds]
        assert (one.accuracy, one.error) == pytest.approx(tuple(np.mean(draws, 0)))
    assert settings == min(tried, key=lambda one: one.error).settings
    monkeypatch.setattr(choosing, "FEW", 10)
    once, *_ = choosing.choose(parts, AUTO)[1]
    assert (once.accuracy, once.error) == draw(0, once)


def test_a_candidate_is_given_up_when_it_cannot_win(monkeypatch):
    """All answers are wrong, with an error of 2."""
    fitted = []

    class Wrong:
        @classmethod
        def of(cls, parts, _):
            fitted.append(parts)
            return cls()

        def fit_blind(self):
            return self

        def predict(self, data):
            classes = ("fast", "slow")
            wrong = (data.target[:, None] != np.array(classes)).astype(float)
            told = ClassPredictions(np.array(classes)[wrong.argmax(1)], wrong, classes)
            return Answers(told, None)

    monkeypatch.setattr(choosing, "Pipeline", Wrong)
    data = waves()
    folds = choosing._folds(data, 0)
    assert choosing._validated(data, folds, AUTO) == (0.0, 2.0)
    assert len(fitted) == 5
    assert choosing._validated(data, folds, AUTO, 0.5) == (None, np.inf)  # 0.8 after two folds
    assert len(fitted) == 7


def test_each_series_is_held_out_once_and_no_class_is_lost():
    label = np.array(["a"] * 12 + ["b"] * 2 + ["c"])
    data = waves(15)
    folds = choosing._folds(replace(data, target=label), seed=3)
    assert folds[-1] == -1  # there is no other of its class
    assert set(folds[:12]) == set(range(5))
    assert len(set(folds[12:14])) == 2
    for fold in range(5):
        assert set(label[folds != fold]) == {"a", "b", "c"}


def test_what_would_take_long_or_brings_nothing_is_not_tried(monkeypatch):
    monkeypatch.setattr(choosing, "candidates", candidates)
    parts = Parts(waves(), waves())
    sure = choosing.Tried("echo", AUTO, 1.0)
    gru = [*candidates(AUTO)][1][1]
    folds = choosing._folds(parts.train, 0)
    assert "nearly all" in choosing._try(parts.train, folds, "gru", gru, [sure]).why_not
    monkeypatch.setattr(choosing, "MOST", 1.0)
    unsure = replace(sure, accuracy=0.5)
    assert "from 200 series on" in choosing._try(parts.train, folds, "gru", gru, [unsure]).why_not
    monkeypatch.setattr(choosing, "FEW", 40)
    assert "minutes" in choosing._try(parts.train, folds, "gru", gru, [unsure]).why_not
    alone = choosing._try(parts.train, np.full(40, -1), "gru", gru, [])
    assert alone.accuracy is None
    assert choosing.choose(parts, gru) == (gru, [])


def test_small_data_have_enough_updates_before_anything_stops_them():
    settings = Settings("classification")
    assert settings.batch_for(40) == 5
    assert settings.epochs_for(8) * 8 >= 1500
    assert settings.patience_for(8) == settings.epochs_for(8)
    assert settings.epochs_for(625) == 100
    assert settings.patience_for(625) == 20
    given = replace(settings, epochs=7)
    assert (given.epochs_for(8), given.patience_for(8)) == (7, 20)
    assert replace(settings, patience=None).patience_for(8) is None
