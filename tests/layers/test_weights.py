"""W rounded to bfloat16 when it is read: the network whose W is so, whatever runs it."""

import copy

import pytest
import torch
from tests.scan import cases
from torch.autograd import forward_ad

import longlag as ll
from longlag.layers.built_in import LAYERS
from longlag.recurrence import sigmoid, tanh
from longlag.scan.cpu.call import find_shape
from longlag.scan.inputs import FULL

WITHIN = 3e-6
"""Of float32, relative to the largest number of each result."""

ROUNDED = sorted(
    name
    for name, cell in cases.CELLS.items()
    if cell.recurrence.dense_gates and not cell.recurrence.constrained
)
FEW = ("Clockwork", "Elman", "GRU before", "LSTM", "Mixed", "Wired")


def rounded(tensor):
    return tensor.to(torch.bfloat16).to(tensor.dtype)


def layer_of(name, hidden=37, **options):
    """A layer of moderate weights, and one in float64 whose W has the rounded numbers."""
    cell = cases.CELLS[name]
    size = cases.hidden_of(cell, hidden)
    layer = cases.layer_of(cell, 3, size, dtype=torch.float32, weights="bfloat16", **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.2)
    plain = copy.deepcopy(layer)
    plain.weights = None
    with torch.no_grad():
        plain.weight_hh.copy_(rounded(plain.weight_hh))
    return layer, plain.double()


def check(layer, plain, x, state=None, backends=cases.BACKENDS, **schedule):
    wide = None if state is None else [part.double() for part in state]
    wanted = cases.run(plain, x.double(), wide, "reference", **schedule)
    for backend in backends:
        found = cases.run(layer, x, state, backend, **schedule)
        found = {name: part.double() for name, part in found.items()}
        cases.assert_same(found, wanted, WITHIN)
        assert layer.backend_used == backend


@pytest.mark.parametrize("rows", [1, 2, 3, 6])
@pytest.mark.parametrize("hidden", [40, 130])
def test_it_is_the_plain_loop_over_a_rounded_w(rows, hidden):
    layer = ll.Elman(3, hidden, weights="bfloat16", seed=0)
    x, h = cases.random(rows, 9, 3).float(), torch.zeros(rows, hidden, dtype=torch.float64)
    u, w, b = layer.weight_ih.double(), rounded(layer.weight_hh).double(), layer.bias.double()
    wanted = []
    for step in x.double().unbind(1):
        h = torch.tanh(step @ u.T + h @ w.T + b)
        wanted.append(h)
    wanted = torch.stack(wanted, 1)
    for backend in ("auto", *cases.BACKENDS):
        layer.backend = backend
        torch.testing.assert_close(layer(x)[0].double(), wanted, rtol=0, atol=1e-6)
    layer.backend, layer.weights = "auto", None
    with torch.no_grad():
        assert float((layer(x)[0] - wanted).abs().max()) > 1e-4


@pytest.mark.every_cell
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    "name",
    [*FEW, *(pytest.param(n, marks=pytest.mark.slow) for n in ROUNDED if n not in FEW)],
)
def test_every_cell_and_all_gradients(name, rows):
    layer, plain = layer_of(name)
    check(layer, plain, cases.random(rows, 7, 3).float())


@pytest.mark.parametrize("name", ["Elman", "GRU", "Wired"])
@pytest.mark.parametrize("rows", [1, 3, 6])
def test_states_lengths_and_resets(name, rows):
    layer, plain = layer_of(name)
    x = cases.random(rows, 8, 3).float()
    state = [part.float() for part in cases.states_of(layer.cell, (rows,), layer.hidden_size)]
    lengths = torch.tensor([8, 3, 0, 5, 8, 1])[:rows]
    resets = torch.zeros(rows, 8, dtype=torch.bool)
    resets[0, [2, 5]] = True
    check(layer, plain, x, state, lengths=lengths, resets=resets)


@pytest.mark.parametrize("name", ["Elman", "LSTM"])
def test_replicas_and_dilations(name):
    layer, plain = layer_of(name, replicas=2)
    check(layer, plain, cases.random(2, 1, 6, 3).float())
    layer, plain = layer_of(name, dilation=3)
    for rows in (1, 2):
        check(layer, plain, cases.random(rows, 11, 3).float())


def test_threads_that_share_the_units_of_one_sequence(monkeypatch):
    monkeypatch.setattr("longlag.scan.cpu.shape.MEETING", 1)
    monkeypatch.setattr("longlag.scan.cpu.shape.SMALL", 1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for name in ("Elman", "GRU"):
            layer, plain = layer_of(name, 150)
            x = cases.random(1, 7, 3).float()
            shape = find_shape(layer.recurrence, x.movedim(1, 0), layer.scan_weights(), None, FULL)
            assert shape.plan.team
            assert shape.plan.halves
            check(layer, plain, x, backends=("cpu",))
    finally:
        torch.set_num_threads(threads)


def test_a_cell_of_ones_own():
    class Own(ll.Cell):
        """Two matrices a unit."""

        state = ("h", "m")
        gates = ("a", "b")

        def update(self, pre, state, unit):
            m = sigmoid(pre.b) * state.m + tanh(pre.a)
            return {"h": tanh(m), "m": m}

    layer = ll.Recurrent(Own(), 3, 50, weights="bfloat16", seed=0)
    plain = copy.deepcopy(layer)
    plain.weights = None
    with torch.no_grad():
        plain.weight_hh.copy_(rounded(plain.weight_hh))
    check(layer, plain.double(), cases.random(2, 9, 3).float())


def test_which_tensors_are_kept_in_two_bytes():
    # Four rows a thread are enough: with 4 or more for each, whatever number of threads is taken.
    for rows, halves in ((1, True), (3, True), (4 * torch.get_num_threads(), False)):
        layer = ll.Elman(3, 64, weights="bfloat16")
        x = torch.zeros(5, rows, 3)
        shape = find_shape(layer.recurrence, x, layer.scan_weights(), None, FULL)
        assert shape.plan.halves == shape.plan_back.halves == halves
        layer.weights = None
        shape = find_shape(layer.recurrence, x, layer.scan_weights(), None, FULL)
        assert not shape.plan.halves


def test_what_is_stored_is_not_rounded_and_small_updates_add_up():
    layer = ll.Elman(2, 20, weights="bfloat16", seed=0)
    before = layer.weight_hh.detach().clone()
    assert bool((rounded(before) != before).any())
    x, optimizer = torch.randn(1, 6, 2), torch.optim.SGD(layer.parameters(), 1e-5)
    first = layer(x)[0].detach()
    for _ in range(3):
        optimizer.zero_grad()
        layer(x)[0].square().sum().backward()
        optimizer.step()
        assert torch.equal(layer.weight_hh.grad, layer.weight_hh.grad.float())
    moved = layer.weight_hh.detach() - before
    assert float(moved.abs().max()) > 0
    assert bool((rounded(before + moved / 3) == rounded(before)).any())
    with torch.no_grad():
        layer.weight_hh.add_(0.5)
    assert not torch.equal(layer(x)[0], first)


@pytest.mark.parametrize("how", ["step", "no_grad", "data", "load", "numpy", "set"])
def test_a_change_of_w_is_seen_at_the_next_call(how):
    """However it was made: no call trusts what another has packed."""
    layer, other = (ll.GRU(2, 33, weights="bfloat16", seed=seed) for seed in (0, 1))
    x = torch.randn(1, 5, 2)
    with torch.no_grad():
        layer(x)
    if how == "step":
        optimizer = torch.optim.SGD(layer.parameters(), 1.0)
        layer(x)[0].sum().backward()
        optimizer.step()
    elif how == "no_grad":
        with torch.no_grad():
            layer.weight_hh.copy_(other.weight_hh)
    elif how == "data":
        layer.weight_hh.data = other.weight_hh.data.clone()
        layer.weight_hh.data.mul_(0.5)
    elif how == "load":
        layer.load_state_dict(other.state_dict())
    elif how == "numpy":
        layer.weight_hh.detach().numpy()[:] = 0.25
    else:
        layer.weights = None
    fresh = ll.GRU(2, 33, weights=layer.weights)
    fresh.load_state_dict(layer.state_dict())
    with torch.no_grad():
        assert torch.equal(layer(x)[0], fresh(x)[0])


def test_it_trains():
    x = torch.randn(40, 12, 2, generator=torch.Generator().manual_seed(0))
    target = x.cumsum(1)[:, -1, :1].tanh()
    model = ll.SequenceModel(ll.GRU(2, 24, weights="bfloat16", seed=0), 1, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    data = (x, target)
    history = ll.fit(model, data, optimizer=optimizer, epochs=30, batch_size=8, progress=False)
    assert history.step == "eager"
    assert "rounded to bfloat16" in history.reason
    with torch.no_grad():
        assert float((model(x) - target).square().mean()) < 0.05


def test_saved_and_loaded(tmp_path):
    model = ll.SequenceModel(
        ll.Stack(ll.Elman(2, 20, weights="bfloat16", seed=0), ll.LSTM(20, 17, seed=1)), 1, seed=2
    )
    ll.save(model, tmp_path / "model.longlag")
    loaded = ll.load(tmp_path / "model.longlag")
    assert [layer.weights for layer in loaded.layer.layers] == ["bfloat16", None]
    assert "weights='bfloat16'" in repr(loaded.layer)
    assert torch.equal(loaded.layer.layers[0].weight_hh, model.layer.layers[0].weight_hh)
    x = torch.randn(1, 6, 2)
    assert torch.equal(loaded(x), model.eval()(x))
    copied = copy.deepcopy(loaded)
    assert copied.layer.layers[0].weights == "bfloat16"
    plain = ll.GRU(2, 20, seed=0)
    assert "weights" not in plain.config()
    ll.save(plain, tmp_path / "plain.longlag")
    later = ll.load(tmp_path / "plain.longlag")
    later.weights = "bfloat16"
    assert torch.equal(later(x)[0], ll.GRU(2, 20, weights="bfloat16", seed=0)(x)[0])


def test_an_echo_state_layer(tmp_path):
    layer = ll.EchoState(1, 40, density=1.0, weights="bfloat16", seed=0)
    ll.save(layer, tmp_path / "echo.longlag")
    x = torch.randn(1, 6, 1)
    loaded = ll.load(tmp_path / "echo.longlag")
    assert loaded.weights == "bfloat16"
    assert torch.equal(loaded(x)[0], layer(x)[0])
    layer.weights = None
    assert not torch.equal(loaded(x)[0], layer(x)[0])


@pytest.mark.parametrize("name", ["Elman", "GRU", "LSTM"])
@pytest.mark.parametrize("batch", [None, 2, 8])
def test_a_stream_gives_the_same(name, batch):
    layer = LAYERS[name](3, 48, weights="bfloat16", seed=0)
    stream, rows = ll.Stream(layer, batch), batch or 1
    assert stream.reason is None
    x = torch.randn(rows, 300, 3)
    steps = x[0] if batch is None else x
    with torch.no_grad():
        wanted = layer(x)[0]
        wanted = wanted[0] if batch is None else wanted
    ours = torch.stack([stream(step) for step in steps.unbind(-2)], -2)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-6)
    stream.reset()
    torch.testing.assert_close(stream.block(steps), wanted, rtol=0, atol=2e-6)
    with torch.no_grad():
        layer.weight_hh.zero_()  # a stream has its weights from when it was made
    stream.reset()
    torch.testing.assert_close(stream.block(steps), wanted, rtol=0, atol=2e-6)


def test_a_state_is_for_streams_of_the_same_rounding(tmp_path):
    layer = ll.Elman(2, 20, seed=0)
    ll.Stream(layer).save(tmp_path / "state.longlag")
    layer.weights = "bfloat16"
    with pytest.raises(ll.storage.ArchiveError, match="another model"):
        ll.Stream(layer).load(tmp_path / "state.longlag")


def test_every_method_finds_the_gradients_of_the_rounded_network():
    layer, plain = (
        ll.SequenceModel(ll.LSTM(2, 18, weights=weights, seed=0), 1, reduce=None, seed=1)
        for weights in ("bfloat16", None)
    )
    with torch.no_grad():
        plain.layer.weight_hh.copy_(rounded(plain.layer.weight_hh))
    x, target = torch.randn(2, 9, 2), torch.randn(2, 9, 1)
    wanted = ll.BPTT().gradients(
        plain.double(), x.double(), target.double(), torch.nn.functional.mse_loss
    )
    for method in (
        ll.BPTT(), ll.RTRL(), ll.CheckpointedBPTT(3), ll.TruncatedBPTT(9, 9),
    ):  # fmt: skip
        found = method.gradients(layer, x, target, torch.nn.functional.mse_loss)
        found = {name: part.double() for name, part in found.items()}
        cases.assert_same(found, wanted, 1e-5)


@pytest.mark.filterwarnings("ignore::longlag.scan.backend.BackendWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, in forward mode
def test_jacobians_transforms_and_second_derivatives():
    layer, plain = layer_of("GRU")
    x = cases.random(1, 5, 3)
    torch.testing.assert_close(
        ll.state_jacobians(layer, x.float()).double(), ll.state_jacobians(plain, x),
        rtol=0, atol=1e-5,
    )  # fmt: skip

    def second(network, dtype):
        given = x.to(dtype).requires_grad_()
        (first,) = torch.autograd.grad(
            network(given)[0].sum(), network.weight_hh, create_graph=True
        )
        by_x, by_w = torch.autograd.grad(first.square().sum(), (given, network.weight_hh))
        return {"x": by_x.double(), "w": by_w.double()}

    for backend in cases.BACKENDS:
        layer.backend = backend
        cases.assert_same(second(layer, torch.float32), second(plain, torch.float64), 1e-5)
    layer.backend = "auto"
    parameters = dict(layer.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x,))[0].square().sum()

    sequences = cases.random(4, 1, 5, 3).float()
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, sequences)
    for number, sequence in enumerate(sequences):
        layer.zero_grad()
        layer(sequence)[0].square().sum().backward()
        torch.testing.assert_close(
            each["weight_hh"][number], layer.weight_hh.grad, rtol=0, atol=1e-4
        )
    tangent = torch.ones_like(layer.weight_hh)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(layer.weight_hh.detach(), tangent)
        along = forward_ad.unpack_dual(loss({**parameters, "weight_hh": dual}, sequences[0]))
    torch.testing.assert_close(along.tangent, each["weight_hh"][0].sum(), rtol=1e-4, atol=1e-4)


def test_a_weight_that_is_computed_is_rounded_too():
    layer = ll.Elman(2, 20, weights="bfloat16", seed=0)
    torch.nn.utils.parametrizations.spectral_norm(layer, "weight_hh")
    layer.eval()
    plain = ll.Elman(2, 20, seed=0)
    plain.load_state_dict(
        {name: getattr(layer, name).detach() for name in ("weight_ih", "weight_hh", "bias")}
    )
    with torch.no_grad():
        plain.weight_hh.copy_(rounded(plain.weight_hh))
    x = torch.randn(1, 7, 2)
    torch.testing.assert_close(layer(x)[0], plain(x)[0], rtol=0, atol=1e-6)
    layer(x)[0].sum().backward()
    assert layer.parametrizations.weight_hh.original.grad is not None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ll.Elman(2, 3, weights="bf16"), "expected None or 'bfloat16'"),
        (lambda: ll.Elman(2, 3, weights="bfloat16", dtype=torch.float64), "float64; give dtype="),
        (lambda: ll.Elman(2, 3, weights="bfloat16", dtype=torch.bfloat16), "torch.bfloat16; give"),
        (lambda: ll.LSTM(2, 9, weights="bfloat16", density=0.5), "W is sparse; leave out density"),
        (lambda: ll.EchoState(2, 9, weights="bfloat16"), "give 1.0 to an EchoState"),
        (lambda: ll.IndRNN(2, 3, weights="bfloat16"), "IndRNN has no recurrent matrix W"),
        (lambda: ll.Antisymmetric(2, 3, weights="bfloat16"), "keeps W antisymmetric"),
        (lambda: ll.Elman(2, 3, weights="bfloat16").double()(torch.zeros(1, 2, 2).double()),
         "float64; give dtype=torch.float32, or use layer.float()"),
        (lambda: ll.Elman(2, 3, weights="bfloat16").to_torch(), "set weights = None"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_learners_that_change_weights_in_place_refuse_it():
    model = ll.SequenceModel(ll.Elman(2, 3, weights="bfloat16"), 1, reduce=None)
    for method in (ll.chunker.OnlineRTRL(),):
        with pytest.raises(ValueError, match="reads its W rounded to bfloat16"):
            method.start(model, 0.1)
