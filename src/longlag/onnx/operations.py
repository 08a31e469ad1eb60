"""What the operations of a recurrence's program are in a graph of ONNX."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from longlag.onnx.graph import Graph
from longlag.recurrence import ARITY

_OPERATORS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "sin": "Sin",
    "abs": "Abs",
    "sign": "Sign",
    "relu": "Relu",
    "floor": "Floor",
}


def operations(graph: Graph) -> Mapping[str, Callable[..., str]]:
    """A table for :meth:`~longlag.recurrence.Program.evaluate`, which adds nodes to a graph."""

    def node(operator: str) -> Callable[..., str]:
        return lambda *arguments: graph.add(operator, *arguments)

    def cos(x: str) -> str:
        if graph.dtype == np.float32:
            return graph.add("Cos", x)
        # onnxruntime 1.20 has no Cos for float64.
        return graph.add("Sin", graph.add("Add", x, graph.constant(math.pi / 2)))

    return {name: node(operator) for name, operator in _OPERATORS.items()} | {
        "constant": graph.constant,
        "cos": cos,
        "saturate": lambda x: graph.add("Clip", x, graph.constant(0.0), graph.constant(1.0)),
        "step": lambda x: graph.cast(graph.add("Greater", x, graph.constant(0.0)), graph.dtype),
        "stop_gradient": lambda x: x,
    }


BY_ROW: Mapping[str, Callable[..., bool]] = {
    name: (lambda *arguments: any(arguments)) if count else (lambda value: False)
    for name, count in ARITY.items()
}
"""The same on truth values: whether a result has a number for each sequence and unit, as it has
where an argument has; else it broadcasts."""


def by_row(program: Any, inputs: list[bool]) -> list[bool]:
    """Whether each output of a program has a number for each sequence and unit."""
    return program.evaluate(BY_ROW, inputs)
