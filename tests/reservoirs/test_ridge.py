"""Ridge regression of readouts: against scikit-learn, in pieces, and where equations fail."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Peer
from sklearn.model_selection import LeaveOneOut, cross_val_predict

import longlag as ll
from longlag.reservoirs import ridge, rows
from longlag.reservoirs.rows import Rows

DOUBLE = {"dtype": torch.float64, "seed": 1}


def model_of(hidden=20, features=2, outputs=3, reduce=None, **options):
    layer = ll.EchoState(features, hidden, bias_scaling=0.3, leak=0.5, **DOUBLE)
    return ll.SequenceModel(layer, outputs, reduce=reduce, seed=0, **options)


def data_of(batch=4, steps=30, features=2, outputs=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, steps, features, dtype=torch.float64, generator=draw)
    target = torch.randn(batch, steps, outputs, dtype=torch.float64, generator=draw)
    return x, target + x[..., :1].cumsum(1).sin() + 5.0


class Data:
    def __init__(self, x, target, resets):
        self.x, self.target, self.resets, self.lengths = x, target, resets, None


def features_of(model, x):
    h, _ = model.layer(x)
    parts = [h]
    if model.readout.weight_squares is not None:
        parts.append(h.square())
    if model.direct:
        parts.append(x)
    return torch.cat(parts, -1).detach()


def weights_of(model):
    readout = model.readout
    parts = (readout.weight, readout.weight_squares, readout.weight_direct)
    return torch.cat([part for part in parts if part is not None], -1).detach().numpy()


@pytest.mark.parametrize("solver", ["cholesky", "svd", "auto"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"direct": True}, {"squares": True}, {"direct": True, "squares": True}]
)
def test_it_is_ridge_regression(solver, bias, options, monkeypatch):
    monkeypatch.setattr(rows, "NUMBERS", 4 * 20 * 7)  # seven steps at a time
    model, (x, target) = model_of(bias=bias, **options), data_of()
    for alpha in (1e-3, 1.0):
        history = ll.fit(model, (x, target), method=ll.Ridge(alpha, washout=5, solver=solver))
        f, y = (part[:, 5:].flatten(0, 1).numpy() for part in (features_of(model, x), target))
        peer = Peer(alpha, fit_intercept=bias, solver="svd").fit(f, y)
        np.testing.assert_allclose(weights_of(model), peer.coef_, atol=1e-9)
        if bias:
            np.testing.assert_allclose(model.readout.bias.detach(), peer.intercept_, atol=1e-9)
        expected = np.mean((peer.predict(f) - y) ** 2)
        assert history.losses.tolist() == pytest.approx([expected])
        assert len(history.records) == 1


def test_nothing_but_the_readout_changes():
    model, data = model_of(), data_of()
    model.train()
    before = {name: part.clone() for name, part in model.state_dict().items()}
    state = torch.get_rng_state()
    ll.fit(model, data, method=ll.Ridge())
    after = model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "readout.weight", "readout.bias",
    }  # fmt: skip
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_padding_resets_and_missing_targets_do_not_count():
    model, (x, target) = model_of(), data_of(batch=3, steps=40)
    lengths = torch.tensor([40, 17, 0])
    target[0, 20:25] = math.nan
    x[1, 17:], target[1, 17:] = math.nan, math.nan
    ll.fit(model, (x, target, lengths), method=ll.Ridge(0.1, washout=4))
    got = weights_of(model)
    f = features_of(model, x[:2].nan_to_num())
    there = [*((0, t) for t in range(4, 40) if not 20 <= t < 25), *((1, t) for t in range(4, 17))]
    f, y = (np.array([part[at].numpy() for at in there]) for part in (f, target))
    np.testing.assert_allclose(got, Peer(0.1).fit(f, y).coef_, atol=1e-9)


@pytest.mark.parametrize(
    ("lengths", "resets", "partly"),
    [
        (None, None, [(0, 2), (1, 0)]),  # in the washout
        ([30, 17], None, [(1, 17), (1, 29), (0, 3)]),  # and in the padding
        (None, [(0, 12)], [(0, 12), (0, 15), (1, 3)]),  # and in the washout behind a reset
    ],
)
def test_steps_that_do_not_count_may_have_a_part_of_their_targets(lengths, resets, partly):
    model, (x, target) = model_of(), data_of(batch=2)
    data = Data(x, target, None)
    data.lengths = None if lengths is None else torch.tensor(lengths)
    if resets is not None:
        data.resets = torch.zeros(2, 30, dtype=torch.bool)
        data.resets[tuple(zip(*resets, strict=True))] = True
    ll.fit(model, data, method=ll.Ridge(0.1, washout=4))
    expected = weights_of(model)
    for place in partly:
        target[place][1] = math.nan
    ll.fit(model, data, method=ll.Ridge(0.1, washout=4))
    np.testing.assert_allclose(weights_of(model), expected, atol=1e-12)
    target[0, 4, 1] = math.nan
    with pytest.raises(ValueError, match="target: has NaN among the 3 outputs of a step"):
        ll.fit(model, data, method=ll.Ridge(0.1, washout=4))


def test_a_linear_orthogonal_reservoir_holds_as_many_inputs_as_it_has_units():
    task, washout = ll.tasks.MemoryCapacity(delays=40), 200
    layer = ll.EchoState(1, 20, topology="orthogonal", activation="identity", **DOUBLE)
    model = ll.SequenceModel(layer, 40, reduce=None)
    (x, target), (later, past) = task.series(6000, seed=0), task.test_series(6000, seed=0)
    data = (torch.from_numpy(part).unsqueeze(0) for part in (x, target))
    ll.fit(model, tuple(data), method=ll.Ridge(1e-12, washout=washout))
    output = model(torch.from_numpy(later).unsqueeze(0))[0].detach().numpy()
    capacity = task.capacity(output[washout:], past[washout:], chance=1e-4)
    assert 18.5 < capacity < 19.1  # of 20 directions one holds the present input


@pytest.mark.parametrize("numbers", [1, 10**9])
def test_the_washout_begins_anew_with_each_reset(numbers, monkeypatch):
    monkeypatch.setattr(rows, "NUMBERS", numbers)
    model, (x, target) = model_of(), data_of(batch=2, steps=30)
    resets = torch.zeros(2, 30, dtype=torch.bool)
    resets[0, [0, 12]] = True
    resets[1, [3, 5]] = True
    ll.fit(model, Data(x, target, resets), method=ll.Ridge(0.1, washout=4))
    h, _ = model.layer(x, resets=resets)
    there = [*((0, t) for t in [*range(4, 12), *range(16, 30)]), *((1, t) for t in range(9, 30))]
    f, y = (np.array([part[at].numpy() for at in there]) for part in (h, target))
    np.testing.assert_allclose(weights_of(model), Peer(0.1).fit(f, y).coef_, atol=1e-9)


@pytest.mark.parametrize("reduce", ["last", "mean"])
def test_one_output_a_sequence(reduce, monkeypatch):
    monkeypatch.setattr(rows, "NUMBERS", 50)
    model, (x, target) = model_of(reduce=reduce, direct=True), data_of(batch=50)
    lengths = torch.randint(1, 31, (50,), generator=torch.Generator().manual_seed(0))
    ll.fit(model, (x, target[:, 0], lengths), method=ll.Ridge(0.1))
    h, _ = model.layer(x, lengths=lengths)
    inside = (torch.arange(30) < lengths.unsqueeze(-1)).unsqueeze(-1)
    both = torch.cat([h, x * inside], -1)
    if reduce == "last":
        f = both[torch.arange(50), lengths - 1]
    else:
        f = both.sum(1) / lengths.unsqueeze(-1)
    peer = Peer(0.1).fit(f.numpy(), target[:, 0].numpy())
    np.testing.assert_allclose(weights_of(model), peer.coef_, atol=1e-9)
    with pytest.raises(ValueError, match=r"washout: got 3, but the model has one output a sequen"):
        ll.fit(model, (x, target[:, 0]), method=ll.Ridge(0.1, washout=3))


def test_classes_become_numbers():
    model, (x, _) = model_of(hidden=60), data_of(batch=8, steps=60)
    target = (x[:, :, 0] > 0).long() + (x[:, :, 1] > 0).long()
    target[:, :3] = -100
    history = ll.fit(
        model, (x, target), method=ll.Ridge(1e-3), validation=(x, target), metrics="accuracy"
    )
    assert history.records[0].metrics["accuracy"] > 0.8
    f = features_of(model, x)[:, 3:].flatten(0, 1).numpy()
    y = np.eye(3)[target[:, 3:].flatten().numpy()]
    np.testing.assert_allclose(weights_of(model), Peer(1e-3).fit(f, y).coef_, atol=1e-8)


def test_recordings_longer_than_memory():
    x, target = data_of(batch=1, steps=900)
    model = model_of()
    streams = ll.Streams(x[0].numpy(), target[0].numpy())
    ll.fit(model, streams, method=ll.Ridge(0.1, washout=10), batch_size=1)
    f = features_of(model, x)[0, 10:].numpy()
    peer = Peer(0.1).fit(f, target[0, 10:].numpy())
    np.testing.assert_allclose(weights_of(model), peer.coef_, atol=1e-9)


def test_equations_without_a_solution_are_solved_by_singular_values():
    """A delay line and its input twice: columns that are equal to the last bit."""
    layer = ll.EchoState(1, 8, topology="line", spectral_radius=1.0, **DOUBLE)
    twice = ll.SequenceModel(layer, 1, reduce=None, direct=True, seed=0)
    with torch.no_grad():
        layer.weight_ih.fill_(1.0)
        layer.weight_hh.zero_()  # all units are equal
    x, target = data_of(batch=1, steps=200, features=1, outputs=1)
    with pytest.raises(ValueError, match=r"alpha: got 0.0, with which the normal equations have"):
        ll.fit(twice, (x, target), method=ll.Ridge(0.0, solver="cholesky"))
    ll.fit(twice, (x, target), method=ll.Ridge(0.0))
    f, y = features_of(twice, x)[0].numpy(), target[0].numpy()
    least = np.linalg.lstsq(f - f.mean(0), y - y.mean(0), rcond=1e-10)[0].T
    np.testing.assert_allclose(weights_of(twice), least, atol=1e-9)


def test_singular_values_keep_digits_that_the_normal_equations_lose():
    """Features that differ by one part in ten million, and a target that is their difference."""
    draw = torch.Generator().manual_seed(0)
    h = torch.randn(400, 1, dtype=torch.float64, generator=draw)
    other = torch.randn(400, 1, dtype=torch.float64, generator=draw)

    class Given(Rows):
        def __init__(self):
            self.readout = ll.SequenceModel(ll.EchoState(1, 2, **DOUBLE), 1).readout
            self.method, self.washout = "Ridge", 0
            self.model, self.state_noise, self.seed = self.readout, 0.0, 0

        def _pieces(self, output, noise):
            yield rows.Piece(torch.cat([h, h + 1e-7 * other], -1), None, other)

    exact = torch.tensor([[-1e7, 1e7]], dtype=torch.float64)
    fine = ll.Ridge(0.0).solve(Given()).weight
    coarse = ll.Ridge(0.0, solver="cholesky").solve(Given()).weight
    assert float((fine / exact - 1).abs().max()) < 1e-7
    assert float((coarse / exact - 1).abs().max()) > 1e-5


def test_the_estimate_of_the_condition():
    draw = torch.Generator().manual_seed(0)
    for size in (1, 2, 30):
        root = torch.randn(size, size, dtype=torch.float64, generator=draw)
        matrix = root @ root.mT
        inverse = float(torch.linalg.matrix_norm(torch.linalg.inv(matrix), 1))
        estimate = float(ridge._inverse_norm(torch.linalg.cholesky(matrix)))
        assert 0.3 * inverse <= estimate <= 1.0001 * inverse


def test_the_penalty_by_generalised_cross_validation():
    """About what leaving one out finds; exactly the formula."""
    model, (x, target) = model_of(hidden=40, outputs=1), data_of(batch=1, steps=120, outputs=1)
    choices = [10.0**k for k in range(-6, 4)]
    f, y = features_of(model, x)[0].numpy(), target[0, :, 0].numpy()

    def formula(alpha):
        centred = f - f.mean(0)
        hat = centred @ np.linalg.solve(
            centred.T @ centred + alpha * np.eye(40), centred.T
        ) + 1 / len(f)
        return len(f) * np.sum((y - hat @ y) ** 2) / (len(f) - np.trace(hat)) ** 2

    def left_out(alpha):
        return np.mean((cross_val_predict(Peer(alpha), f, y, cv=LeaveOneOut()) - y) ** 2)

    best = min(choices, key=formula)
    ll.fit(model, (x, target), method=ll.Ridge(choices))
    np.testing.assert_allclose(weights_of(model)[0], Peer(best).fit(f, y).coef_, atol=1e-9)
    assert left_out(best) < 1.05 * min(map(left_out, choices))
    ll.fit(model, (x, target), method=ll.Ridge(None))
    near = Peer(best).fit(f, y).predict(f)
    assert np.corrcoef(near.ravel(), model(x)[0].detach().numpy().ravel())[0, 1] > 0.9
    with pytest.warns(RuntimeWarning, match=r"alpha: the best of 3 is the least, 1e\+05"):
        ll.fit(model, (x, target), method=ll.Ridge([1e5, 1e6, 1e7]))


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model, data = model_of(squares=True, direct=True), data_of()
    ll.fit(model, data, method=ll.Ridge())
    ll.save(model, tmp_path / "model")
    again = ll.load(tmp_path / "model")
    assert torch.equal(model.eval()(data[0]), again(data[0]))


@pytest.mark.parametrize("reduce", [None, "last", "mean"])
def test_a_reservoir_in_both_directions(reduce):
    ahead, back = (ll.EchoState(2, 10, dtype=torch.float64, seed=seed) for seed in (1, 2))
    model = ll.SequenceModel(ll.Bidirectional(ahead, back), 3, reduce=reduce, direct=True)
    x, target = data_of(batch=40)
    lengths = torch.randint(1, 31, (40,), generator=torch.Generator().manual_seed(0))
    target = target if reduce is None else target[:, 0]
    ll.fit(model, (x, target, lengths), method=ll.Ridge(0.1))
    h, read, _ = model.what_is_read(x, None, lengths)
    f = torch.cat([h, read], -1)
    if reduce is None:
        inside = torch.arange(30) < lengths.unsqueeze(-1)
        f, target = f[inside], target[inside]
    peer = Peer(0.1).fit(f.detach().numpy(), target.numpy())
    np.testing.assert_allclose(weights_of(model), peer.coef_, atol=1e-9)


def test_any_layer_has_a_readout_to_fit():
    x, target = data_of()
    x, target = x.float(), target.float()
    for layer in (ll.GRU(2, 8, seed=0), ll.Stack(ll.EchoState(2, 9, seed=0), ll.Elman(9, 8))):
        model = ll.SequenceModel(layer, 3, reduce=None)
        before = ll.fit(model, (x, target), method=ll.Ridge(1e6)).losses[0]
        assert ll.fit(model, (x, target), method=ll.Ridge(1e-3)).losses[0] < before


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: ll.EchoState(2, 9), {}, "model: .* fits the linear readout of ll.SequenceModel"),
        (lambda: model_of(output_activation="tanh"), {}, "model: .* output_activation='tanh'"),
        (model_of, {"epochs": 3}, "epochs: got 3, but .* fits the readout in one step; leave it"),
        (model_of, {"clip_norm": 1.0}, "clip_norm: got 1.0"),
        (model_of, {"checkpoint": "run"}, "checkpoint: got 'run'"),
        (lambda: model_of(outputs=2), {}, r"target: got \(4, 30, 3\), expected \(4, 30, 2\)"),
    ],
)
def test_what_does_not_fit_is_named(make, options, message):
    model = make()
    before = {name: part.clone() for name, part in model.state_dict().items()}
    with pytest.raises((TypeError, ValueError), match=message):
        ll.fit(model, data_of(), method=ll.Ridge(), **options)
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "alpha: got -1, expected a number at least 0.0"),
        ({"alpha": []}, "alpha: got no number"),
        ({"washout": -1}, "washout: got -1, expected at least 0"),
        ({"solver": "qr"}, "solver: got 'qr', expected 'auto', 'cholesky' or 'svd'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        ll.Ridge(**options)


def test_data_that_cannot_be_fitted():
    model, (x, target) = model_of(), data_of()
    with pytest.raises(ValueError, match="found no step with a target behind the washout of 30"):
        ll.fit(model, (x, target), method=ll.Ridge(washout=30))
    partly = target.clone()
    partly[0, 3, 1] = math.nan
    with pytest.raises(ValueError, match="target: has NaN among the 3 outputs of a step"):
        ll.fit(model, (x, partly), method=ll.Ridge())
    with pytest.raises(ValueError, match="found a state or an input that is not finite"):
        ll.fit(model, (x * math.inf, target), method=ll.Ridge())
