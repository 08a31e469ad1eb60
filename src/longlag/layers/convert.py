"""From torch.nn and back: RNN, LSTM and GRU, several layers, both directions.

torch.nn keeps two biases per gate where the equations have one: their sum. Only the reset of a
GRU tells them apart, and there longlag keeps both, as ``bias`` and ``bias_hn``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from longlag.layers.base import RecurrentModule
from longlag.layers.bidirectional import Bidirectional
from longlag.layers.built_in import GRU, LSTM, Elman
from longlag.layers.recurrent import Options, Recurrent
from longlag.layers.stack import Stack

__all__ = ["from_torch", "to_torch"]


def from_torch(module: nn.RNNBase) -> RecurrentModule:
    """The same network as a longlag module, with copies of its weights.

    Args:
        module: a torch.nn.RNN, LSTM or GRU.

    Returns:
        A layer; a :class:`Bidirectional` for both directions; a :class:`Stack` for several
        layers. It reads (N, T, C) whatever ``batch_first`` was.

    Raises:
        TypeError: for any other module.
        ValueError: for an LSTM with ``proj_size``, which the equations do not have.

    Example:
        >>> layer = from_torch(torch.nn.GRU(3, 4))
        >>> type(layer).__name__, layer.weight_hh.shape
        ('GRU', torch.Size([12, 4]))
    """
    if not isinstance(module, (nn.RNN, nn.LSTM, nn.GRU)):
        raise TypeError(
            f"module: got {type(module).__name__}, expected torch.nn.RNN, torch.nn.LSTM or "
            "torch.nn.GRU"
        )
    if module.proj_size:
        raise ValueError(
            f"module: got proj_size={module.proj_size}, expected 0; longlag's LSTM has no "
            "projection"
        )
    layers = []
    for number in range(module.num_layers):
        directions = [
            _layer_from(module, number, suffix)
            for suffix in ("", "_reverse")[: 1 + module.bidirectional]
        ]
        layers.append(Bidirectional(*directions) if module.bidirectional else directions[0])
    converted = layers[0] if len(layers) == 1 else Stack(*layers, dropout=module.dropout)
    return converted.train(module.training)


def _layer_from(module: nn.RNNBase, number: int, suffix: str) -> Recurrent:
    def weight(name: str) -> Tensor:
        return getattr(module, f"{name}_l{number}{suffix}").detach()

    w_ih, w_hh = weight("weight_ih"), weight("weight_hh")
    sizes = (w_ih.shape[1], module.hidden_size)
    options: Options = {"bias": bool(module.bias), "device": w_ih.device, "dtype": w_ih.dtype}
    if isinstance(module, nn.RNN):
        layer: Recurrent = Elman(*sizes, activation=str(module.nonlinearity), **options)
    elif isinstance(module, nn.LSTM):
        layer = LSTM(*sizes, **options)
    else:
        layer = GRU(*sizes, **options)
    with torch.no_grad():
        layer.weight_ih.copy_(w_ih)
        assert layer.weight_hh is not None
        layer.weight_hh.copy_(w_hh)
        if layer.bias is not None:
            b_ih, b_hh = weight("bias_ih"), weight("bias_hh").clone()
            if isinstance(layer, GRU):
                layer.unit("bias_hn").copy_(b_hh[-module.hidden_size :])
                b_hh[-module.hidden_size :] = 0.0
            layer.bias.copy_(b_ih + b_hh)
    return layer


def to_torch(module: RecurrentModule) -> nn.RNNBase:
    """The same network as a torch.nn module, with copies of its weights.

    Args:
        module: an Elman (tanh or relu), LSTM without peepholes or GRU layer; a Bidirectional of
            two such; or a Stack of such of one hidden size.

    Returns:
        The torch.nn module, with ``batch_first=True``.

    Raises:
        ValueError: where torch.nn has no such network; the message says which part.

    Example:
        >>> to_torch(LSTM(3, 4))
        LSTM(3, 4, batch_first=True)
    """
    parts = list(module.layers) if isinstance(module, Stack) else [module]
    pairs: list[Sequence[Recurrent]] = []
    for part in parts:
        pair = (
            [part.forward_layer, part.backward_layer] if isinstance(part, Bidirectional) else [part]
        )
        for layer in pair:
            _check_torch_has(layer)
        pairs.append([layer for layer in pair if isinstance(layer, Recurrent)])
    first = pairs[0][0]
    for number, pair in enumerate(pairs):
        for layer in pair:
            for name in ("recurrence.name", "cell", "hidden_size", "bias"):
                ours, theirs = (_get(one, name) for one in (first, layer))
                if name == "cell":
                    ours, theirs = (getattr(cell, "activation", None) for cell in (ours, theirs))
                elif name == "bias":
                    ours, theirs = (bias is not None for bias in (ours, theirs))
                if ours != theirs:
                    raise ValueError(
                        f"to_torch: layer {number} differs from the first in {name} "
                        f"({theirs!r}, not {ours!r}); torch.nn has one kind and size for all layers"
                    )
        if len(pair) != len(pairs[0]):
            raise ValueError(
                f"to_torch: layer {number} reads {len(pair)} direction(s) and the first "
                f"{len(pairs[0])}; torch.nn has the same for all layers"
            )
    kinds: dict[type, Any] = {Elman: nn.RNN, LSTM: nn.LSTM, GRU: nn.GRU}
    extra = {"nonlinearity": first.cell.activation} if isinstance(first, Elman) else {}  # type: ignore[attr-defined]
    converted = kinds[type(first)](
        first.input_size,
        first.hidden_size,
        num_layers=len(pairs),
        bias=first.bias is not None,
        batch_first=True,
        dropout=module.dropout if isinstance(module, Stack) else 0.0,
        bidirectional=len(pairs[0]) == 2,
        device=first.weight_ih.device,
        dtype=first.weight_ih.dtype,
        **extra,
    )
    for number, pair in enumerate(pairs):
        for layer, suffix in zip(pair, ("", "_reverse"), strict=False):
            _layer_to(converted, layer, f"_l{number}{suffix}")
    return converted.train(module.training)


def _get(layer: Recurrent, path: str) -> object:
    value: object = layer
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _check_torch_has(layer: object) -> None:
    problem = None
    if isinstance(layer, Recurrent) and layer.recurrence.delayed:
        problem = "it has no delays"
    elif isinstance(layer, Recurrent) and any(wire.pattern for wire in layer.recurrence.wires):
        problem = "its recurrent matrices are full, without a pattern"
    elif not isinstance(layer, (Elman, LSTM, GRU)):
        problem = f"it has no {type(layer).__name__}"
    elif isinstance(layer, Elman) and layer.cell.activation not in ("tanh", "relu"):  # type: ignore[attr-defined]
        problem = f"its RNN has no activation {layer.cell.activation!r}"  # type: ignore[attr-defined]
    elif isinstance(layer, LSTM) and "peephole_input" in layer.recurrence.units:
        problem = "its LSTM has no peepholes"
    elif layer.replicas is not None:
        problem = "it has no replicas"
    elif layer.recurrent_dropout or layer.input_dropout:
        problem = "it has no input or recurrent dropout"
    elif isinstance(layer, GRU) and (layer.bias is None) != (
        "bias_hn" not in layer.recurrence.units
    ):
        problem = "its GRU has both biases or none"
    if problem:
        raise ValueError(f"to_torch: torch.nn cannot hold this network: {problem}")


@torch.no_grad()
def _layer_to(module: nn.RNNBase, layer: Recurrent, suffix: str) -> None:
    assert layer.weight_hh is not None
    getattr(module, "weight_ih" + suffix).copy_(layer.weight_ih)
    getattr(module, "weight_hh" + suffix).copy_(layer.weight_hh)
    if layer.bias is not None:
        getattr(module, "bias_ih" + suffix).copy_(layer.bias)
        recurrent = getattr(module, "bias_hh" + suffix)
        recurrent.zero_()
        if isinstance(layer, GRU):
            recurrent[-layer.hidden_size :] = layer.unit("bias_hn")
