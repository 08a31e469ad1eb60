"""scikit-learn's own checks of estimators, and its tools around ours."""

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from longlag.estimators import RecurrentClassifier, RecurrentForecaster, RecurrentRegressor

QUICK = {"cell": "elman", "hidden": 4, "epochs": 2, "random_state": 0}

STEPS = "(N, T) is N series of T steps, of any T, and has one feature"
LONG_FORM = "a frame has a row a step and names its series; it is no (N, T)"
EXCEPTIONS = {
    "check_n_features_in": STEPS,
    "check_n_features_in_after_fitting": STEPS,
    "check_estimators_partial_fit_n_features": STEPS,
    "check_classifiers_train": STEPS,
    "check_classifier_data_not_an_array": LONG_FORM,
    "check_regressor_data_not_an_array": LONG_FORM,
    "check_class_weight_classifiers": "two epochs of four units are too few to follow weights of "
    "1000 to 1; test_weights_of_classes_are_followed has more",
    "check_sample_weights_pandas_series": LONG_FORM,
    "check_sample_weight_equivalence_on_dense_data": "which series are held out, and the order of "
    "updates, depend on how many there are; tests/training/test_weights.py has neither",
    "check_regressors_train": "it sets alpha, which is the penalty of cell='echo' alone",
}
"""The checks that estimators of series do not pass, and why."""

ROUNDING = ("check_methods_subset_invariance", "check_methods_sample_order_invariance")
"""Checks that ask for 1e-7, where the order of sums in float32 decides; see below."""

OF_PARAMETERS = (
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_mixin_order",
)
"""The checks that fit nothing: those of a forecaster, whose first argument is y."""


def checks(estimator: BaseEstimator) -> Iterator:
    """Those of scikit-learn, but for the ones in `ROUNDING`."""
    if not hasattr(estimator_checks, "estimator_checks_generator"):  # before 1.6
        return
    for _, check in estimator_checks.estimator_checks_generator(estimator):
        name = check.func.__name__
        if name in ROUNDING:
            continue
        if isinstance(estimator, RecurrentForecaster) and name not in OF_PARAMETERS:
            continue
        reason = EXCEPTIONS.get(name)
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
        yield pytest.param(estimator, check, marks=marks, id=f"{type(estimator).__name__}-{name}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        case
        for kind in (RecurrentClassifier, RecurrentRegressor, RecurrentForecaster)
        for case in checks(kind(**QUICK))
    ],
)
def test_checks_of_scikit_learn(estimator, check):
    check(clone(estimator))


def walks(seed, count=40, steps=10):
    """Whether a walk ends "up" or "down"."""
    X = np.random.default_rng(seed).normal(size=(count, steps, 1))
    return X, np.where(X.sum(axis=(1, 2)) > 0, "up", "down")


def test_answers_do_not_depend_on_the_other_series():
    X, y = walks(0)
    model = RecurrentClassifier(**QUICK).fit(X, y)
    alone = np.concatenate([model.predict_proba(X[n : n + 1]) for n in range(len(X))])
    np.testing.assert_allclose(alone, model.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(alone[::-1], model.predict_proba(X[::-1]), atol=1e-6)


@pytest.mark.slow
def test_a_grid_is_searched_by_two_processes():
    X, y = walks(0)
    grid = {"rnn__hidden": np.array([2, 4]), "rnn__cell": ["elman"]}
    steps = make_pipeline(FunctionTransformer(np.tanh), RecurrentClassifier(**QUICK))
    steps.steps[1] = ("rnn", steps.steps[1][1])
    results = []
    for jobs in (2, None):
        search = GridSearchCV(steps, grid, cv=2, n_jobs=jobs, error_score="raise").fit(X, y)
        assert search.best_params_["rnn__hidden"] in (2, 4)
        results.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*results)
    assert search.predict(X).shape == (40,)


def test_ragged_series_are_cross_validated():
    X, y = walks(1)
    ragged = [series[: 5 + n % 5] for n, series in enumerate(X)]
    shares = cross_val_predict(
        RecurrentClassifier(**QUICK), ragged, y, cv=2, method="predict_proba"
    )
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_forecasters_are_compared_on_series_that_they_have_not_seen():
    noise = np.random.default_rng(0).normal(size=(6, 40))
    y = [(n + 1) * np.sin(np.arange(40 - n)) + noise[n, n:] for n in range(6)]
    search = GridSearchCV(RecurrentForecaster(**QUICK), {"horizon": [1, 2]}, cv=2)
    search.fit(y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(y).shape == (6, search.best_params_["horizon"])


def test_a_random_state_gives_the_same_network_and_none_another():
    X, y = walks(0)
    model = RecurrentRegressor(**QUICK)
    first = model.fit(X, y == "up").predict(X)
    np.testing.assert_array_equal(clone(model).fit(X, y == "up").predict(X), first)
    drawn = clone(model).set_params(random_state=np.random.RandomState(3))
    again = clone(model).set_params(random_state=np.random.RandomState(3))
    other = drawn.fit(X, y == "up").predict(X)
    np.testing.assert_array_equal(again.fit(X, y == "up").predict(X), other)
    assert (other != first).any()
