"""Inside models of Keras: saving, wrappers, masks, states, and the two examples."""

import importlib.util
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import torch

import longlag as ll
import longlag.keras as ours

EXAMPLES = Path(__file__).parents[2] / "examples"
X = np.random.default_rng(0).normal(size=(8, 6, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 2)).astype("float32")


def padded():
    """X, with steps of zeros that Masking leaves out."""
    x = X.copy()
    x[:4, 4:] = x[4:, 1] = 0.0
    return x


def model(kind):
    """One layer of a kind, in wrappers."""
    recurrent = kind.layers if kind is keras else kind
    return keras.Sequential(
        [
            keras.Input((6, 3)),
            keras.layers.Masking(),
            recurrent.GRU(4, return_sequences=True, dropout=0.2, seed=1),
            keras.layers.Bidirectional(recurrent.LSTM(3, return_sequences=True)),
            recurrent.SimpleRNN(4, kernel_regularizer="l2", bias_constraint="max_norm"),
            keras.layers.Dense(2),
        ]
    )


def test_masks_wrappers_and_training_are_as_in_keras():
    theirs, mine = model(keras), model(ours)
    mine.set_weights(theirs.get_weights())
    x = padded()
    np.testing.assert_allclose(mine.predict(x, verbose=0), theirs.predict(x, verbose=0), atol=1e-5)
    for network in (theirs, mine):
        network.compile("rmsprop", "mse")
        network.fit(x, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(theirs.get_weights(), mine.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4)
    assert mine.layers[1].backend_used == "cpu"


def test_time_distributed_and_a_model_that_is_a_class():
    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.TimeDistributed(ours.SimpleRNN(4))
            self.outer = ours.LSTM(2)
            self.kept = ours.RNN(ll.cells.IndRNN(), 2)

        def call(self, x):
            y = self.inner(x)
            return self.outer(y) + self.kept(y)

    network, x = Network(), np.stack([X, X], 1)
    assert network(keras.Input((2, 6, 3))).shape == (None, 2)
    network.compile("adam", "mse")
    network.fit(x, Y, verbose=0)
    assert network(x).shape == (8, 2)


def layers():
    """One of each, with options that are not the default."""
    return [
        ours.SimpleRNN(4, activation="relu", seed=3, return_sequences=True),
        ours.LSTM(4, recurrent_regularizer="l1", unit_forget_bias=False, return_sequences=True),
        ours.GRU(4, go_backwards=True, dropout=0.1, return_sequences=True),
        ours.Leaky(4, leak=(0.5, 0.2, 0.1, 0.05), train_leak=True, return_sequences=True),
        ours.Leaky(4, time_scales=(2, 50), activation=None, return_sequences=True),
        ours.Leaky(4, activation=keras.activations.relu, return_sequences=True),
        ours.RNN(ll.cells.Elman(constraint="orthogonal"), 4, return_sequences=True),
        ours.RNN(ll.cells.Antisymmetric(), 4, kernel_initializer="ones", return_sequences=True),
        ours.EchoState(30, topology="small-world", bias_scaling=0.1, return_sequences=True),
        ours.EchoState(4, density=1.0, input_scaling=0.5, trained=True, zero_output_for_mask=True),
    ]


def test_a_saved_model_is_the_same_again(tmp_path):
    saved = keras.Sequential([keras.Input((6, 3)), keras.layers.Masking(), *layers()])
    saved.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = padded()
    assert np.array_equal(saved.predict(x, verbose=0), loaded.predict(x, verbose=0))
    for one, other in zip(saved.layers, loaded.layers, strict=True):
        assert type(one) is type(other)
        assert one.get_config() == other.get_config()
        assert one.__class__.from_config(one.get_config()).get_config() == one.get_config()
    names = [keras.saving.get_registered_name(type(layer)) for layer in saved.layers[1:]]
    assert {name.split(">")[0] for name in names} == {"longlag"}


def test_states_are_carried_through_fit_and_reset():
    network = keras.Sequential(
        [
            keras.Input(batch_shape=(4, 6, 3)),
            ours.LSTM(4, stateful=True, return_sequences=True),
            ours.Leaky(3, stateful=True),
            keras.layers.Dense(2),
        ]
    )
    network.compile("rmsprop", "mse")
    network.fit(X, Y, batch_size=4, shuffle=False, epochs=2, verbose=0)
    for layer in network.layers[:2]:
        assert all(state.value.any() for state in layer.states)
        layer.reset_state()
        assert not any(state.value.any() for state in layer.states)


@pytest.mark.parametrize("name", ["many_to_one", "many_to_many"])
def test_the_examples_are_the_lectures_networks(name, capsys):
    path = EXAMPLES / f"keras_{name}.py"
    assert "from longlag.keras import Sequential, SimpleRNN" in path.read_text()
    spec = importlib.util.spec_from_file_location(name, path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(epochs=1)
    shown = capsys.readouterr().out
    steps = "64, " if name == "many_to_many" else ""
    assert re.search(rf"simple_rnn.*SimpleRNN.*\(None, {steps}16\).*512", shown)
    assert re.search(rf"dense.*Dense.*\(None, {steps}8\).*136", shown)
    assert re.search(rf"activation.*Activation.*\(None, {steps}8\).* 0 ", shown)
    assert "Total params: 648" in shown
    assert "Trainable params: 648" in shown
    assert torch.is_grad_enabled()
