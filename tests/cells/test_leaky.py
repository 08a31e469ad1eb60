import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import Leaky

EACH = (0.9, 0.3, 0.05)
CELLS = {
    "constant": Leaky(leak=0.3),
    "constant, one for each unit": Leaky(leak=EACH),
    "trained": Leaky(leak=0.3, train_leak=True),
    "trained, one for each unit": Leaky(leak=EACH, train_leak=True),
    "trained, shared": Leaky(leak=0.3, train_leak=True, shared_leak=True),
    "shared": Leaky(leak=0.3, shared_leak=True),
    "time scales": Leaky(time_scales=(2, 30)),
    "time scales, trained": Leaky(time_scales=(30, 1.5), train_leak=True),
    "without W": Leaky(leak=EACH, recurrent=False),
    "without W, trained": Leaky(leak=EACH, train_leak=True, recurrent=False),
    "sigmoid": Leaky(leak=EACH, activation="sigmoid"),
    "relu": Leaky(leak=EACH, activation="relu", recurrent=False),
}


def equations(cell, x, s, p):
    """h_t = (1 - a) h_{t-1} + a phi(U x_t + W h_{t-1} + b)."""
    a, h = p.unit["leak"], s["h"]
    inside = x @ p.U["candidate"].T + p.b["candidate"]
    if cell.recurrent:
        inside = inside + p.read(h) @ p.W["candidate"].T
    return {"h": (1 - a) * h + a * oracle.PHI[cell.activation](inside)}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_it_is_its_equation(cell, backend):
    layer = oracle.layer_of(cell, backend=backend)
    given = oracle.problem(cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_the_form_without_w_and_bias(activation):
    """h_t = (1 - a) h_{t-1} + a s(U x_t), and nothing else: U is the only parameter."""
    layer = ll.Leaky(
        3,
        4,
        leak=0.2,
        recurrent=False,
        activation=activation,
        bias=False,
        dtype=torch.float64,
        seed=0,
    )
    assert [name for name, _ in layer.named_parameters()] == ["weight_ih"]
    rng = np.random.default_rng(0)
    x, h = rng.normal(size=(2, 9, 3)), rng.normal(size=(2, 4))
    output, _ = layer(torch.tensor(x), torch.tensor(h))
    u = layer.weight_ih.detach().numpy()
    for t in range(9):
        h = (1 - 0.2) * h + 0.2 * oracle.PHI[activation](x[:, t] @ u.T)
        np.testing.assert_allclose(output[:, t].detach(), h, rtol=1e-13, atol=1e-15)


def test_without_input_the_state_decays_by_one_minus_the_leak():
    layer = ll.Leaky(1, 3, leak=EACH, recurrent=False, dtype=torch.float64)
    start = torch.tensor([[2.0, -1.0, 4.0]], dtype=torch.float64)
    output, _ = layer(torch.zeros(1, 50, 1, dtype=torch.float64), start)
    keep = 1 - torch.tensor(EACH, dtype=torch.float64)
    torch.testing.assert_close(output[0, -1], start[0] * keep**50, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("shared", "count"), [(False, 3), (True, 1)])
def test_a_trained_leak_starts_where_it_is_told_and_stays_inside(shared, count):
    layer = ll.Leaky(2, 3, leak=0.3, train_leak=True, shared_leak=shared, dtype=torch.float64)
    assert layer.leak_raw.shape == (count,)
    torch.testing.assert_close(layer.unit("leak"), torch.full((3,), 0.3, dtype=torch.float64))
    with torch.no_grad():
        layer.leak_raw.fill_(-30.0)
    assert (layer.unit("leak") > 0).all()
    with torch.no_grad():
        layer.leak_raw.fill_(30.0)
    assert (layer.unit("leak") < 1).all()


def test_a_constant_leak_is_kept_with_the_model_and_not_trained():
    layer = ll.Leaky(2, 3, leak=EACH)
    assert "leak" not in dict(layer.named_parameters())
    torch.testing.assert_close(layer.state_dict()["leak"], torch.tensor(EACH))


@pytest.mark.parametrize("train_leak", [False, True])
@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize(("first", "last"), [(2, 250), (250, 2), (7, 7)])
def test_time_scales_are_spread_over_the_units(first, last, replicas, train_leak, tmp_path):
    options = {"train_leak": train_leak, "replicas": replicas, "dtype": torch.float64}
    layer = ll.Leaky(3, 4, time_scales=(first, last), **options)
    expected = first * (last / first) ** (torch.arange(4, dtype=torch.float64) / 3)
    scales = (1 / layer.unit("leak")).reshape(-1, 4)
    torch.testing.assert_close(scales, expected.expand_as(scales), rtol=1e-12, atol=0)
    ll.save(layer, tmp_path / "leaky.longlag")
    loaded = ll.load(tmp_path / "leaky.longlag")
    assert loaded.cell == layer.cell
    assert torch.equal(loaded.unit("leak"), layer.unit("leak"))


def test_a_single_unit_has_the_first_time_scale():
    assert ll.Leaky(3, 1, time_scales=(4, 100)).leak.tolist() == [0.25]


def test_time_scales_of_one_step_are_an_elman_network():
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    leaky = ll.Leaky(3, 4, time_scales=(1, 1), seed=1)
    torch.testing.assert_close(leaky(x)[0], ll.Elman(3, 4, seed=1)(x)[0])


def test_a_list_of_leaks_will_do():
    assert Leaky(leak=list(EACH)) == Leaky(leak=EACH)  # pyright: ignore[reportArgumentType]
    assert ll.Leaky(2, 3, leak=np.array(EACH)).cell == Leaky(leak=EACH)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"leak": 0.0}, "leak: got 0.0, expected 0 < leak <= 1"),
        ({"leak": 1.5}, "leak: got 1.5, expected 0 < leak <= 1"),
        ({"leak": float("nan")}, "leak: got nan"),
        ({"leak": (0.5, -0.1)}, "leak: got -0.1"),
        ({"leak": 1.0, "train_leak": True}, "leak: got 1.0, expected 0 < leak < 1 for a trained"),
        ({"activation": "softmax"}, "activation: got 'softmax'"),
        ({"time_scales": (0.5, 3)}, r"time_scales: got \(0.5, 3\), expected two numbers of steps"),
        ({"time_scales": (2, float("inf"))}, r"time_scales: got \(2, inf\), expected two numbers"),
        ({"time_scales": (2, 3, 4)}, r"time_scales: got \(2, 3, 4\), expected two numbers"),
        ({"time_scales": (2, "3")}, r"time_scales: got \(2, '3'\), expected two numbers"),
        ({"time_scales": 5}, "time_scales: got 5, expected two numbers of steps, at least 1 each"),
        (
            {"time_scales": (1, 9), "train_leak": True},
            r"time_scales: got \(1, 9\), .* above 1 each",
        ),
        ({"time_scales": (2, 9), "leak": 0.2}, "with leak = 0.2, expected one of the two"),
        ({"time_scales": (2, 9), "shared_leak": True}, "expected shared_leak=False"),
    ],
)
def test_what_is_out_of_range_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Leaky(**given)


def test_a_leak_for_each_unit_must_have_one_for_each():
    with pytest.raises(ValueError, match="leak: got 3 values, expected one, or one for each of"):
        ll.Leaky(2, 4, leak=EACH)
    with pytest.raises(ValueError, match="shared=True with 3 initial values, expected one"):
        ll.Leaky(2, 3, leak=EACH, shared_leak=True)


def test_a_leak_of_one_is_an_elman_network():
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ll.Leaky(3, 4, leak=1.0, seed=1)(x)[0], ll.Elman(3, 4, seed=1)(x)[0])
