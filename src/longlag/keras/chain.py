"""What of a model of Keras a compiled step can train, and the words for what it cannot."""

from typing import Any, NamedTuple

import keras
import torch
from torch import Tensor, nn

from longlag.keras.layers import GRU, LSTM, Move, SimpleRNN
from longlag.keras.loop import as_tensor
from longlag.keras.losses import loss_of
from longlag.layers import SequenceModel, Stack
from longlag.torch_private import dispatching, has_hooks
from longlag.training.compiled.network import Network, Unfit, network_with


class Chain(NamedTuple):
    """A model of Keras as a compiled step sees it.

    Attributes:
        shadow: a model of longlag with the same equations; what its numbers are does not matter.
        network: its parts, with the loss.
        moves: the model's variables, and where each is found in the shadow.
        parts: the layers that run.
    """

    shadow: nn.Module
    network: Network
    moves: list[tuple[Any, list[Move]]]
    parts: list[Any]


def chain_of(model: Any) -> Chain:
    """The chain of layers that a model is.

    Raises:
        Unfit: it is none, or one that cannot be compiled.
    """
    _check_model(model)
    *layers, dense, activation = _parts(model)
    for layer in layers:
        _check_layer(layer)
    for layer in layers[:-1]:
        if not layer.return_sequences:
            raise Unfit(f"{layer.name} stands below a layer and has no return_sequences")
    shadows, moves = [], []
    for layer in layers:
        shadow, places = layer.shadow()
        shadows.append(shadow)
        moves += places
    inner = dense.layer if isinstance(dense, keras.layers.TimeDistributed) else dense
    with torch.random.fork_rng(devices=[]):
        whole = SequenceModel(
            shadows[0] if len(shadows) == 1 else Stack(*shadows),
            inner.units,
            reduce=None if layers[-1].return_sequences else "last",
            bias=inner.use_bias,
        ).to(as_tensor(inner.kernel).dtype)
    readout: Any = whole.readout
    moves.append((inner.kernel, [Move(readout.weight, *inner.kernel.shape)]))
    if inner.use_bias:
        moves.append((inner.bias, [Move(readout.bias, 1, inner.units)]))
    variables = [variable for variable, _ in moves]
    for variable in model.trainable_variables:
        if not any(variable is known for known in variables):
            raise Unfit(f"the model has the variable {variable.path} beside those of its layers")
    for variable in variables:
        _check_variable(variable, as_tensor(inner.kernel))
    network = network_with(whole, loss_of(model.loss, activation))
    parts = [*layers, *(layer.cell for layer in layers), dense, inner]
    return Chain(whole, network, moves, parts)


_OF_STEP = ("train_step", "call", "compute_loss", "_compute_loss", "__call__")
"""Methods that make a step of Keras what it is."""


def _check_model(model: Any) -> None:
    for name in _OF_STEP:
        definer = next(kind for kind in type(model).__mro__ if name in vars(kind))
        if definer.__module__.partition(".")[0] not in ("keras", "longlag", "torch"):
            raise Unfit(f"{definer.__name__} has a {name} of its own")
        if name in vars(model):
            raise Unfit(f"the model has a {name} of its own")
    if model.run_eagerly or model.jit_compile:
        raise Unfit("the model was compiled with run_eagerly or jit_compile")
    if torch.is_autocast_enabled("cpu") or dispatching():
        raise Unfit("autocast, or a mode that follows operations, is on")
    if model._compile_loss is not None and model._compile_loss._user_loss_weights is not None:
        raise Unfit("the model was compiled with loss_weights")
    if has_hooks(model):
        raise Unfit("the model has hooks")


def _parts(model: Any) -> list[Any]:
    """The recurrent layers, the Dense layer, and the name of the outputs' activation."""
    layers = list(model.layers)
    if not isinstance(model, keras.Sequential):
        _check_line(model, layers)
    layers = [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]
    functions = []
    while layers and type(layers[-1]) in (keras.layers.Activation, keras.layers.Softmax):
        last = layers.pop()
        _check_common(last)
        if type(last) is keras.layers.Activation:
            functions.append(last.activation)
        elif last.axis == -1:
            functions.append(keras.activations.softmax)
        else:
            raise Unfit(f"{last.name} has axis={last.axis}")
    dense = layers.pop() if layers else None
    inner = dense.layer if type(dense) is keras.layers.TimeDistributed else dense
    if type(inner) is not keras.layers.Dense:
        raise Unfit("the outputs do not come from a Dense layer and at most one activation")
    if not layers:
        raise Unfit("the model has no recurrent layer")
    _check_common(dense)
    _check_common(inner)
    if getattr(inner, "quantization_mode", None) or getattr(inner, "lora_enabled", False):
        raise Unfit(f"{inner.name} is quantized, or has low-rank weights")
    functions = [f for f in (*functions, inner.activation) if f is not keras.activations.linear]
    if len(functions) > 1:
        raise Unfit("the outputs have two activations")
    if not functions:
        return [*layers, dense, "linear"]
    name = getattr(functions[0], "__name__", repr(functions[0]))
    if functions[0] is not getattr(keras.activations, name, None):
        raise Unfit(f"the outputs have the activation {name}, which is not Keras'")
    return [*layers, dense, name]


def _check_line(model: Any, layers: list[Any]) -> None:
    """Each layer of a functional model reads the one before, once."""
    outputs: list[Any] = []
    try:
        for layer in layers:
            if outputs and layer.input is not outputs[-1]:
                raise Unfit(f"{layer.name} does not read the layer before it alone")
            outputs.append(layer.output)
    except (AttributeError, ValueError):
        raise Unfit("the model is no chain of layers, each of which is called once") from None
    given, made = model.inputs, model.outputs
    if not outputs or len(given) != 1 or len(made) != 1 or (
        given[0] is not outputs[0] or made[0] is not outputs[-1]
    ):  # fmt: skip
        raise Unfit("the model has other inputs or outputs than those of a chain")


def _check_common(layer: Any) -> None:
    if layer.activity_regularizer is not None:
        raise Unfit(f"{layer.name} has an activity_regularizer")
    if has_hooks(layer):
        raise Unfit(f"{layer.name} has hooks")
    if layer.compute_dtype != layer.variable_dtype:
        raise Unfit(f"{layer.name} computes in {layer.compute_dtype}")


def _check_layer(layer: Any) -> None:
    if type(layer) not in (SimpleRNN, LSTM, GRU):
        raise Unfit(
            f"{layer.name} is a {type(layer).__name__}, expected SimpleRNN, LSTM or GRU of "
            "longlag.keras"
        )
    _check_common(layer)
    _check_common(layer.cell)
    reason = layer._reason()
    if reason is not None:
        raise Unfit(f"{layer.name}: {reason}")
    for name in ("stateful", "go_backwards", "return_state"):
        if getattr(layer, name):
            raise Unfit(f"{layer.name} has {name}=True")
    for name in ("dropout", "recurrent_dropout"):
        if getattr(layer.cell, name):
            raise Unfit(f"{layer.name} has {name}")


def _check_variable(variable: Any, like: Tensor) -> None:
    for name in ("regularizer", "constraint"):
        if getattr(variable, name) is not None:
            raise Unfit(f"{variable.path} has a {name}")
    value = variable.value
    if has_hooks(value):
        raise Unfit(f"{variable.path} has hooks")
    if value.dtype != like.dtype or not value.is_cpu:
        raise Unfit(f"{variable.path} is of {value.dtype} on {value.device}")
