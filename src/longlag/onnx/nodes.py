"""What a node of a foreign graph says, and what it makes of constants."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from longlag.onnx.reading import LoadError
from longlag.onnx.values import Known, Value

FOLDED = (
    "Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""What is done to constants: nothing that makes more numbers than it is given, or is checked."""

Inputs = Sequence[Value | None]


def refused(node: NodeProto, why: str) -> LoadError:
    """The error for a node that no layer is made of."""
    name = node.name or (node.output[0] if node.output else "")
    return LoadError(
        f"the node {name!r:.80} ({node.op_type:.40}) {why}; expected RNN, LSTM and GRU nodes one "
        "on another, the usual Transpose, Squeeze, Reshape, Slice and Gather around them, and one "
        "linear readout"
    )


def attributes(node: NodeProto) -> dict[str, Any]:
    """By name; bytes as text."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}


def constant(node: NodeProto) -> NDArray[Any]:
    """The value of a Constant."""
    (value,) = attributes(node).values()
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def folded(node: NodeProto, inputs: Inputs) -> list[Value]:
    """What a node of :data:`FOLDED` makes of constants."""
    arrays: list[Any] = [value.array if isinstance(value, Known) else None for value in inputs]
    if node.op_type == "Gather":
        source, index = arrays
        if index.size > source.shape[attributes(node).get("axis", 0)]:
            raise refused(node, "takes more of a constant than there is")
    feed = {name: a for name, a in zip(node.input, arrays, strict=True) if a is not None}
    results: Any = ReferenceEvaluator(node).run(None, feed)
    return [Known(array) for array in results]


def axes_of(node: NodeProto, inputs: Inputs) -> list[int]:
    """The axes of a node: an attribute once, an input now."""
    axes = inputs[1] if len(inputs) > 1 else None
    if isinstance(axes, Known):
        return axes.array.reshape(-1).tolist()
    return list(attributes(node).get("axes", []))


def order_of(node: NodeProto, rank: int) -> Sequence[int]:
    """The order of the axes after a Transpose."""
    return attributes(node).get("perm", range(rank)[::-1])


def selection(node: NodeProto, inputs: Inputs) -> tuple[int, int, int] | None:
    """Of a Gather or Slice that takes one row: axis, number, and how many axes stand there after.

    None where it takes something else.
    """
    arrays = [value.array.reshape(-1).tolist() for value in inputs[1:] if isinstance(value, Known)]
    if len(arrays) < len(inputs) - 1:
        return None
    if node.op_type == "Gather":
        index = inputs[1]
        assert isinstance(index, Known)
        axis = attributes(node).get("axis", 0)
        return (axis, arrays[0][0], index.array.ndim) if len(arrays[0]) == 1 else None
    if len(arrays) < 3 or any(len(part) != 1 for part in arrays) or arrays[3:] not in ([], [[1]]):
        return None
    (first,), (stop,), (axis,) = arrays[:3]
    one = stop == first + 1 if first != -1 else stop >= 2**31 - 1
    return (axis, first, 1) if one else None
