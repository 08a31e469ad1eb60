"""From a file of ONNX to a network: its graph is read node by node, and never run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from onnx import GraphProto, NodeProto, numpy_helper

from longlag.layers import Backward, Bidirectional, Readout, RecurrentModule, SequenceModel, Stack
from longlag.onnx.around import OF_INPUTS, of_input, of_numbers, of_readout, of_several
from longlag.onnx.nodes import FOLDED, Inputs, attributes, constant, folded, refused, selection
from longlag.onnx.operators import module_of
from longlag.onnx.reading import LoadError, read_model
from longlag.onnx.standard import GATES
from longlag.onnx.values import Input, Known, Numbers, ReadOut, Several, Sizes, Value, Zeros

_OF_SIZES = (
    *FOLDED, "Add", "ConstantOfShape", "Div", "Equal", "Expand", "Max", "Min", "Mul", "Range",
    "ReduceProd", "Sub", "Where",
)  # fmt: skip
"""What is done to whole numbers that follow from the shape of x."""

_MISFITS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What onnx, NumPy and modules may raise for what does not fit together."""

_ROOM = 10**7
"""Numbers that may be made of the constants of a small file; of a large one, as many as it has."""


def from_onnx(path: str | Path) -> SequenceModel | RecurrentModule:
    """The network of a graph whose recurrent nodes are ONNX's RNN, LSTM or GRU.

    As torch.onnx, exporters of Keras and :func:`export_onnx` write them: one node on another,
    forward, reverse or bidirectional, of either layout, with or without lengths and initial states;
    Transpose, Squeeze, Reshape, Slice, Gather and Concat around them; and at the end at most one
    linear function (MatMul, Gemm, Add), perhaps with a sigmoid or tanh, of all steps, of the last
    one, or of their mean.

    Args:
        path: the file. Weights that it keeps in files of its folder are read too.

    Returns:
        A SequenceModel where there is a linear function; else the recurrent module: a layer,
        :class:`~longlag.layers.Backward`, :class:`~longlag.Bidirectional`, or a
        :class:`~longlag.Stack`. In evaluation mode, and whatever the layout of the graph, x is
        (N, T, C). Lengths and states, inputs of the graph, are arguments of the module. A graph
        that puts out the last step alone is a module too: ``module.last(output)`` is that step.

    Raises:
        LoadError: the file is damaged, or has what no layer of longlag has; it names the node.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile, longlag as ll
        >>> path = Path(tempfile.mkdtemp()) / "model.onnx"
        >>> ll.export_onnx(ll.Stack(ll.LSTM(3, 4), ll.GRU(4, 5)), path, check=False)
        >>> [type(layer).__name__ for layer in ll.from_onnx(path).layers]
        ['LSTM', 'GRU']
    """
    path = Path(path)
    model = read_model(path)
    try:
        return _Reader(model.graph).network().eval()
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from None
    except _MISFITS as error:
        raise LoadError(f"{path}: describes no network: {str(error)[:500]}") from error


@dataclass(frozen=True)
class _Level:
    """A recurrent module, and what it reads.

    Attributes:
        module: made of a node, or of one for each direction.
        below: number of the level whose output it reads; None for x.
        x: what it reads, where that is an input of the graph, T first.
        lengths: the input of the graph that has the lengths, if one has.
    """

    module: RecurrentModule
    below: int | None
    x: Input | None
    lengths: str | None


class _Reader:
    """The values of a graph, found node by node."""

    def __init__(self, graph: GraphProto) -> None:
        self.levels: list[_Level] = []
        self.states: set[str] = set()
        self.values: dict[str, Value | None] = {"": None}
        for tensor in graph.initializer:
            self.values[tensor.name] = Known(numpy_helper.to_array(tensor))
        self.room = _ROOM + sum(
            value.array.size for value in self.values.values() if isinstance(value, Known)
        )
        for info in graph.input:
            axes = tuple(range(len(info.type.tensor_type.shape.dim)))
            self.values[info.name] = Input(info.name, axes)
        for node in graph.node:
            inputs = [self.values.get(name) for name in node.input]
            self.values.update(zip(node.output, self._results(node, inputs), strict=False))
        self.outputs = {info.name: self.values.get(info.name) for info in graph.output}

    def network(self) -> SequenceModel | RecurrentModule:
        """The module that the outputs of the graph are those of."""
        results: list[Numbers | ReadOut] = []
        finals: list[Numbers] = []
        for name, value in self.outputs.items():
            if isinstance(value, Several):
                finals += value.parts
            elif isinstance(value, Numbers) and value.kind == "final":
                finals.append(value)
            elif isinstance(value, (Numbers, ReadOut)):
                results.append(value)
            else:
                raise LoadError(
                    f"its output {name!r:.80} comes of no RNN, LSTM or GRU node; expected a graph "
                    "of such nodes and of what exporters put around them"
                )
        if len(results) > 1:
            raise LoadError(f"it puts out {len(results)} results, expected one, and final states")
        if not results:
            return self._module(max(value.level for value in finals))
        (result,) = results
        of = result.of if isinstance(result, ReadOut) else result
        whole = tuple(range(1 + isinstance(self.levels[of.level].module, Bidirectional)))
        if of.directions != whole:
            raise LoadError("it puts out one of two directions, expected both, forward first")
        if isinstance(result, ReadOut):
            return self._with_readout(result)
        if of.kind not in ("output", "last"):
            raise LoadError(f"it puts out the {of.kind} over the steps, expected a readout of it")
        return self._module(of.level)

    def _module(self, level: int) -> RecurrentModule:
        """The modules from the one that reads x to this level, one on another."""
        path, number = list[_Level](), level
        while number is not None:
            path.insert(0, self.levels[number])
            number = path[0].below
        if len({part.lengths for part in path}) > 1:
            raise LoadError("its recurrent nodes have other lengths, expected the same for all")
        x, first = path[0].x, path[0].lengths
        if x is not None and x.name in {first, *self.states}:
            raise LoadError(f"its input {x.name!r:.80} is x, and lengths or states too")
        modules = [part.module for part in path]
        return modules[0] if len(modules) == 1 else Stack(*modules)

    def _with_readout(self, read: ReadOut) -> SequenceModel:
        kinds = {"output": None, "last": "last", "final": "last", "mean": "mean"}
        if read.of.kind not in kinds or read.of.state != "h":
            raise LoadError(f"its readout reads the {read.of.kind} {read.of.state}, expected h")
        weight = torch.from_numpy(read.weight.copy())
        bias, activation = read.bias is not None, read.activation
        readout = Readout(*weight.mT.shape, bias=bias, activation=activation, dtype=weight.dtype)
        zero = weight.new_zeros(len(weight))
        readout.take(weight, zero if read.bias is None else torch.from_numpy(read.bias.copy()))
        module = self._module(read.of.level)
        return SequenceModel(module, readout=readout, reduce=kinds[read.of.kind])

    def _results(self, node: NodeProto, inputs: Inputs) -> Sequence[Value | None]:
        """What the outputs of a node are."""
        kind = node.op_type
        if node.domain not in ("", "ai.onnx"):
            raise refused(node, f"is of the domain {node.domain!r:.80}")
        if kind in GATES:
            return self._recurrent(node, inputs)
        if kind == "Constant":
            return [Known(constant(node))]
        there = [value for value in inputs if value is not None]
        first = inputs[0] if inputs else None
        if kind in FOLDED and all(isinstance(value, Known) for value in there):
            self._spend(node, there)
            return folded(node, inputs)
        if kind == "Shape":
            return [Sizes()]
        if kind == "ConstantOfShape":
            filled = attributes(node).get("value")
            zero = filled is None or not numpy_helper.to_array(filled).any()
            return [Zeros() if zero else Sizes()]
        if kind == "Expand" and isinstance(first, Known):
            return [Sizes() if first.array.any() else Zeros()]
        if kind in _OF_SIZES and all(isinstance(value, (Known, Sizes)) for value in there):
            return [Sizes()] * len(node.output)
        result = self._result(node, inputs)
        if result is None:
            raise refused(node, f"is done to {first or 'nothing that is known'}")
        return [result] if kind != "Split" else [result] * len(node.output)

    def _result(self, node: NodeProto, inputs: Inputs) -> Value | None:
        """What a node makes of numbers that are known only when it runs."""
        kind, first, other = node.op_type, inputs[0], inputs[1] if len(inputs) > 1 else None
        if kind in ("Identity", "Dropout", "Cast"):
            return first
        lengths = next((level.lengths for level in self.levels if level.lengths), None)
        match first:
            case Zeros():
                return first if kind in OF_INPUTS else None
            case Input():
                return of_input(node, first, inputs, lengths)
            case Several():
                return of_several(node, first, inputs)
            case ReadOut():
                return of_readout(node, first, other)
            case Numbers():
                if kind in ("Gather", "Slice"):
                    return self._taken(node, first, inputs)
                if kind == "Concat":
                    return self._joined(node, inputs)
                width = self.levels[first.level].module.output_size
                return of_numbers(node, first, inputs, width, lengths)
        return of_readout(node, other, first) if isinstance(other, ReadOut) else None

    def _taken(self, node: NodeProto, value: Numbers, inputs: Inputs) -> Value | None:
        """One step, or one direction."""
        chosen = selection(node, inputs)
        if chosen is None:
            return None
        axis, number, kept = chosen
        axes, level = list(value.axes), self.levels[value.level]
        axis %= len(axes)
        name = axes[axis]
        axes[axis : axis + 1] = ["1"] * kept
        if name == "T" and number == -1 and value.kind == "output":
            if level.lengths is not None:
                raise refused(node, "takes the last step of all, which may be padding of some")
            if value.directions != (0,) or isinstance(level.module, Backward):
                raise refused(
                    node, "takes the last step of a backward reading, which is the first that it "
                    "reads, where longlag takes its final state"
                )  # fmt: skip
            return value.of(*axes, kind="last")
        if name == "D" and -len(value.directions) <= number < len(value.directions):
            return value.of(*axes, directions=(value.directions[number],))
        return value.of(*axes) if name == "1" and number in (0, -1) else None

    def _joined(self, node: NodeProto, inputs: Inputs) -> Value | None:
        """Two directions side by side, or the final states of several layers."""
        parts = [value for value in inputs if isinstance(value, Numbers)]
        axes, axis = parts[0].axes, attributes(node)["axis"]
        if len(parts) < len(inputs):
            return None
        axis %= len(axes)
        if axis == 0 and axes[0] in "D1" and all(part.kind == "final" for part in parts):
            return Several(tuple(parts))
        if len(parts) != 2 or parts[1].axes != axes or axes[axis] != "F":
            return None
        one, two = parts
        if (one.kind, one.state) != (two.kind, two.state):
            return None
        if one.level == two.level:
            return replace(one, directions=(*one.directions, *two.directions))
        ahead, back = self.levels[one.level], self.levels[two.level]
        same = (ahead.below, ahead.x, ahead.lengths) == (back.below, back.x, back.lengths)
        forward = not isinstance(ahead.module, (Backward, Bidirectional))
        if not (same and forward and isinstance(back.module, Backward)):
            return None
        self.levels.append(replace(ahead, module=Bidirectional(ahead.module, back.module.layer)))
        return replace(one, level=len(self.levels) - 1, directions=(0, 1))

    def _recurrent(self, node: NodeProto, inputs: Inputs) -> Sequence[Value]:
        """What a recurrent node puts out; its module becomes a level."""
        self._spend(node, inputs)
        module, layout = module_of(node, inputs), attributes(node).get("layout", 0)
        lengths = inputs[4] if len(inputs) > 4 else None
        if lengths is not None and not isinstance(lengths, Input):
            raise refused(node, "has sequence_lens that are no input of the graph")
        self.states |= {value.name for value in inputs[5:7] if isinstance(value, Input)}
        below, x = self._read(node, inputs[0], layout)
        name = None if lengths is None else lengths.name
        self.levels.append(_Level(module, below, x, name))
        level, both = len(self.levels) - 1, tuple(range(1 + isinstance(module, Bidirectional)))
        order = ("N", "T", "D", "F") if layout else ("T", "D", "N", "F")
        state = ("N", "D", "F") if layout else ("D", "N", "F")
        output = Numbers(level, "output", order, both)
        return [output, *(Numbers(level, "final", state, both, name) for name in "hc")]

    def _read(self, node: NodeProto, x: Any, layout: int) -> tuple[int | None, Input | None]:
        """The level that a node reads; or an input of the graph."""
        if isinstance(x, Input) and x.axes in ((0, 1, 2), (1, 0, 2)):
            first, second, features = x.axes
            return None, replace(x, axes=(second, first, features)) if layout else x
        if isinstance(x, Numbers) and x.kind == "output":
            module = self.levels[x.level].module
            whole = tuple(range(1 + isinstance(module, Bidirectional)))
            axes = ("N", "T", "F") if layout else ("T", "N", "F")
            if (x.axes, x.directions) == (axes, whole):
                return x.level, None
        raise refused(node, f"reads {x or 'nothing that is known'}")

    def _spend(self, node: NodeProto, inputs: Inputs) -> None:
        """Keep a small file from becoming much."""
        self.room -= sum(value.array.size for value in inputs if isinstance(value, Known))
        if self.room < 0:
            raise refused(node, "uses constants of the file again and again")
