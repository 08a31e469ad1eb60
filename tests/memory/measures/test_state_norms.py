"""state_norms: the states as they are, and those of the same weights without squashing."""

import copy

import pytest
import torch
from tests.scan.cases import random

import longlag as ll
from longlag.memory import state_norms

DOUBLE = {"dtype": torch.float64}


def elman(hidden=4, bias=False, **options):
    start = ll.init.SpectralRadius(1.2)
    return ll.Elman(2, hidden, bias=bias, weight_hh_init=start, seed=0, **DOUBLE, **options)


def test_without_squashing_a_state_is_multiplied_by_powers_of_W():
    layer, start = elman(), random(3, 4, seed=2)
    found = state_norms(layer, torch.zeros(3, 12, 2, **DOUBLE), state=(start,))
    W = layer.weight_hh.detach()
    expected = [(start @ torch.linalg.matrix_power(W, k).T).norm(dim=-1) for k in range(1, 13)]
    torch.testing.assert_close(found.linear, torch.stack(expected, -1))
    assert (found.norms < found.linear).all()  # tanh takes away


def test_inputs_and_biases_come_in_by_hand():
    layer, x = elman(bias=True), random(2, 6, 2)
    with torch.no_grad():
        layer.bias.copy_(random(4, seed=3))
    h = g = torch.zeros(2, 4, **DOUBLE)
    squashed, linear = [], []
    with torch.no_grad():
        for t in range(6):
            drive = x[:, t] @ layer.weight_ih.T + layer.bias
            h = (drive + h @ layer.weight_hh.T).tanh()
            g = drive + g @ layer.weight_hh.T
            squashed.append(h.norm(dim=-1))
            linear.append(g.norm(dim=-1))
    found = state_norms(ll.SequenceModel(layer, 1), x)
    torch.testing.assert_close(found.norms, torch.stack(squashed, -1))
    torch.testing.assert_close(found.linear, torch.stack(linear, -1))


@pytest.mark.parametrize(
    "layer",
    [
        ll.Leaky(2, 3, leak=(0.5, 0.2, 0.1), activation="sigmoid", seed=0, **DOUBLE),
        ll.IndRNN(2, 3, activation="tanh", seed=0, **DOUBLE),
    ],
    ids=["Leaky", "IndRNN"],
)
def test_leaky_and_independent_units_have_a_twin_of_the_same_weights(layer):
    x, options = random(2, 9, 2), {"activation": "identity", **DOUBLE}
    if isinstance(layer, ll.Leaky):
        twin = ll.Leaky(2, 3, leak=(0.5, 0.2, 0.1), **options)
    else:
        twin = ll.IndRNN(2, 3, **options)
    twin.load_state_dict(layer.state_dict())
    found = state_norms(layer, x)
    torch.testing.assert_close(found.linear, twin(x)[0].detach().norm(dim=-1))


@pytest.mark.parametrize("kind", ["LSTM", "stack", "both"])
def test_gates_and_several_layers_have_no_twin(kind):
    layers = {
        "LSTM": lambda: ll.LSTM(2, 3, seed=0, **DOUBLE),
        "stack": lambda: ll.Stack(elman(), ll.Elman(4, 3, seed=1, **DOUBLE)),
        "both": lambda: ll.Bidirectional(elman(), elman()),
    }
    layer, x = layers[kind](), random(2, 5, 2)
    found = state_norms(layer, x)
    torch.testing.assert_close(found.norms, layer(x)[0].detach().norm(dim=-1))
    assert found.linear is None


def test_padding_is_no_number_and_changes_nothing():
    layer, x = elman(), random(3, 8, 2)
    lengths = torch.tensor([8, 3, 0])
    found, whole = state_norms(layer, x, lengths=lengths), state_norms(layer, x)
    padded = torch.arange(8) >= lengths[:, None]
    for part, full in ((found.norms, whole.norms), (found.linear, whole.linear)):
        assert torch.equal(part.isnan(), padded)
        torch.testing.assert_close(part[~padded], full[~padded])


def test_after_a_reset_a_sequence_begins_anew():
    layer, x = elman(), random(2, 8, 2)
    resets = torch.zeros(2, 8, dtype=torch.bool)
    resets[:, 5] = True
    found, anew = state_norms(layer, x, resets=resets), state_norms(layer, x[:, 5:])
    torch.testing.assert_close(found.norms[:, 5:], anew.norms)
    torch.testing.assert_close(found.linear[:, 5:], anew.linear)


def test_what_overflows_is_infinite():
    start = ll.init.Identity(1e10)
    layer = ll.Elman(2, 3, weight_hh_init=start, seed=0)
    found = state_norms(layer, random(2, 9, 2).float())
    assert found.linear[:, 0].isfinite().all()
    assert (found.linear[:, 5:] == torch.inf).all()
    assert (found.norms <= 3**0.5).all()


def test_the_layer_stays_as_it_is():
    layer = ll.Stack(elman(), ll.Elman(4, 3, seed=1, **DOUBLE), dropout=0.5)
    layer.layers[1].eval()
    before = copy.deepcopy(layer.state_dict())
    drawn, x = torch.get_rng_state(), random(2, 5, 2)
    found = state_norms(layer, x)
    assert torch.equal(found.norms, state_norms(layer, x).norms)  # no dropout
    assert [each.training for each in layer.layers] == [True, False]
    assert layer.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(new, before[name]) for name, new in layer.state_dict().items())


def test_replicas_have_their_own():
    layer = ll.Elman(2, 3, replicas=2, seed=0, **DOUBLE)
    found = state_norms(layer, random(2, 4, 6, 2))
    assert found.norms.shape == found.linear.shape == (2, 4, 6)
