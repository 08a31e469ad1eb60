"""Sequences in a graph: which of their steps count, and what states start from and end in.

Inside a graph time comes first: x is (T, N, C), and with R replicas (T, R, N, C).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from longlag.onnx.graph import Dimension, Graph

ALL_STEPS = 2**31 - 1
"""The length that stands for every step, whatever T is."""


class State(NamedTuple):
    """A state of a layer, which a graph has as an input and an output.

    Attributes:
        path: of the layer in the recurrent module.
        numbers: which states of the layer it holds: one, or, where several steps are held, the
            latest first.
        initial, final: names of the input and the output.
    """

    path: str
    numbers: tuple[int, ...]
    initial: str
    final: str


class States:
    """The states of a graph, in the order of its layers.

    Attributes:
        all: the states.
    """

    def __init__(self) -> None:
        self.all: list[State] = []
        self._shapes: list[Sequence[Dimension]] = []
        self._finals: dict[str, str] = {}

    def initial(
        self,
        sequences: "Sequences",
        path: str,
        name: str,
        shape: Sequence[int | None],
        numbers: Sequence[int] = (0,),
    ) -> str:
        """What a state starts from: an input of the graph, zeros where it is left out.

        Args:
            sequences: those that a layer reads.
            path: of the layer.
            name: of the state.
            shape: of the state; None is N.
            numbers: as in :class:`State`.
        """
        graph, suffix = sequences.graph, _suffix(path, name)
        self.all.append(State(path, tuple(numbers), f"initial_{suffix}", f"final_{suffix}"))
        self._shapes.append(["N" if size is None else size for size in shape])
        zeros = np.zeros([size or 1 for size in shape])
        state = graph.input(f"initial_{suffix}", graph.dtype, shape, zeros)
        return graph.add("Expand", state, sequences.shape(*shape))

    def final(self, path: str, name: str, value: str) -> None:
        """What it ends in, after the last step of each sequence."""
        self._finals[f"final_{_suffix(path, name)}"] = value

    def put_out(self, graph: Graph) -> None:
        """Make the final states outputs of the graph."""
        for state, shape in zip(self.all, self._shapes, strict=True):
            graph.output(state.final, self._finals[state.final], graph.dtype, shape)


def _suffix(path: str, name: str) -> str:
    return "_".join(part for part in (path.replace(".", "_"), name) if part)


@dataclass(frozen=True)
class Sequences:
    """Some sequences in a graph.

    Attributes:
        graph: where nodes are added.
        replicas: R, or None.
        x: (T, N, C).
        steps, rows: T and N, each a list of one whole number.
        ends: (N,), how many steps of each sequence count.
        active: (T, N, 1), True where a step counts.
        keep: (T, N, 1), False where the state is set to zero before the step; None for nowhere.
    """

    graph: Graph
    replicas: int | None
    x: str
    steps: str
    rows: str
    ends: str
    active: str
    keep: str | None = None

    @classmethod
    def of(cls, graph: Graph, x: str, replicas: int | None, resets: bool) -> "Sequences":
        """Those of an input x of the graph, (N, T, C), or (R, N, T, C).

        ``lengths`` (N,) becomes an input too, and ``resets`` (N, T) where it is wanted.
        """
        front = () if replicas is None else (replicas,)
        batch = len(front) + 1
        x = graph.add("Transpose", x, perm=(batch, *range(batch), batch + 1))
        shape = graph.add("Shape", x)
        steps, rows = (graph.add("Gather", shape, graph.whole_numbers(axis)) for axis in (0, batch))
        default = np.full((*front, 1), ALL_STEPS)
        lengths = graph.input("lengths", np.int64, (*front, None), default)
        fixed = [graph.whole_numbers(number) for number in front]
        all_rows = graph.add("Concat", *fixed, rows, axis=0)
        ends = graph.add("Expand", graph.add("Min", lengths, steps), all_rows)
        zero, one = (graph.constant(number, np.int64) for number in (0, 1))
        numbers = graph.add("Range", zero, graph.add("Squeeze", steps), one)
        numbers = graph.add("Reshape", numbers, graph.whole_numbers(-1, *[1] * (batch + 1)))
        active = graph.add("Less", numbers, graph.add("Unsqueeze", ends, graph.whole_numbers(-1)))
        keep = None
        if resets:
            default = np.zeros((*front, 1, 1), bool)
            flags = graph.input("resets", np.bool_, (*front, None, None), default)
            flags = graph.add("Expand", flags, graph.add("Concat", all_rows, steps, axis=0))
            flags = graph.add("Transpose", flags, perm=(batch, *range(batch)))
            flags = graph.add("Unsqueeze", flags, graph.whole_numbers(-1))
            keep = graph.add("Not", flags)
        return cls(graph, replicas, x, steps, rows, ends, active, keep)

    @property
    def front(self) -> tuple[int, ...]:
        """(R,), or () without replicas."""
        return () if self.replicas is None else (self.replicas,)

    def shape(self, *sizes: int | None) -> str:
        """A shape; None is N."""
        graph = self.graph
        if all(size is not None for size in sizes):
            return graph.constant(sizes, np.int64)
        parts = [self.rows if size is None else graph.whole_numbers(size) for size in sizes]
        return graph.add("Concat", *parts, axis=0)

    def on(self, x: str) -> "Sequences":
        """The same steps of another x."""
        return replace(self, x=x)

    def batch_first(self, sequence: str) -> str:
        """From (T, N, F) to (N, T, F)."""
        batch = len(self.front) + 1
        return self.graph.add("Transpose", sequence, perm=(*range(1, batch + 1), 0, batch + 1))

    def without_padding(self, sequence: str) -> str:
        """A sequence (T, N, F), zero in the padding."""
        return self.graph.add("Where", self.active, sequence, self.graph.constant(0.0))

    def unless_empty(self, rows: str, otherwise: str | None = None) -> str:
        """(N, F) where a sequence has a step; else ``otherwise``, by default zeros."""
        graph = self.graph
        there = graph.add("Greater", self.ends, graph.constant(0, np.int64))
        there = graph.add("Unsqueeze", there, graph.whole_numbers(-1))
        return graph.add("Where", there, rows, otherwise or graph.constant(0.0))

    def last(self, sequence: str, width: int) -> str:
        """The last step that counts of (T, N, F): (N, F), zeros for an empty sequence."""
        graph, one = self.graph, self.graph.constant(1, np.int64)
        at = graph.add("Max", graph.add("Sub", self.ends, one), graph.constant(0, np.int64))
        at = graph.add("Unsqueeze", at, graph.whole_numbers(0, len(self.front) + 2))
        at = graph.add("Expand", at, self.shape(1, *self.front, None, width))
        rows = graph.add("GatherElements", sequence, at, axis=0)
        return self.unless_empty(graph.add("Squeeze", rows, graph.whole_numbers(0)))

    def mean(self, sequence: str) -> str:
        """The mean over the steps that count of (T, N, F), zero in the padding: (N, F)."""
        graph = self.graph
        count = graph.add("Max", self.ends, graph.constant(1, np.int64))
        count = graph.add("Unsqueeze", count, graph.whole_numbers(-1))
        total = graph.add("ReduceSum", sequence, graph.whole_numbers(0), keepdims=0)
        return graph.add("Div", total, graph.cast(count, graph.dtype))

    def total(self, weights: str, sequence: str) -> str:
        """The sum over the steps of (T, N, F), weighted by (T, N, 1): (N, F)."""
        graph = self.graph
        weighted = graph.add("Mul", weights, sequence)
        return graph.add("ReduceSum", weighted, graph.whole_numbers(0), keepdims=0)

    def most(self, sequence: str) -> str:
        """The greatest values over the steps that count of (T, N, F): (N, F), zeros for an empty
        sequence."""
        graph = self.graph
        counted = graph.add("Where", self.active, sequence, graph.constant(-np.inf))
        return self.unless_empty(
            graph.add("ReduceMax", counted, graph.whole_numbers(0), keepdims=0)
        )

    def backward(self, sequence: str) -> str:
        """A sequence (T, N, F) in reversed order, the padding left in place."""
        graph = self.graph
        # The operator wants 1 or more, with which an empty sequence stays as it is too.
        ends = graph.add("Max", self.ends, graph.constant(1, np.int64))
        if not self.front:
            return graph.add("ReverseSequence", sequence, ends, batch_axis=1, time_axis=0)
        # The operator knows one axis of rows: (T, R N, F).
        shape = graph.add("Shape", sequence)
        steps, width = (graph.add("Gather", shape, graph.whole_numbers(axis)) for axis in (0, -1))
        merged = graph.add("Concat", steps, graph.whole_numbers(-1), width, axis=0)
        ends = graph.add("Reshape", ends, graph.whole_numbers(-1))
        rows = graph.add("Reshape", sequence, merged)
        rows = graph.add("ReverseSequence", rows, ends, batch_axis=1, time_axis=0)
        return graph.add("Reshape", rows, shape)

    def reversed(self) -> "Sequences":
        """The same sequences read from their own last steps to their first ones.

        A backward reading enters a segment at its last step: the one before a reset.
        """
        keep = None if self.keep is None else self.backward(self._ends_kept())
        return replace(self, x=self.backward(self.x), keep=keep)

    def _ends_kept(self) -> str:
        """(T, N, 1), False where a segment ends before its sequence does."""
        graph = self.graph
        assert self.keep is not None

        def rows(sequence: str, first: int, stop: int) -> str:
            numbers = (graph.whole_numbers(number) for number in (first, stop, 0))
            return graph.add("Slice", sequence, *numbers)

        later, counts = (rows(part, 1, ALL_STEPS) for part in (self.keep, self.active))
        kept = graph.add("Or", later, graph.add("Not", counts))
        first = rows(self.active, 0, 1)  # of the last step nothing is known but its shape
        return graph.add("Concat", kept, graph.add("Or", first, graph.add("Not", first)), axis=0)
