"""Recursive least squares: against ridge regression, plain NumPy, and as FORCE learning."""

import math

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.batch import Batch
from longlag.reservoirs import rows
from longlag.training import WeightedCrossEntropy

DOUBLE = {"dtype": torch.float64, "seed": 1}


def model_of(hidden=20, features=2, outputs=3, reduce=None, **options):
    layer = ll.EchoState(features, hidden, bias_scaling=0.3, leak=0.5, **DOUBLE)
    return ll.SequenceModel(layer, outputs, reduce=reduce, seed=0, **options)


def data_of(batch=4, steps=30, features=2, outputs=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, steps, features, dtype=torch.float64, generator=draw)
    target = torch.randn(batch, steps, outputs, dtype=torch.float64, generator=draw)
    return x, target + x[..., :1].cumsum(1).sin() + 5.0


def weights_of(model):
    readout = model.readout
    parts = (readout.weight, readout.weight_squares, readout.weight_direct)
    return torch.cat([part for part in parts if part is not None], -1).detach().numpy()


def discounted(f, y, share, alpha, bias=True):
    """Least squares over rows that count by their shares, in NumPy: weights and bias."""
    mean_f, mean_y = (
        (share @ part / share.sum() if bias else np.zeros(part.shape[1])) for part in (f, y)
    )
    f, y = f - mean_f, y - mean_y
    gram = (f * share[:, None]).T @ f + alpha * np.eye(f.shape[1])
    weight = np.linalg.solve(gram, (f * share[:, None]).T @ y).T
    return weight, mean_y - weight @ mean_f


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"direct": True, "squares": True}])
@pytest.mark.parametrize("alpha", [1e-2, 1.0])
def test_without_forgetting_it_is_ridge_regression(bias, options, alpha, monkeypatch):
    monkeypatch.setattr(rows, "NUMBERS", 4 * 20 * 7)  # seven steps at a time
    model, other, data = model_of(bias=bias, **options), model_of(bias=bias, **options), data_of()
    data[1][1, 9:14] = math.nan
    lengths = torch.tensor([30, 30, 12, 0])
    recursive = ll.RecursiveLeastSquares(alpha, washout=3)
    history = ll.fit(model, (*data, lengths), method=recursive)
    expected = ll.fit(other, (*data, lengths), method=ll.Ridge(alpha, washout=3))
    np.testing.assert_allclose(weights_of(model), weights_of(other), atol=1e-8)
    assert history.losses.tolist() == pytest.approx(expected.losses.tolist())
    if bias:
        torch.testing.assert_close(model.readout.bias, other.readout.bias, atol=1e-8, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_forgetting_goes_by_steps(bias):
    """Also through steps without a row, and those of sequences of other lengths."""
    model, (x, target) = model_of(bias=bias), data_of(batch=3, steps=40)
    target[:, 12:15] = math.nan
    lengths = torch.tensor([40, 31, 7])
    method = ll.RecursiveLeastSquares(0.5, forgetting=0.9, washout=2)
    ll.fit(model, (x, target, lengths), method=method)
    h = model.layer(x)[0]
    there = [
        (n, t) for n, length in enumerate(lengths) for t in range(2, length) if not 12 <= t < 15
    ]
    f, y = (np.array([part[at].numpy() for at in there]) for part in (h, target))
    share = np.array([0.9 ** (39 - t) for _, t in there])
    weight, b = discounted(f, y, share, 0.5 * 0.9**40, bias)
    np.testing.assert_allclose(weights_of(model), weight, atol=1e-8)
    if bias:
        np.testing.assert_allclose(model.readout.bias.detach(), b, atol=1e-8)


@pytest.mark.parametrize("bias", [True, False])
def test_rows_count_by_the_weights_of_their_sequences(bias):
    """In units of the mean weight of the rows that count for anything; one counts for nothing."""
    model, (x, target) = model_of(bias=bias), data_of(batch=3, steps=40)
    target[:, 12:15] = math.nan
    lengths, weights = torch.tensor([40, 31, 35]), torch.tensor([2.0, 6.0, 0.0])
    method = ll.RecursiveLeastSquares(0.5, forgetting=0.9, washout=2)
    ll.fit(model, Batch(x, target, lengths, weights=weights), method=method, batch_size=2)
    h = model.layer(x)[0]
    there = [
        (n, t) for n, length in enumerate(lengths) for t in range(2, length) if not 12 <= t < 15
    ]
    f, y = (np.array([part[at].numpy() for at in there]) for part in (h, target))
    own = np.array([weights[n].item() for n, _ in there])
    # Batches come one after the other, so the steps of the third sequence make the others older.
    age = np.array([39 - t + 40 * (n < 2) for n, t in there])
    share = 0.9**age * own / own[own > 0].mean()
    weight, b = discounted(f, y, share, 0.5 * 0.9**80, bias)
    np.testing.assert_allclose(weights_of(model), weight, atol=1e-7)
    if bias:
        np.testing.assert_allclose(model.readout.bias.detach(), b, atol=1e-7)


@pytest.mark.parametrize("reduce", ["last", None])
def test_classes_and_sequences_with_weights_are_as_of_ridge_regression(reduce):
    (x, _), draw = data_of(batch=40, steps=9), torch.Generator().manual_seed(0)
    classes = torch.randint(3, (40,) if reduce else (40, 9), generator=draw)
    weights = 3 * torch.rand(40, generator=draw)
    loss, found = WeightedCrossEntropy((1, 2, 7)), []
    for method in (ll.RecursiveLeastSquares(0.1), ll.Ridge(0.1)):
        model = model_of(reduce=reduce)
        history = ll.fit(model, Batch(x, classes, weights=weights), loss=loss, method=method)
        found.append((weights_of(model), history.losses[-1]))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-8)
    assert found[0][1] == pytest.approx(found[1][1])
    model = model_of(reduce=reduce)
    ll.fit(model, (x, classes), method=ll.RecursiveLeastSquares(0.1))
    assert np.abs(weights_of(model) - found[0][0]).max() > 1e-2
    with pytest.raises(ValueError, match="weights of data: all are 0"):
        ll.fit(model, Batch(x, classes, weights=0 * weights), method=ll.RecursiveLeastSquares())


def test_the_present_counts_where_the_world_has_changed():
    """After 300 steps the target is another function of the input."""
    model, (x, _) = model_of(outputs=1), data_of(batch=1, steps=600)
    delayed = x[..., :1].roll(1, 1)
    target = torch.where(torch.arange(600).view(1, -1, 1) < 300, delayed, -delayed)
    end = slice(550, 600)

    def error(forgetting):
        ll.fit(model, (x, target), method=ll.RecursiveLeastSquares(1e-2, forgetting))
        return float((model(x) - target)[0, end].detach().square().mean())

    assert error(0.98) < 0.5 * error(1.0)


def test_one_output_a_sequence_and_classes():
    model, (x, _) = model_of(reduce="last"), data_of(batch=70)
    other = model_of(reduce="last")
    classes = torch.randint(3, (70,), generator=torch.Generator().manual_seed(0))
    ll.fit(model, (x, classes), method=ll.RecursiveLeastSquares(0.1))
    ll.fit(other, (x, classes), method=ll.Ridge(0.1))
    np.testing.assert_allclose(weights_of(model), weights_of(other), atol=1e-8)


def test_recordings_longer_than_memory():
    x, target = data_of(batch=1, steps=900)
    model, other = model_of(), model_of()
    streams = ll.Streams(x[0].numpy(), target[0].numpy())
    ll.fit(model, streams, method=ll.RecursiveLeastSquares(0.1, washout=10), batch_size=1)
    ll.fit(other, (x, target), method=ll.Ridge(0.1, washout=10))
    np.testing.assert_allclose(weights_of(model), weights_of(other), atol=1e-8)


@pytest.mark.parametrize("direct", [False, True])
def test_own_feedback_in_plain_numpy(direct):
    """Two sequences, each with a reset; the teacher's values up to the first step that counts."""
    layer = ll.EchoState(1, 9, feedback_size=2, leak=0.7, bias_scaling=0.1, **DOUBLE)
    model = ll.SequenceModel(layer, 2, reduce=None, direct=direct, seed=0)
    x, target = data_of(batch=2, steps=25, features=3, outputs=2)
    target, resets = target - 5.0, torch.zeros(2, 25, dtype=torch.bool)
    resets[1, 11] = True
    method = ll.RecursiveLeastSquares(0.7, forgetting=0.97, washout=3, feedback="own")

    class Data:
        lengths = None

    data = Data()
    data.x, data.target, data.resets = x, target, resets
    ll.fit(model, data, method=method)

    u, b = layer.weight_ih.numpy(), layer.bias.numpy()
    w, leak = layer.recurrent_matrix().numpy(), 0.7
    h, y, age = np.zeros((2, 9)), np.zeros((2, 2)), np.array([0, 0])
    size = 12 if direct else 9
    f, d, at = np.zeros((0, size)), np.zeros((0, 2)), np.zeros(0)
    weight, bias = np.zeros((2, size)), np.zeros(2)
    for t in range(25):
        age[resets[:, t].numpy()], h[resets[:, t].numpy()] = 0, 0.0
        own = np.concatenate([x[:, t, :1].numpy(), y], 1)
        seen = np.where((age > 3)[:, None], own, x[:, t].numpy())
        h = (1 - leak) * h + leak * np.tanh(seen @ u.T + h @ w.T + b)
        features = np.concatenate([h, seen], 1) if direct else h
        y = features @ weight.T + bias  # before the step is learnt
        counts = age >= 3
        f, d = np.concatenate([f, features[counts]]), np.concatenate([d, target[counts, t].numpy()])
        at = np.concatenate([at, np.full(counts.sum(), t)])
        age += 1
        if len(f):
            weight, bias = discounted(f, d, 0.97 ** (t - at), 0.7 * 0.97 ** (t + 1))
    np.testing.assert_allclose(weights_of(model), weight, atol=1e-8)
    np.testing.assert_allclose(model.readout.bias.detach(), bias, atol=1e-8)


def test_force_learns_to_generate_a_sum_of_sines():
    t = torch.arange(800, dtype=torch.float64) / 5
    x = (0.6 * t.sin() + 0.4 * (2.0 * t).sin()).view(1, -1, 1)
    layer = ll.EchoState(
        0, 100, feedback_size=1, spectral_radius=1.5, leak=0.5, seed=0, dtype=torch.float64
    )
    model = ll.SequenceModel(layer, 1, reduce=None)
    force = ll.RecursiveLeastSquares(0.01, washout=30, feedback="own")
    ll.fit(model, (x[:, :400], x[:, 1:401]), method=force)
    ahead, _ = model.generate(157, warmup=x[:, :400])  # five periods
    error = (ahead - x[:, 400:557]).detach().square().mean().sqrt()
    assert float(error) < 0.1 * float(x.std())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha: got 0, expected a number above 0.0"),
        ({"forgetting": 0.0}, "forgetting: got 0.0, expected a number above 0.0 and at most 1.0"),
        ({"forgetting": 1.1}, "forgetting: got 1.1"),
        ({"washout": -1}, "washout: got -1, expected at least 0"),
        ({"feedback": "both"}, "feedback: got 'both', expected 'teacher' or 'own'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ll.RecursiveLeastSquares(**options)


def test_what_cannot_be_fitted_is_named():
    own = ll.RecursiveLeastSquares(feedback="own")
    x, target = data_of()
    model = model_of()
    before = weights_of(model)
    with pytest.raises(ValueError, match="model: it puts out 3 numbers and reads 2; expected that"):
        ll.fit(model, (x, target), method=own)
    several = ll.SequenceModel(ll.EchoState(2, 9, **DOUBLE), 2, reduce="mean")
    with pytest.raises(ValueError, match=r"has one output a sequence \(reduce='mean'\); expected"):
        ll.fit(several, (x, target[:, 0, :2]), method=own)
    both = ll.SequenceModel(ll.Bidirectional(ll.Elman(2, 9, dtype=torch.float64)), 2, reduce=None)
    with pytest.raises(
        ValueError, match="model reads in both directions; expected layers that rea"
    ):
        ll.fit(both, (x, target[..., :2]), method=own)
    with pytest.raises(ValueError, match="found no step with a target behind the washout of 30"):
        ll.fit(model, (x, target), method=ll.RecursiveLeastSquares(washout=30))
    with pytest.raises(ValueError, match="found a state or an input that is not finite"):
        ll.fit(model, (x * math.inf, target), method=ll.RecursiveLeastSquares())
    np.testing.assert_array_equal(before, weights_of(model))
