"""Any declared cell as a layer of Keras, beside longlag's own layer."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
import torch
from keras.activations import relu, selu
from tests.keras.beside import MASKS, N, T

import longlag as ll
import longlag.keras as ours
from longlag import cells
from longlag.recurrence import Cell, UnitParameter, tanh

C, H = 3, 8


@dataclass(frozen=True)
class Faded(Cell):
    """A cell of one's own, with a number per unit and a second state."""

    fade: float = 0.5

    state = ("h", "m")
    gates = ("candidate",)
    unit_parameters = {"weight": UnitParameter(0.5, interval=(0.0, 1.0))}

    def update(self, pre, state, unit):
        m = self.fade * state.m + unit.weight * tanh(pre.candidate)
        return {"h": tanh(m) + 0.1 * state.h, "m": m}


def same_in_longlag(layer, cell):
    """longlag's own layer with the weights of one of Keras."""
    twin = ll.Recurrent(cell, C, layer.cell.units)
    names = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh"}
    names |= {f"recurrent_kernel_{part}": f"weight_hh_{part}" for part in ("raw", "base")}
    names["recurrent_diagonal"] = "weight_hh_diagonal"
    with torch.no_grad():
        for weight in layer.weights:
            value = weight.value.T if weight.value.dim() == 2 else weight.value
            getattr(twin, names.get(weight.name, weight.name)).copy_(value)
    return twin


@pytest.mark.long
def test_every_cell_gives_what_longlags_layer_gives():
    own = [Faded(), cells.Elman(constraint="orthogonal"), cells.LSTM(peepholes=True)]
    built_in = [getattr(cells, name)() for name in cells.__all__]
    x = torch.randn(N, T, C, generator=torch.Generator().manual_seed(0))
    for cell in (*built_in, *own):
        layer = ours.RNN(cell, H, return_sequences=True, return_state=True)
        output, *final = layer(x)
        twin = same_in_longlag(layer, cell)
        wanted, state = twin(x)
        torch.testing.assert_close(output, wanted)
        for one, other in zip(final, state, strict=True):
            torch.testing.assert_close(one, other)
        trained = {name for name, _ in twin.named_parameters()}
        assert len(layer.trainable_weights) == len(trained), cell
        output.sum().backward()
        assert all(weight.value.grad is not None for weight in layer.trainable_weights), cell


def test_masks_direction_states_and_dropout_mean_what_they_mean_in_keras():
    x = torch.randn(N, T, C, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor(MASKS["mixed"])
    layer = ours.RNN(Faded(), H, return_sequences=True, return_state=True)
    output, h, m = layer(x, mask=mask)
    short, *state = layer(x[1:2][:, MASKS["mixed"][1]])  # its three steps that count, alone
    torch.testing.assert_close(output[1:2][:, MASKS["mixed"][1]], short)
    torch.testing.assert_close(torch.cat([h[1:2], m[1:2]]), torch.cat(state))
    assert not output[1, 0].any()
    assert torch.equal(output[1, 2], output[1, 1])
    backwards = ours.RNN(Faded(), H, go_backwards=True, return_sequences=True)
    backwards.build(x.shape)
    backwards.set_weights(layer.get_weights())
    torch.testing.assert_close(backwards(x), layer(x.flip(1))[0])
    dropping = ours.Leaky(H, dropout=0.5, recurrent_dropout=0.5, seed=1)
    assert not torch.equal(dropping(x, training=True), dropping(x, training=True))
    assert torch.equal(dropping(x), dropping(x, training=False))


def test_initializers_and_regularizers_are_those_of_keras():
    layer = ours.RNN(
        cells.LSTM(),
        H,
        kernel_initializer="ones",
        recurrent_initializer=keras.initializers.Constant(0.5),
        bias_initializer=keras.initializers.Constant(0.25),
        kernel_regularizer=keras.regularizers.L2(1.0),
    )
    layer.build((N, T, C))
    kernel, recurrent, bias = (weight.value for weight in layer.weights)
    assert kernel.shape == (C, 4 * H)
    assert bool((kernel == 1).all())
    assert bool((recurrent == 0.5).all())
    assert sorted(set(bias.tolist())) == [0.25, 1.25]  # the forget gate's has the cell's own 1
    assert sum(layer.losses).item() == C * 4 * H
    drawn = ours.RNN(cells.GRU(), H)
    drawn.build((N, T, C))
    block = drawn.cell.recurrent_kernel.value[:, :H].detach()
    torch.testing.assert_close(block @ block.T, torch.eye(H), atol=1e-5, rtol=0.0)
    frozen = ours.Leaky(H, trainable=False)
    frozen.build((N, T, C))
    assert frozen.trainable_weights == []


def test_a_reservoir_is_that_of_longlag_and_stays_as_drawn():
    layer = ours.EchoState(40, spectral_radius=0.8, leak=0.5, seed=3, return_sequences=True)
    x = torch.randn(N, T, C)
    twin = ll.EchoState(C, 40, spectral_radius=0.8, leak=0.5, seed=3)
    torch.testing.assert_close(layer(x), twin(x)[0])
    assert layer.trainable_weights == []
    assert tuple(layer.cell.recurrent_kernel.shape) == (160,)  # sparse
    trained = ours.EchoState(10, trained=True, kernel_regularizer="l2")
    trained(x).sum().backward()
    assert len(trained.trainable_weights) == 2
    assert sum(trained.losses).item() > 0.0


def test_an_activation_may_be_a_function_of_keras():
    for kind in (ours.Leaky, ours.EchoState):
        for function, name in ((relu, "relu"), (keras.activations.linear, "identity")):
            assert kind(4, activation=function).get_config()["activation"] == name


def test_a_cell_of_ones_own_is_loaded_by_its_class(tmp_path):
    saved = keras.Sequential([keras.Input((T, C)), ours.RNN(Faded(0.25), H)])
    saved.save(tmp_path / "own.keras")
    loaded = keras.saving.load_model(tmp_path / "own.keras", custom_objects={"Faded": Faded})
    x = np.random.default_rng(0).normal(size=(N, T, C)).astype("float32")
    assert np.array_equal(saved.predict(x, verbose=0), loaded.predict(x, verbose=0))
    assert loaded.layers[0].cell.declared == Faded(0.25)
    with pytest.raises(Exception, match=r'custom_objects=\{"Faded": Faded\}'):
        keras.saving.load_model(tmp_path / "own.keras")

    @dataclass(frozen=True)
    class Other(Faded):
        def update(self, pre, state, unit):
            return {"h": tanh(pre.candidate), "m": unit.weight * state.m + state.h}

    with pytest.raises(Exception, match="equations of the cell 'Faded' are not those"):
        keras.saving.load_model(
            tmp_path / "own.keras", custom_objects={"Faded": type("Faded", (Other,), {})}
        )


def test_arguments_out_of_range_are_named():
    for error, match, make in (
        (
            TypeError,
            "cell: got .*Keras goes to keras",
            lambda: ours.RNN(keras.layers.GRUCell(2), 4),
        ),
        (TypeError, "cell: got .*instance", lambda: ours.RNN(cells.Elman, 4)),
        (ValueError, "units: got 0", lambda: ours.RNN(cells.Elman(), 0)),
        (ValueError, "units: got 5.*multiple", lambda: ours.RNN(cells.Clockwork((1, 2)), 5)),
        (ValueError, "dropout: got 1.5", lambda: ours.Leaky(4, dropout=1.5)),
        (ValueError, "recurrent_dropout: got 1.0", lambda: ours.Leaky(4, recurrent_dropout=1.0)),
        (
            ValueError,
            "no recurrent matrix",
            lambda: ours.RNN(cells.MinGRU(), 4, recurrent_dropout=0.1),
        ),
        (ValueError, "leak: got 2", lambda: ours.Leaky(4, leak=2.0)),
        (ValueError, "activation: got 'selu'", lambda: ours.Leaky(4, activation=selu)),
        (ValueError, "density: got 0", lambda: ours.EchoState(4, density=0.0)),
        (
            TypeError,
            "kernel_initializer: got",
            lambda: ours.EchoState(4, kernel_initializer="ones"),
        ),
        (TypeError, "use_bias: got", lambda: ours.EchoState(4, use_bias=True)),
    ):
        with pytest.raises(error, match=match):
            make()
