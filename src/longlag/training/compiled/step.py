"""The compiled step of a network, an optimizer and data, prepared once for batches of one size."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from longlag.batch import Batch
from longlag.gradients import Loss
from longlag.layers import Recurrent
from longlag.scan.cpu.passes import Noted, Passes
from longlag.scan.inputs import FULL, Weights
from longlag.torch_private import version
from longlag.training.compiled.head import Head, head
from longlag.training.compiled.memory import add, clear, copy, gather
from longlag.training.compiled.network import (
    Network,
    Unfit,
    check_data,
    check_parameters,
    network_of,
    states_are_there,
)
from longlag.training.compiled.optimizers import (
    COEFFICIENTS,
    STATES,
    Rule,
    coefficients,
    compiled_rule,
    count_steps,
    rule_of,
    state_names,
    step_of,
)
from longlag.training.compiled.program import Program
from longlag.training.compiled.update import ENTRY, update

MOST = 1024
"""Updates of a block, at most."""

SECONDS = 0.05
"""How long a block of updates should take: signals wait for its end."""


class Made(NamedTuple):
    """What a block of updates gave.

    Attributes:
        losses, norms: of each update that was looked at: all, or up to the first that is not
            finite, which was not made.
        finite: whether all are.
    """

    losses: list[float]
    norms: list[float]
    finite: bool


class _Cells:
    """Memory that all pieces share: the number of the update, and its numbers."""

    def __init__(self, clip_norm: float | None, groups: int) -> None:
        self.clock, self.stop = (torch.zeros(1, dtype=torch.int64) for _ in range(2))
        self.loss = torch.zeros(1, dtype=torch.float64)
        self.losses, self.norms = (torch.zeros(MOST, dtype=torch.float64) for _ in range(2))
        most = float("inf") if clip_norm is None else clip_norm
        self.clip = torch.tensor([most, 1.0], dtype=torch.float64)
        self.row = COEFFICIENTS * groups
        self.coefficients = torch.zeros((MOST, self.row), dtype=torch.float64)


class CompiledSteps:
    """Updates of a network by an optimizer, from rows of data that lie in memory.

    Args:
        model: what is trained.
        loss, method: how.
        optimizer: of torch; its state is changed in place.
        data: x (N, T, C) and target.
        clip_norm: the largest norm of a gradient, or None.
        batch_size: sequences in a batch.

    Raises:
        Unfit: something of it cannot be compiled.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        method: object,
        optimizer: Optimizer,
        data: Batch[Tensor],
        clip_norm: float | None,
        batch_size: int,
    ) -> None:
        self.model, self.optimizer, self._how = model, optimizer, (loss, method)
        self.network, self.reason = network_of(model, loss, method), ""
        check_data(self.network, data)
        self.data = data.map(Tensor.contiguous)
        self.cells = _Cells(clip_norm, len(optimizer.param_groups))
        self._passes: dict[int, _Batch] = {}
        self._per_update = SECONDS
        check_parameters(model, optimizer)
        self._batch(min(batch_size, len(data.x)))

    def is_ready(self, *, changed: bool = False) -> bool:
        """Whether the next update can be compiled: the optimizer makes its state in the first.

        Args:
            changed: whether something may have been changed since it was prepared; `reason` then
                says what can no longer be compiled.
        """
        if changed:
            try:
                self.network = network_of(self.model, *self._how)
                check_parameters(self.model, self.optimizer)
            except Unfit as unfit:
                self.reason = str(unfit)
                return False
        return states_are_there(self.optimizer)

    @property
    def next_size(self) -> int:
        """Updates of the next block, so that it does not last long."""
        return max(1, min(MOST, int(SECONDS / self._per_update)))

    def run(self, order: "np.ndarray[Any, Any]", after_each: Callable[[], None]) -> Made:
        """Make a block of updates.

        Args:
            order: (updates, N), numbers of the sequences of each batch; no more than :data:`MOST`.
            after_each: called when the numbers of an update are fixed, for schedules.
        """
        began = time.perf_counter()
        updates, size = order.shape
        batch, cells, groups = self._batch(size), self.cells, self.optimizer.param_groups
        trained = [[p for p in group["params"] if p.requires_grad] for group in groups]
        states = [[self.optimizer.state.get(p, {}) for p in part] for part in trained]
        rules = [_rule(self.optimizer, group) for group in groups]
        batch.order[:updates] = torch.from_numpy(order)
        program = batch.program(cells, rules, trained, states)
        before = [step_of(part[0]) if part else 0 for part in states]
        rows = []
        for number in range(1, updates + 1):
            row: list[float] = []
            for rule, group, made in zip(rules, groups, before, strict=True):
                row += coefficients(rule, group, made + number)
            rows.append(row)
            after_each()
        cells.coefficients.numpy()[:updates] = rows
        cells.stop.zero_()
        program.run(0, updates)
        finite = not int(cells.stop)
        made = updates if finite else int(cells.clock)
        for parameters, part in zip(trained, states, strict=True):
            for parameter, state in zip(parameters, part, strict=True):
                count_steps(state, made)
                increment_version(parameter)
        self._per_update = (time.perf_counter() - began) / updates
        seen = slice(0, made + (not finite))
        return Made(cells.losses[seen].tolist(), cells.norms[seen].tolist(), finite)

    def _batch(self, size: int) -> "_Batch":
        batch = self._passes.get(size)
        if batch is None or batch.places != _places(self.model):
            with torch.no_grad():
                batch = self._passes[size] = _Batch(self, size)
        return batch


def _rule(optimizer: Optimizer, group: dict[str, Any]) -> Rule:
    rule = rule_of(optimizer, group)
    assert isinstance(rule, Rule)  # it was checked
    return rule


def _places(model: nn.Module) -> list[int]:
    """Where the numbers of a model lie: they are what was compiled for as long as these hold."""
    places = list[int]()
    for parameter in model.parameters():
        places += (parameter.data_ptr(), parameter.requires_grad)
    for buffer in model.buffers():
        places += (buffer.data_ptr(), version(buffer))
    return places


def _weights(layer: Recurrent) -> Weights:
    return Weights(layer.weight_hh, layer.unit_rows(), layer.weight_ih, layer.bias)


class _Batch:
    """The kernels and pieces for batches of one size.

    Attributes:
        order: (updates, N), numbers of sequences, to be written before each block.
        places: where the model's numbers lay.
    """

    def __init__(self, steps: CompiledSteps, size: int) -> None:
        network, data, cells = steps.network, steps.data, steps.cells
        x = data.x
        self.places = _places(steps.model)
        self.order = torch.zeros((MOST, size), dtype=torch.int64)
        self._gradients: dict[int, Tensor] = {}
        self._known: Any = None
        self._double = x.dtype == torch.float64
        read = x.new_zeros((size, *x.shape[1:]))
        row = x.shape[1] * x.shape[2]
        self._calls = [
            gather(self._double).noted(
                clock=cells.clock, source=x, target=read, order=self.order, N=size, width=row
            )
        ]
        below, self._layers = read.transpose(0, 1), list[Passes]()
        for layer in network.layers:
            passes = Passes(layer.recurrence, below, _weights(layer), FULL)
            self._layers.append(passes)
            self._calls += [*self._units(layer, passes), *passes.forward]
            below = passes.path[1:]
        top = self._layers[-1]
        d_output = None if not network.each_step else torch.zeros_like(top.path[1:])
        error = d_output
        pairs = enumerate(zip(network.layers, self._layers, strict=True))
        for number, (layer, passes) in reversed([*pairs]):
            trained = [place for place in layer.unit_places() if place[0].requires_grad]
            passes.send_back(error, want_x=number > 0, want_units=bool(trained))
            error = passes.d_x
        for passes in self._layers:
            self._calls += self._cleared(passes)
        self._calls.append(self._head(network, steps, size, d_output))
        for layer, passes in reversed([*zip(network.layers, self._layers, strict=True)]):
            self._calls += passes.backward
            weights = layer.weight_ih, layer.bias, layer.weight_hh
            for parameter, gradient in zip(weights, passes.gradients, strict=True):
                if parameter is not None:
                    assert gradient is not None
                    self._note(parameter, gradient)
            self._note_units(layer, passes)
        self._held = read, d_output

    def _units(self, layer: Recurrent, passes: Passes) -> list[Noted]:
        """What brings trained unit parameters to where the kernels read them."""
        calls, size = [], layer.hidden_size
        for number, (tensor, first) in enumerate(layer.unit_places()):
            assert passes.units is not None
            source, target = tensor[first : first + size], passes.units[number]
            if tensor.requires_grad and source.data_ptr() != target.data_ptr():
                noted = copy(self._double).noted(source=source, target=target, count=size)
                calls.append(noted)
        return calls

    def _note_units(self, layer: Recurrent, passes: Passes) -> None:
        """The gradients of trained unit parameters: rows of what the backward pass adds to."""
        for number, (tensor, first) in enumerate(layer.unit_places()):
            if tensor.requires_grad and first == 0:
                assert passes.d_units is not None
                rows = tensor.numel() // layer.hidden_size
                self._note(tensor, passes.d_units[:, number : number + rows])

    def _cleared(self, passes: Passes) -> list[Noted]:
        """What is zero before a backward pass: errors of the last states, and sums."""
        tensors = [delta[0] for delta in passes.deltas]
        tensors += [] if passes.d_units is None else [passes.d_units]
        return [clear(self._double).noted(target=t, count=t.numel()) for t in tensors]

    def _note(self, parameter: Tensor, gradients: Tensor) -> None:
        """Where the gradient of a parameter is, of which each thread has a part: in the first."""
        first, *others = gradients
        for other in others:
            noted = add(self._double).noted(source=other, target=first, count=first.numel())
            self._calls.append(noted)
        self._gradients[id(parameter)] = first

    def _head(
        self, network: Network, steps: CompiledSteps, size: int, d_output: Tensor | None
    ) -> Noted:
        """Readout, loss and their errors; where the error of h goes."""
        data, cells, readout, top = steps.data, steps.cells, network.readout, self._layers[-1]
        x, steps_read = data.x, data.x.shape[1] if network.each_step else 1
        inputs, outputs, rows = readout.input_size, readout.output_size, size * steps_read
        facts = Head(self._double, network.loss, inputs, outputs)
        bias = x.new_zeros(outputs) if readout.bias is None else readout.bias
        d_weight, d_bias = torch.zeros_like(readout.weight), torch.zeros_like(bias)
        self._gradients |= {id(readout.weight): d_weight, id(readout.bias): d_bias}
        where = torch.arange(0, rows * inputs, inputs)
        zero = torch.zeros(1, dtype=torch.int64)
        made = [
            x.new_zeros(facts.packed), x.new_zeros((rows, outputs)),
            x.new_zeros((rows, facts.wide)), x.new_zeros((inputs + 1, facts.wide)),
        ]  # fmt: skip
        packed, y, panels, sums = made
        # The error of the state after the last step, which the kernels expect where they begin.
        d_h = top.deltas[top.output] if d_output is None else d_output
        self._of_head = bias, d_weight, d_bias, where, zero, made
        return head(facts).noted(
            clock=cells.clock, N=size, steps=steps_read, H=inputs, K=outputs, P=rows,
            h=top.path[1:] if network.each_step else top.path[-1], weight=readout.weight,
            bias=bias, packed=packed, y=y, panels=panels, sums=sums, d_weight=d_weight,
            d_bias=d_bias, target=data.target, order=self.order, d_h=d_h, where=where, zero=zero,
            loss=cells.loss, **facts.functions(),
        )  # fmt: skip

    def program(
        self,
        cells: _Cells,
        rules: "list[Rule]",
        trained: list[list[nn.Parameter]],
        states: list[list[dict[str, Any]]],
    ) -> Program:
        """All calls of an update of these parameters, by group."""
        gradients: list[int] = []
        updates: list[int] = []
        for number, (rule, parameters, part) in enumerate(zip(rules, trained, states, strict=True)):
            for parameter, state in zip(parameters, part, strict=True):
                gradient, count = self._gradients[id(parameter)].data_ptr(), parameter.numel()
                function = compiled_rule(rule, parameter.dtype == torch.float64)
                places = [state[name].data_ptr() for name in state_names(rule)]
                gradients += (gradient, count)
                updates += (function, parameter.data_ptr(), gradient, *places)
                updates += (*[0] * (STATES - len(places)), count, number * COEFFICIENTS)
        if self._known is None or self._known[0] != (gradients, updates):
            tables = [torch.tensor(table, dtype=torch.int64) for table in (gradients, updates)]
            self._known = (gradients, updates), tables, self._program(cells, *tables)
        return self._known[2]

    def _program(self, cells: _Cells, gradients: Tensor, updates: Tensor) -> Program:
        last = update(self._double).noted(
            clock=cells.clock, stop=cells.stop, loss=cells.loss, losses=cells.losses,
            norms=cells.norms, gradients=gradients, gradient_count=len(gradients) // 2,
            updates=updates, update_count=len(updates) // ENTRY,
            coefficients=cells.coefficients, row=cells.row, clip=cells.clip,
        )  # fmt: skip
        return Program([*self._calls, last], cells.clock, cells.stop)
