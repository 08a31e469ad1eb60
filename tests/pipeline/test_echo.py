"""Echo state networks in the pipeline: a readout fitted in one step, for each task."""

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.data import SequenceData
from longlag.messages import GuidedError
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitted import EVALUATED, Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.network import build_model
from longlag.pipeline.settings import Settings

STEPS = 12


def data(task, count=60, columns=2, seed=0):
    """Noise of which something is to be told: the sign of its sum, or of the step before."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(8, STEPS + 1, count)
    inside = np.arange(STEPS) < lengths[:, None]
    x = (rng.normal(size=(count, STEPS, columns)) * inside[..., None]).astype(np.float32)
    names = tuple(f"s{n}" for n in range(count))
    if task == "tagging":
        before = np.concatenate([np.zeros((count, 1)), x[:, :-1, 0]], 1)
        target = np.where(inside, np.where(before > 0, "up", "down"), "")
        return SequenceData(x, lengths, target, names, target_names=("tag",))
    if task == "forecasting":
        steps = np.arange(STEPS)
        x[..., 0] = np.sin(0.7 * steps + rng.uniform(0, 6, (count, 1))) * inside
        features = ("a", "b")[:columns]
        return SequenceData(x, lengths, None, names, features, features[:1])
    total = x[..., 0].sum(1)
    target = np.where(total > 0, "up", "down") if task == "classification" else total[:, None]
    return SequenceData(x, lengths, target, names, target_names=("target",))


def fitted(task, **options):
    settings = Settings(task, cell="echo", hidden=40, **options)
    parts = hold_out(data(task), task, share=0.3, seed=0, horizon=settings.steps_ahead)
    return Pipeline.of(parts, settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("classification", {"alpha": 1.0, "leak": 0.3}),
        ("classification", {"reduce": "mean", "alpha": 1.0, "input_scaling": 0.2}),
        ("classification", {"reduce": "last", "alpha": 1.0, "leak": 0.3}),
        ("regression", {"alpha": 1e-3, "leak": 0.3, "input_scaling": 0.1}),
        ("tagging", {"washout": 2, "spectral_radius": 0.5}),
        ("forecasting", {"horizon": 3, "washout": 3, "alpha": 1e-3}),
    ],
)
@pytest.mark.filterwarnings("ignore:alpha. the best")
def test_it_answers_better_than_a_guess_and_is_saved(tmp_path, task, options):
    pipeline = fitted(task, **options)
    before = {name: part.clone() for name, part in pipeline.model.layer.state_dict().items()}
    done = pipeline.fit(progress=False)
    assert isinstance(done.model.layer, ll.EchoState)
    assert all((part == before[name]).all() for name, part in done.model.layer.state_dict().items())
    usual = {"classification": "share_max", "regression": "last"}.get(task)
    assert done.model.reduce == options.get("reduce", usual)
    assert any(measure.is_better for measure in done.score.measures)
    assert done.history.records[-1].step == 1
    done.save(tmp_path / "model.longlag")
    new = data(task, seed=1)
    answers, score = done.predict(new)
    again, _ = Fitted.load(tmp_path / "model.longlag").predict(new)
    assert score.measures[0].is_better
    if task == "classification":
        np.testing.assert_array_equal(answers.probabilities, again.probabilities)
        # Those who are sure say so: shares, not their softmax, which stays below 0.74.
        assert answers.probabilities.max() > 0.9
        np.testing.assert_allclose(answers.probabilities.sum(-1), 1.0, rtol=1e-5)


def test_what_the_readout_is_fitted_on_is_what_ridge_says():
    """Each step behind the washout whose targets are all known."""
    pipeline = fitted("forecasting", horizon=2, washout=3, alpha=0.5, density=0.5)
    done = pipeline.fit(progress=False)
    train, layer = pipeline.train, done.model.layer
    features, targets = [], []
    x = ll.SequenceModel(layer, 1, reduce=None).layer.like.new_tensor(train.x)
    states = layer(x)[0].numpy()
    for n, length in enumerate(train.lengths):
        for t in range(3, length):
            if np.isfinite(train.target[n, t]).all():
                features.append(np.concatenate([states[n, t], train.x[n, t]]))
                targets.append(train.target[n, t])
    f, y = np.array(features, np.float64), np.array(targets, np.float64)
    mean_f, mean_y = f.mean(0), y.mean(0)
    f, y = f - mean_f, y - mean_y
    weight = np.linalg.solve(f.T @ f + 0.5 * np.eye(f.shape[1]), f.T @ y).T
    readout = done.model.linear_readout
    own = np.concatenate([readout.weight.detach(), readout.weight_direct.detach()], 1)
    np.testing.assert_allclose(own, weight, rtol=1e-3, atol=1e-5)
    assert layer.density == pytest.approx(0.5)


def test_noise_is_that_of_ridge():
    one, other, third = (
        fitted("tagging", alpha=0.5, state_noise=size) for size in (None, 0.1, 0.1)
    )
    weights = [each.fit(progress=False).model.linear_readout.weight for each in (one, other, third)]
    assert not (weights[0] == weights[1]).all()
    assert (weights[1] == weights[2]).all()
    expected = ll.SequenceModel(other.model.layer, other.model.output_size, reduce=None)
    method = ll.Ridge(0.5, state_noise=0.1)
    ll.fit(expected, other.train, method=method, batch_size=EVALUATED)
    np.testing.assert_allclose(
        expected.readout.weight.detach(), weights[1].detach(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cell": "echo", "layers": 2}, "layers: got 2, but an echo state network is one layer"),
        ({"cell": "echo", "bidirectional": True}, "bidirectional: got True, but an echo state"),
        ({"cell": "echo", "chrono": 9.0}, "has no gate whose bias it could set"),
        ({"cell": "echo", "epochs": 5}, "epochs: got 5, but an echo state network has its readout"),
        ({"cell": "echo", "clip_norm": None}, "clip_norm: got None, but"),
        ({"cell": "echo", "input_dropout": 0.1}, "input_dropout: got 0.1, but"),
        ({"leak": 0.5}, "leak: got 0.5, but gru has none; leave it out, or use cell='echo'"),
        ({"cell": "elman", "washout": 3, "task": "tagging"}, "washout: got 3, but elman has none"),
        ({"state_noise": 0.1}, "state_noise: got 0.1, but gru has none"),
        ({"alpha": 1.0}, "alpha: got 1.0, but gru has none"),
        ({"cell": "echo", "washout": 3}, "washout: got 3, but classification has one answer"),
        ({"reduce": "mean", "task": "tagging"}, "reduce: got 'mean', but tagging has an answer at"),
        ({"cell": "echo", "reduce": "attention"}, "reduce: got 'attention', which is learned by"),
        ({"reduce": "first"}, "reduce: got 'first', expected one of last, mean, attention, share"),
        (
            {"reduce": "share"},
            "reduce: got 'share', from which gru cannot learn; use reduce='mean'",
        ),
        (
            {"places": True},
            "places: got true, but they are told where shares are read; leave it out",
        ),
        ({"cell": "echo", "reduce": "mean", "places": True}, "places: got true, but they"),
        ({"cell": "auto", "task": "regression"}, "cell: got 'auto', which is for classification"),
        ({"cell": "auto", "layers": 2}, "layers: got 2, but 'auto' chooses network and training"),
        ({"cell": "echoes"}, "antisymmetric, echo"),
    ],
)
def test_what_does_not_go_together_is_said(options, said):
    with pytest.raises(GuidedError) as refused:
        Settings(**{"task": "classification", **options})
    assert said in str(refused.value)


def test_a_washout_that_leaves_nothing_is_said():
    for task, washout in (("tagging", STEPS), ("forecasting", STEPS)):
        with pytest.raises(GuidedError, match="washout: got 12, but behind it no series"):
            fitted(task, washout=washout)


def test_the_mean_of_the_states_is_for_every_cell():
    parts = hold_out(data("classification"), "classification", share=0.3, seed=0)
    pipeline = Pipeline.of(parts, Settings("classification", hidden=3, reduce="mean"))
    assert pipeline.model.reduce == "mean"


def test_a_reservoir_is_drawn_once_and_is_nobody_elses():
    settings = Settings("classification", cell="echo", hidden=20)
    first, second = (build_model(settings, input_size=2, output_size=3) for _ in range(2))
    apart = ll.EchoState(
        2, 20, seed=torch.Generator().manual_seed(0), density=0.5, bias_scaling=0.5,
        leak=np.geomspace(1.0, 0.25, 20).tolist(),
    )  # fmt: skip
    for name, part in apart.state_dict().items():
        assert torch.equal(first.layer.state_dict()[name], part), name
    assert torch.equal(first.readout.weight, second.readout.weight)
    with torch.no_grad():
        first.layer.weight_ih.zero_()
    assert second.layer.weight_ih.any()
