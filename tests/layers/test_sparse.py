"""A sparse recurrent matrix: its entries, their numbers, and that it is what it stands for."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn

import longlag as ll
from longlag import init
from longlag.memory import spectral_facts
from longlag.scan.connections import Entries
from longlag.storage import ArchiveError

LAYERS = [
    pytest.param(lambda **options: ll.Elman(3, 37, **options), id="Elman"),
    pytest.param(lambda **options: ll.GRU(2, 19, **options), id="GRU"),
    pytest.param(lambda **options: ll.LSTM(2, 9, peepholes=True, **options), id="LSTM"),
    pytest.param(lambda **options: ll.Skip(3, 20, delays=(1, 3), **options), id="Skip"),
    pytest.param(lambda **options: ll.Clockwork(3, 24, **options), id="Clockwork"),
]
DOUBLE = {"dtype": torch.float64, "seed": 1}


def dense_twin(layer, make, **options):
    """The same network with its W as a dense matrix."""
    dense = make(**DOUBLE, **options)
    weights = {**layer.state_dict(), "weight_hh": layer.recurrent_matrix().detach()}
    for name in ("weight_hh_indptr", "weight_hh_indices"):
        weights.pop(name)
    dense.load_state_dict(weights)
    return dense


def outcome(layer, x, **options):
    """Output and gradients of a pass, that of W as a matrix."""
    x = x.clone().requires_grad_()
    output, state = layer(x, **options)
    states = state[: len(layer.recurrence.states)]
    (output.square().sum() + sum(final.sin().sum() for final in states)).backward()
    grads = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"output": output.detach(), "x": x.grad, **grads}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("make", LAYERS)
def test_it_equals_the_dense_matrix_that_it_stands_for(make, backend):
    for replicas, batch in ((None, 1), (None, 7), (2, 5)):
        options = {"replicas": replicas, "backend": backend}
        layer = make(density=0.3, **DOUBLE, **options)
        dense = dense_twin(layer, make, replicas=replicas, backend="reference")
        generator = torch.Generator().manual_seed(0)
        front = (batch,) if replicas is None else (replicas, batch)
        x = torch.randn(*front, 11, layer.input_size, dtype=torch.float64, generator=generator)
        schedule = {
            "lengths": torch.randint(0, 12, front, generator=generator),
            "resets": torch.rand(*front, 11, generator=generator) < 0.1,
        }
        mine, other = outcome(layer, x, **schedule), outcome(dense, x, **schedule)
        other["weight_hh"] = layer.entries.values(other["weight_hh"])
        for name, value in mine.items():
            torch.testing.assert_close(value, other[name], rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.slow
def test_on_two_threads_and_in_float32():
    layer = ll.Elman(4, 300, density=0.1, seed=0)
    x = torch.randn(64, 50, 4, generator=torch.Generator().manual_seed(0))
    other = copy.deepcopy(layer)
    other.backend = "reference"
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        mine = outcome(layer, x)
    finally:
        torch.set_num_threads(threads)
    for name, value in outcome(other, x).items():
        torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-3, msg=name)


def test_recurrent_dropout_is_the_same():
    layer = ll.LSTM(2, 16, density=0.5, recurrent_dropout=0.3, **DOUBLE)
    x = torch.randn(3, 6, 2, dtype=torch.float64)
    outputs = []
    for backend in ("reference", "cpu"):
        layer.backend = backend
        torch.manual_seed(3)
        outputs.append(layer(x)[0])
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


def test_another_default_device_changes_nothing():
    layer, x = ll.Elman(2, 8, density=0.5, seed=0), torch.ones(3, 4, 2)
    other = copy.deepcopy(layer)
    expected = outcome(layer, x)
    with torch.device("meta"):
        found = outcome(other, x)
    assert all(map(torch.equal, expected.values(), found.values()))


@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (4, 0)])
def test_nothing_to_read(steps, batch):
    layer = ll.Elman(2, 8, density=0.5, seed=0)
    output, _ = layer(torch.zeros(batch, steps, 2))
    output.sum().backward()
    assert output.shape == (batch, steps, 8)
    assert layer.weight_hh.grad.shape == layer.weight_hh.shape
    assert not layer.weight_hh.grad.any()


def test_second_derivatives():
    layer = ll.Elman(2, 5, density=0.4, **DOUBLE)
    x = torch.randn(1, 3, 2, dtype=torch.float64)

    def run(values):
        return torch.func.functional_call(layer, {"weight_hh": values}, (x,))[0]

    values = layer.weight_hh.detach().requires_grad_()
    assert torch.autograd.gradgradcheck(run, values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        ll.CheckpointedBPTT(budget=6),
        ll.TruncatedBPTT(k1=9, k2=9),
        ll.RTRL(),
    ],
    ids=lambda method: type(method).__name__,
)
@pytest.mark.parametrize("make", LAYERS)
def test_gradient_methods_agree(make, method):
    layer = make(density=0.4, **DOUBLE)
    model = ll.SequenceModel(layer, 2, reduce=None, seed=0).double()
    x, target = torch.randn(3, 9, layer.input_size, dtype=torch.float64), torch.randn(3, 9, 2)
    target = target.double()
    exact = ll.BPTT().gradients(model, x, target, nn.functional.mse_loss)
    for name, gradient in method.gradients(model, x, target, nn.functional.mse_loss).items():
        torch.testing.assert_close(gradient, exact[name], rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.slow
def test_omega_and_terms_by_lag_are_those_of_the_dense_matrix():
    make = LAYERS[0].values[0]
    layer = make(density=0.3, **DOUBLE)
    dense = dense_twin(layer, make)
    x, target = torch.randn(2, 6, 3, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    results = []
    for one in (layer, dense):
        model = ll.SequenceModel(one, 2, reduce="last", seed=0).double()
        omega = ll.Omega(0.7).gradients(model, x, target, nn.functional.mse_loss)
        report = ll.memory_report(model, x, target, loss=nn.functional.mse_loss)
        results.append((omega["layer.weight_hh"], report))
    (mine, report), (other, dense_report) = results
    torch.testing.assert_close(mine, layer.entries.values(other), rtol=1e-10, atol=1e-12)
    assert report.horizon == dense_report.horizon
    norms, dense_norms = report.jacobian_norms, dense_report.jacobian_norms
    torch.testing.assert_close(norms.largest.mean, dense_norms.largest.mean)


@pytest.mark.slow
def test_spectral_facts_are_those_of_the_matrix():
    layer = ll.Elman(2, 450, density=0.05, seed=0, dtype=torch.float64)
    matrix = layer.recurrent_matrix().detach()
    (facts,) = spectral_facts(layer).matrices.values()
    torch.testing.assert_close(facts.radius, torch.linalg.eigvals(matrix).abs().max())
    torch.testing.assert_close(facts.norm, torch.linalg.matrix_norm(matrix, 2))


def test_each_unit_reads_its_share():
    layer = ll.LSTM(2, 40, density=0.1, seed=0)
    assert layer.entries.indptr.diff().tolist() == [4] * 160
    assert layer.density == pytest.approx(0.1)
    assert layer.weight_hh.shape == (640,)
    assert ll.Elman(2, 40, density=1e-9).weight_hh.shape == (40,)
    other = ll.LSTM(2, 40, density=0.1, seed=1)
    assert not torch.equal(layer.weight_hh_indices, other.weight_hh_indices)
    again = ll.LSTM(2, 40, density=0.1, seed=0)
    assert all(map(torch.equal, layer.state_dict().values(), again.state_dict().values()))


def test_a_pattern_leaves_its_blocks_out():
    layer = ll.Clockwork(2, 16, periods=(1, 2), density=0.5, seed=0)
    matrix = layer.recurrent_matrix()
    assert not matrix[8:, :8].any()
    assert (matrix != 0).sum(1).tolist() == [8] * 8 + [4] * 8


def test_the_entries_that_are_given():
    ring = torch.roll(torch.eye(6, dtype=torch.bool), 1, dims=0)
    layer = ll.Elman(1, 6, density=ring, weight_hh_init=init.Identity(), seed=0)
    assert not layer.weight_hh.any()
    layer = ll.Elman(1, 6, density=ring, weight_hh_init=init.SpectralRadius(0.8), seed=0)
    matrix = layer.recurrent_matrix().detach()
    assert torch.equal(matrix != 0, ring)
    assert init.spectral_radius(matrix) == pytest.approx(0.8)


def test_numbers_that_depend_on_the_width_are_larger():
    """Rows keep, on average, the norm that they have in the dense matrix."""
    matrix = ll.Elman(1, 200, density=0.1, seed=0).recurrent_matrix()
    assert float(matrix.detach().square().sum(1).mean()) == pytest.approx(1.0, abs=0.1)
    matrix = ll.Elman(1, 200, density=0.1, weight_hh_init=init.Uniform(-1, 1), seed=0)
    assert 0.95 < float(matrix.weight_hh.detach().abs().max()) <= 1.0


@pytest.mark.parametrize(
    ("density", "error", "message"),
    [
        (0.0, ValueError, "got 0.0, expected a fraction in"),
        (1.5, ValueError, "got 1.5, expected a fraction in"),
        ("0.1", TypeError, "got '0.1' (str), expected None, a fraction or a boolean matrix"),
        (True, TypeError, "expected None, a fraction or a boolean matrix"),
        (torch.ones(3, 4, dtype=torch.bool), ValueError, "got (3, 4) of torch.bool"),
        (torch.ones(4, 4), ValueError, "got (4, 4) of torch.float32"),
        (torch.zeros(4, 4, dtype=torch.bool), ValueError, "without an entry that is there"),
    ],
)
def test_densities_without_meaning(density, error, message):
    with pytest.raises(error) as caught:
        ll.Elman(2, 4, density=density)
    assert str(caught.value).startswith("density: ")
    assert message in str(caught.value)


def test_a_cell_without_a_matrix_has_no_density():
    with pytest.raises(ValueError, match=r"density: got 0\.5, but IndRNN has no recurrent matrix"):
        ll.IndRNN(2, 4, density=0.5)


def test_saved_and_loaded_with_its_entries(tmp_path):
    there = torch.zeros(6, 6, dtype=torch.bool)
    there[0, 1] = there[0, 5] = there[3, 3] = True
    for density in (0.5, there):
        layer = ll.Elman(2, 6, density=density, seed=0)
        layer.weight_hh.requires_grad_(False)
        ll.save(layer, tmp_path / "model.longlag")
        loaded = ll.load(tmp_path / "model.longlag")
        assert torch.equal(loaded.recurrent_matrix(), layer.recurrent_matrix())
        assert not loaded.weight_hh.requires_grad
        assert loaded.bias.requires_grad
        x = torch.randn(2, 3, 2)
        assert torch.equal(loaded(x)[0], layer(x)[0])


def test_a_file_with_entries_outside_the_matrix_is_refused(tmp_path):
    layer = ll.Elman(2, 6, density=0.5, seed=0)
    layer.weight_hh_indices[2] = 1 << 40
    ll.save(layer, tmp_path / "model.longlag")
    with pytest.raises(ArchiveError, match=r"indices: expected columns in 0 \.\. 5"):
        ll.load(tmp_path / "model.longlag")


def test_entries_changed_in_place_are_looked_at_again():
    layer = ll.Elman(2, 6, density=0.5, seed=0)
    x = torch.randn(1, 3, 2)
    layer(x)
    layer.weight_hh_indices[2] = -1
    with pytest.raises(ValueError, match="indices: expected columns"):
        layer(x)


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 1, 1], [0.0], "indices: got (1,) of torch.float32, expected int64"),
        ([0, 1, 1, 1], [0], "indptr: got 3 rows, expected a multiple of 2"),
        ([0, 2, 1], [0], "indptr: expected numbers that rise from 0 to the 1 entries"),
        ([1, 1, 1], [0], "indptr: expected numbers that rise from 0"),
        ([0, 1, 1], [2], "indices: expected columns in 0 .. 1"),
        ([0, 2, 2], [1, 0], "indices: expected columns that rise within each row"),
        ([0, 2, 2], [1, 1], "indices: expected columns that rise within each row"),
    ],
)
def test_rows_that_are_no_matrix(indptr, indices, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Entries(torch.tensor(indptr), torch.tensor(indices), 2)


def test_copies_and_pickles():
    layer = ll.Elman(2, 6, density=0.5, seed=0)
    x = torch.randn(2, 3, 2)
    output = layer(x)[0]
    assert torch.equal(copy.deepcopy(layer)(x)[0], output)
    entries = pickle.loads(pickle.dumps(layer.entries))  # noqa: S301
    assert torch.equal(entries.places, layer.entries.places)


def test_it_trains_and_what_is_frozen_stays():
    x = torch.randn(64, 8, 2, generator=torch.Generator().manual_seed(0))
    y = x.cumsum(1).sum(-1, keepdim=True) / 4
    for trained in (True, False):
        layer = ll.Elman(2, 24, density=0.2, seed=0)
        layer.weight_hh.requires_grad_(trained)
        model = ll.SequenceModel(layer, 1, reduce=None, seed=0)
        before = layer.weight_hh.detach().clone()
        history = ll.fit(model, (x, y), epochs=5, batch_size=16, seed=0, progress=False)
        assert history.losses[-4:].mean() < history.losses[:4].mean()
        assert torch.equal(layer.weight_hh, before) != trained


def test_torch_nn_has_no_such_layer():
    with pytest.raises(ValueError, match="entries that are not there"):
        ll.Elman(2, 6, density=0.5).to_torch()
