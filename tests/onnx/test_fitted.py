"""What `longlag train` made, with all that is around its network, as a graph."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from tests.onnx.runtime import assert_close, run

from longlag.data import SequenceData
from longlag.onnx import export_onnx
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.scores import find_baseline
from longlag.pipeline.settings import Settings


def sequences(task):
    """Series in units of their own, of several lengths."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 13, 20)
    x = (rng.normal(size=(20, 12, 2)) * (30.0, 0.01) + (500.0, -2.0)).astype(np.float32)
    x[np.arange(12) >= lengths[:, None]] = 0.0
    target = {
        "classification": np.array(["no", "perhaps", "yes"])[np.arange(20) % 3],
        "label sets": np.stack([np.arange(20) % 2, np.arange(20) % 3 > 0], 1).astype(float),
        "label sets at each step": (x > (500.0, -2.0)).astype(float),
        "tagging": np.where(x[:, :, 0] > 500, "high", "low"),
        "numbers at each step": x[:, :, :1] * 2.0 + 0.5,
        "regression": x[:, 0, :1].astype(np.float64),
        "forecasting": None,
    }[task]
    names = tuple(f"series {number}" for number in range(20))
    return SequenceData(
        x, lengths, target, names, ("heat", "flow"), ("warm", "wet") * ("sets" in task),
        label_sets="sets" in task,
    )  # fmt: skip


def untrained(data, task, **options):
    settings = Settings(task, hidden=4, horizon=3 if task == "forecasting" else None, **options)
    parts = hold_out(data, task, share=0.2, seed=0)
    pipeline = Pipeline.of(parts, settings)
    if settings.echo:
        return pipeline.fit(progress=False)
    baseline = find_baseline(pipeline.preparation, parts.train)
    return Fitted(pipeline.model, pipeline.preparation, baseline)


CASES = [
    ("classification", {"cell": "lstm", "bidirectional": True}),
    ("classification", {"cell": "echo", "reduce": "mean", "alpha": 0.1}),
    ("tagging", {"cell": "gru"}),
    ("numbers at each step", {"cell": "gru"}),
    ("label sets", {"cell": "gru"}),
    ("label sets", {"cell": "echo", "alpha": 0.1}),
    ("label sets at each step", {"cell": "gru"}),
    ("regression", {"cell": "leaky", "layers": 2, "dilated": True}),
    ("forecasting", {"cell": "elman", "standardise": False, "relative": False}),
    ("forecasting", {"cell": "gru", "relative": False}),
    ("classification", {"cell": "echo", "alpha": 0.1}),
    ("classification", {"cell": "echo", "alpha": 0.1, "places": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "options"), CASES)
def test_the_graph_answers_in_the_units_of_the_data(tmp_path, task, options):
    data, path = sequences(task), tmp_path / "model.onnx"
    names = {"label sets": "classification"}
    task = "tagging" if task.endswith("at each step") else names.get(task, task)
    fitted = untrained(data, task, **options)
    export_onnx(fitted, path)
    x = np.where(data.valid[:, :, None], data.x, np.nan)
    ours = run(path, x=x, lengths=data.lengths)
    answers = fitted.predict(data).predictions
    if task in ("classification", "tagging") and "probabilities" in ours:
        assert_close(ours["probabilities"], answers.probabilities.astype(np.float32))
    else:
        assert_close(ours["values"], answers.values, 1e-3)
        assert ours["values"].std() > 0
    known = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert (known["task"], known["features"]) == (task, ["heat", "flow"])
    assert known.get("horizon") == fitted.preparation.horizon
    if fitted.preparation.classes is not None:
        assert tuple(known["classes"]) == fitted.preparation.classes


@pytest.mark.parametrize(
    ("missing", "embed"), [("mean", None), ("indicator", None), ("indicator", ("all",))]
)
def test_categories_and_missing_values_are_in_the_graph(tmp_path, missing, embed):
    data, path = sequences("classification"), tmp_path / "model.onnx"
    x = data.x.copy()
    x[:, :, 0] = np.arange(12) % 3
    x[::3, 2] = np.nan
    gaps = np.ones(x.shape[:2], np.float32)
    kinds = {"heat": ("low", "high", "mid")}
    data = replace(data, x=x, gaps=gaps, categories=kinds)
    fitted = untrained(data, "classification", missing=missing, time_delta=True, embed=embed)
    export_onnx(fitted, path)
    known = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert known["features"] == ["heat", "flow", "time_delta"]
    trained = known["categories"]["heat"]
    assert trained == ["high", "low", "mid"]
    codes = np.array([trained.index(name) for name in kinds["heat"]], np.float32)
    raw = np.concatenate([x, gaps[:, :, None]], axis=2)
    there = ~np.isnan(raw[:, :, 0])
    raw[:, :, 0][there] = codes[x[:, :, 0][there].astype(int)]
    ours = run(path, x=raw, lengths=data.lengths)
    answers = fitted.predict(data).predictions
    assert_close(ours["probabilities"], answers.probabilities.astype(np.float32))


def test_what_the_graph_cannot_do_is_refused(tmp_path):
    fitted = untrained(sequences("classification"), "classification", missing="previous")
    with pytest.raises(
        TypeError, match=r"the previous ones.* train it with missing .--missing. mean"
    ):
        export_onnx(fitted, tmp_path / "model.onnx")
