"""What is around a network that `longlag train` made, as parts of its graph."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.data.predictions import ClassPredictions
from longlag.onnx.graph import Graph
from longlag.onnx.sequences import Sequences
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.scores import LEAST_SHARE


def standardise(graph: Graph, x: str, fitted: Fitted) -> str:
    """The features without units, in float64 up to the last step as the preparation does.

    Beside them their changes, where the network reads these.
    """
    encoding, scaling = fitted.preparation.encoding, fitted.preparation.inputs
    for what, there in (
        ("categories", encoding.categories), ("missing values", encoding.missing != "error")
    ):  # fmt: skip
        if there:
            raise TypeError(
                f"model: its preparation takes {what}, for which the graph has no operators; "
                "export the network alone, Fitted.model, or train on numbers without gaps"
            )
    wide = graph.cast(x, np.float64)
    wide = graph.add("Sub", wide, graph.constant(scaling.mean, np.float64))
    wide = graph.add("Div", wide, graph.constant(scaling.scale, np.float64))
    x = graph.cast(wide, graph.dtype)
    if fitted.changes is None:
        return x
    axis = graph.whole_numbers(1)
    first = graph.add("Slice", x, graph.whole_numbers(0), graph.whole_numbers(1), axis)
    earlier = graph.add("Slice", x, graph.whole_numbers(0), graph.whole_numbers(-1), axis)
    changes = graph.add("Sub", x, graph.add("Concat", first, earlier, axis=1))
    changes = graph.add("Div", changes, graph.constant(fitted.changes.scale))
    return graph.add("Concat", x, changes, axis=2)


def answer(graph: Graph, output: str, fitted: Fitted, sequences: Sequences) -> None:
    """What the network says, in the units of the data: an output of the graph."""
    preparation = fitted.preparation
    steps = () if preparation.reduce == "last" else ("T",)
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
    if isinstance(predictions, ClassPredictions):
        return {"probabilities": predictions.probabilities}
    return {"values": predictions.values}


def metadata(fitted: Fitted) -> Mapping[str, str]:
    """What a reader of the file must know of the data."""
    preparation = fitted.preparation
    known = {
        "task": preparation.task,
        "features": None if preparation.feature_names is None else preparation.input_names,
        "targets": preparation.target_names,
        "classes": preparation.classes,
        "horizon": preparation.horizon,
    }
    return {name: json.dumps(value) for name, value in known.items() if value is not None}
