"""All calls of an update, for batches of one size, and the memory that they read and write."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from longlag.batch import Batch
from longlag.layers import Recurrent
from longlag.scan.cpu.passes import Noted, Passes
from longlag.training.compiled.cells import Cells
from longlag.training.compiled.directions import in_phase, moved
from longlag.training.compiled.lanes import Lanes
from longlag.training.compiled.lengths import spread
from longlag.training.compiled.meeting import Meeting
from longlag.training.compiled.memory import add, clear
from longlag.training.compiled.network import Network, Unfit
from longlag.training.compiled.optimizers import (
    COEFFICIENTS,
    STATES,
    Rule,
    compiled_rule,
)
from longlag.training.compiled.outputs import Outputs, parts_of, tops
from longlag.training.compiled.program import Program
from longlag.training.compiled.update import ENTRY, update


class Calls(Outputs):
    """The kernels and pieces of an update, for batches of one size; arguments as for `Outputs`."""

    backward = True

    def __init__(
        self,
        model: nn.Module,
        network: Network,
        data: Batch[Tensor],
        cells: Cells,
        size: int,
        lanes: Lanes | None = None,
    ) -> None:
        super().__init__(model, network, data, cells, size, lanes)
        self._gradients: dict[int, Tensor] = {}
        self._known: Any = None
        self._counters: list[np.ndarray[Any, Any]] = []
        if network.frozen:
            self._calls += self._read_back(None)
            return
        d_rows, errors = self._top_errors()
        later = self._note_backward(errors)
        for passes in itertools.chain(*itertools.chain(*self._levels)):
            self._calls += self._cleared(passes)
        self._send_back(d_rows, errors)
        self._calls += later

    def _note_backward(self, errors: Sequence[Tensor | None]) -> list[Noted]:
        """The backward passes of all levels, and what is between them.

        Args:
            errors: of the output of each layer of the top level.
        """
        calls = list[Noted]()
        levels = [*zip(self._network.levels, self._levels, strict=True)]
        for number, (level, noted) in reversed([*enumerate(levels)]):
            below = list[Tensor | None]()
            for way, (chain, error) in enumerate(zip(level, errors, strict=True)):
                several = [*enumerate(zip(chain.layers, noted[way], strict=True))]
                for place, (layer, passes) in reversed(several):
                    calls += self._through(layer, passes, error, want_x=number + place > 0)
                    error = passes.d_x
                    if place:
                        calls += self._left_out((number, way, place), error)
                below.append(error)
            if number:
                error = self._error_below(below, calls)
                calls += self._left_out((number, 0, 0), error)
                errors = self._shared_out(error, tops(levels[number - 1][1]), calls)
        return calls

    def _through(
        self, layer: Recurrent, passes: Passes, error: Tensor | None, *, want_x: bool
    ) -> list[Noted]:
        """The backward pass of a layer, and the sums of its gradients."""
        trained = any(tensor.requires_grad for tensor, _ in layer.unit_places())
        since = self._network.since
        passes.send_back(error, want_x=want_x, want_units=trained, since=since)
        if passes.ring is not None and passes.pieces > 1:
            raise Unfit("sequences are too long to keep what a cell with delays needs")
        calls = [*passes.backward]
        weights = layer.weight_ih, layer.bias, layer.weight_hh
        for parameter, gradient in zip(weights, passes.gradients, strict=True):
            if parameter is not None:
                assert gradient is not None
                calls += self._sum(parameter, gradient)
        return calls + self._sum_units(layer, passes)

    def _left_out(self, place: tuple[int, int, int], error: Tensor | None) -> list[Noted]:
        """No error goes to what was left out of what a layer is given."""
        masks = self._between.get(place)
        if masks is None or error is None:
            return []
        return [self._leave_out(error, error, masks)]

    def _error_below(self, errors: Sequence[Tensor | None], calls: list[Noted]) -> Tensor:
        """The error of what a level reads, (T, N, C), from that of each direction."""
        ahead, *back = errors
        assert ahead is not None
        for error in back:
            assert error is not None
            calls.append(moved(error, ahead, self._ends, flips=True, adds=True))
        return ahead

    def _shared_out(
        self, error: Tensor, level: list[Passes], calls: list[Noted]
    ) -> Sequence[Tensor]:
        """The error of the output of each layer of a level, from that of the level's."""
        if len(level) == 1:
            return [error]
        errors = [torch.zeros_like(passes.path[1:]) for passes in level]
        self._held += errors
        for part, own, flips in zip(parts_of(error, level), errors, (False, True), strict=True):
            calls.append(moved(part, own, self._ends, flips=flips))
        return errors

    def _cleared(self, passes: Passes) -> list[Noted]:
        """What is zero before a backward pass: errors of the last states, and sums."""
        halves = 1 if passes.order is None else 2
        tensors = [delta[:halves] for delta in passes.deltas if passes.final is None]
        tensors += [part for part in (passes.d_units, passes.ring) if part is not None]
        return [clear(*self._kind).noted(target=t, count=t.numel()) for t in tensors]

    def _sum(self, parameter: Tensor, gradients: Tensor) -> list[Noted]:
        """The gradient of a parameter, of which each thread has a part: in the first of them."""
        first, *others = gradients
        self._gradients[id(parameter)] = first
        kind = add(*self._kind)
        return [kind.noted(source=o, target=first, count=first.numel()) for o in others]

    def _sum_units(self, layer: Recurrent, passes: Passes) -> list[Noted]:
        """Those of trained unit parameters: rows of what the backward pass adds to."""
        calls = list[Noted]()
        for number, (tensor, first) in enumerate(layer.unit_places()):
            if tensor.requires_grad and first == 0:
                assert passes.d_units is not None
                rows = tensor.numel() // layer.hidden_size
                calls += self._sum(tensor, passes.d_units[:, number : number + rows])
        return calls

    def _top_errors(self) -> tuple[Tensor | None, list[Tensor | None]]:
        """Where the error of what the head reads is written, or attention, and of the output of
        each layer of the top level, (T, N, H); None where the last state has it, whose place the
        backward pass makes."""
        level, reduce = tops(self._levels[-1]), self._network.reduce
        each_step = self._network.sees_steps
        if reduce == "last":
            apart = len(level) > 1 or level[0].dilation > 1
            rows = torch.zeros_like(self._rows) if apart else None
            return rows, [None] * len(level)
        if len(level) == 1:
            if each_step:
                every = torch.zeros_like(level[0].path[1:])
                return every[self._before :], [every]
            rows = torch.zeros_like(self._rows)
            return rows, [rows.expand_as(level[0].path[1:])]
        paths = [passes.path[1:] for passes in level]
        own = [torch.zeros_like(path if each_step else path[0]) for path in paths]
        return torch.zeros_like(self._output if each_step else self._rows), [
            error.expand_as(path) for error, path in zip(own, paths, strict=True)
        ]

    def _read_back(self, d_h: Tensor | None) -> list[Noted]:
        """The head with its errors, and attention, if any; those of the states where there is
        memory."""
        attended, attention = self._attended, self._network.attention
        if attended is None or attention is None:
            return [self._readout(0 if d_h is None else d_h)]
        places = map(id, attention.parameters())
        self._gradients |= zip(places, attended.gradients, strict=True)
        d_rows = torch.zeros_like(self._rows)
        return [self._readout(d_rows), attended.send_back(d_rows, d_h)]

    def _readout(self, d_h: Tensor | int) -> Noted:
        """The head with its errors, those of what it reads (rows, H) where there is memory."""
        network, data, cells = self._network, self._data, self._cells
        readout, y, count = network.readout, self.y, self._count
        inputs = readout.input_size
        facts = self._facts(network.loss)
        wide = facts.sizes.wide
        d_weight, d_bias = torch.zeros_like(readout.weight), torch.zeros_like(self._bias)
        self._gradients |= {id(readout.weight): d_weight, id(readout.bias): d_bias}
        further: dict[str, Tensor] = {}
        if network.weights is not None:
            further["weights"] = y.new_tensor(network.weights)
        if data.weights is not None:
            further["shares"] = data.weights
        if readout.weight_direct is not None:
            further["d_direct"] = torch.zeros_like(readout.weight_direct)
            further["sums_direct"] = y.new_zeros((facts.direct + 1, wide))
            self._gradients[id(readout.weight_direct)] = further["d_direct"]
        return self._head(
            network.loss, clock=cells.clock, N=self._size, steps=count // self._size,
            since=network.since, panels=y.new_zeros((count, wide)),
            sums=y.new_zeros((inputs + 1, wide)), d_weight=d_weight, d_bias=d_bias,
            target=data.target, order=self.order, d_h=d_h,
            where=torch.arange(0, count * inputs, inputs), loss=cells.loss, **further,
        )  # fmt: skip

    def _send_back(self, d_rows: Tensor | None, errors: Sequence[Tensor | None]) -> None:
        """The head with its errors, and where they go."""
        network, level = self._network, tops(self._levels[-1])
        inputs = network.readout.input_size
        # The error of the state after the last step, which the kernels expect where they begin.
        finals = [passes.deltas[passes.output] for passes in level]
        d_h = finals[0][0] if d_rows is None else d_rows
        self._calls += self._read_back(d_h)
        if network.reduce == "mean":
            self._calls.append(
                spread(*self._kind).noted(rows=d_h, ends=self._ends, N=self._size, H=inputs)
            )
        if network.reduce == "last":
            self._to_the_last(d_h, finals)
        elif len(level) > 1:
            each_step = network.sees_steps
            for number, (part, error) in enumerate(zip(parts_of(d_h, level), errors, strict=True)):
                assert error is not None
                whole = part if each_step else part.unsqueeze(0)
                own = error if each_step else error[:1]
                flips = bool(number) and each_step
                self._calls.append(moved(whole, own, self._ends, flips=flips))

    def _to_the_last(self, d_h: Tensor, finals: Sequence[Tensor]) -> None:
        """The error of last states, to where each layer's backward pass begins."""
        level = tops(self._levels[-1])
        for part, final, passes in zip(parts_of(d_h, level), finals, level, strict=True):
            if passes.final is not None:
                self._calls.append(in_phase(part, passes.final, self._ends))
                continue
            halves = final if passes.order is not None else final[:1]
            for half in halves[len(level) == 1 :]:
                self._calls.append(moved(part.unsqueeze(0), half.unsqueeze(0), self._ends))

    def program_of(
        self,
        rules: list[Rule],
        trained: list[list[nn.Parameter]],
        states: list[list[dict[str, Any]]],
        meeting: Meeting | None = None,
    ) -> Program:
        """All calls of an update of these parameters, by group.

        Args:
            rules: of each group.
            trained, states: its parameters, and what the optimizer keeps for each.
            meeting: of several processes.
        """
        address = self._lanes.address
        gradients, updates, counters = list[int](), list[int](), list[Tensor]()
        for number, (rule, parameters, part) in enumerate(zip(rules, trained, states, strict=True)):
            for parameter, state in zip(parameters, part, strict=True):
                gradient, count = address(self._gradients[id(parameter)]), parameter.numel()
                function = compiled_rule(rule, parameter.dtype == torch.float64, self._kind[1])
                places = [address(state[name]) for name in rule.states]
                gradients += (gradient, count)
                updates += (function, address(parameter), gradient, *places)
                updates += (*[0] * (STATES - len(places)), count, number * COEFFICIENTS)
                if isinstance(state.get("step"), Tensor):
                    counters.append(state["step"])
        places = gradients, updates, [tensor.data_ptr() for tensor in counters]
        if self._known is None or self._known[0] != places:
            tables = [torch.tensor(table, dtype=torch.int64) for table in (gradients, updates)]
            program = self._program(tables[0], tables[1], meeting)
            self._counters = [tensor.numpy() for tensor in counters]
            self._known = places, tables, program
        return self._known[2]

    def count(self, updates: int) -> None:
        """Note further updates in the optimizer's state of the parameters of `program_of`."""
        for counter in self._counters:
            counter += updates

    @functools.cached_property
    def without_update(self) -> Program:
        """All calls but the update: of windows, states go on."""
        return Program(self._calls, self._cells.clock, self._cells.stop)

    def _program(self, gradients: Tensor, updates: Tensor, meeting: Meeting | None) -> Program:
        cells, calls = self._cells, self._calls
        if meeting is not None:
            calls = [*calls, meeting.noted(cells.clock, cells.loss, gradients)]
        last = update(*self._kind).noted(
            clock=cells.clock, stop=cells.stop, stopped=cells.stopped, loss=cells.loss,
            losses=cells.losses, norms=cells.norms, gradients=gradients,
            gradient_count=len(gradients) // 2, updates=updates,
            update_count=len(updates) // ENTRY, coefficients=cells.coefficients, row=cells.row,
            clip=cells.clip,
        )  # fmt: skip
        calls = self._lanes.exchanged([*calls, last], (self._data.x, self._data.target))
        return Program(calls, cells.clock, cells.stop)
