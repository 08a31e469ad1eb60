"""What exporters put around recurrent nodes: other orders of axes, one step, a linear readout.

Each function tells what a node makes of a value; None where that is nothing that a module has.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import NodeProto

from longlag.onnx.modules import OUTPUT_ACTIVATIONS
from longlag.onnx.nodes import Inputs, attributes, axes_of, order_of, selection
from longlag.onnx.values import Input, Known, Numbers, ReadOut, Several, Value, Zeros

OF_INPUTS = (
    "Cast", "Concat", "Expand", "Gather", "Identity", "Max", "Min", "Reshape", "Slice", "Split",
    "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""What is done to lengths and initial states before a node reads them."""


def of_input(node: NodeProto, value: Input, inputs: Inputs, lengths: str | None) -> Value | None:
    """Of an input of the graph."""
    if node.op_type == "Transpose" and value.axes is not None:
        order = order_of(node, len(value.axes))
        return Input(value.name, tuple(value.axes[axis] for axis in order))
    if node.op_type in OF_INPUTS:
        return Input(value.name, None, value.positive)
    other = inputs[1] if len(inputs) > 1 else None
    if node.op_type == "Greater" and isinstance(other, Known) and not other.array.any():
        return Input(value.name, None, positive=True)
    # Where a sequence has no step, the module has its own answer, as the exported one has.
    empty = node.op_type == "Where" and value.positive and value.name == lengths
    if not (empty and isinstance(other, Numbers)):
        return None
    zero = isinstance(inputs[2], Known) and not inputs[2].array.any()
    return other if zero or isinstance(inputs[2], (Zeros, Input)) else None


def of_numbers(
    node: NodeProto, value: Numbers, inputs: Inputs, width: int, lengths: str | None
) -> Value | None:
    """Of what a recurrent node puts out, but for one step and for several joined.

    Args:
        node: what is done.
        value: its first input.
        inputs: all of them.
        width: features of all directions, side by side.
        lengths: the input of the graph that has the lengths, where one has.
    """
    kind, axes = node.op_type, list(value.axes)
    rank = len(axes)
    other = inputs[1] if len(inputs) > 1 else None
    if kind == "Transpose":
        return value.of(*(axes[axis] for axis in order_of(node, rank)))
    if kind == "Unsqueeze":
        new = axes_of(node, inputs)
        for axis in sorted(axis % (rank + len(new)) for axis in new):
            axes.insert(axis, "1")
        return value.of(*axes)
    if kind == "Squeeze":
        ones = {"1", "D"} if len(value.directions) == 1 else {"1"}
        gone = {axis % rank for axis in axes_of(node, inputs)}
        if any(axes[axis] not in ones for axis in gone):
            return None
        gone = gone or {axis for axis in range(rank) if axes[axis] in ones}
        return value.of(*(name for axis, name in enumerate(axes) if axis not in gone))
    if kind == "Reshape":
        sizes = other.array.tolist() if isinstance(other, Known) else [-1] * (rank - 1)
        if len(sizes) == rank - 1 and sizes[-1] in (-1, width):
            if axes[-2:] == ["D", "F"]:
                return value.of(*axes[:-2], "F")
            if "D" in axes and len(value.directions) == 1:
                return value.of(*(name for name in axes if name != "D"))
        return None
    if kind in ("ReduceMean", "ReduceSum") and value.kind == "output":
        return _reduced(node, value, inputs, lengths)
    if kind == "Div" and value.kind == "sum" and isinstance(other, Input):
        return replace(value, kind="mean") if other.name == lengths else None
    if kind in ("MatMul", "Gemm") and isinstance(other, Known):
        return _linear(node, value, other.array, inputs)
    return None


def _reduced(
    node: NodeProto, value: Numbers, inputs: Inputs, lengths: str | None
) -> Numbers | None:
    """The mean or sum over the steps."""
    axes, over = list(value.axes), axes_of(node, inputs)
    mean = node.op_type == "ReduceMean"
    if len(over) != 1 or axes[over[0] % len(axes)] != "T" or (mean and lengths is not None):
        return None  # a mean over all steps counts the padding
    axes[over[0] % len(axes)] = "1"
    if not attributes(node).get("keepdims", 1):
        axes.remove("1")
    return value.of(*axes, kind="mean" if mean else "sum")


def of_several(node: NodeProto, value: Several, inputs: Inputs) -> Value | None:
    """Of the final states of several layers: those of one of them, in one direction."""
    chosen = selection(node, inputs) if node.op_type in ("Gather", "Slice") else None
    flat = [replace(part, directions=(d,)) for part in value.parts for d in part.directions]
    if chosen is None or chosen[0] != 0 or not -len(flat) <= chosen[1] < len(flat):
        return None
    part = flat[chosen[1]]
    return part.of(*["1"] * chosen[2], *part.axes[1:])


def _linear(node: NodeProto, value: Numbers, weight: Any, inputs: Inputs) -> Value | None:
    """A readout by a matrix (F, K)."""
    if value.axes[-1] != "F" or weight.ndim != 2 or {"D", "1"} & {*value.axes}:
        return None
    if node.op_type == "MatMul":
        return ReadOut(value, np.ascontiguousarray(weight.T))
    options = attributes(node)
    if options.get("transA", 0):
        return None
    scale, bias_scale = (weight.dtype.type(options.get(name, 1.0)) for name in ("alpha", "beta"))
    rows = weight if options.get("transB", 0) else weight.T
    made = ReadOut(value, np.ascontiguousarray(scale * rows))
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is None:
        return made
    return _with_bias(made, bias_scale * bias.array) if isinstance(bias, Known) else None


def _with_bias(read: ReadOut, bias: Any) -> ReadOut | None:
    count = len(read.weight)
    if bias.size not in (1, count) or bias.shape[-1:] not in ((), (1,), (count,)):
        return None
    bias = np.array(np.broadcast_to(bias.reshape(-1), (count,)))
    return replace(read, bias=bias if read.bias is None else read.bias + bias)


def of_readout(node: NodeProto, read: ReadOut, other: Value | None) -> Value | None:
    """Of a linear readout: a bias, an activation, another order of the axes."""
    names = {operator: name for name, operator in OUTPUT_ACTIVATIONS.items()}
    if read.activation == "identity":
        if node.op_type == "Add" and isinstance(other, Known):
            return _with_bias(read, other.array)
        if node.op_type in names:
            return replace(read, activation=names[node.op_type])
    if node.op_type == "Transpose":
        axes = [read.of.axes[axis] for axis in order_of(node, len(read.of.axes))]
        return replace(read, of=read.of.of(*axes))
    return None
