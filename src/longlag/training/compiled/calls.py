"""All calls of an update, for batches of one size, and the memory that they read and write."""

from typing import Any

import torch
from torch import Tensor, nn

from longlag.batch import Batch
from longlag.layers import Recurrent
from longlag.scan.cpu.passes import Noted, Passes
from longlag.scan.inputs import Schedule, Weights
from longlag.torch_private import version
from longlag.training.compiled.head import Head, RowLoss, head
from longlag.training.compiled.lengths import (
    by_step,
    last_input,
    rank,
    spread,
    take_ends,
    take_mean,
)
from longlag.training.compiled.meeting import Meeting
from longlag.training.compiled.memory import (
    add,
    clear,
    copy,
    fetch,
    gather,
    keep,
    leave_out,
    mask,
)
from longlag.training.compiled.network import Network
from longlag.training.compiled.optimizers import (
    COEFFICIENTS,
    STATES,
    Rule,
    compiled_rule,
)
from longlag.training.compiled.program import Program
from longlag.training.compiled.update import ENTRY, update

MOST = 1024
"""Updates of a block, at most."""

MASKS = 1 << 22
"""Numbers of dropout masks that are drawn for a block, at most."""


class Cells:
    """Memory that all pieces share: the number of the update, and its numbers.

    Args:
        clip_norm: the largest norm of a gradient, or None.
        groups: how many parameter groups the optimizer has.
    """

    def __init__(self, clip_norm: float | None, groups: int) -> None:
        self.clock, self.stop = (torch.zeros(1, dtype=torch.int64) for _ in range(2))
        self.loss = torch.zeros(1, dtype=torch.float64)
        self.losses, self.norms = (torch.zeros(MOST, dtype=torch.float64) for _ in range(2))
        most = float("inf") if clip_norm is None else clip_norm
        self.clip = torch.tensor([most, 1.0], dtype=torch.float64)
        self.row = COEFFICIENTS * groups
        self.coefficients = torch.zeros((MOST, self.row), dtype=torch.float64)


def places_of(model: nn.Module) -> list[int]:
    """Where the numbers of a model lie: they are what was compiled for as long as these hold."""
    places = list[int]()
    for parameter in model.parameters():
        places += (parameter.data_ptr(), parameter.requires_grad)
    for buffer in model.buffers():
        places += (buffer.data_ptr(), version(buffer))
    return places


class Outputs:
    """The outputs of a model for batches of one size.

    Args:
        model: what is run.
        network: its parts.
        data: all sequences, without gaps in memory.
        cells: memory of all sizes.
        size: sequences in a batch.

    Attributes:
        order: (updates, N), numbers of sequences, to be written before each block.
        places: where the model's numbers lay.
        y: (P, K), the outputs; row t N + n is step t of sequence n where each step is read out.
        most: updates that there is room for at once.
    """

    backward = False
    """Whether a backward pass follows."""

    def __init__(
        self, model: nn.Module, network: Network, data: Batch[Tensor], cells: Cells, size: int
    ) -> None:
        self.places = places_of(model)
        self._network, self._data, self._cells, self._size = network, data, cells, size
        x = data.x
        self._double, self._steps = x.dtype == torch.float64, x.shape[1]
        self._masks: list[tuple[Tensor, float]] = []
        self._between: dict[int, Tensor] = {}  # by layer, those of what it is given
        self.most = self._room_for_masks()
        self.order = torch.zeros((MOST, size), dtype=torch.int64)
        # How long each row is.
        self._ends = torch.full((size,), self._steps, dtype=torch.int64)
        self._held: list[Any] = []
        self._read = x.new_zeros((size, *x.shape[1:]))
        self._calls: list[Noted] = [
            gather(self._double).noted(
                clock=cells.clock, source=x, target=self._read, order=self.order, N=size,
                width=x.shape[1] * x.shape[2],
            )
        ]  # fmt: skip
        self._layers: list[Passes] = []
        self._forward()
        self._rows = self._read_out()
        readout = network.readout
        self._count = size * (self._steps if network.reduce is None else 1)
        self.y = self._room(readout.output_size)
        self._no_bias = x.new_zeros(readout.output_size)
        self._bias = self._no_bias if readout.bias is None else readout.bias
        self._seen = self._read_directly()
        self._zero = torch.zeros(1, dtype=torch.int64)

    def program(self, kept: Tensor | None = None) -> Program:
        """All calls.

        Args:
            kept: (updates, P, K), where the outputs of each update are written, too.
        """
        calls, cells = [*self._calls, self._head(None)], self._cells
        if kept is not None:
            count = self.y.numel()
            noted = keep(self._double).noted(
                clock=cells.clock, source=self.y, target=kept, count=count
            )
            calls.append(noted)
        return Program(calls, cells.clock, cells.stop)

    def _room(self, width: int) -> Tensor:
        """(P, width) zeros, and behind them as many numbers as a vector may have."""
        numbers = self._read.new_zeros(self._count * width + 16)
        return numbers[: self._count * width].view(self._count, width)

    def _facts(self, kind: str | RowLoss | None) -> Head:
        network, readout = self._network, self._network.readout
        return Head(
            self._double, kind, readout.input_size, readout.output_size, readout.direct_size or 0,
            readout.activation, weighted=network.weights is not None and kind is not None,
            level=network.level,
        )  # fmt: skip

    def _read_directly(self) -> Tensor | None:
        """The rows of x that the readout sees beside h."""
        if self._network.readout.direct_size is None:
            return None
        size, (steps, width) = self._size, self._read.shape[1:]
        rows = self._read.new_zeros((self._count, width))
        kind = by_step if self._network.reduce is None else last_input
        noted = kind(self._double).noted(
            source=self._read, target=rows, ends=self._ends, N=size, C=width, T=steps
        )
        self._calls.append(noted)
        return rows

    def _head(self, kind: str | RowLoss | None, **more: int | Tensor) -> Noted:
        """The head with a kind of loss, and what it needs for errors; or the outputs alone."""
        readout, facts = self._network.readout, self._facts(kind)
        packed = self.y.new_zeros(facts.packed * facts.inputs)
        if self._seen is not None:
            assert readout.weight_direct is not None
            more |= {
                "C": facts.direct, "x": self._seen, "direct": readout.weight_direct,
                "no_bias": self._no_bias, "y_direct": self._room(facts.outputs),
                "packed_direct": self.y.new_zeros(facts.packed * facts.direct),
            }  # fmt: skip
        self._held += [packed, *more.values()]
        return head(facts).noted(
            H=facts.inputs, K=facts.outputs, P=self._count, h=self._rows, weight=readout.weight,
            bias=self._bias, packed=packed, y=self.y, zero=self._zero, **facts.functions(), **more,
        )  # fmt: skip

    def _forward(self) -> None:
        """All layers, the one that reads x first."""
        layers, lengths = self._network.layers, self._data.lengths
        below = self._dropped(layers[0].input_dropout).transpose(0, 1)
        schedule = Schedule.of(self._read, None if lengths is None else self._ends, None)
        for number, layer in enumerate(layers):
            weights = Weights(layer.weight_hh, layer.unit_rows(), layer.weight_ih, layer.bias)
            below = self._passed(number, below)
            own = schedule._replace(mask=self._mask(layer))
            passes = Passes(layer.recurrence, below, weights, own, backward=self.backward)
            self._layers.append(passes)
            self._calls += [*self._ranked(passes), *self._units(layer, passes), *passes.forward]
            below = passes.path[1:]

    # Dropout

    def _room_for_masks(self) -> int:
        """Updates whose masks there is room for."""
        layers = self._network.layers if self.backward else []
        numbers = sum(layer.hidden_size for layer in layers if layer.recurrent_dropout)
        numbers += sum(layer.input_size for layer in layers if layer.input_dropout)
        pairs = zip(layers, self._network.between, strict=False)
        numbers += sum(self._steps * layer.input_size for layer, share in pairs if share)
        return max(1, min(MOST, MASKS // max(1, self._size * numbers)))

    def _drawn(self, shape: tuple[int, ...], probability: float) -> Tensor:
        """(updates, *shape), room for the masks of a block, drawn in the order of these calls."""
        masks = self._read.new_zeros((self.most, *shape))
        self._masks.append((masks, probability))
        return masks

    def _dropped(self, probability: float) -> Tensor:
        """x, with features left out of whole sequences while the network learns."""
        if not (self.backward and probability):
            return self._read
        size, steps, width = self._read.shape
        target, masks = torch.zeros_like(self._read), self._drawn((size, width), probability)
        noted = mask(self._double).noted(
            clock=self._cells.clock, source=self._read, target=target, masks=masks, N=size,
            C=width, T=steps,
        )  # fmt: skip
        self._calls.append(noted)
        return target

    def _passed(self, number: int, below: Tensor) -> Tensor:
        """What a layer is given from the one below, (T, N, C), some numbers left out while the
        network learns."""
        probability = self._network.between[number]
        if not (self.backward and probability):
            return below
        masks, target = self._drawn(tuple(below.shape), probability), torch.zeros_like(below)
        self._between[number] = masks
        self._calls.append(self._leave_out(below, target, masks))
        return target

    def _leave_out(self, source: Tensor, target: Tensor, masks: Tensor) -> Noted:
        assert source.is_contiguous()
        assert target.is_contiguous()
        self._held.append(target)
        return leave_out(self._double).noted(
            clock=self._cells.clock, source=source, target=target, masks=masks,
            count=target.numel(),
        )  # fmt: skip

    def _mask(self, layer: Recurrent) -> Tensor | None:
        """The mask of the states that W reads, (N, H); None without."""
        if not (self.backward and layer.recurrent_dropout):
            return None
        masks = self._drawn((self._size, layer.hidden_size), layer.recurrent_dropout)
        target = torch.zeros_like(masks[0])
        noted = fetch(self._double).noted(
            clock=self._cells.clock, source=masks, target=target, count=target.numel()
        )
        self._calls.append(noted)
        return target

    def draw(self, first: int, updates: int, generator: torch.Generator | None = None) -> None:
        """Draw the masks of updates in the order in which a layer draws them, as dropout does.

        Args:
            first: number of the first update within the block.
            updates: how many.
            generator: where they come from; None: PyTorch's global one.
        """
        if not self._masks:
            return
        for number in range(first, first + updates):
            for masks, probability in self._masks:
                masks[number].bernoulli_(1 - probability, generator=generator)
                masks[number].div_(1 - probability)

    # Lengths and unit parameters

    def _ranked(self, passes: Passes) -> list[Noted]:
        """The order of the rows by length, where there are lengths."""
        lengths = self._data.lengths
        if passes.order is None or lengths is None:
            return []
        ranks, counts = passes.order
        free = torch.zeros_like(counts)
        self._held.append(free)
        return [
            rank().noted(
                clock=self._cells.clock, lengths=lengths, order=self.order,
                N=self._size, T=self._steps, ranks=ranks, counts=counts, ends=self._ends, free=free,
            )
        ]  # fmt: skip

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

    def _read_out(self) -> Tensor:
        """What is read out: every step, or one row a sequence."""
        top, reduce = self._layers[-1], self._network.reduce
        if reduce is None:
            return top.path[1:]
        if reduce == "last" and top.order is None:
            return top.path[-1]
        rows = torch.zeros_like(top.path[0])
        take = take_ends if reduce == "last" else take_mean
        self._calls.append(
            take(self._double).noted(
                path=top.path, target=rows, ends=self._ends, N=self._size, H=rows.shape[1],
                T=self._steps,
            )
        )  # fmt: skip
        return rows


class Calls(Outputs):
    """The kernels and pieces of an update, for batches of one size; arguments as for `Outputs`."""

    backward = True

    def __init__(
        self, model: nn.Module, network: Network, data: Batch[Tensor], cells: Cells, size: int
    ) -> None:
        super().__init__(model, network, data, cells, size)
        self._gradients: dict[int, Tensor] = {}
        self._known: Any = None
        d_rows, d_output = self._errors()
        self._note_backward(d_output)
        for passes in self._layers:
            self._calls += self._cleared(passes)
        self._send_back(d_rows)
        layers = [*zip(network.layers, self._layers, strict=True)]
        for number, (layer, passes) in reversed([*enumerate(layers)]):
            self._calls += passes.backward
            if number in self._between:
                assert passes.d_x is not None
                masks = self._between[number]
                self._calls.append(self._leave_out(passes.d_x, passes.d_x, masks))
            weights = layer.weight_ih, layer.bias, layer.weight_hh
            for parameter, gradient in zip(weights, passes.gradients, strict=True):
                if parameter is not None:
                    assert gradient is not None
                    self._sum(parameter, gradient)
            self._sum_units(layer, passes)

    def _note_backward(self, error: Tensor | None) -> None:
        """The backward passes, from the error of the top layer's output."""
        layers = [*zip(self._network.layers, self._layers, strict=True)]
        for number, (layer, passes) in reversed([*enumerate(layers)]):
            trained = [tensor for tensor, _ in layer.unit_places() if tensor.requires_grad]
            passes.send_back(error, want_x=number > 0, want_units=bool(trained))
            error = passes.d_x

    def _cleared(self, passes: Passes) -> list[Noted]:
        """What is zero before a backward pass: errors of the last states, and sums."""
        halves = 1 if passes.order is None else 2
        tensors = [delta[:halves] for delta in passes.deltas]
        tensors += [] if passes.d_units is None else [passes.d_units]
        return [clear(self._double).noted(target=t, count=t.numel()) for t in tensors]

    def _sum(self, parameter: Tensor, gradients: Tensor) -> None:
        """The gradient of a parameter, of which each thread has a part: in the first of them."""
        first, *others = gradients
        for other in others:
            noted = add(self._double).noted(source=other, target=first, count=first.numel())
            self._calls.append(noted)
        self._gradients[id(parameter)] = first

    def _sum_units(self, layer: Recurrent, passes: Passes) -> None:
        """Those of trained unit parameters: rows of what the backward pass adds to."""
        for number, (tensor, first) in enumerate(layer.unit_places()):
            if tensor.requires_grad and first == 0:
                assert passes.d_units is not None
                rows = tensor.numel() // layer.hidden_size
                self._sum(tensor, passes.d_units[:, number : number + rows])

    def _errors(self) -> tuple[Tensor | None, Tensor | None]:
        """Where the error of what is read out goes, and the error of the top layer's output,
        (T, N, H); None where the last state has it, whose place the backward pass makes."""
        top, reduce = self._layers[-1], self._network.reduce
        if reduce is None:
            d_output = torch.zeros_like(top.path[1:])
            return d_output, d_output
        if reduce == "last":
            return None, None
        d_rows = torch.zeros_like(top.path[0])
        return d_rows, d_rows.expand_as(top.path[1:])

    def _send_back(self, d_rows: Tensor | None) -> None:
        """The head with its errors, and where they go."""
        network, data, cells, top = self._network, self._data, self._cells, self._layers[-1]
        readout, y, count = network.readout, self.y, self._count
        inputs = readout.input_size
        facts = self._facts(network.loss)
        d_weight, d_bias = torch.zeros_like(readout.weight), torch.zeros_like(self._bias)
        self._gradients |= {id(readout.weight): d_weight, id(readout.bias): d_bias}
        further: dict[str, Tensor] = {}
        if network.weights is not None:
            further["weights"] = y.new_tensor(network.weights)
        if readout.weight_direct is not None:
            further["d_direct"] = torch.zeros_like(readout.weight_direct)
            further["sums_direct"] = y.new_zeros((facts.direct + 1, facts.wide))
            self._gradients[id(readout.weight_direct)] = further["d_direct"]
        # The error of the state after the last step, which the kernels expect where they begin.
        d_h = top.deltas[top.output][0] if d_rows is None else d_rows
        call = self._head(
            network.loss, clock=cells.clock, N=self._size, steps=count // self._size,
            panels=y.new_zeros((count, facts.wide)), sums=y.new_zeros((inputs + 1, facts.wide)),
            d_weight=d_weight, d_bias=d_bias, target=data.target, order=self.order, d_h=d_h,
            where=torch.arange(0, count * inputs, inputs), loss=cells.loss, **further,
        )  # fmt: skip
        self._calls.append(call)
        if network.reduce == "mean":
            self._calls.append(
                spread(self._double).noted(rows=d_h, ends=self._ends, N=self._size, H=inputs)
            )
        elif network.reduce == "last" and top.order is not None:
            half = top.deltas[top.output][1]
            noted = copy(self._double).noted(source=d_h, target=half, count=half.numel())
            self._calls.append(noted)

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
        gradients: list[int] = []
        updates: list[int] = []
        for number, (rule, parameters, part) in enumerate(zip(rules, trained, states, strict=True)):
            for parameter, state in zip(parameters, part, strict=True):
                gradient, count = self._gradients[id(parameter)].data_ptr(), parameter.numel()
                function = compiled_rule(rule, parameter.dtype == torch.float64)
                places = [state[name].data_ptr() for name in rule.states]
                gradients += (gradient, count)
                updates += (function, parameter.data_ptr(), gradient, *places)
                updates += (*[0] * (STATES - len(places)), count, number * COEFFICIENTS)
        if self._known is None or self._known[0] != (gradients, updates):
            tables = [torch.tensor(table, dtype=torch.int64) for table in (gradients, updates)]
            self._known = (gradients, updates), tables, self._program(tables[0], tables[1], meeting)
        return self._known[2]

    def _program(self, gradients: Tensor, updates: Tensor, meeting: Meeting | None) -> Program:
        cells, calls = self._cells, self._calls
        if meeting is not None:
            calls = [*calls, meeting.noted(cells.clock, cells.loss, gradients)]
        last = update(self._double).noted(
            clock=cells.clock, stop=cells.stop, loss=cells.loss, losses=cells.losses,
            norms=cells.norms, gradients=gradients, gradient_count=len(gradients) // 2,
            updates=updates, update_count=len(updates) // ENTRY,
            coefficients=cells.coefficients, row=cells.row, clip=cells.clip,
        )  # fmt: skip
        return Program([*calls, last], cells.clock, cells.stop)
