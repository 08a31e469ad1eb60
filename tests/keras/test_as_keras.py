"""SimpleRNN, LSTM and GRU beside Keras' own layers, with the same weights."""

import itertools

import keras
import numpy as np
import pytest
import torch
from tests.keras.beside import MASKS, C, H, N, T, assert_same, pair, results

import longlag.keras as ours

LAYERS = ("SimpleRNN", "LSTM", "GRU")
BOTH = (False, True)
ACTIVATIONS = (None, "relu", "sigmoid", "hard_sigmoid", "softsign", "silu", "relu6")


LONG = [pytest.param(mask, marks=pytest.mark.long) for mask in ("right", "left")]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mask", ["none", "mixed", *LONG])
def test_every_mask_direction_and_kind_of_output_is_as_in_keras(name, mask):
    generator = np.random.default_rng(3)
    initial = [generator.normal(size=(N, H)) for _ in range(1 + (name == "LSTM"))]
    for backwards, zero, sequences in itertools.product(BOTH, BOTH, BOTH):
        theirs, mine = pair(
            name,
            go_backwards=backwards,
            zero_output_for_mask=zero,
            return_sequences=sequences,
            return_state=not zero,
        )
        assert_same(theirs, mine, mask=MASKS[mask], initial=() if sequences else initial)


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", pytest.param("GRU", marks=pytest.mark.long)])
def test_the_same_seed_drops_the_same(name):
    for options in (
        {"dropout": 0.4},
        {"dropout": 0.3, "recurrent_dropout": 0.5, "return_sequences": True},
    ):
        theirs, mine = pair(name, seed=3, **options)
        assert_same(theirs, mine, training=True)
        assert_same(theirs, mine, mask=MASKS["mixed"], training=True)  # the next draw
        assert_same(theirs, mine)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_each_gate_has_a_dropout_mask_of_x_of_its_own_with_implementation_1(name):
    options = {"implementation": 1, "dropout": 0.4, "seed": 3}
    theirs, mine = pair(name, **options)
    theirs.use_cudnn = False  # with "auto" Keras takes the list of masks for one
    assert_same(theirs, mine, training=True)


@pytest.mark.parametrize("name", LAYERS)
def test_activations_and_the_other_options_are_as_in_keras(name):
    gated = {"activation": "relu", "recurrent_activation": "hard_sigmoid", "use_bias": False}
    gates = [] if name == "SimpleRNN" else [gated]
    for options in gates or [*({"activation": a} for a in ACTIVATIONS), {"use_bias": False}]:
        assert_same(*pair(name, unroll=True, **options))


def test_a_reset_before_the_product_is_as_in_keras():
    for options in ({}, {"use_bias": False, "activation": "relu"}, {"implementation": 1}):
        theirs, mine = pair("GRU", reset_after=False, return_sequences=True, **options)
        for mask in (None, MASKS["mixed"]):
            assert_same(theirs, mine, mask=mask)
    theirs, mine = pair("GRU", reset_after=False, dropout=0.3, recurrent_dropout=0.5, seed=3)
    assert_same(theirs, mine, training=True)


def test_an_exponential_is_as_in_keras():
    theirs, mine = pair("SimpleRNN", activation="exponential")
    for layer in (theirs, mine):
        layer.cell.recurrent_kernel.assign(-(layer.cell.recurrent_kernel**2))  # it stays finite
    assert_same(theirs, mine)


def test_a_double_is_exact():
    layer = ours.SimpleRNN(H, dtype="float64")
    x = np.random.default_rng(0).normal(size=(N, T, C))
    output = layer(x).detach().numpy()
    kernel, recurrent, bias = map(np.asarray, layer.get_weights())
    h = np.zeros((N, H))
    for step in range(T):
        h = np.tanh(x[:, step] @ kernel + h @ recurrent + bias)
    np.testing.assert_allclose(output, h, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_have_the_names_order_and_shapes_of_keras(name):
    keras.utils.set_random_seed(0)
    theirs = getattr(keras.layers, name)(H)
    theirs.build((N, T, C))
    keras.utils.set_random_seed(0)
    mine = getattr(ours, name)(H)
    mine.build((N, T, C))
    for one, other in zip(theirs.weights, mine.weights, strict=True):
        assert one.name == other.name
        assert tuple(one.shape) == tuple(other.shape)
        assert torch.equal(one.value, other.value)  # the same initializers, of the same seed
    changed = [weight + 1.0 for weight in mine.get_weights()]
    theirs.set_weights(changed)
    mine.set_weights(theirs.get_weights())
    assert all(map(np.array_equal, mine.get_weights(), changed))


@pytest.mark.parametrize("name", LAYERS)
def test_a_stateful_layer_carries_its_state_until_it_is_reset(name):
    theirs, mine = pair(name, stateful=True, return_sequences=True)
    theirs.use_cudnn = False  # or Keras overwrites what its gradients need
    for mask in (None, MASKS["right"], MASKS["mixed"]):
        assert_same(theirs, mine, mask=mask)
    for one, other in zip(theirs.states, mine.states, strict=True):
        torch.testing.assert_close(one.value, other.value, rtol=1e-4, atol=1e-5)
        assert one.value.any()
    for layer in (theirs, mine):
        layer.reset_state()
    assert_same(theirs, mine)
    with pytest.raises(ValueError, match="batch size"):
        mine(np.zeros((N + 1, T, C), np.float32))


def test_what_the_kernels_do_not_have_runs_keras_own_loop_and_says_so_once():
    for name, options, reason in (
        ("SimpleRNN", {"activation": "selu"}, "no activation selu"),
        ("LSTM", {"recurrent_activation": torch.atan}, "no recurrent_activation atan"),
    ):
        theirs, mine = pair(name, **options)
        x = np.random.default_rng(0).normal(size=(N, T, C))
        with pytest.warns(UserWarning, match=f"Keras' own loop over time: .*{reason}"):
            got = results(mine, x)
        assert mine.backend_used == "keras"
        for one, other in zip(results(theirs, x), got, strict=True):
            torch.testing.assert_close(one, other)
        results(mine, x)  # a second warning would be an error


def test_whole_numbers_and_half_precision_are_read_as_in_keras():
    theirs, mine = pair("SimpleRNN")
    steps = np.arange(N * T * C).reshape(N, T, C) % 3
    torch.testing.assert_close(mine(steps), theirs(steps), rtol=1e-4, atol=1e-5)
    theirs, mine = pair("LSTM", dtype="mixed_bfloat16")
    x = torch.randn(N, T, C)
    output = mine(x)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, theirs(x), rtol=0.05, atol=0.02)
