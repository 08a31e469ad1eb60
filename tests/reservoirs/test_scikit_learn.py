"""Estimators of scikit-learn as readouts: their own predictions are those of the model."""

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)  # fmt: skip
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import longlag as ll
from longlag.reservoirs import ScikitLearn


def model_of(outputs=3, reduce=None, **options):
    layer = ll.EchoState(2, 20, bias_scaling=0.3, leak=0.5, dtype=torch.float64, seed=1)
    return ll.SequenceModel(layer, outputs, reduce=reduce, seed=0, **options)


def data_of(batch=3, steps=40, outputs=3):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batch, steps, 2, dtype=torch.float64, generator=draw)
    target = torch.randn(batch, steps, outputs, dtype=torch.float64, generator=draw)
    return x, target + x[..., :1].cumsum(1).sin() + 5.0


def classes_of(x, count):
    return (x.cumsum(1).sin()[..., 0] * count).floor().abs().long().clamp(max=count - 1)


def rows_of(model, x, target, washout):
    """In the order in which they are read: one step after the other."""
    h = model.layer(x)[0]
    parts = [h, *([x] if model.direct else [])]
    both = torch.cat(parts, -1), target
    return [part[:, washout:].transpose(0, 1).flatten(0, 1).numpy() for part in both]


@pytest.mark.parametrize(
    ("estimator", "outputs"),
    [
        (Ridge(0.1), 3),
        (Lasso(0.01), 1),
        (ElasticNet(0.01), 3),
        (LinearRegression(), 2),
        (BayesianRidge(), 1),
        (MultiOutputRegressor(SGDRegressor(random_state=0)), 2),
        (make_pipeline(StandardScaler(), Ridge(1.0)), 3),
        (GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3), 2),
        (PLSRegression(2), 2),
    ],
)
def test_regressors(estimator, outputs, tmp_path):
    model, (x, target) = model_of(outputs, direct=True), data_of(outputs=outputs)
    method = estimator if outputs == 3 else ScikitLearn(estimator, washout=5)
    ll.fit(model, (x, target), method=method)
    f, y = rows_of(model, x, target, 0 if outputs == 3 else 5)
    peer = type(estimator)(**estimator.get_params(deep=False)).fit(
        f, y[:, 0] if outputs == 1 else y
    )
    got = rows_of(model, x, model(x).detach(), 0 if outputs == 3 else 5)[1]
    np.testing.assert_allclose(got, peer.predict(f).reshape(len(f), -1), atol=1e-8)
    ll.save(model, tmp_path / "model")
    assert torch.equal(ll.load(tmp_path / "model")(x), model.eval()(x))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "estimator", [LogisticRegression(max_iter=1000), RidgeClassifier(), LinearSVC(random_state=0)]
)
def test_classifiers(estimator, count):
    model, (x, _) = model_of(count), data_of()
    target = classes_of(x, count)
    target[:, :3] = -100
    history = ll.fit(
        model, (x, target), method=estimator, validation=(x, target), metrics="accuracy"
    )
    f, y = rows_of(model, x, target, 3)
    peer = type(estimator)(**estimator.get_params()).fit(f, y)
    logits = rows_of(model, x, model(x).detach(), 3)[1]
    assert (logits.argmax(-1) == peer.predict(f)).all()
    assert history.records[0].metrics["accuracy"] == pytest.approx(peer.score(f, y))
    if isinstance(estimator, LogisticRegression):
        shares = torch.from_numpy(logits).softmax(-1).numpy()
        np.testing.assert_allclose(shares, peer.predict_proba(f), atol=1e-8)


def test_one_class_a_sequence():
    model, (x, _) = model_of(2, reduce="last"), data_of(batch=60)
    target = (x.mean((1, 2)) > 0).long()
    ll.fit(model, (x, target), method=LogisticRegression())
    h = model.layer(x)[0][:, -1].numpy()
    peer = LogisticRegression().fit(h, target.numpy())
    shares = model(x).detach().softmax(-1).numpy()
    np.testing.assert_allclose(shares, peer.predict_proba(h), atol=1e-8)


@pytest.mark.parametrize("classes", [False, True])
def test_recordings_are_learnt_piece_by_piece(classes):
    x, target = data_of(batch=1, steps=1500, outputs=1)
    model = model_of(3 if classes else 1)
    if classes:
        target = classes_of(x, 3)
        target[0, :600] = 0  # in the first pieces there is one class alone
    estimator = (SGDClassifier if classes else SGDRegressor)(random_state=0)
    streams = ll.Streams(x[0].numpy(), target[0].numpy())
    ll.fit(model, streams, method=ScikitLearn(estimator, washout=9), batch_size=1)
    f = model.layer(x)[0][0].numpy()
    y = target[0].numpy() if classes else target[0, :, 0].numpy()
    every = {"classes": [0, 1, 2]} if classes else {}
    for first in range(0, 1500, 512):
        part = slice(max(first, 9), first + 512)
        estimator.partial_fit(f[part], y[part], **every)
    function = estimator.decision_function if classes else estimator.predict
    got = model(x)[0].detach().numpy()
    np.testing.assert_allclose(got, function(f).reshape(1500, -1), atol=1e-7, rtol=1e-7)


def test_recordings_for_an_estimator_that_learns_at_once():
    x, target = data_of(batch=1, steps=900)
    model = model_of()
    ll.fit(model, ll.Streams(x[0].numpy(), target[0].numpy()), method=Ridge(1.0), batch_size=1)
    f, y = rows_of(model, x, target, 0)
    np.testing.assert_allclose(model.readout.weight.detach(), Ridge(1.0).fit(f, y).coef_, atol=1e-8)


@pytest.mark.parametrize(
    ("estimator", "classes", "message"),
    [
        (RandomForestRegressor(3), False, "method: RandomForestRegressor is not linear in the f"),
        (PoissonRegressor(), False, "method: PoissonRegressor is not linear"),
        (KNeighborsClassifier(), True, "method: KNeighborsClassifier is not linear"),
        (SVC(), True, "method: SVC is not linear"),
        (SVC(kernel="linear", decision_function_shape="ovo"), True, "method: SVC is not linear"),
        (GaussianNB(), True, "method: GaussianNB is not linear"),
        (LogisticRegression(), False, "target: holds numbers, and LogisticRegression is a class"),
        (SGDRegressor(), False, "y should be a 1d array"),
    ],
)
def test_what_does_not_fit_is_named(estimator, classes, message):
    outputs = 1 if isinstance(estimator, PoissonRegressor) else 3
    model, (x, target) = model_of(outputs), data_of(outputs=outputs)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    with pytest.raises((TypeError, ValueError), match=message):
        ll.fit(model, (x, classes_of(x, 3) if classes else target + 5.0), method=estimator)
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())


def test_classes_and_intercepts_that_have_no_place():
    x, target = data_of()
    with pytest.raises(ValueError, match="target: has no step with class 3, for which LogisticR"):
        ll.fit(model_of(4), (x, classes_of(x, 3)), method=LogisticRegression())
    with pytest.raises(ValueError, match=r"model: Ridge found an intercept, .* Ridge\(fit_interc"):
        ll.fit(model_of(bias=False), (x, target), method=Ridge())
    model = model_of(bias=False)
    ll.fit(model, (x, target), method=Ridge(fit_intercept=False))
    f, y = rows_of(model, x, target, 0)
    expected = Ridge(fit_intercept=False).fit(f, y).coef_
    np.testing.assert_allclose(model.readout.weight.detach(), expected, atol=1e-8)


@pytest.mark.parametrize("method", [Ridge, "ridge", None])
def test_what_is_no_estimator(method):
    with pytest.raises(
        TypeError, match=r"estimator: got .*, expected an estimator of scikit-learn"
    ):
        ScikitLearn(method)
    with pytest.raises(
        TypeError, match=r"method is .*; expected (a gradient method|Ridge\(\.\.\.\))"
    ):
        ll.fit(model_of(), data_of(), method=method, epochs=1)


def test_an_estimator_has_no_epochs():
    with pytest.raises(
        ValueError, match=r"epochs: got 3, but ScikitLearn.*fits the readout in one"
    ):
        ll.fit(model_of(), data_of(), method=Ridge(), epochs=3)
