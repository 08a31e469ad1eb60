from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longlag.data import (
    ClassPredictions,
    Columns,
    DataError,
    Preparation,
    Scaling,
    SequenceData,
    ValuePredictions,
    read,
)

LENGTHS = np.array([4, 2, 3])
VALID = np.arange(4) < LENGTHS[:, None]


def ragged(target: np.ndarray | None = None, **parts: object) -> SequenceData:
    """Three series of two features, with what nobody may look at beyond their ends."""
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(3, 4, 2)) * [2.0, 30.0] + [5.0, -7.0]).astype(np.float32)
    x[~VALID] = 1e6
    base = SequenceData(x, LENGTHS, target, ("a", "b", "c"), ("u", "v"), ("y",))
    return replace(base, **parts)


def values(predictions: object) -> np.ndarray:
    assert isinstance(predictions, ValuePredictions)
    return predictions.values


def test_inputs_are_standardised_over_valid_steps_by_the_plain_formula():
    data = ragged(np.array(["x", "y", "x"]))
    prepared = Preparation.fit(data, task="classification").apply(data)
    steps = data.x[VALID].astype(np.float64)
    expected = (steps - steps.mean(axis=0)) / steps.std(axis=0)
    np.testing.assert_allclose(prepared.x[VALID], expected, rtol=1e-6, atol=1e-6)
    assert prepared.x.dtype == np.float32
    assert not prepared.x[~VALID].any()
    assert prepared.lengths.tolist() == [4, 2, 3]


def test_statistics_come_from_the_training_part_alone(vowels_csv):
    train, held = read(vowels_csv, task="classification").split(0.3, seed=0, stratify=True)
    preparation = Preparation.fit(train, task="classification")
    steps = train.x[train.valid].astype(np.float64)
    np.testing.assert_allclose(preparation.inputs.mean, steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(preparation.inputs.scale, steps.std(axis=0), rtol=1e-12)
    ours, theirs = (preparation.apply(part) for part in (train, held))
    assert abs(ours.x[train.valid].mean(axis=0)).max() < 1e-5
    assert abs(theirs.x[held.valid].mean(axis=0)).max() > 1e-3
    assert preparation.classes == tuple("123456789")
    assert held.target is not None
    assert theirs.target is not None
    np.testing.assert_array_equal(theirs.target, held.target.astype(int) - 1)
    louder = replace(held, x=held.x * 1000)
    np.testing.assert_allclose(
        preparation.apply(louder).x[held.valid],
        (1000 * held.x[held.valid].astype(np.float64) - steps.mean(axis=0)) / steps.std(axis=0),
        rtol=1e-5,
        atol=1e-4,
    )


def test_without_standardising_values_stay():
    data = ragged(np.array([1.0, 2.0, 4.0]))
    prepared = Preparation.fit(data, task="regression", standardise=False).apply(data)
    np.testing.assert_array_equal(prepared.x[VALID], data.x[VALID])
    assert prepared.target is not None
    assert prepared.target.tolist() == [[1.0], [2.0], [4.0]]


def test_classification():
    data = ragged(np.array([7, 3, 7]))
    preparation = Preparation.fit(data, task="classification")
    assert (preparation.input_size, preparation.output_size, preparation.reduce) == (2, 2, "last")
    prepared = preparation.apply(data)
    assert prepared.target is not None
    assert prepared.target.tolist() == [1, 0, 1]
    assert prepared.target.dtype == np.int64
    logits = np.array([[0.0, np.log(3)], [1000.0, 0.0], [-1.0, -1.0]], np.float32)
    answer = preparation.restore(logits, LENGTHS)
    assert isinstance(answer, ClassPredictions)
    assert answer.labels.tolist() == [7, 3, 3]
    np.testing.assert_allclose(answer.probabilities, [[0.25, 0.75], [1, 0], [0.5, 0.5]], rtol=1e-6)


def test_regression_is_restored_to_the_users_units():
    target = np.array([[1.0, 1e6], [2.0, 3e6], [6.0, 2e6]])
    data = ragged(target, target_names=("p", "q"))
    preparation = Preparation.fit(data, task="regression")
    assert (preparation.output_size, preparation.reduce) == (2, "last")
    prepared = preparation.apply(data)
    assert prepared.target is not None
    assert prepared.target.dtype == np.float32
    expected = (target - target.mean(axis=0)) / target.std(axis=0)
    np.testing.assert_allclose(prepared.target, expected, rtol=1e-6)
    np.testing.assert_allclose(
        values(preparation.restore(prepared.target, LENGTHS)), target, rtol=1e-6
    )
    swapped = ragged(target[:, ::-1], target_names=("q", "p"))
    again = preparation.apply(swapped)
    assert again.target is not None
    np.testing.assert_array_equal(again.target, prepared.target)


def test_tagging_ignores_padding_and_restores_labels():
    tags = np.array([list("NVNN"), list("VVZZ"), list("NNVZ")])
    data = ragged(tags)
    preparation = Preparation.fit(data, task="tagging")
    assert preparation.classes == ("N", "V")
    assert (preparation.output_size, preparation.reduce) == (2, None)
    prepared = preparation.apply(data)
    assert prepared.target is not None
    assert prepared.target.tolist() == [[0, 1, 0, 0], [1, 1, -100, -100], [0, 0, 1, -100]]
    logits = np.full((3, 4, 2), np.nan, np.float32)
    logits[VALID] = np.eye(2)[prepared.target[VALID]] * 9
    answer = preparation.restore(logits, LENGTHS)
    assert isinstance(answer, ClassPredictions)
    np.testing.assert_array_equal(answer.labels, np.where(VALID, tags, ""))
    np.testing.assert_allclose(answer.probabilities.sum(axis=2), VALID)


def test_forecasting_of_some_features_and_back():
    data = ragged(target_names=("v",))
    preparation = Preparation.fit(data, task="forecasting", horizon=2)
    assert (preparation.output_size, preparation.reduce) == (2, None)
    assert preparation.targets == preparation.inputs.take([1])
    prepared = preparation.apply(data)
    assert prepared.target is not None
    assert prepared.target.shape == (3, 4, 2)
    z = prepared.x[:, :, 1]
    np.testing.assert_array_equal(prepared.target[0, :, 0], [*z[0, 1:], np.nan])
    np.testing.assert_array_equal(prepared.target[0, :, 1], [*z[0, 2:], np.nan, np.nan])
    np.testing.assert_array_equal(prepared.target[1, :, 0], [z[1, 1], np.nan, np.nan, np.nan])
    outputs = np.full((3, 4, 2), np.nan, np.float32)
    outputs[VALID] = 0.0
    outputs[[0, 1, 2], LENGTHS - 1] = [[1, 2], [3, 4], [5, 6]]
    mean, scale = preparation.inputs.mean[1], preparation.inputs.scale[1]
    expected = np.array([[[1], [2]], [[3], [4]], [[5], [6]]]) * scale + mean
    np.testing.assert_allclose(values(preparation.restore(outputs, LENGTHS)), expected)


def test_forecasts_of_several_features_keep_their_places():
    data = ragged(target_names=("v", "u"))
    preparation = Preparation.fit(data, task="forecasting", horizon=3)
    prepared = preparation.apply(data)
    assert prepared.target is not None
    now = np.nan_to_num(prepared.target)
    end = preparation.restore(now[:1, :1], np.array([1]))
    expected = data.x[0, 1:4][:, ::-1]
    np.testing.assert_allclose(values(end)[0], expected, rtol=1e-5)


def test_a_file_without_names_forecasts_every_column(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(12.0).reshape(2, 3, 2))
    data = read(path, task="forecasting")
    preparation = Preparation.fit(data, task="forecasting", horizon=1)
    assert preparation.target_names == ("x0", "x1")
    assert preparation.feature_names is None
    assert preparation.output_size == 2


def test_features_are_found_by_name():
    data = ragged(np.array(["x", "y", "x"]))
    preparation = Preparation.fit(data, task="classification")
    swapped = replace(data, x=data.x[:, :, ::-1], feature_names=("v", "u"))
    np.testing.assert_array_equal(preparation.apply(swapped).x, preparation.apply(data).x)
    unnamed = replace(data, feature_names=None)
    np.testing.assert_array_equal(preparation.apply(unnamed).x, preparation.apply(data).x)


def test_features_that_do_not_fit_are_refused():
    data = ragged(np.array(["x", "y", "x"]))
    preparation = Preparation.fit(data, task="classification")
    with pytest.raises(DataError, match=r"feature 'v' .* is missing; the features are 'u', 'V'"):
        preparation.apply(replace(data, feature_names=("u", "V")))
    wide = np.concatenate([data.x, data.x[:, :, :1]], axis=2)
    with pytest.raises(DataError, match="3 features, expected 2: 'w' were not in the training"):
        preparation.apply(replace(data, x=wide, feature_names=("u", "v", "w")))
    with pytest.raises(DataError, match="3 features, expected 2 as in the training data: 'u', 'v'"):
        preparation.apply(replace(data, x=wide, feature_names=None))


def test_new_data_are_read_with_the_columns_of_the_training(write):
    columns = Columns(series="id", time="t")
    path = write("id,t,u,v,target\na,1,1,2,x\nb,1,3,4,y\n")
    preparation = Preparation.fit(
        read(path, task="classification", columns=columns), task="classification", columns=columns
    )
    new = write("v,comment,u,t,id\n2,hello,1,1,a\n", "new.csv")
    assert preparation.columns is not None
    data = read(new, task="classification", columns=preparation.columns, require_target=False)
    prepared = preparation.apply(data)
    assert prepared.x.tolist() == [[[-1.0, -1.0]]]
    assert prepared.target is None


def test_an_unknown_class_is_located():
    labels = np.array(["x", "y", "x"])
    preparation = Preparation.fit(ragged(labels), task="classification")
    with pytest.raises(DataError, match=r"series 'b': unknown class 'z'; .* 'x', 'y'"):
        preparation.apply(ragged(np.array(["x", "z", "x"])))
    tags = np.array([list("NVNN"), list("VV  "), list("NNV ")])
    preparation = Preparation.fit(ragged(tags), task="tagging")
    tags = tags.copy()
    tags[2, 1] = "W"
    times = np.array([list("0123")] * 3)
    with pytest.raises(DataError, match=r"series 'c', step 1: unknown class 'W'"):
        preparation.apply(ragged(tags))
    with pytest.raises(DataError, match=r"series 'c', step 1 \(time '1'\): unknown class 'W'"):
        preparation.apply(ragged(tags, times=times))


def test_a_value_that_leaves_float32_is_located():
    data = ragged(x=np.full((3, 4, 2), [0.0, 1e-3], np.float32), target_names=())
    data.x[0, 0, 1] = 1.001e-3
    preparation = Preparation.fit(data, task="forecasting", horizon=1)
    data.x[2, 1, 1] = 3e38
    with pytest.raises(
        DataError, match=r"series 'c', step 1, column 'v': 3(\.0+\d*)?e\+38 is more"
    ):
        preparation.apply(data)


def test_a_target_that_leaves_float32_is_located():
    data = ragged(np.array([1.0, 2.0, 1e300]))
    plain = Preparation.fit(data, task="regression", standardise=False)
    with pytest.raises(DataError, match=r"series 'c', column 'y': 1e\+300 is more than float32"):
        plain.apply(data)
    fitted = Preparation.fit(data, task="regression").apply(data)
    assert fitted.target is not None
    np.testing.assert_allclose(fitted.target[:, 0], [-(0.5**0.5), -(0.5**0.5), 2**0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        (None, {"task": "regression"}, "no target, which regression needs"),
        (np.array([1.0, 2, 3]), {"task": "classification"}, r"expects labels \(N,\), got"),
        (np.array([1, 2, 3]), {"task": "tagging"}, r"expects labels \(N, T\)"),
        (np.array(["a", "b", "c"]), {"task": "regression"}, "regression expects floats"),
        (np.array([1.0, np.inf, 3]), {"task": "regression"}, "target of series 'b': inf"),
        (np.array(["a", "a", "a"]), {"task": "classification"}, "single class 'a'"),
        (None, {"task": "forecasting"}, "horizon=None: forecasting expects a number of steps"),
        (None, {"task": "forecasting", "horizon": 0}, "horizon=0"),
        (None, {"task": "forecasting", "horizon": True}, "horizon=True"),
        (None, {"task": "forecasting", "horizon": 4}, "longest series has 4 .* at most 3"),
        (np.array([1, 2, 3]), {"task": "classification", "horizon": 1}, "classification has none"),
        (None, {"task": "sorting"}, "task='sorting' is not known"),
    ],
)
def test_what_cannot_be_fitted_is_explained(target, arguments, message):
    with pytest.raises(DataError, match=message):
        Preparation.fit(ragged(target, target_names=()), **arguments)


def test_no_sequences_and_targets_that_are_no_features():
    data = ragged()
    with pytest.raises(DataError, match="there are no sequences"):
        Preparation.fit(data.select([]), task="forecasting", horizon=1)
    with pytest.raises(DataError, match="'y' is not among the features 'u', 'v'"):
        Preparation.fit(data, task="forecasting", horizon=1)


def test_a_spread_too_fine_for_float32_is_refused():
    x = np.zeros((3, 4, 2), np.float32)
    x[:, :, 0] = 1.7e9 + 128 * np.arange(4)
    x[:, :, 1] = 1e9  # constant: nothing is lost
    data = ragged(x=x, target_names=())
    with pytest.raises(DataError, match=r"feature 'u': its spread .* too fine for float32"):
        Preparation.fit(data, task="forecasting", horizon=1)
    x[:, :, 0] -= np.float32(1.7e9)
    assert Preparation.fit(data, task="forecasting", horizon=1).inputs.scale[1] == 1.0


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (np.zeros((3, 3)), r"shape \(3, 3\), classification expects \(3, 2\)"),
        (np.zeros((2, 2)), r"shape \(2, 2\)"),
        (np.zeros((3, 4, 2)), r"shape \(3, 4, 2\)"),
        (np.array([[0, 0], [0, np.nan], [0, 0]]), r"outputs\[1, 1\] is nan"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(outputs, message):
    preparation = Preparation.fit(ragged(np.array([1, 2, 1])), task="classification")
    with pytest.raises(DataError, match=message):
        preparation.restore(outputs, LENGTHS)


def test_outputs_shorter_than_a_series_are_refused():
    preparation = Preparation.fit(ragged(target_names=()), task="forecasting", horizon=1)
    with pytest.raises(DataError, match=r"\(3, 3, 2\), forecasting expects \(3, T >= longest, 2\)"):
        preparation.restore(np.zeros((3, 3, 2)), LENGTHS)


names = st.text(min_size=1, max_size=4)
number = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=5e-324, allow_infinity=False)


@st.composite
def preparations(draw: st.DrawFn) -> Preparation:
    task = draw(st.sampled_from(["classification", "regression", "tagging", "forecasting"]))
    features = draw(st.lists(names, min_size=1, max_size=4, unique=True))

    def scaling(width: int) -> Scaling:
        return Scaling(
            tuple(draw(st.lists(number, min_size=width, max_size=width))),
            tuple(draw(st.lists(positive, min_size=width, max_size=width))),
        )

    targets = classes = None
    target_names = ("target",)
    if task in ("classification", "tagging"):
        whole = st.integers(-(2**63), 2**63 - 1)
        text = st.text().filter(lambda label: not label.endswith("\0"))
        labels = draw(st.sampled_from([whole, text]))
        classes = tuple(draw(st.lists(labels, min_size=2, max_size=4, unique=True)))
    else:
        target_names = tuple(features[: draw(st.integers(1, len(features)))])
        targets = scaling(len(target_names))
    return Preparation(
        task=task,
        inputs=scaling(len(features)),
        target_names=target_names,
        feature_names=tuple(features),
        targets=targets,
        classes=classes,
        horizon=draw(st.integers(1, 99)) if task == "forecasting" else None,
        columns=draw(st.sampled_from([None, Columns(), Columns(series=None, target="q")])),
    )


@given(preparations())
def test_json_round_trip_is_exact(preparation):
    record = json.loads(json.dumps(preparation.to_dict()))
    again = Preparation.from_dict(record)
    assert again == preparation
    assert json.dumps(again.to_dict()) == json.dumps(preparation.to_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "unknown key 'extra'"),
        ({"task": "sorting"}, "task='sorting' is not known"),
        ({"task": "regression"}, "regression has targets and no classes"),
        ({"horizon": 3}, "classification has none"),
        ({"classes": ["a", "a"]}, "distinct classes"),
        ({"classes": ["a", 1]}, "all text or all integers"),
        ({"classes": ["a"]}, "at least two"),
        ({"classes": [True, False]}, "expected texts or integers"),
        ({"classes": "ab"}, "expected texts or integers"),
        ({"feature_names": ["u"]}, "1 feature names for 2 inputs"),
        ({"target_names": []}, "0 target names, expected 1"),
        ({"inputs": {"mean": [0, 0], "scale": [1, -1]}}, "positive finite scales"),
        ({"columns": {"series": "a"}}, "columns: the key 'time' is missing"),
    ],
)
def test_the_schema_is_closed(change, message):
    record = Preparation.fit(ragged(np.array([1, 2, 1])), task="classification").to_dict()
    Preparation.from_dict(record)
    with pytest.raises(DataError, match=message):
        Preparation.from_dict({**record, **change})


@pytest.mark.parametrize(
    "key", ["task", "horizon", "feature_names", "target_names", "inputs", "targets", "classes"]
)
def test_a_missing_key_is_an_error(key):
    record = Preparation.fit(ragged(np.array([1, 2, 1])), task="classification").to_dict()
    del record[key]
    with pytest.raises(DataError, match=f"the key '{key}' is missing"):
        Preparation.from_dict(record)
