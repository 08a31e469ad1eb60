"""A graph of ONNX, made node by node; its values are known by their names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 18
"""The version of the operators that graphs are written with."""

IR_VERSION = 8
"""The version of the format, the lowest that has these operators."""

LARGEST = 2**31 - 2**20
"""Bytes of the weights of one file, which protobuf limits to 2 GiB."""

Dimension = int | str | None


class Graph:
    """A graph under construction.

    Args:
        dtype: of the numbers that are computed with.
        outer: the graph that this one is the body of a loop in; it holds the constants of both.
    """

    def __init__(self, dtype: DTypeLike, outer: "Graph | None" = None) -> None:
        self.dtype = np.dtype(dtype)
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self._nodes: list[Any] = []
        self._whole = self if outer is None else outer._whole
        self._constants: dict[str, NDArray[Any]] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and name its one output."""
        (output,) = self.add_several(operator, 1, *inputs, **attributes)
        return output

    def add_several(
        self, operator: str, count: int, *inputs: str, names: Sequence[str] = (), **attributes: Any
    ) -> list[str]:
        """Add a node, and name its outputs."""
        number = self._whole._count = self._whole._count + 1
        outputs = list(names) or [f"{operator}_{number}_{place}" for place in range(count)]
        name = f"{operator}_{number}"
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs

    def constant(self, value: Any, dtype: DTypeLike | None = None) -> str:
        """The name of a constant, equal ones once; of the graph's dtype unless one is given."""
        array = np.array(value, self.dtype if dtype is None else dtype)
        whole = self._whole
        key = (array.dtype.str, array.shape, array.tobytes() if array.size < 64 else b"")
        known = None if array.size >= 64 else whole._known.get(key)
        if known is None:
            known = whole._known[key] = f"constant_{len(whole._constants)}"
            whole._constants[known] = array
        return known

    def place(self) -> str:
        """A name for a loop."""
        self._whole._count += 1
        return f"loop_{self._whole._count}"

    def whole_numbers(self, *numbers: int) -> str:
        """A constant list of int64."""
        return self.constant(list(numbers), np.int64)

    def input(
        self,
        name: str,
        dtype: DTypeLike,
        shape: Sequence[Dimension] | None,
        default: Any = None,
    ) -> str:
        """An input of the graph; one with a default may be left out."""
        self.inputs.append(_info(name, dtype, shape))
        if default is not None:
            self._constants[name] = np.asarray(default, dtype)
        return name

    def output(
        self, name: str, value: str, dtype: DTypeLike, shape: Sequence[Dimension] | None
    ) -> None:
        """An output of the graph."""
        self.add_several("Identity", 1, value, names=[name])
        self.outputs.append(_info(name, dtype, shape))

    def cast(self, value: str, dtype: DTypeLike) -> str:
        """The same numbers in another dtype."""
        return self.add("Cast", value, to=_element(dtype))

    def body(self, name: str) -> Any:
        """What stands in a loop, without constants of its own."""
        return helper.make_graph(self._nodes, name, self.inputs, self.outputs)

    def model(self, version: str, metadata: Mapping[str, str]) -> ModelProto:
        """The finished file, without the nodes that nothing reads.

        Raises:
            ValueError: its constants are more than a file can hold.
        """
        size = sum(array.nbytes for array in self._constants.values())
        if size > LARGEST:
            raise ValueError(
                f"model: its weights take {size / 1e9:.1f} GB as full matrices, and one file of "
                f"ONNX holds at most {LARGEST / 1e9:.1f} GB; give a smaller model"
            )
        nodes, read = _reached(self._nodes, [output.name for output in self.outputs])
        inputs = {info.name for info in self.inputs}
        tensors = [
            numpy_helper.from_array(array, name)
            for name, array in self._constants.items()
            if name in read or name in inputs
        ]
        graph = helper.make_graph(nodes, "longlag", self.inputs, self.outputs, tensors)
        model = helper.make_model(
            graph,
            producer_name="longlag",
            producer_version=version,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, dict(metadata))
        return model


def _reached(nodes: Sequence[Any], outputs: Sequence[str]) -> tuple[list[Any], set[str]]:
    """The nodes that the outputs are made by, in order, and all names that are read."""
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if read.intersection(node.output):
            kept.append(node)
            read.update(node.input)
            for attribute in node.attribute:
                read.update(name for inner in attribute.g.node for name in inner.input)
                read.update(info.name for info in attribute.g.output)
    return kept[::-1], read


def _element(dtype: DTypeLike) -> TensorProto.DataType:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _info(name: str, dtype: DTypeLike, shape: Sequence[Dimension] | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, _element(dtype), shape)
