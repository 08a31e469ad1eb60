"""What is around a network that `longlag train` made, as parts of its graph."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.data import Preparation
from longlag.data.encoding import TIME_DELTA
from longlag.data.predictions import ClassPredictions, LabelPredictions
from longlag.onnx.graph import Graph
from longlag.onnx.sequences import Sequences
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.scores import LEAST_SHARE


def encode(graph: Graph, x: str, fitted: Fitted) -> str:
    """The inputs of the network from the features, as the preparation makes them.

    A category is its position among those of the metadata, anything else where it is none of them;
    a missing value is NaN.

    Raises:
        TypeError: missing values become the previous ones, for which there is no operator.
    """
    encoding, scaling = fitted.preparation.encoding, fitted.preparation.inputs
    if encoding.missing == "previous":
        raise TypeError(
            "model: its preparation fills missing values in with the previous ones, for which the "
            "graph has no operator; train it with missing (--missing) mean or indicator"
        )
    absent, wide = graph.add("IsNaN", x), graph.cast(x, np.float64)
    if encoding.missing != "error":
        wide = graph.add("Where", absent, graph.constant(encoding.fill, np.float64), wide)
    wide = graph.add("Sub", wide, graph.constant(scaling.mean, np.float64))
    wide = graph.add("Div", wide, graph.constant(scaling.scale, np.float64))
    values = graph.cast(wide, graph.dtype)
    kinds = encoding.spread
    if not kinds and not encoding.indicated:
        return _with_changes(graph, values, fitted)
    parts = []
    for c in range(len(scaling.mean)):
        column = graph.add("Gather", values, graph.whole_numbers(c), axis=2)
        if c in kinds:
            column = graph.add("Equal", column, graph.constant(range(len(kinds[c]))))
            column = graph.cast(column, graph.dtype)
        parts.append(column)
    if encoding.indicated:
        told = graph.add("Gather", absent, graph.whole_numbers(*encoding.indicated), axis=2)
        parts.append(graph.cast(told, graph.dtype))
    return _with_changes(graph, graph.add("Concat", *parts, axis=2), fitted)


def _with_changes(graph: Graph, x: str, fitted: Fitted) -> str:
    """The inputs, and beside them their changes and places, where the network reads these."""
    if fitted.changes is None:
        return x
    axis = graph.whole_numbers(1)
    first = graph.add("Slice", x, graph.whole_numbers(0), graph.whole_numbers(1), axis)
    earlier = graph.add("Slice", x, graph.whole_numbers(0), graph.whole_numbers(-1), axis)
    changes = graph.add("Sub", x, graph.add("Concat", first, earlier, axis=1))
    changes = graph.add("Div", changes, graph.constant(fitted.changes.scale))
    places = [] if fitted.changes.steps is None else [_places(graph, x, fitted.changes.waves)]
    return graph.add("Concat", x, changes, *places, axis=2)


def _places(graph: Graph, x: str, waves: NDArray[np.float64]) -> str:
    """Where in the series each step of x is, by cosines."""
    shape = graph.add("Shape", x)
    rows, steps = (graph.add("Gather", shape, graph.whole_numbers(axis)) for axis in (0, 1))
    zero, one = (graph.constant(number, np.int64) for number in (0, 1))
    numbers = graph.cast(graph.add("Range", zero, graph.add("Squeeze", steps), one), np.float32)
    numbers = graph.add("Unsqueeze", numbers, graph.whole_numbers(-1))
    places = graph.add("Cos", graph.add("Mul", numbers, graph.constant(waves, np.float32)))
    width = graph.whole_numbers(len(waves))
    places = graph.add("Expand", places, graph.add("Concat", rows, steps, width, axis=0))
    return graph.cast(places, graph.dtype)


def drawn(fitted: Fitted, x: NDArray[Any], random: np.random.Generator) -> NDArray[np.float32]:
    """Features in the units of the data, from normal numbers: with categories, and some missing."""
    encoding = fitted.preparation.encoding
    x = fitted.preparation.inputs.restore(x)
    for at, names in encoding.categories:
        x[..., at] = random.integers(-1, len(names), x.shape[:-1])
    if encoding.missing != "error":
        x[random.random(x.shape) < 0.1] = np.nan
    return x.astype(np.float32)


def encoded(fitted: Fitted, x: NDArray[Any]) -> NDArray[Any]:
    """What the preparation makes of such features."""
    encoding, absent = fitted.preparation.encoding, np.isnan(x)
    if encoding.missing != "error":
        x = np.where(absent, np.array(encoding.fill), x)
    values = fitted.preparation.inputs.apply(x)
    if not encoding.spread and not encoding.indicated:
        return values
    return encoding.expand(values.astype(np.float32), absent, np.ones(x.shape[:2], bool))


def answer(graph: Graph, output: str, fitted: Fitted, sequences: Sequences) -> None:
    """What the network says, in the units of the data: an output of the graph."""
    preparation = fitted.preparation
    steps = () if preparation.reduce == "last" else ("T",)
    if preparation.label_sets:
        if fitted.puts_out_shares:
            ends = (graph.constant(LEAST_SHARE), graph.constant(1 - LEAST_SHARE))
            output = graph.add("Clip", output, *ends)
        else:
            output = graph.add("Sigmoid", output)
        if steps:
            there = sequences.batch_first(sequences.active)
            output = graph.add("Where", there, output, graph.constant(0.0))
        graph.output("probabilities", output, graph.dtype, ("N", *steps, preparation.output_size))
        return
    if preparation.targets is None:
        if fitted.puts_out_shares:
            least = graph.constant(LEAST_SHARE)
            output = graph.add("Log", graph.add("Max", output, least))
        output = graph.add("Softmax", output, axis=-1)
        if steps:
            there = sequences.batch_first(sequences.active)
            output = graph.add("Where", there, output, graph.constant(0.0))
        shape = ("N", *steps, preparation.output_size)
        graph.output("probabilities", output, graph.dtype, shape)
        return
    width, horizon = len(preparation.target_names), preparation.horizon
    shape = ("N", *steps, width)
    if horizon is not None:  # of the last step that counts
        forward = graph.add("Transpose", output, perm=(1, 0, 2))
        output = sequences.last(forward, preparation.output_size)
        output = graph.add("Reshape", output, graph.whole_numbers(-1, horizon, width))
        shape = ("N", horizon, width)
    wide = graph.cast(output, np.float64)
    wide = graph.add("Mul", wide, graph.constant(preparation.targets.scale, np.float64))
    wide = graph.add("Add", wide, graph.constant(preparation.targets.mean, np.float64))
    if steps and horizon is None:
        there = sequences.batch_first(sequences.active)
        wide = graph.add("Where", there, wide, graph.constant(0.0, np.float64))
    graph.output("values", wide, np.float64, shape)


def expected_answer(
    fitted: Fitted, outputs: NDArray[Any], lengths: NDArray[np.int64]
) -> dict[str, Any]:
    """The same by longlag, from the outputs of the network."""
    predictions = fitted.restore(outputs, lengths)
    if isinstance(predictions, ClassPredictions | LabelPredictions):
        return {"probabilities": predictions.probabilities}
    return {"values": predictions.values}


def metadata(fitted: Fitted) -> Mapping[str, str]:
    """What a reader of the file must know of the data."""
    preparation = fitted.preparation
    known = {
        "task": preparation.task,
        "features": _features(preparation),
        "categories": _categories(preparation),
        "targets": preparation.target_names,
        "classes": preparation.classes,
        "horizon": preparation.horizon,
    }
    return {name: json.dumps(value) for name, value in known.items() if value is not None}


def _features(preparation: Preparation) -> tuple[str, ...] | None:
    names = preparation.feature_names
    return None if names is None else (*names, *[TIME_DELTA] * preparation.encoding.time_delta)


def _categories(preparation: Preparation) -> dict[str, tuple[str, ...]] | None:
    names = preparation.feature_names or ()
    return {names[at]: kinds for at, kinds in preparation.encoding.categories} or None
