"""The compiled backend: one kernel a pass, which does all there is to do.

Forward: the kernel packs the weights, then takes all sequences of its thread through all steps,
with U x + W h in one sum where several sequences share a step. Backward: the kernel sends the error
back, and makes dW, dU, db and dx as matrix products over some steps at a time, of what lies in its
work space. Only states and results are made anew; work space is used again.

Memory law, in numbers: T N H for each state; for each thread about G H (H + C) for packed weights,
as much for sums, and a work space that does not depend on T; 2 N H for each error on its way. A
cell whose derivative reads its activations stores these residuals too, K N H T numbers (K is 4 for
LSTM and GRU, 0 for Elman), while that is no more than :data:`RESIDUALS` bytes; else the backward
pass computes them again from the states, some steps at once.
For T steps of one sequence of an Elman network: T H and no more than a few megabytes.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from longlag.scan.backend import Backend, Gradients, Run, Wanted
from longlag.scan.connections import without_blocks
from longlag.scan.cpu import scratch
from longlag.scan.cpu.call import NOWHERE, Call, find_shape, in_a_row, last_contiguous
from longlag.scan.cpu.fresh import fresh
from longlag.scan.cpu.shape import Shape
from longlag.scan.cpu.target import host
from longlag.scan.cpu.team import Meetings
from longlag.scan.inputs import ScanInputs, Weights
from longlag.scan.pieces import current
from longlag.scan.trajectory import final_states, held_at_end

RESIDUALS = 1 << 28
"""Bytes of residuals that a forward pass stores for its backward pass; and that a backward pass
has at hand at once where it computes them again, divided by :data:`PIECES`."""

PIECES = 16


class Cpu(Backend):
    """See the module."""

    name = "cpu"
    compiled = True
    zero_padding = True
    dilates = True

    def unsupported(self, like: Tensor) -> str | None:  # noqa: D102
        if not like.is_cpu:
            return f"the tensors are on {like.device.type}, not on the CPU"
        if like.dtype not in (torch.float32, torch.float64):
            return f"it has float32 and float64, not {like.dtype}"
        if not host().fma:
            return "this processor has no fused multiply-add"
        return None

    def forward(self, inputs: ScanInputs, backward: bool) -> Run:  # noqa: D102
        recurrence, x, weights, initial, schedule, dilation = inputs
        shape = find_shape(recurrence, x, weights, initial, schedule, dilation=dilation)
        call = Call(recurrence, x, _without_blocks(shape, weights), schedule, shape)
        states = [begun(x, shape, place, initial) for place in range(len(shape.paths))]
        lengths = None if call.ordered is None else call.ordered.lengths.view(shape.state[:-1])
        steps, residuals, kind = shape.steps, None, "forward"
        if backward and stores_residuals(shape):
            residuals, kind = fresh(x, (len(x), *shape.stored_state)), "store"
        if not shape.empty:
            run_forward(call, states, residuals, 0, steps, kind, initial)
        if dilation > 1:
            if call.ordered is not None:
                states = [path[: len(x)] for path in states]
            final = final_of_dilated(dilation, states, initial, lengths)
            return Run(states, final, residuals, shape)
        final = final_states(shape.lowered, states, schedule, lengths, backward)
        return Run(states, final, residuals, shape)

    def feed(self, inputs: ScanInputs, matrix: Tensor, bias: Tensor) -> Run | None:  # noqa: D102
        recurrence, x, weights, initial, schedule, _ = inputs
        fed, hidden = matrix.shape[-2:]
        shape = find_shape(recurrence, x, weights, initial, schedule, fed)
        front = x.shape[1:-2]
        sizes = (*front, fed, shape.hidden), (*front, fed)
        if (matrix.shape, bias.shape) != sizes or fed > x.shape[-1] or not x.is_contiguous():
            raise ValueError(f"readout: got {tuple(matrix.shape)}, expected {sizes[0]}")
        call = Call(recurrence, x, _without_blocks(shape, weights), schedule, shape)
        states = [begun(x, shape, place, initial) for place in range(len(shape.paths))]
        if not shape.empty:
            # By vectors of units; the last one does some again, which count once.
            lanes, whole = shape.plan.lanes, hidden // shape.plan.lanes * shape.plan.lanes
            wide = x.new_zeros((*front, fed, shape.vectors * lanes))
            wide[..., :whole] = matrix[..., :whole]
            if hidden > whole:
                wide[..., whole - hidden :] = matrix[..., whole:]
            held = wide, bias.contiguous().to(x.dtype)
            call.held += held
            call.readout = [number for part in held for number in call.place(part)]
            run_forward(call, states, None, 0, shape.steps, "forward")
        final = final_states(shape.lowered, states, schedule, None, False)
        return Run(states, final, None, shape)

    def backward(  # noqa: D102
        self, inputs: ScanInputs, run: Run, gradients: Sequence[Tensor | None], wanted: Wanted
    ) -> Gradients:
        recurrence, x, weights, initial, schedule, dilation = inputs
        # What was saved may have been exchanged meanwhile, through .data or a hook: look again.
        before = initial if dilation > 1 else None
        shape = find_shape(recurrence, x, weights, before, schedule, dilation=dilation)
        if run.context is not None and run.context.paths != shape.paths:
            then, now = run.context.paths[0], shape.paths[0]
            raise ValueError(f"x: had states {then} in the forward pass, has {now} now")
        paths = shape.paths if dilation == 1 else [(len(x), *shape.state)] * len(shape.paths)
        states = [_same(*pair, shape) for pair in zip(run.states, paths, strict=True)]
        residuals = run.residuals
        if residuals is not None:
            residuals = _same(residuals, (len(x), *shape.stored_state), shape)
        for name, error in zip(("output", *recurrence.states), gradients, strict=True):
            if error is not None and (error.dtype is not shape.dtype or not error.is_cpu):
                raise ValueError(
                    f"gradient by {name}: got {error.dtype} on {error.device}, expected "
                    f"{shape.dtype} on the CPU, as the tensors that the forward pass saved"
                )
        call = Call(recurrence, x, _without_blocks(shape, weights), schedule, shape)
        if shape.empty:
            return _nothing(call, gradients[1:], wanted)
        return BackwardPass(call, states, residuals, gradients, wanted, before).run()


def stores_residuals(shape: Shape) -> bool:
    """Whether the forward pass stores residuals for the backward pass."""
    return shape.stored > 0 and shape.steps * shape.stored_bytes <= RESIDUALS


def run_forward(
    call: Call,
    states: Sequence[Tensor],
    residuals: Tensor | None,
    first: int,
    stop: int,
    kind: str,
    initial: Sequence[Tensor] | None = None,
    *,
    packed: bool = False,
) -> None:
    """Run a forward kernel on the steps first .. stop - 1; ``residuals`` begins with the first.

    Of a dilated recurrence ``initial`` are the states before all steps; None for zeros. Where the
    weights are ``packed``, they lie in the work space as a call before has left them.
    """
    x, bias, shape = call.x, call.weights.bias, call.shape
    if bias is None and shape.has_input:
        bias = x.new_zeros(shape.expected["bias"])
        call.held.append(bias)
    work = scratch.take("forward", x, shape.forward.size)
    arguments = [
        *call.by_step(x, first), *call.input, *call.place(bias), *call.recurrent, *call.units,
        *call.by_step(residuals, 0), work.data_ptr(), 0,
    ]  # fmt: skip
    for path, depth in zip(states, shape.lowered.depths, strict=True):
        arguments += call.by_step(path, depth + first)
    before = _Before(call, states, initial, first) if shape.dilated else None
    arguments += [] if before is None else before.places
    arguments += call.scheduled(first)
    arguments += call.place_of_slots(back=False)
    arguments += call.readout
    meetings = Meetings(shape.team) if shape.plan.team else None
    arguments += [] if meetings is None else [meetings.address, 0]
    arguments += (stop - first, *call.strides(x), packed)
    arguments += [] if before is None else [before.step, before.all_rows]
    call.run(kind, shape.forward.parameters(arguments), meetings)


def _without_blocks(shape: Shape, weights: Weights) -> Weights:
    """The weights, with zeros in W where its pattern leaves out and a kernel would read."""
    if shape.by_blocks or weights.recurrent is None or weights.entries is not None:
        return weights
    return weights._replace(recurrent=without_blocks(shape.recurrence, weights.recurrent))


def begun(x: Tensor, shape: Shape, place: int, initial: Sequence[Tensor] | None) -> Tensor:
    """The path of a stored state, with what is there before the first step."""
    path, lowered = fresh(x, shape.paths[place]), shape.lowered
    if shape.dilated:  # what is before the first steps has memory of its own
        return path
    number, depth = lowered.stored[place], lowered.depths[place]
    if initial is None:
        size = (depth + 1) * shape.size * shape.item
        if size:
            ctypes.memset(path.data_ptr(), 0, size)
    elif not depth:
        path[0] = initial[number]
    else:
        past = [initial[lowered.held_number(number, steps)] for steps in range(depth, 0, -1)]
        torch.stack([*past, initial[number]], out=path[: depth + 1])
    return path


def final_of_dilated(
    dilation: int,
    paths: Sequence[Tensor],
    initial: Sequence[Tensor] | None,
    lengths: Tensor | None,
) -> list[Tensor]:
    """The states of the last d steps of each row of a dilated recurrence, each (d, N, H)."""
    final = []
    for place, path in enumerate(paths):
        if lengths is None and len(path) >= dilation:
            final.append(path[len(path) - dilation :].clone())
            continue
        size = (dilation, *path.shape[1:])
        before = path.new_zeros(size) if initial is None else initial[place]
        if lengths is None:
            final.append(torch.cat([before[len(path) :], path]))
            continue
        steps = torch.arange(dilation, device="cpu").view(-1, *[1] * (path.dim() - 1))
        steps = steps + lengths.unsqueeze(-1)  # from the first of before on
        old = before.gather(0, steps.clamp(max=dilation - 1).expand(size))
        if len(path):
            new = path.gather(0, (steps - dilation).clamp(min=0).expand(size))
            old = torch.where(steps < dilation, old, new)
        final.append(old)
    return final


class _Before:
    """What the first steps of a dilated recurrence read, from a step on.

    Attributes:
        places: where it is, by state.
        step: numbers from one step of it to the next; 0 where all are the same.
        all_rows: how many rows there are from this step on.
    """

    def __init__(
        self, call: Call, states: Sequence[Tensor], initial: Sequence[Tensor] | None, first: int
    ) -> None:
        shape = call.shape
        self.step, self.all_rows = shape.size, (len(call.x) - first * shape.fold) * call.x.shape[-2]
        if first:
            self.places = [n for path in states for n in call.by_step(path, first - shape.dilation)]
            return
        if initial is None:
            zeros, self.step = call.x.new_zeros((1, shape.size)), 0
            before: Sequence[Tensor] = [zeros] * len(states)
        else:
            before = [state.resolve_neg().contiguous() for state in initial]
        call.held += before
        self.places = [n for state in before for n in (state.data_ptr(), shape.by_replica)]


def _same(tensor: Tensor, size: tuple[int, ...], shape: Shape) -> Tensor:
    """What the forward pass saved, as the kernels read it."""
    if tensor.shape != size or tensor.dtype is not shape.dtype or not tensor.is_cpu:
        raise ValueError(
            f"saved states: got {tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}, "
            f"expected {size} of {shape.dtype} on the CPU, as the forward pass saved them"
        )
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def _nothing(call: Call, final: Sequence[Tensor | None], wanted: Wanted) -> Gradients:
    """The gradients of no steps, or no sequences."""
    weights, zero = call.weights, call.x.new_zeros(call.shape.expected["state"])
    initial = [zero if error is None else error.resolve_neg().clone() for error in final]

    def zeros(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.zeros_like(tensor)

    return Gradients(
        torch.zeros_like(call.x) if wanted.x else None,
        zeros(weights.input), zeros(weights.bias), zeros(weights.recurrent),
        initial, [torch.zeros_like(unit) for unit in weights.units],
    )  # fmt: skip


class _Totals(NamedTuple):
    """The gradients of the weights; those of a single network by thread, where there are several.

    They are None where they are not wanted.
    """

    input: Tensor | None
    bias: Tensor | None
    recurrent: Tensor | None


class _Past(NamedTuple):
    """Of a state that is read from further back, in a backward pass.

    Attributes:
        depth: D.
        errors: (D, N, H), for the errors of its values before the first step.
        further: the errors that arrive at its path from elsewhere; one row of zeros will do where
            there are none.
        step: bytes from one step of those to the next, 0 for one row.
    """

    depth: int
    errors: Tensor
    further: Tensor
    step: int


class BackwardPass:
    """One backward pass over at least one step of one sequence.

    ``since`` is the step to which errors go back, and no further.
    """

    def __init__(
        self,
        call: Call,
        states: Sequence[Tensor],
        residuals: Tensor | None,
        gradients: Sequence[Tensor | None],
        wanted: Wanted,
        initial: Sequence[Tensor] | None = None,
        since: int = 0,
    ) -> None:
        self._since = since
        self.call, self.shape, self.states, self.residuals = call, call.shape, states, residuals
        self.wanted, self.initial = wanted, initial
        x, shape = call.x, call.shape
        d_output, *final = gradients
        if d_output is None:
            zeros, size = x.new_zeros((shape.hidden,)), (len(x), *shape.state)
            d_output = zeros.as_strided(size, (*[0] * len(shape.state), 1))
        d_output = last_contiguous(d_output)
        apart = shape.fold > 1 and not in_a_row(d_output)
        self.d_output = d_output.contiguous() if apart else d_output
        lowered = shape.lowered
        self.deltas = [
            self._begin(place, final[number]) for place, number in enumerate(lowered.stored)
        ]
        if shape.dilated:
            # One step of zeros will do for all.
            self.final_step = 0 if all(error is None for error in final) else shape.size
            self.final = [self._by_phase(error) for error in final]
        self.turned, self.ring = 0, None
        self.total = _Totals(None, None, None)
        self.d_x = self.d_units = None
        if wanted.x:
            # In memory as x is, so that who reads on reads it in order.
            make = torch.empty_like if call.ordered is None else torch.zeros_like
            self.d_x = last_contiguous(make(x))
            if shape.fold > 1 and not in_a_row(self.d_x):
                self.d_x = make(x, memory_format=torch.contiguous_format)
        pieces = current()
        self.goes_on = None if pieces is None else pieces.sums()
        size, self.blocks = shape.backward.size, self._blocks()
        self.past = self._past(final) if shape.delayed else {}
        if self.goes_on is not None or len(self.blocks) > 1:
            size *= shape.replicas  # each has sums that go on
        self.by_replica = 0 if size == shape.backward.size else shape.backward.size * shape.item
        if self.goes_on is None:
            self.work = scratch.take("backward", x, size)
        elif self.goes_on.opens:
            self.work = x.new_empty(size)
        else:
            self.work, self.d_units = self.goes_on.kept
        if wanted.units and self.d_units is None:
            count = len(call.recurrence.units)
            self.d_units = x.new_zeros((shape.parts, shape.replicas, count, shape.hidden))
        if self.goes_on is not None:
            self.goes_on.kept = (self.work, self.d_units)

    def _begin(self, number: int, error: Tensor | None) -> Tensor:
        """Two halves for the error of a state, of which the first holds that of the final one."""
        shape, ordered = self.shape, self.call.ordered is not None
        if shape.dilated:
            return scratch.take(f"delta {number}", self.call.x, 2 * shape.phases * shape.size)
        delta = scratch.take(f"delta {number}", self.call.x, 2, *shape.state)
        # With lengths, rows that begin later find their error in either half.
        halves = 2 if ordered else 1
        if error is None:
            ctypes.memset(delta.data_ptr(), 0, halves * shape.size * shape.item)
        else:
            delta[:halves] = error
        return delta

    def _by_phase(self, error: Tensor | None) -> Tensor:
        """Of a dilated recurrence the error of a state after the last steps, by phase."""
        shape, ordered = self.shape, self.call.ordered
        if error is None:
            deep = shape.expected["state"] if self.final_step else shape.size
            return self.call.x.new_zeros(deep)
        if ordered is None:
            return error.resolve_neg().roll(len(self.call.x) % len(error), 0).contiguous()
        phases = torch.arange(len(error), device="cpu").view(-1, *[1] * (error.dim() - 1))
        lengths = ordered.lengths.view(*shape.state[:-1], 1)
        return error.resolve_neg().gather(0, ((phases - lengths) % len(error)).expand(error.shape))

    def _past(self, final: Sequence[Tensor | None]) -> "dict[int, _Past]":
        """What there is of the delayed states, by their places among the stored ones."""
        shape, lowered, x = self.shape, self.shape.lowered, self.call.x
        pairs = zip(final, lowered.origins, strict=True)
        errors = [(error, *origin) for error, origin in pairs if error is not None and origin[1]]
        whole = bool(errors) or len(self.blocks) > 1
        past = {
            place: _Past(
                depth,
                scratch.take(f"past {place}", x, depth, *shape.state),
                x.new_zeros(shape.paths[place] if whole else shape.state),
                shape.size * shape.item if whole else 0,
            )
            for place, depth in enumerate(lowered.depths)
            if depth
        }
        for error, place, back in errors:
            path, end = past[place].further, lowered.depths[place] - back
            lengths = None if self.call.ordered is None else self.call.ordered.lengths
            if lengths is not None:
                lengths = lengths.view(shape.state[:-1])
            if self.call.schedule.keep is not None:
                kept = held_at_end(self.call.schedule.keep, back, lengths)
                error = error.masked_fill(~kept, 0.0)
            if lengths is None:
                path[len(path) - 1 - back] += error
            else:
                at = (lengths + end).view(1, *shape.state[:-1], 1).expand(1, *shape.state)
                path.scatter_add_(0, at, error.unsqueeze(0))
        return past

    def sums(self) -> _Totals:
        """Run the kernels; the gradients of the weights, where no further pieces will add to them,
        of a single network by thread where there are several."""
        opens, closes = self.goes_on is None or self.goes_on.opens, self.closes
        total = self.total
        for first, stop in reversed(self.blocks):
            begins, ends = opens and stop == self.shape.steps, closes and first == self._since
            total = self.total = self._block(first, stop, begins, ends)
        return total

    @property
    def closes(self) -> bool:
        """Whether no further pieces will add to the sums."""
        return self.goes_on is None or self.goes_on.closes

    def run(self) -> Gradients:
        """All gradients; of the weights none, where further pieces will add to them."""
        call, shape, total = self.call, self.shape, self.sums()
        initial: list[Tensor] = []
        if self.wanted.initial and shape.dilated:
            initial = self.final
        elif self.wanted.initial:
            for place, back in shape.lowered.origins:
                error = (
                    self.past[place].errors[back - 1] if back else self.deltas[place][self.turned]
                )
                initial.append(error.clone())
        if not self.closes:
            return Gradients(self.d_x, None, None, None, initial, [])
        if shape.single_parts > 1:
            total = _Totals(*(None if part is None else part.sum(0) for part in total))
        recurrent = total.recurrent
        if recurrent is not None and call.weights.entries is not None:
            recurrent = recurrent.index_select(-1, call.slots_summed.places)
        elif recurrent is not None and not shape.by_blocks:
            recurrent = without_blocks(call.recurrence, recurrent)
        bias = None if call.weights.bias is None else total.bias
        return Gradients(self.d_x, total.input, bias, recurrent, initial, self._units())

    def _blocks(self) -> list[tuple[int, int]]:
        """The steps that a kernel takes at once: all, where the residuals are there."""
        steps, shape, since = self.shape.steps, self.shape, self._since
        if self.residuals is not None or not shape.stored:
            return [(since, steps)]
        size = max(1, RESIDUALS // PIECES // shape.stored_bytes)
        if shape.dilated:
            size = max(1, size // shape.dilation) * shape.dilation
        return [(first, min(first + size, steps)) for first in range(since, steps, size)]

    def _totals(self) -> _Totals:
        x, shape, wanted = self.call.x, self.shape, self.wanted
        several = (shape.single_parts,) if shape.single_parts > 1 else ()
        matrix = bias = recurrent = None
        if shape.has_input and (wanted.input or wanted.bias):
            matrix = x.new_empty((*several, *shape.expected["input matrix"]))
            bias = x.new_empty((*several, *shape.expected["bias"]))
        if wanted.recurrent and shape.wires:
            recurrent = x.new_empty((*several, *shape.d_recurrent))
        return _Totals(matrix, bias, recurrent)

    def _block(self, first: int, stop: int, opens: bool, closes: bool) -> _Totals:
        call, shape, x, d_x = self.call, self.shape, self.call.x, self.d_x
        residuals, kept_from = self.residuals, first
        if residuals is None and shape.stored:
            kept_from = 0
            steps = (stop - first) * shape.fold
            residuals = scratch.take("residuals", x, steps, *shape.stored_state)
            run_forward(call, self.states, residuals, first, stop, "recompute", self.initial)
        item, d_units, wanted = shape.item, self.d_units, self.wanted
        totals = self._totals() if closes else _Totals(None, None, None)
        dense = len(call.recurrence.dense_gates)
        ring = 1 + shape.lowered.delays[-1]
        kept = ring * shape.phases if shape.dilated else ring
        errors = scratch.take("errors", x, kept * shape.size * max(1, dense))
        if ring > 2:
            self.ring = errors.zero_()
        arguments = [
            *call.by_step(x, first), *call.input, *call.recurrent_back, *call.units,
            *call.by_step(residuals, kept_from), self.work.data_ptr(), self.by_replica,
            *call.by_step(self.d_output, first), errors.data_ptr(), shape.by_replica * dense,
            *call.by_step(d_x, first),
        ]  # fmt: skip
        for part in totals:
            if part is None:
                arguments += NOWHERE
            else:
                by_replica = part.stride(0) * item if shape.replicas > 1 else 0
                arguments += (part.data_ptr(), by_replica)
        if d_units is None:
            arguments += NOWHERE
        else:
            by_network = d_units.stride(1) * item if shape.replicas > 1 else 0
            arguments += (d_units.data_ptr(), by_network)
        half = self.turned * shape.size * item
        depths = shape.lowered.depths
        for path, delta, depth in zip(self.states, self.deltas, depths, strict=True):
            arguments += call.by_step(path, depth + first)
            # The kernel begins with the half in which the block before has left its result.
            arguments += (delta.data_ptr() + half, shape.by_replica)
        delta_half = -shape.size if self.turned else shape.size
        further_step, dilated = 0, []
        if shape.dilated:
            before = _Before(call, self.states, self.initial, first)
            final = self.final
            if first > 0 or wanted.initial:
                self.final = [x.new_empty(shape.expected["state"]) for _ in final]
                call.held += final
            for place, error, initial in zip(range(len(final)), final, self.final, strict=True):
                arguments += before.places[2 * place : 2 * place + 2]
                arguments += (error.data_ptr(), shape.by_replica)
                arguments += (initial.data_ptr(), shape.by_replica)
            dilated = [before.step, self.final_step, before.all_rows]
            self.final_step = shape.size
            delta_half = shape.phases * shape.size
        for depth, past, further, further_step in self.past.values():
            row = (depth + first) * further_step
            arguments += (further.data_ptr() + row, shape.by_replica)
            arguments += (past.data_ptr(), shape.by_replica)
        arguments += call.scheduled(first)
        if call.weights.entries is not None:
            arguments += call.place_of_slots(back=True)
        arguments += (
            stop - first, *call.strides(x), *call.strides(self.d_output),
            *((0, 0) if d_x is None else call.strides(d_x)), delta_half,
            opens, closes, first > self._since or wanted.initial, d_units is not None,
            d_x is not None, shape.has_input and (wanted.input or wanted.bias),
            bool(wanted.recurrent and shape.wires),
            shape.send_input() if d_x is not None and shape.has_input else 0,
            *([further_step // item] if ring > 2 else []), *dilated,
        )  # fmt: skip
        call.run("backward", shape.backward.parameters(arguments))
        if first > 0:
            for depth, past, further, _ in self.past.values():
                further[first : first + depth] = past.flip(0)
        if not shape.dilated:
            self.turned ^= (stop - first + 1) & 1
        return totals

    def _units(self) -> list[Tensor]:
        """The gradients of the unit parameters, each (R, 1, H)."""
        d_units = self.d_units
        if d_units is None:
            return []
        total = d_units[0] if d_units.shape[0] == 1 else d_units.sum(0)  # (R, P, H)
        units = list(total.unsqueeze(-2).unbind(1))
        return units if self.call.replicated else [unit.squeeze(0) for unit in units]
