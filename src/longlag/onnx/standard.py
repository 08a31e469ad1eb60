"""ONNX's own recurrent operators, where they are a layer exactly: RNN, LSTM, GRU."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from longlag.cells import GRU, LSTM, Elman
from longlag.layers import Recurrent
from longlag.onnx.scan import array
from longlag.onnx.sequences import Sequences, States

ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}
"""Of a simple recurrent network, by longlag's name."""

GATES = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""By operator, for each of its gates in their order which gate of longlag's cell it is: of an LSTM
i, o, f, c are gates 0, 3, 1, 2 of i, f, g, o; of a GRU z, r, h are 1, 0, 2 of r, z, n."""

PEEPHOLES = ("peephole_input", "peephole_output", "peephole_forget")
"""In the order of an LSTM's P."""


class Operator(NamedTuple):
    """A standard operator.

    Attributes:
        name: its type.
        attributes: what it is told, beside the direction and the activations.
        bias: whether it has a B.
        peepholes: whether it is an LSTM with peepholes.
    """

    name: str
    attributes: dict[str, Any]
    bias: bool
    peepholes: bool = False

    @classmethod
    def of(cls, layer: Any) -> "Operator | None":
        """The operator that a layer is; None where there is none."""
        if (
            not isinstance(layer, Recurrent)
            or layer.replicas is not None
            or layer.dilation > 1
            or layer.like.dtype.itemsize != 4  # onnxruntime has them for float32 alone
        ):
            return None
        cell, size = layer.cell, {"hidden_size": layer.hidden_size}
        bias = layer.bias is not None or "bias_hn" in layer.recurrence.units
        if type(cell) is Elman and cell.activation in ACTIVATIONS:
            return cls("RNN", size, bias)
        if type(cell) is LSTM:
            return cls("LSTM", size, bias, cell.peepholes)
        if type(cell) is GRU:
            return cls("GRU", size | {"linear_before_reset": int(cell.reset_after)}, bias)
        return None

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states that it has."""
        return ("h", "c") if self.name == "LSTM" else ("h",)


def add_operator(
    operator: Operator,
    direction: str,
    layers: Sequence[tuple[Recurrent, str]],
    sequences: Sequences,
    states: States,
) -> tuple[str, str]:
    """Add a node for a layer, or for both directions.

    Args:
        operator: what they are.
        direction: "forward", "reverse" or "bidirectional".
        layers: with their paths; of two the second reads backward.
        sequences, states: of the graph.

    Returns:
        Its output (T, N, H), and the output after the last step of each direction, (N, H).
    """
    graph, hidden = sequences.graph, operator.attributes["hidden_size"]
    one_way = len(layers) == 1
    starts = {
        (path, name): states.initial(sequences, path, name, (None, hidden), [number])
        for _, path in layers
        for number, name in enumerate(operator.states)
    }
    along = graph.whole_numbers(0)
    initial = []
    for name in operator.states:
        parts = [graph.add("Unsqueeze", starts[path, name], along) for _, path in layers]
        initial.append(parts[0] if one_way else graph.add("Concat", *parts, axis=0))
    by_layer = zip(*(_weights(operator, layer) for layer, _ in layers), strict=True)
    w, r, b, *peepholes = (graph.constant(np.stack(parts)) for parts in by_layer)
    lengths = graph.cast(sequences.ends, np.int32)
    attributes = {**operator.attributes, "direction": direction}
    if operator.name == "RNN":
        attributes["activations"] = [_activation(layer) for layer, _ in layers]
    inputs = [sequences.x, w, r, b if operator.bias else "", lengths, *initial, *peepholes]
    count = 1 + len(initial)
    output, *final = graph.add_several(operator.name, count, *inputs, **attributes)
    if one_way:
        output = graph.add("Squeeze", output, graph.whole_numbers(1))
    else:
        output = graph.add("Transpose", output, perm=(0, 2, 1, 3))
        output = graph.add("Reshape", output, graph.whole_numbers(0, 0, 2 * hidden))
    last = []
    for number, (_, path) in enumerate(layers):
        at = graph.constant(number, np.int64)
        rows = [graph.add("Gather", after, at, axis=0) for after in final]
        for name, row in zip(operator.states, rows, strict=True):
            # Of an empty sequence the runtime gives zeros.
            states.final(path, name, sequences.unless_empty(row, starts[path, name]))
        last.append(sequences.unless_empty(rows[0]))
    return output, last[0] if one_way else graph.add("Concat", *last, axis=-1)


def _activation(layer: Recurrent) -> str:
    assert isinstance(layer.cell, Elman)
    return ACTIVATIONS[layer.cell.activation]


def _weights(operator: Operator, layer: Recurrent) -> list[NDArray[Any]]:
    """W, R and B of one direction, and P of an LSTM with peepholes."""
    hidden, order = layer.hidden_size, GATES[operator.name]

    def in_order(rows: Any) -> NDArray[Any]:
        return np.concatenate([rows[gate * hidden : (gate + 1) * hidden] for gate in order])

    matrix = layer.recurrent_matrix()
    assert matrix is not None
    of_input = np.zeros(len(layer.weight_ih), np.float32)
    if layer.bias is not None:
        of_input = array(layer.bias)
    of_state = np.zeros_like(of_input)
    units = layer.recurrence.units
    if "bias_hn" in units:
        of_state[-hidden:] = array(layer.unit("bias_hn"))
    bias = np.concatenate([in_order(of_input), in_order(of_state)])
    peepholes = [array(layer.unit(name)) for name in PEEPHOLES if name in units]
    further = [np.concatenate(peepholes)] if peepholes else []
    return [in_order(array(layer.weight_ih)), in_order(array(matrix)), bias, *further]
