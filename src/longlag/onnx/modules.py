"""Modules of longlag as parts of a graph: layers, stacks, both directions, readouts."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from longlag.layers import (
    Backward,
    Bidirectional,
    Dilated,
    EchoState,
    Embedded,
    NextGeneration,
    Readout,
    Recurrent,
    SequenceModel,
    Stack,
)
from longlag.layers.attention import Attention
from longlag.layers.built_in import LAYERS
from longlag.layers.sequence_model import SHARES
from longlag.onnx.graph import Graph
from longlag.onnx.scan import Scan, array
from longlag.onnx.sequences import Sequences, States
from longlag.onnx.standard import Operator, add_operator

_CELLS = (Recurrent, EchoState, *LAYERS.values())
_STACKS = (Stack, Dilated)
_KNOWN = (
    SequenceModel, Readout, Attention, Backward, Bidirectional, Embedded, NextGeneration, *_STACKS,
    *_CELLS,
)  # fmt: skip

OUTPUT_ACTIVATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh"}
"""Of a readout, by longlag's name."""


class Emitted(NamedTuple):
    """What a module became.

    Attributes:
        sequence: its output (T, N, H), zero in the padding.
        last: the output for the whole sequence, (N, H), as the module's ``last`` gives it.
    """

    sequence: str
    last: str


def check_module(model: nn.Module) -> None:
    """Raise a TypeError for a part that no graph can be made of, by its name."""
    for path, module in model.named_modules():
        own = parametrize.type_before_parametrizations(module)
        inside = own.__module__.startswith("torch.nn.")  # lists, parametrizations
        if own not in _KNOWN and not inside and not _is_inside_weight(path):
            where = f"model.{path}" if path else "model"
            raise TypeError(
                f"{where}: got {own.__name__}, of which no ONNX graph can be made; expected a "
                "layer of longlag (for an equation of your own declare a Cell and use "
                "ll.Recurrent), ll.Stack, ll.Dilated, ll.Bidirectional, or ll.SequenceModel of "
                "such with its linear readout; ll.from_torch(...) converts a recurrent module of "
                "torch.nn"
            )


def _is_inside_weight(path: str) -> bool:
    return "parametrizations" in path.split(".")


def add_module(module: Any, path: str, sequences: Sequences, states: States) -> Emitted:
    """Add a recurrent module that reads the x of some sequences.

    Args:
        module: a layer, or what is made of layers.
        path: of it in the whole recurrent module.
        sequences, states: of the graph.
    """
    kind = parametrize.type_before_parametrizations(module)

    def inside(name: str) -> str:
        return f"{path}.{name}".strip(".")

    if kind in _STACKS:
        x, last = sequences.x, ""
        for number, layer in enumerate(module.layers):
            part = add_module(layer, inside(f"layers.{number}"), sequences.on(x), states)
            x, last = part
        return Emitted(x, last)
    if kind is Bidirectional:
        return _both_directions(module, inside, sequences, states)
    if kind is Backward:
        return _backward(module.layer, inside("layer"), sequences, states)
    if kind is Embedded:
        read = sequences.on(_embedded(module, sequences))
        return add_module(module.layer, inside("layer"), read, states)
    if kind is NextGeneration:
        return _next_generation(module, path, sequences, states)
    operator = Operator.of(module) if sequences.keep is None else None
    if operator is not None:
        return Emitted(*add_operator(operator, "forward", [(module, path)], sequences, states))
    return Emitted(*Scan(module, path).add(sequences, states))


def _embedded(module: Embedded, sequences: Sequences) -> str:
    """The numbers and the vectors that the module inside reads, (T, N, ...)."""
    graph, x = sequences.graph, sequences.x
    parts = []
    numbers = [at for at in range(module.input_size) if at not in module.categories]
    if numbers:
        parts.append(graph.add("Gather", x, graph.whole_numbers(*numbers), axis=-1))
    for at, vectors in zip(module.categories, module.vectors, strict=True):
        code = graph.add("Gather", x, graph.constant(at, np.int64), axis=-1)
        count = graph.constant(len(vectors))
        known = graph.add(
            "And",
            graph.add("GreaterOrEqual", code, graph.constant(0)),
            graph.add("Less", code, count),
        )
        row = graph.cast(graph.add("Where", known, code, count), np.int64)
        rows = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
        parts.append(graph.add("Gather", graph.constant(array(rows)), row, axis=0))
    return graph.add("Concat", *parts, axis=-1)


def _backward(layer: Any, path: str, sequences: Sequences, states: States) -> Emitted:
    operator = Operator.of(layer) if sequences.keep is None else None
    if operator is not None:
        return Emitted(*add_operator(operator, "reverse", [(layer, path)], sequences, states))
    read = add_module(layer, path, sequences.reversed(), states)
    return Emitted(sequences.backward(read.sequence), read.last)


def _both_directions(module: Any, inside: Any, sequences: Sequences, states: States) -> Emitted:
    layers = [(layer, inside(name)) for name, layer in module.directions.items()]
    operators = [Operator.of(layer) if sequences.keep is None else None for layer, _ in layers]
    if operators[0] is not None and operators[0] == operators[1]:
        return Emitted(*add_operator(operators[0], "bidirectional", layers, sequences, states))
    graph = sequences.graph
    (ahead, its_path), (back, other_path) = layers
    forward = add_module(ahead, its_path, sequences, states)
    backward = _backward(back, other_path, sequences, states)
    sequence = graph.add("Concat", forward.sequence, backward.sequence, axis=-1)
    return Emitted(sequence, graph.add("Concat", forward.last, backward.last, axis=-1))


def _next_generation(
    layer: NextGeneration, path: str, sequences: Sequences, states: States
) -> Emitted:
    """The latest inputs, and products of them, at all steps at once."""
    graph, span, width = sequences.graph, layer.span, layer.input_size
    if sequences.keep is not None:
        raise ValueError(
            "resets: got True, expected False, as the graph of a NextGeneration layer has no resets"
        )
    past = states.initial(sequences, path, "inputs", (None, span, width))
    past = graph.add("Transpose", past, perm=(1, 0, 2))
    x = sequences.without_padding(sequences.x)
    history = graph.add("Concat", past, x, axis=0)
    along = graph.whole_numbers(0)
    parts = []
    for lag in range(0, span, layer.stride):
        first = graph.whole_numbers(span - lag)
        stop = graph.add("Add", first, sequences.steps)
        parts.append(graph.add("Slice", history, first, stop, along))
    seen = graph.add("Concat", *parts, axis=-1)
    features = [seen]
    for places in layer.products(torch.device("cpu")):
        factors = [
            graph.add("Gather", seen, graph.constant(place.tolist(), np.int64), axis=-1)
            for place in places
        ]
        product = factors[0]
        for factor in factors[1:]:
            product = graph.add("Mul", product, factor)
        features.append(product)
    output = sequences.without_padding(graph.add("Concat", *features, axis=-1))
    at = graph.constant(np.arange(span).reshape(-1, 1, 1), np.int64)
    ends = graph.add("Unsqueeze", sequences.ends, graph.whole_numbers(-1))
    at = graph.add("Expand", graph.add("Add", at, ends), sequences.shape(span, None, width))
    final = graph.add("GatherElements", history, at, axis=0)
    states.final(path, "inputs", graph.add("Transpose", final, perm=(1, 0, 2)))
    return Emitted(output, sequences.last(output, layer.output_size))


def add_model(model: Any, sequences: Sequences, states: States) -> tuple[str, bool]:
    """Add a whole model: its output, and whether that is one for each sequence."""
    if not isinstance(model, SequenceModel):
        return sequences.batch_first(add_module(model, "", sequences, states).sequence), False
    emitted, readout = add_module(model.layer, "", sequences, states), model.linear_readout
    reduced = model.reduce is not None
    x = None
    if readout.direct_size is not None:
        x = sequences.without_padding(sequences.x)
        if model.reduce == "last":
            x = sequences.last(x, readout.direct_size)
    h = emitted.last if model.reduce == "last" else emitted.sequence
    graph, steps = sequences.graph, h
    if model.attention is not None:
        weights = _attention(model.attention, sequences, h)
        h = sequences.total(weights, h)
        x = None if x is None else sequences.total(weights, x)
    if model.reduce in SHARES:
        zero = graph.constant(np.zeros((), array(readout.weight).dtype))
        h = graph.add("CastLike", graph.add("Greater", h, zero), h)
    if model.reduce in ("mean", *SHARES):
        h = sequences.mean(h)
        if model.reduce == "share_max":
            places = np.arange(readout.input_size) % 2 == 1
            h = graph.add("Where", graph.constant(places, np.bool_), sequences.most(steps), h)
        x = None if x is None else sequences.mean(x)
    y = _read_out(readout, sequences.graph, h, x)
    return (y if reduced else sequences.batch_first(y)), reduced


def _attention(attention: Attention, sequences: Sequences, h: str) -> str:
    """The weight of each step of (T, N, H): (T, N, 1), zero in the padding."""
    graph = sequences.graph
    parts = attention.weight.mT, attention.bias.unsqueeze(-2), attention.vector.unsqueeze(-1)
    weight, bias, vector = (graph.constant(array(part)) for part in parts)
    seen = graph.add("Tanh", graph.add("Add", graph.add("MatMul", h, weight), bias))
    score = graph.add("MatMul", seen, vector)
    least = graph.constant(np.finfo(array(attention.weight).dtype).min)
    score = graph.add("Where", sequences.active, score, least)
    return sequences.without_padding(graph.add("Softmax", score, axis=0))


def _read_out(readout: Readout, graph: Graph, h: str, x: str | None) -> str:
    def times(features: str, weight: Tensor) -> str:
        return graph.add("MatMul", features, graph.constant(array(weight.mT)))

    y = times(h, readout.weight)
    if readout.weight_squares is not None:
        y = graph.add("Add", y, times(graph.add("Mul", h, h), readout.weight_squares))
    if readout.weight_direct is not None:
        assert x is not None
        y = graph.add("Add", y, times(x, readout.weight_direct))
    if readout.bias is not None:
        y = graph.add("Add", y, graph.constant(array(readout.bias.unsqueeze(-2))))
    operator = OUTPUT_ACTIVATIONS.get(readout.activation)
    return y if operator is None else graph.add(operator, y)
