"""A recurrence over time as ONNX's Scan, whose body is the lowered program of the recurrence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from longlag.layers import Recurrent
from longlag.onnx.graph import Graph
from longlag.onnx.operations import by_row, operations
from longlag.onnx.sequences import Sequences, States
from longlag.recurrence.lowered import lower
from longlag.scan.dilated import Dilation
from longlag.scan.step import torch_step


def array(tensor: Tensor) -> Any:
    """The numbers of a weight."""
    return tensor.detach().cpu().numpy()


class Scan:
    """A layer as a loop over its steps.

    Every state that the cell declares is one value of the loop: (N, H), or (D, N, H) where delays
    or a dilation read D steps of it, the latest first.

    Args:
        layer: any layer of longlag.
        path: of it in the recurrent module.
    """

    def __init__(self, layer: Recurrent, path: str) -> None:
        self.layer, self.path = layer, path
        self.recurrence = layer.recurrence
        self.lowered = lower(self.recurrence)
        self.numbers = Dilation.of(layer.cell.recurrence, layer.dilation).numbers

    def add(self, sequences: Sequences, states: States) -> tuple[str, str]:
        """Add the loop: its output (T, N, H), and the output after the last step, (N, H)."""
        graph, layer, recurrence = sequences.graph, self.layer, self.recurrence
        numbers = dict(self.numbers)
        if recurrence.timed:
            numbers["t"] = [len(recurrence.states)]
        initial = []
        for name, held in numbers.items():
            deep = (len(held),) if len(held) > 1 else ()
            width = layer.hidden_size if name in self.numbers else 1
            shape = (*deep, *sequences.front, None, width)
            initial.append(states.initial(sequences, self.path, name, shape, held))
        drive = graph.add("MatMul", sequences.x, graph.constant(array(layer.weight_ih.mT)))
        if layer.bias is not None:
            drive = graph.add("Add", drive, graph.constant(array(layer.bias.unsqueeze(-2))))
        read = [drive, sequences.active, *([] if sequences.keep is None else [sequences.keep])]
        body = self._body(graph, sequences.keep is not None)
        *final, output = graph.add_several(
            "Scan", len(initial) + 1, *initial, *read, body=body, num_scan_inputs=len(read)
        )
        for name, value in zip(numbers, final, strict=True):
            states.final(self.path, name, value)
        return output, sequences.unless_empty(self._shown(graph, final))

    def _shown(self, graph: Graph, states: Sequence[str]) -> str:
        """The state that is put out, as it is now."""
        name = self.recurrence.output
        state = states[list(self.numbers).index(name)]
        if len(self.numbers[name]) == 1:
            return state
        return graph.add("Gather", state, graph.constant(0, np.int64), axis=0)

    def _body(self, outer: Graph, resets: bool) -> Any:
        graph = Graph(outer.dtype, outer)
        place = outer.place()
        names = [*self.numbers, *(["t"] if self.recurrence.timed else [])]
        before = [graph.input(f"{place}_{name}", graph.dtype, None) for name in names]
        drive = graph.input(f"{place}_drive", graph.dtype, None)
        active = graph.input(f"{place}_active", np.bool_, None)
        old = before
        if resets:
            keep = graph.input(f"{place}_keep", np.bool_, None)
            zero = graph.constant(0.0)
            old = [graph.add("Where", keep, state, zero) for state in before]
        new = self._step(graph, drive, old)
        after = [graph.add("Where", active, *pair) for pair in zip(new, before, strict=True)]
        for name, state in zip(names, after, strict=True):
            graph.output(f"{place}_next_{name}", state, graph.dtype, None)
        shown = graph.add("Where", active, self._shown(graph, new), graph.constant(0.0))
        graph.output(f"{place}_output", shown, graph.dtype, None)
        return graph.body(place)

    def _step(self, graph: Graph, drive: str, old: Sequence[str]) -> list[str]:
        """The declared states after a step, then t."""
        recurrence, lowered, layer = self.recurrence, self.lowered, self.layer
        rows = _Rows(graph, self.numbers, old)
        inputs = _split(graph, drive, len(recurrence.gates))
        blocks = torch_step(recurrence).blocks(layer.scan_weights())
        units = [graph.constant(array(row)) for row in layer.unit_rows()]
        clock = [old[-1]] if recurrence.timed else []
        table, new = operations(graph), dict[int, str]()  # by place among the stored states
        recurrent: dict[int, str] = {}
        for number, stage in enumerate(lowered.stages):
            for product, block in zip(lowered.products, blocks, strict=True):
                if product.stage != number:
                    continue
                place = lowered.stored.index(product.source) if product.new else None
                source = rows[product.source] if place is None else new[place]
                part = graph.add("MatMul", source, graph.constant(array(block.mT)))
                for gate, r in zip(
                    product.gates, _split(graph, part, len(product.gates)), strict=True
                ):
                    known = recurrent.get(gate)
                    recurrent[gate] = r if known is None else graph.add("Add", known, r)
            drives = [_drive(graph, inputs, recurrent, *pair) for pair in lowered.drives]
            program = stage.forward
            values: list[Any] = [*drives, *([None] * len(lowered.stored)), *units, *clock]
            for n in program.reads:
                place = n - len(drives)
                if 0 <= place < len(lowered.stored):
                    values[n] = rows[lowered.stored[place]]
            values += [new[place] for place in stage.earlier]
            full = [True] * (len(drives) + len(lowered.stored))
            full += [False] * (len(units) + len(clock)) + [True] * len(stage.earlier)
            results = zip(program.evaluate(table, values), by_row(program, full), strict=True)
            for place, (result, whole) in zip(stage.states, results, strict=True):
                new[place] = result if whole else graph.add("Expand", result, rows.shape)
        states = []
        for state, numbers in zip(old, self.numbers.values(), strict=False):
            latest = new[lowered.stored.index(numbers[0])]
            states.append(_pushed(graph, state, latest, len(numbers)))
        return states + [graph.add("Add", t, graph.constant(1.0)) for t in clock]


class _Rows:
    """The states of a step by their numbers, each taken out of what holds it once."""

    def __init__(self, graph: Graph, numbers: Any, states: Sequence[str]) -> None:
        self._graph, self._taken = graph, dict[int, str]()
        self._where = {
            number: (states[place], age if len(held) > 1 else None)
            for place, held in enumerate(numbers.values())
            for age, number in enumerate(held)
        }

    def __getitem__(self, number: int) -> str:
        if number not in self._taken:
            state, age = self._where[number]
            if age is not None:
                at = self._graph.constant(age, np.int64)
                state = self._graph.add("Gather", state, at, axis=0)
            self._taken[number] = state
        return self._taken[number]

    @property
    def shape(self) -> str:
        """That of a state."""
        return self._graph.add("Shape", self[min(self._where)])


def _split(graph: Graph, side_by_side: str, count: int) -> list[str]:
    """The parts of so many gates."""
    if count == 1:
        return [side_by_side]
    return graph.add_several("Split", count, side_by_side, axis=-1, num_outputs=count)


def _drive(
    graph: Graph,
    inputs: Sequence[str],
    recurrent: dict[int, str],
    gate: int | None,
    dense: int | None,
) -> str | None:
    """What fills a drive; None where a later stage fills it."""
    r = None if dense is None else recurrent.get(dense)
    if dense is not None and r is None:
        return None
    if gate is None or r is None:
        return r if gate is None else inputs[gate]
    return graph.add("Add", inputs[gate], r)


def _pushed(graph: Graph, held: str, latest: str, depth: int) -> str:
    """What holds so many steps of a state, the latest first, after a further one."""
    if depth == 1:
        return latest
    zero, last = graph.whole_numbers(0), graph.whole_numbers(depth - 1)
    past = graph.add("Slice", held, zero, last, zero)
    return graph.add("Concat", graph.add("Unsqueeze", latest, zero), past, axis=0)
