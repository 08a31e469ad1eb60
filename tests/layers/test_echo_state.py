"""Echo state networks: their states, how their weights are drawn, that they stay, and saving."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import longlag as ll
from longlag import topology
from longlag.layers.init import spectral_radius
from longlag.storage import ArchiveError, read_archive, write_archive

TOPOLOGIES = ("random", "ring", "line", "small-world", "orthogonal", "clusters")
DOUBLE = {"dtype": torch.float64, "seed": 3}


def states_of(layer, x):
    """The states by a plain loop of NumPy."""
    w = layer.recurrent_matrix().numpy()
    u, a = layer.weight_ih.numpy(), layer.unit("leak").numpy()
    b = 0.0 if layer.bias is None else layer.bias.numpy()
    h, states = np.zeros(len(w)), []
    for step in x:
        h = (1 - a) * h + a * np.tanh(u @ step + w @ h + b)
        states.append(h)
    return np.array(states)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_states_are_those_of_the_equation(name):
    layer = ll.EchoState(
        2, 40, topology=name, leak=0.3, bias_scaling=0.5, feedback_size=1, **DOUBLE
    )
    x = torch.randn(25, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    output, state = layer(x.unsqueeze(0))
    np.testing.assert_allclose(output[0], states_of(layer, x.numpy()), atol=1e-13)
    np.testing.assert_allclose(state.h[0], output[0, -1], atol=0)


@pytest.mark.parametrize(("density", "topology"), [(1.0, "random"), (0.2, "random"), (0.1, "ring")])
def test_with_a_proximity_it_is_the_edge_of_stability_network(tmp_path, density, topology):
    """h = beta tanh(rho W h + U x + b) + (1 - beta) O h, in a plain loop."""
    options = {"density": density, "topology": topology, "bias_scaling": 0.5, **DOUBLE}
    layer = ll.EchoState(2, 30, proximity=0.2, **options)
    w, o = layer.recurrent_matrix().numpy().reshape(2, 30, 30)
    np.testing.assert_allclose(o @ o.T, np.eye(30), atol=1e-13)
    assert np.abs(np.linalg.eigvals(w)).max() == pytest.approx(0.9)
    u, b = layer.weight_ih.numpy(), layer.bias.numpy()
    assert not u[30:].any()
    assert not b[30:].any()
    x = torch.randn(3, 25, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h, states = np.zeros((3, 30)), []
    for step in x.numpy().swapaxes(0, 1):
        h = 0.2 * np.tanh(step @ u[:30].T + h @ w.T + b[:30]) + 0.8 * h @ o.T
        states.append(h)
    output, _ = layer(x)
    assert layer.backend_used == "cpu"
    np.testing.assert_allclose(output, np.stack(states, 1), atol=1e-13)
    radius = np.abs(np.linalg.eigvals(0.2 * w + 0.8 * o)).max()
    assert layer.effective_spectral_radius() == pytest.approx(radius)
    ll.save(layer, tmp_path / "reservoir")
    again = ll.load(tmp_path / "reservoir")
    assert repr(again) == repr(layer)
    assert torch.equal(again(x)[0], output)
    assert again.reset_parameters(5) is None
    o = again.recurrent_matrix()[30:]
    torch.testing.assert_close(o @ o.T, torch.eye(30, dtype=torch.float64))


def test_replicas_of_an_edge_of_stability_network_are_drawn_apart():
    layer = ll.EchoState(2, 6, proximity=0.5, replicas=2, density=0.5, **DOUBLE)
    one, two = layer.recurrent_matrix()[:, 6:]
    assert not torch.equal(one, two)
    for o in (one, two):
        torch.testing.assert_close(o @ o.T, torch.eye(6, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"expected leaky units, as .* without a proximity"):
        ll.reservoirs.echo_states(layer)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_w_has_the_radius_and_the_links_that_are_asked_for(name):
    layer = ll.EchoState(1, 60, topology=name, spectral_radius=0.8, density=0.1, **DOUBLE)
    w = layer.recurrent_matrix()
    radius = float(torch.linalg.eigvals(w).abs().max())
    expected = 0.0 if name == "line" else 0.8
    # The eigenvalues of a nilpotent matrix are known to no more than eps^(1/n).
    assert radius == pytest.approx(expected, abs=0.6 if name == "line" else 1e-10)
    counts = (w != 0).sum(1)
    if name in ("random", "small-world"):
        assert (counts == 6).all()
    elif name == "ring":
        assert w.tolist() == (0.8 * torch.eye(60).double().roll(1, 0)).tolist()
    elif name == "line":
        assert w.tolist() == (0.8 * torch.eye(60).double().roll(1, 0).tril(-1)).tolist()
    elif name == "orthogonal":
        torch.testing.assert_close(w @ w.T, 0.64 * torch.eye(60, dtype=torch.float64))
    else:
        assert 3 < counts.double().mean() < 9
        group = torch.arange(60) // 15
        same = group == group.unsqueeze(-1)
        assert (w[same] != 0).double().mean() > 4 * (w[~same] != 0).double().mean()


def test_a_small_world_is_a_lattice_of_which_some_links_lead_elsewhere():
    draw = topology.SmallWorld(rewiring=0.25).draw
    there = draw(200, 0.04, torch.Generator().manual_seed(0))
    lattice = topology.SmallWorld(rewiring=0.0).draw(200, 0.04, None)
    assert (there.sum(1) == 8).all()
    assert (lattice.sum(1) == 8).all()
    unit = torch.arange(200)
    apart = (unit - unit.unsqueeze(-1)).abs()
    assert torch.minimum(apart, 200 - apart)[lattice].unique().tolist() == [1, 2, 3, 4]
    assert 0.65 < float((there & lattice).sum() / lattice.sum()) < 0.85
    assert (topology.SmallWorld(1.0).draw(200, 0.04, None) & lattice).double().mean() < 0.01


def test_the_weights_are_drawn_in_their_ranges_and_stay():
    layer = ll.EchoState(
        2, 500, input_scaling=(0.1, 3.0), bias_scaling=0.5, feedback_size=1, feedback_scaling=7.0,
        seed=0,
    )  # fmt: skip
    for column, scale in enumerate((0.1, 3.0, 7.0)):
        drawn = layer.weight_ih[:, column].abs()
        assert 0.95 * scale < drawn.max() <= scale
        assert 0.4 * scale < drawn.mean() < 0.6 * scale
    assert 0.45 < layer.bias.abs().max() <= 0.5
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    same = ll.EchoState(
        2, 500, input_scaling=(0.1, 3.0), bias_scaling=0.5, feedback_size=1, feedback_scaling=7.0,
        seed=0,
    )  # fmt: skip
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name
    assert ll.EchoState(1, 10, seed=0).bias is None


@pytest.mark.parametrize("options", [{"leak": 0.3}, {"proximity": 0.4}])
def test_a_dilation_is_so_many_reservoirs_in_turns(options, tmp_path):
    layer = ll.EchoState(1, 20, dilation=3, **options, **DOUBLE)
    alone = ll.EchoState(1, 20, **options, **DOUBLE)
    x = torch.randn(2, 11, 1, dtype=torch.float64)
    output, state = layer(x)
    for phase in range(3):
        torch.testing.assert_close(output[:, phase::3], alone(x[:, phase::3])[0])
    torch.testing.assert_close(state.h_2, output[:, -3])
    looped = ll.EchoState(0, 20, feedback_size=1, dilation=3, **options, **DOUBLE)
    model = ll.SequenceModel(looped, 1, reduce=None, seed=0).double()
    ll.save(model, tmp_path / "model.longlag")
    again = ll.load(tmp_path / "model.longlag")
    assert again.layer.dilation == 3
    assert repr(again) == repr(model)
    values, _ = again.generate(9, warmup=x)  # all in one kernel, beside step by step
    h, held = model.layer(x)
    for value in values.unbind(1):
        torch.testing.assert_close(value, model.readout(h[:, -1]))
        h, held = model.layer(value.unsqueeze(1), held)


def test_replicas_differ_and_share_their_places():
    layer = ll.EchoState(1, 50, replicas=3, bias_scaling=1.0, **DOUBLE)
    assert layer.weight_hh.shape == (3, 250)
    assert len(layer.bias.flatten().unique()) == 150
    for matrix in layer.recurrent_matrix():
        assert spectral_radius(matrix) == pytest.approx(0.9)
    x = torch.randn(3, 2, 9, 1, dtype=torch.float64)
    output, _ = layer(x)
    assert output.shape == (3, 2, 9, 50)


def test_it_is_trained_when_asked():
    layer = ll.EchoState(1, 30, trained=True, seed=0)
    model = ll.SequenceModel(layer, 1, seed=0)
    x = torch.randn(16, 20, 1, generator=torch.Generator().manual_seed(0))
    before = layer.weight_hh.clone()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    history = ll.fit(model, (x, x[:, 18]), optimizer=optimizer, epochs=60, progress=False)
    assert history.losses[-1] < 0.2 * history.losses[0]
    assert not torch.equal(before, layer.weight_hh)


def test_the_readout_alone_is_trained_by_gradients_too():
    model = ll.SequenceModel(ll.EchoState(1, 30, seed=0), 1, seed=0)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    x = torch.randn(16, 20, 1, generator=torch.Generator().manual_seed(0))
    ll.fit(model, (x, x[:, 19]), epochs=3, progress=False)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"readout.weight", "readout.bias"}


@pytest.mark.parametrize("name", [*TOPOLOGIES, "objects"])
def test_saving_keeps_all(tmp_path, name):
    which = topology.SmallWorld(0.3) if name == "objects" else name
    layer = ll.EchoState(
        2, 12, topology=which, density=0.25, leak=[0.1] * 12, bias_scaling=0.2, feedback_size=1,
        seed=0,
    )  # fmt: skip
    layer.weight_ih.requires_grad_(True)
    model = ll.SequenceModel(ll.Stack(layer, ll.GRU(12, 3)), 2)
    ll.save(model, tmp_path / "model")
    again = ll.load(tmp_path / "model")
    assert repr(again) == repr(model)
    assert again.config() == model.config()
    for (key, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), key
        assert one.requires_grad == other.requires_grad, key
    x = torch.randn(2, 5, 3)
    assert torch.equal(model.eval()(x), again(x))


def test_a_forged_reservoir_is_refused_before_there_is_memory_for_it(tmp_path):
    path = tmp_path / "model"
    ll.save(ll.EchoState(2, 12, seed=0), path)
    document, tensors = read_archive(path, "model")
    for entry, value in (
        ("topology", {"type": "Gossip"}), ("topology", "random"), ("topology", {"type": "Ring"}),
        ("topology", {"type": "SmallWorld", "rewiring": 2.0}), ("density", None),
        ("hidden_size", 10**9), ("input_scaling", [0.5] * 3), ("leak", -1), ("activation", []),
        ("spectral_radius", None), ("feedback_size", 5), ("topology", {"type": "Clusters", "x": 1}),
    ):  # fmt: skip
        forged = {**document, "model": {**document["model"], entry: value}}
        write_archive(path, "model", forged, tensors)
        if (entry, value) == ("topology", {"type": "Ring"}):
            ll.load(path)  # the entries are those of the file
            continue
        with pytest.raises(ArchiveError, match="describes no model"):
            ll.load(path)


def reservoir_of(units, features, sparse, bias, lr=0.3):
    """What a node of reservoirpy looks like."""
    scipy_sparse = pytest.importorskip("scipy.sparse")
    draw = np.random.default_rng(0)
    w = np.where(draw.random((units, units)) < 0.2, draw.normal(size=(units, units)), 0.0)
    inputs = draw.normal(size=(units, features))
    wrap = scipy_sparse.csr_array if sparse else np.array
    return SimpleNamespace(W=wrap(0.3 * w), Win=wrap(inputs), bias=bias, lr=lr, activation=np.tanh)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("bias", [0.0, np.linspace(-1, 1, 20)])
def test_the_weights_of_a_reservoirpy_node(sparse, bias):
    node = reservoir_of(20, 2, sparse, bias)
    layer = ll.EchoState.from_reservoirpy(node, dtype=torch.float64)
    x = np.random.default_rng(1).normal(size=(40, 2))
    h, states = np.zeros(20), []
    for step in x:
        h = 0.7 * h + 0.3 * np.tanh(node.W @ h + node.Win @ step + bias)
        states.append(h)
    output, _ = layer(torch.from_numpy(x).unsqueeze(0))
    np.testing.assert_allclose(output[0], states, atol=1e-13)
    single, _ = ll.EchoState.from_reservoirpy(node)(torch.from_numpy(x).float().unsqueeze(0))
    np.testing.assert_allclose(single[0], states, atol=1e-6)


def test_a_real_node_of_reservoirpy():
    nodes = pytest.importorskip("reservoirpy.nodes")
    node = nodes.Reservoir(100, lr=0.3, sr=0.9, rc_connectivity=0.1, seed=0)
    with pytest.raises(ValueError, match="node: it has no weights yet; run it"):
        ll.EchoState.from_reservoirpy(node)
    x = np.random.default_rng(1).normal(size=(200, 2))
    states = node.run(x)
    layer = ll.EchoState.from_reservoirpy(node)
    output, _ = layer(torch.from_numpy(x).float().unsqueeze(0))
    np.testing.assert_allclose(output[0], states, atol=1e-6)


def test_the_effective_radius():
    layer = ll.EchoState(1, 30, topology="ring", spectral_radius=0.9, leak=0.25, **DOUBLE)
    assert layer.effective_spectral_radius() == pytest.approx(0.25 * 0.9 + 0.75)
    assert ll.EchoState(1, 30, seed=0).effective_spectral_radius() == pytest.approx(0.9, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spectral_radius": -1}, "spectral_radius: got -1, expected a number at least 0.0"),
        ({"density": 0.0}, "density: got 0.0, expected a number above 0.0 and at most 1.0"),
        ({"proximity": 0.0}, "proximity: got 0.0, expected a number above 0.0 and at most 1.0"),
        ({"proximity": 0.5, "leak": 0.3}, "proximity: got 0.5 with leak = 0.3, expected one of"),
        ({"leak": 0.0}, "leak: got 0.0, expected 0 < leak <= 1"),
        ({"input_scaling": (1.0, 2.0)}, "input_scaling: got 2 numbers, expected one, or 1"),
        ({"topology": "smallworld"}, "topology: got 'smallworld'.*did you mean 'small-world'"),
        ({"topology": topology.Clusters(40)}, "count: got 40 groups of 30 units"),
        ({"topology": "clusters", "density": 0.6}, "density: got 0.6, but Clusters.* at most 0.3"),
        ({"feedback_size": -1}, "feedback_size: got -1, expected at least 0"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ll.EchoState(1, 30, **options)
