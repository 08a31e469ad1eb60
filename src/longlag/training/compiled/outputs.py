"""The calls of a forward pass and of the readout, for batches of one size, and their memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from longlag.batch import Batch
from longlag.layers import Recurrent
from longlag.scan.cpu.passes import Noted, Passes
from longlag.scan.inputs import Schedule, Weights
from longlag.training.compiled.attention import Attended
from longlag.training.compiled.cells import MOST, Cells, Places
from longlag.training.compiled.directions import moved
from longlag.training.compiled.head import Head, RowLoss, head
from longlag.training.compiled.lanes import Lanes
from longlag.training.compiled.lengths import (
    by_step,
    last_input,
    rank,
    take_ends,
    take_mean,
    take_share,
    unreset,
)
from longlag.training.compiled.memory import (
    begin,
    copy,
    fetch,
    find,
    gather,
    keep,
    leave_out,
    mask,
)
from longlag.training.compiled.network import Network
from longlag.training.compiled.program import Program

MASKS = 1 << 22
"""Numbers of dropout masks that are drawn for a block, at most."""


class Outputs:
    """The outputs of a model for batches of one size.

    Args:
        model: what is run.
        network: its parts.
        data: all sequences, without gaps in memory.
        cells: memory of all sizes.
        size: sequences in a batch.
        lanes: the memory of the networks that go side by side; None: there is one.

    Attributes:
        order: (updates, N), numbers of sequences, to be written before each block.
        places: where the model's numbers lay.
        y: (P, K), the outputs; row t N + n is step t of sequence n where each step is read out.
        most: updates that there is room for at once.
        begins: (updates,), of windows: whether sequences begin there.
        carried: of windows: the states after the one before, in the order of layers and states.
    """

    backward = False
    """Whether a backward pass follows."""

    def __init__(
        self,
        model: nn.Module,
        network: Network,
        data: Batch[Tensor],
        cells: Cells,
        size: int,
        lanes: Lanes | None = None,
    ) -> None:
        lanes = Lanes(1) if lanes is None else lanes
        self.places = Places(model).now()
        self._network, self._data, self._cells, self._size = network, data, cells, size
        x = data.x
        self._double, self._steps = x.dtype == torch.float64, x.shape[1]
        # Steps that are run through, and not read out.
        self._before = network.before if self.backward else 0
        self._lanes, self._kind = lanes, (self._double, lanes.networks)
        self._masks: list[tuple[Tensor, float, bool]] = []
        # Those of what a layer is given, by level, direction and place; of both directions (level,
        # 0, 0).
        self._between: dict[tuple[int, int, int], Tensor] = {}
        self.most = self._room_for_masks()
        self.order = torch.zeros((MOST, size), dtype=torch.int64)
        lanes.own(self.order, cells.stopped)
        # How long each row is.
        self._ends = torch.full((size,), self._steps, dtype=torch.int64)
        self._held: list[Any] = []
        self._calls: list[Noted] = []
        self._read, self._starts = self._batch()
        self._levels: list[list[list[Passes]]] = []
        self._keep = self._unreset()
        self.begins = torch.zeros(MOST, dtype=torch.int64)
        self.carried: list[Tensor] = []
        self._attended: Attended | None = None
        self._forward()
        self._rows = self._read_out()
        readout = network.readout
        self._count = size * (self._steps - self._before if network.reduce is None else 1)
        self.y = self._room(readout.output_size)
        self._no_bias = x.new_zeros(readout.output_size)
        self._bias = self._no_bias if readout.bias is None else readout.bias
        self._seen = self._read_directly()
        self._zero = torch.zeros(1, dtype=torch.int64)

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        """x of a batch, (N, T, C). Where nothing but a layer reads it, it stays where it lies, and
        what follows says where its sequences begin."""
        x, size, lowest = self._data.x, self._size, self._network.levels[0]
        known: dict[str, Any] = {
            "clock": self._cells.clock, "order": self.order, "N": size, "stride": x.stride(0)
        }  # fmt: skip
        dropped = self.backward and lowest[0].layers[0].input_dropout
        readout = self._network.readout
        if len(lowest) > 1 or dropped or readout.direct_size is not None or self._kind[1] > 1:
            read = x.new_zeros((size, *x.shape[1:]))
            width = x.shape[1] * x.shape[2]
            noted = gather(*self._kind).noted(source=x, target=read, width=width, **known)
            self._calls.append(noted)
            return read, None
        places = torch.zeros(size, dtype=torch.int64)
        self._calls.append(find().noted(target=places, **known))
        return x[:size], places

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
            shared=self._data.weights is not None and kind is not None,
            level=network.level, networks=self._kind[1],
        )  # fmt: skip

    def _read_directly(self) -> Tensor | None:
        """The rows of x that the readout sees beside h."""
        if self._network.readout.direct_size is None:
            return None
        size, (steps, width) = self._size, self._read.shape[1:]
        each = self._network.reduce is None
        rows = self._read.new_zeros(((steps if each else 1) * size, width))
        kind = by_step if each else last_input
        noted = kind(*self._kind).noted(
            source=self._read, target=rows, ends=self._ends, N=size, C=width, T=steps
        )
        self._calls.append(noted)
        return rows[self._before * size :]

    def _head(self, kind: str | RowLoss | None, **more: int | Tensor) -> Noted:
        """The head with a kind of loss, and what it needs for errors; or the outputs alone."""
        readout, facts = self._network.readout, self._facts(kind)
        packed = self.y.new_zeros(facts.sizes.packed * facts.inputs)
        if self._seen is not None:
            assert readout.weight_direct is not None
            more |= {
                "C": facts.direct, "x": self._seen, "direct": readout.weight_direct,
                "no_bias": self._no_bias, "y_direct": self._room(facts.outputs),
                "packed_direct": self.y.new_zeros(facts.sizes.packed * facts.direct),
            }  # fmt: skip
        self._held += [packed, *more.values()]
        return head(facts).noted(
            H=facts.inputs, K=facts.outputs, P=self._count, h=self._rows, weight=readout.weight,
            bias=self._bias, packed=packed, y=self.y, zero=self._zero, **facts.sizes.functions(),
            **more,
        )  # fmt: skip

    def _forward(self) -> None:
        """All layers, those that read x first."""
        below, levels = self._read, self._network.levels
        for number, level in enumerate(levels):
            if number:
                share, several = self._network.between[number], len(levels[number - 1]) > 1
                below = self._passed((number, 0, 0), share, below, by_row=several)
            self._levels.append([])
            for way, chain in enumerate(level):
                lowest = chain.layers[0]
                x = below if number else self._dropped(lowest.input_dropout).transpose(0, 1)
                x, passes = self._flipped(x) if way else x, list[Passes]()
                for place, (layer, share) in enumerate(zip(*chain, strict=True)):
                    if place:
                        below_it = passes[-1].path[1:]
                        x = self._passed((number, way, place), share, below_it, by_row=False)
                    passes.append(self._run(layer, x, None if number + place else self._starts))
                self._levels[-1].append(passes)
            if self._network.sees_steps or number + 1 < len(levels):
                below = self._output = self._side_by_side(tops(self._levels[number]))

    def _run(self, layer: Recurrent, x: Tensor, places: Tensor | None) -> Passes:
        """The forward pass of a layer."""
        lengths = self._data.lengths
        schedule = Schedule.of(self._read, None if lengths is None else self._ends, None)
        weights = Weights(layer.weight_hh, layer.unit_rows(), layer.weight_ih, layer.bias)
        own = schedule._replace(mask=self._mask(layer), keep=self._keep)
        passes = Passes(
            layer.undilated, x, weights, own, dilation=layer.dilation,
            backward=self.backward and not self._network.frozen, networks=self._kind[1],
            places=places,
        )  # fmt: skip
        self._calls += self._ranked(passes)
        after = self._carried_on(passes) if self.backward and self._network.window else []
        self._calls += [*self._units(layer, passes), *passes.forward, *after]
        return passes

    def _carried_on(self, passes: Passes) -> list[Noted]:
        """Begin with the states that the window before kept; what keeps those for the next one,
        which begins a window's steps after this one."""
        after = list[Noted]()
        for path in passes.paths:
            kept = torch.zeros_like(path[0])
            self.carried.append(kept)
            noted = begin(self._double).noted(
                clock=self._cells.clock, begins=self.begins, source=kept, target=path[0],
                count=kept.numel(),
            )  # fmt: skip
            self._calls.append(noted)
            after.append(
                take_ends(self._double).noted(
                    path=path, target=kept, ends=self._ends, most=self._network.window or 0,
                    N=len(kept), H=kept.shape[1],
                )
            )  # fmt: skip
        return after

    def _flipped(self, x: Tensor) -> Tensor:
        """Sequences (T, N, C) from their own last steps to their first."""
        target = x.new_zeros(x.shape)
        self._held += [x, target]
        self._calls.append(moved(x, target, self._ends, flips=True))
        return target

    def _side_by_side(self, level: Sequence[Passes]) -> Tensor:
        """The output of a level, (T, N, H), each step where it is in x."""
        paths = [passes.path[1:] for passes in level]
        if len(paths) == 1:
            return paths[0]
        target = torch.cat(paths, -1)
        self._held.append(target)
        for path, part, flips in zip(paths, parts_of(target, level), (False, True), strict=True):
            self._calls.append(moved(path, part, self._ends, flips=flips))
        return target

    # Dropout

    def _room_for_masks(self) -> int:
        """Updates whose masks there is room for."""
        layers = self._network.layers if self.backward else []
        numbers = sum(layer.hidden_size for layer in layers if layer.recurrent_dropout)
        numbers += sum(layer.input_size for layer in layers if layer.input_dropout)
        levels = self._network.levels if layers else []
        given = [
            *zip((level[0].layers[0] for level in levels), self._network.between, strict=False)
        ]
        given += [pair for level in levels for chain in level for pair in zip(*chain, strict=True)]
        numbers += sum(self._steps * layer.input_size for layer, share in given if share)
        return max(1, min(MOST, MASKS // max(1, self._size * numbers)))

    def _drawn(self, shape: tuple[int, ...], probability: float, *, by_row: bool = False) -> Tensor:
        """(updates, *shape), room for the masks of a block, drawn in the order of these calls;
        those of (T, N, C) perhaps for one sequence after the other."""
        masks = self._read.new_zeros((self.most, *shape))
        self._masks.append((masks, probability, by_row))
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

    def _passed(
        self, place: tuple[int, int, int], probability: float, below: Tensor, *, by_row: bool
    ) -> Tensor:
        """What a layer is given from the one below, (T, N, C), some numbers left out while the
        network learns."""
        if not (self.backward and probability):
            return below
        # PyTorch draws as numbers lie: outputs that it has put side by side, by sequence.
        masks = self._drawn(tuple(below.shape), probability, by_row=by_row)
        target = torch.zeros_like(below)
        self._between[place] = masks
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

    def draw(
        self,
        first: int,
        updates: int,
        generator: torch.Generator | None = None,
        steps: "np.ndarray[Any, Any] | None" = None,
    ) -> None:
        """Draw the masks of updates in the order in which a layer draws them, as dropout does.

        Args:
            first: number of the first update within the block.
            updates: how many.
            generator: where they come from; None: PyTorch's global one.
            steps: how many steps of each update have masks of their own; None: all.
        """
        if not self._masks:
            return
        for number in range(first, first + updates):
            for masks, probability, by_row in self._masks:
                mask = masks[number]
                if steps is not None and mask.ndim == 3:
                    mask = mask[: steps[number - first]]
                drawn = mask.transpose(0, 1).contiguous() if by_row else mask
                drawn.bernoulli_(1 - probability, generator=generator)
                drawn.div_(1 - probability)
                if by_row:
                    mask.copy_(drawn.transpose(0, 1))

    # Lengths, resets and unit parameters

    def _unreset(self) -> Tensor | None:
        """Where states go on, (T, N, 1); None where there are no resets."""
        resets, size, steps = self._data.resets, self._size, self._steps
        if resets is None:
            return None
        keep = torch.ones((steps, size, 1), dtype=torch.bool)
        noted = unreset().noted(
            clock=self._cells.clock, source=resets, stride=resets.stride(0), target=keep,
            order=self.order, N=size, T=steps,
        )  # fmt: skip
        self._calls.append(noted)
        self._held.append(keep)
        return keep

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
                noted = copy(*self._kind).noted(source=source, target=target, count=size)
                calls.append(noted)
        return calls

    def _read_out(self) -> Tensor:
        """What is read out: every step, or one row a sequence."""
        level, reduce = tops(self._levels[-1]), self._network.reduce
        if reduce is None:
            return self._output[self._before :]
        if self._network.attention is not None:
            networks = self._kind[1]
            attended = Attended(self._network.attention, self._output, self._ends, networks)
            self._attended = attended
            self._calls.append(attended.forward)
            return attended.rows
        before = (0, level[0].path.shape[-1])
        rows = [self._row_of_each(one, reduce, n) for one, n in zip(level, before, strict=False)]
        if len(rows) == 1:
            return rows[0]
        target = torch.cat(rows, -1)
        for row, part in zip(rows, parts_of(target, level), strict=True):
            self._calls.append(moved(row.unsqueeze(0), part.unsqueeze(0), self._ends))
        self._held.append(rows)
        return target

    def _row_of_each(self, passes: Passes, reduce: str, before: int) -> Tensor:
        """(N, H), the state after the last step that a layer reads, or what is found over its
        steps, of units that ``before`` others stand before."""
        if reduce == "last" and passes.order is None:
            return passes.path[-1]
        rows = torch.zeros_like(passes.path[0])
        kinds = {
            "last": lambda: take_ends(self._double), "mean": lambda: take_mean(*self._kind),
            "share": lambda: take_share(*self._kind),
            "share_max": lambda: take_share(*self._kind, peaks=True),
        }  # fmt: skip
        self._calls.append(
            kinds[reduce]().noted(
                path=passes.path, target=rows, ends=self._ends, N=self._size, H=rows.shape[1],
                T=self._steps, most=self._steps, before=before,
            )
        )  # fmt: skip
        return rows


def tops(level: Sequence[Sequence[Passes]]) -> list[Passes]:
    """The uppermost layer of each direction."""
    return [chain[-1] for chain in level]


def parts_of(tensor: Tensor, level: Sequence[Passes]) -> "tuple[Tensor, ...]":
    """What of each row of a tensor is a layer's."""
    return tensor.split([passes.path.shape[-1] for passes in level], -1)
