"""A fitted network: from arrays to answers without a command line, and its file."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.data import Preparation, SequenceData
from longlag.layers import load_with_metadata
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import Settings


def walks(seed, count=40):
    """Whether a walk ends "up" or "down"."""
    rng = np.random.default_rng(seed)
    x, lengths = np.zeros((count, 8, 2), np.float32), rng.integers(4, 9, count)
    for n, length in enumerate(lengths):
        x[n, :length] = rng.normal(size=(length, 2))
    target = np.where(x[:, :, 0].sum(axis=1) > 0, "up", "down")
    return SequenceData(x, lengths, target, tuple(f"w{n}" for n in range(count)))


@pytest.fixture(scope="module")
def fitted():
    settings = Settings("classification", hidden=8, epochs=25, learning_rate=0.02)
    parts = hold_out(walks(0), settings.task, share=0.2, seed=settings.seed)
    return Pipeline.of(parts, settings).fit(progress=False)


@pytest.mark.slow
def test_it_learns_and_says_how_well(fitted):
    assert fitted.score.measures[0].name == "accuracy"
    assert fitted.score.measures[0].is_better
    assert fitted.history.records[-1].epoch <= 25
    new = walks(1)
    predictions, score = fitted.predict(new)
    assert score.measures[0].model == np.mean(predictions.labels == new.target)
    assert score.measures[0].model > 0.8
    unknown, score = fitted.predict(replace(new, target=None), batch_size=7)
    assert score is None
    np.testing.assert_allclose(unknown.probabilities, predictions.probabilities, rtol=1e-5)


@pytest.mark.slow
def test_it_is_the_same_after_saving_and_loading(fitted, tmp_path):
    fitted.save(tmp_path / "model.longlag")
    again = Fitted.load(tmp_path / "model.longlag")
    assert again.preparation == fitted.preparation
    assert again.baseline == fitted.baseline
    new = walks(2)
    assert (again.predict(new)[0].probabilities == fitted.predict(new)[0].probabilities).all()


METADATA = {
    "preparation": {
        "task": "classification",
        "horizon": None,
        "feature_names": ["step", "noise"],
        "target_names": ["target"],
        "inputs": {"mean": [0.5, 0.0], "scale": [2.0, 1.0]},
        "targets": None,
        "classes": ["down", "up"],
        "columns": {"series": "series", "time": "time", "features": ["step", "noise"],
                    "target": "target"},
    },
    "baseline": "down",
}  # fmt: skip
"""What `longlag train` of version 0.1 wrote beside a model."""


def test_a_file_of_version_0_1_still_predicts(tmp_path):
    model = ll.SequenceModel(ll.GRU(2, 3, seed=0), 2, reduce="last", seed=1)
    ll.save(model, tmp_path / "old.longlag", metadata=METADATA)
    fitted = Fitted.load(tmp_path / "old.longlag")
    assert (fitted.baseline, fitted.preparation.classes) == ("down", ("down", "up"))
    new = replace(walks(3), feature_names=("step", "noise"), target_names=("target",))
    x = torch.from_numpy((new.x - [0.5, 0.0]) / [2.0, 1.0]).float()
    with torch.no_grad():
        expected = model(x, lengths=torch.from_numpy(new.lengths)).softmax(-1)
    predictions, score = fitted.predict(new)
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-6)
    assert score.baseline == "always the most frequent class, 'down'"
    fitted.save(tmp_path / "new.longlag")
    kept = load_with_metadata(tmp_path / "new.longlag")[1]
    encoding = kept["preparation"].pop("encoding")
    assert not encoding["categories"]
    assert encoding["missing"] == "error"
    columns = kept["preparation"]["columns"]
    for later in ("categories", "dates", "known", "static", "label_separator", "weight"):
        assert columns.pop(later) is None
    assert kept["preparation"].pop("label_sets") is False
    assert kept == METADATA


def test_files_that_hold_no_fitted_model_are_refused(tmp_path):
    path = tmp_path / "model.longlag"
    ll.save(ll.GRU(2, 3), path)
    with pytest.raises(ValueError, match="a GRU without the preparation of its data; expected"):
        Fitted.load(path)
    ll.save(ll.SequenceModel(ll.GRU(4, 3), 2), path, metadata=METADATA)
    with pytest.raises(ValueError, match="takes 4 features and gives 2 numbers, its preparation 2"):
        Fitted.load(path)


def test_sizes_that_differ_are_refused():
    preparation = Preparation.from_dict(METADATA["preparation"])
    with pytest.raises(ValueError, match="gives 5 numbers, its preparation 2 and 2; train it"):
        Fitted(ll.SequenceModel(ll.GRU(2, 3), 5), preparation, "down")
