"""From ONNX's RNN, LSTM and GRU nodes to layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import NodeProto

from longlag.layers import (
    GRU,
    LSTM,
    Backward,
    Bidirectional,
    Elman,
    Recurrent,
    RecurrentModule,
)
from longlag.onnx.nodes import Inputs, attributes, refused
from longlag.onnx.standard import ACTIVATIONS, GATES, PEEPHOLES
from longlag.onnx.values import Input, Known, Zeros

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_DEFAULTS = {"RNN": ["tanh"], "LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}
"""The activations of each direction, in lower case; of an LSTM and GRU the only ones."""


def module_of(node: NodeProto, inputs: Inputs) -> RecurrentModule:
    """The module that a node is: a layer, or one that reads backward, or both directions.

    Raises:
        LoadError: no layer is like it.
    """
    options = attributes(node)
    for name in ("clip", "input_forget"):
        if options.get(name):
            raise refused(node, f"has {name} = {options[name]}, which no layer has")
    direction = options.get("direction", "forward")
    count, gates = _DIRECTIONS[direction], len(GATES[node.op_type])
    weights = {"W": inputs[1], "R": inputs[2], "B": _at(inputs, 3), "P": _at(inputs, 7)}
    arrays: list[NDArray[Any] | None] = []
    for name, value in weights.items():
        if value is not None and not isinstance(value, Known):
            raise refused(node, f"has a {name} that is no constant of the file")
        arrays.append(None if value is None else value.array)
    w, r, b, p = arrays
    assert w is not None
    assert r is not None
    hidden = r.shape[-1]
    expected = [
        (w, (count, gates * hidden, w.shape[-1])),
        (r, (count, gates * hidden, hidden)),
        (b, (count, 2 * gates * hidden)),
        (p, (count, 3 * hidden)),
    ]
    for array, shape in expected:
        if array is not None and array.shape != shape:
            raise refused(node, f"has weights of shape {array.shape} where {shape} are needed")
        if array is not None and array.dtype != w.dtype:
            raise refused(node, f"has weights of {w.dtype} and {array.dtype}")
    if options.get("hidden_size", hidden) != hidden:
        raise refused(node, f"has hidden_size = {options['hidden_size']} and {hidden} units")
    if w.dtype not in (np.float32, np.float64):
        raise refused(node, f"has weights of {w.dtype}, which is neither float32 nor float64")
    for place, name in ((5, "initial_h"), (6, "initial_c")):
        value = _at(inputs, place)
        zero = isinstance(value, Known) and not value.array.any()
        if not (value is None or zero or isinstance(value, (Zeros, Input))):
            raise refused(node, f"has a constant {name} that is not zero")
    activations = [name.lower() for name in _texts(options.get("activations", []))]
    activations = activations or _DEFAULTS[node.op_type] * count
    size = len(_DEFAULTS[node.op_type])
    layers = []
    for number in range(count):
        names = activations[number * size : (number + 1) * size]
        own = [None if array is None else array[number] for array in arrays]
        layers.append(_layer(node, names, options, *own))
    if count == 2:
        return Bidirectional(*layers)
    return Backward(layers[0]) if direction == "reverse" else layers[0]


def _at(inputs: Inputs, place: int) -> Any:
    return inputs[place] if place < len(inputs) else None


def _texts(values: Sequence[Any]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _layer(
    node: NodeProto, activations: list[str], options: dict[str, Any], w: Any, r: Any, b: Any, p: Any
) -> Recurrent:
    """One direction of a node."""
    kind, hidden, order = node.op_type, r.shape[-1], GATES[node.op_type]
    known = {operator.lower(): name for name, operator in ACTIVATIONS.items()}
    one = len(activations) == 1 and activations[0] in known
    if not (one if kind == "RNN" else activations == _DEFAULTS[kind]):
        raise refused(node, f"has the activations {activations}, which no layer has")
    common: Any = {"bias": b is not None, "dtype": torch.from_numpy(w[:0].copy()).dtype}
    if kind == "RNN":
        layer: Recurrent = Elman(w.shape[1], hidden, activation=known[activations[0]], **common)
    elif kind == "LSTM":
        layer = LSTM(w.shape[1], hidden, peepholes=p is not None, **common)
    else:
        after = bool(options.get("linear_before_reset", 0))
        layer = GRU(w.shape[1], hidden, reset_after=after, **common)

    def in_order(rows: Any) -> torch.Tensor:
        parts = np.split(rows, len(order))
        return torch.from_numpy(np.concatenate([parts[order.index(g)] for g in range(len(order))]))

    with torch.no_grad():
        layer.weight_ih.copy_(in_order(w))
        assert layer.weight_hh is not None
        layer.weight_hh.copy_(in_order(r))
        if layer.bias is not None:
            of_input, of_state = (in_order(part) for part in np.split(b, 2))
            if "bias_hn" in layer.recurrence.units:
                layer.get_parameter("bias_hn").copy_(of_state[-hidden:])
                of_state[-hidden:] = 0.0
            layer.bias.copy_(of_input + of_state)
        if p is not None:
            for name, part in zip(PEEPHOLES, np.split(p, 3), strict=True):
                layer.get_parameter(name).copy_(torch.from_numpy(part.copy()))
    return layer
