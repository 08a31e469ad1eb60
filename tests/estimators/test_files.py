"""What is saved and loaded, without pickle, and that scikit-learn is not imported with longlag."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from longlag.data import Columns
from longlag.estimators import RecurrentClassifier, RecurrentForecaster, RecurrentRegressor
from longlag.pipeline.fitted import Fitted

QUICK = {"cell": "elman", "hidden": 4, "epochs": 2, "random_state": 0}
X = np.random.default_rng(0).normal(size=(20, 6, 2))
UP = X[:, :, 0].sum(axis=1) > 0


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (RecurrentClassifier(**QUICK, metric="auc"), UP),
        (RecurrentClassifier(**QUICK), np.where(UP, "10", "9").astype(object)),
        (RecurrentRegressor(**{**QUICK, "hidden": np.int64(4)}), X.sum(axis=1)),
        (RecurrentRegressor(**QUICK, columns=Columns(series="pump")), X.sum(axis=(1, 2))[:, None]),
        (RecurrentRegressor(**{**QUICK, "random_state": None}, per_step=True), X),
    ],
)
def test_a_file_and_a_pickle_give_the_same_answers(tmp_path, model, y):
    model.fit(X, y)
    path = tmp_path / "model.longlag"
    model.save(path)
    for other in (type(model).load(path), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert other.get_params() == model.get_params()
        assert other.n_features_in_ == 2
        answers = other.predict(X)
        np.testing.assert_array_equal(answers, model.predict(X))
        assert answers.dtype == model.predict(X).dtype
    assert Fitted.load(path).preparation == model.fitted_.preparation  # as of `longlag train`


def test_a_forecaster_from_a_file_asks_for_the_past(tmp_path):
    y = np.sin(np.arange(60.0))
    model = RecurrentForecaster(**QUICK, horizon=2).fit(y)
    model.save(tmp_path / "model.longlag")
    loaded = RecurrentForecaster.load(tmp_path / "model.longlag")
    np.testing.assert_array_equal(loaded.predict(y), model.predict())
    assert loaded.season_ == model.season_
    with pytest.raises(ValueError, match="the estimator is from a file, which holds no data"):
        loaded.predict()


def test_a_network_from_a_file_of_another_task_is_refused(tmp_path):
    path = tmp_path / "model.longlag"
    model = RecurrentRegressor(**QUICK).fit(X, UP)
    model.save(path)
    with pytest.raises(ValueError, match="a network for regression; expected one for classificat"):
        RecurrentClassifier.load(path)
    own = {"parameters": {"hiden": 4}}
    Fitted(
        model.fitted_.model, model.fitted_.preparation, model.fitted_.baseline, estimator=own
    ).save(path)
    with pytest.raises(ValueError, match=r"damaged .unknown parameter 'hiden'; did you mean"):
        RecurrentRegressor.load(path)


def test_what_a_file_holds_cannot_be_trained_further(tmp_path):
    path = tmp_path / "model.longlag"
    RecurrentRegressor(**QUICK).fit(X, UP).save(path)
    loaded = RecurrentRegressor.load(path)
    with pytest.raises(ValueError, match="from a file nothing says how it was trained"):
        loaded.partial_fit(X, UP)
    assert loaded.fit(X, UP).partial_fit(X, UP).score(X, UP) < 1


def test_longlag_is_imported_without_scikit_learn():
    code = (
        "import sys, longlag as ll\n"
        "ll.SequenceModel(ll.Elman(2, 4), 1)\n"
        "assert 'sklearn' not in sys.modules\n"
        "assert ll.RecurrentClassifier.__module__ == 'longlag.estimators.classifier'\n"
        "assert 'sklearn' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
