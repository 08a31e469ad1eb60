"""The derived backward: explicit back-propagation through time from the traced partials.

With delta^k_t = dE/ds^k_t and the partials of the update s_t = phi(a_t, r_t, s_{t-1}, theta)::

    da_t        = sum_k delta^k_t  dphi_k/da
    dr_t        = sum_k delta^k_t  dphi_k/dr
    delta_{t-1} = dE_{t-1}/ds_{t-1} + sum_k delta^k_t dphi_k/ds + W^T dr_t
    dW          = sum_t dr_t s_{t-1}^T        one matrix product, after the loop
    dtheta      = sum_t sum_k delta^k_t dphi_k/dtheta

Where a product reads the new value of a state, delta_t has besides, before anything else is made of
it, the W^T dr_t of that product, the latest stage first; and its dW is made with s_t.

Only the states are stored by the forward pass. The partials do not depend on delta, so they are
recomputed for many steps at once, and the loop that must go step by step is left with a few
products. The compiled backend follows the same equations, but keeps activations, and makes dW from
some steps at a time.

Source: P. J. Werbos, Backpropagation through time: what it does and how to do it, Proceedings of
the IEEE 78(10), 1990.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import lower
from longlag.scan.backend import Backend, Gradients, Run, Wanted
from longlag.scan.inputs import ScanInputs, Schedule, Weights, unfolded
from longlag.scan.reference import run_steps
from longlag.scan.step import TorchStep, outer, times, torch_step
from longlag.scan.trajectory import first_states, states_after, states_before

BLOCK = 1 << 22
"""Numbers of pre-activations that are linearised at once: it bounds the scratch memory."""


class _Backward:
    """The backward scan, in blocks of steps from the last to the first."""

    def __init__(
        self,
        recurrence: Recurrence,
        drive: Tensor,
        weights: Weights,
        trajectory: Sequence[Tensor],
        schedule: Schedule,
    ) -> None:
        self.step: TorchStep = torch_step(recurrence)
        self.recurrence, self.schedule = recurrence, schedule
        self.drive, self.weights, self.trajectory = drive, weights, trajectory
        self.lowered = lower(recurrence)
        self.blocks = self.step.blocks(weights)
        self.replicated = drive.dim() == 4
        self.hidden = trajectory[0].shape[-1]

    def __call__(self, gradients: Sequence[Tensor], with_units: bool) -> Gradients:
        """Gradients by drive, recurrent matrix, initial states and unit parameters."""
        d_output, *delta = gradients
        if self.schedule.active is not None:
            d_output = d_output.masked_fill(~self.schedule.active, 0.0)
        steps = self.drive.shape[0]
        d_drives = self.drive.new_empty(
            (*self.drive.shape[:-1], len(self.recurrence.drive_symbols), self.hidden)
        )
        d_blocks = [torch.zeros_like(block) for block in self.blocks]
        d_units = [torch.zeros_like(unit) for unit in self.weights.units]
        size = max(1, BLOCK // max(1, d_drives[:1].numel()))
        for first in reversed(range(0, steps, size)):
            block = slice(first, min(first + size, steps))
            delta = self._block(block, d_output, delta, d_drives, d_blocks, d_units, with_units)
        recurrent = self.step.by_row(d_blocks, self.weights.entries)
        d_drive = self.step.by_gate(d_drives)
        return Gradients(d_drive, None, None, recurrent, list(delta), d_units)

    def _block(
        self,
        block: slice,
        d_output: Tensor,
        delta: Sequence[Tensor],
        d_drives: Tensor,
        d_blocks: list[Tensor],
        d_units: list[Tensor],
        with_units: bool,
    ) -> list[Tensor]:
        """Send the error back through one block of steps; returns delta before it."""
        before = states_before(
            self.lowered, self.trajectory, self.schedule, block.start, block.stop
        )
        keep = None if self.schedule.keep is None else self.schedule.keep[block]
        partials = self._partials(block, before, keep)
        delta = list(delta)
        visited: list[list[Tensor]] = [[] for _ in delta]
        symbols = self.recurrence.state_symbols
        stacked = self.step.stacked(partials, before[0])
        kept = None if keep is None else keep.to(self.drive.dtype)
        for t in reversed(range(block.stop - block.start)):
            delta[self.step.output] = delta[self.step.output] + d_output[block.start + t]
            if self.lowered.inner:
                by_drives = [None if part is None else part[t] for part in stacked]
                delta = self.step.within(by_drives, delta, self.blocks, self.schedule.mask)
            for path, error in zip(visited, delta, strict=True):
                path.append(error)
            here = d_drives[block.start + t]
            first = True
            for error, by_drives in zip(delta, stacked, strict=True):
                if by_drives is None:
                    continue
                if first:
                    torch.mul(error.unsqueeze(-2), by_drives[t], out=here)
                else:
                    here.addcmul_(error.unsqueeze(-2), by_drives[t])
                first = False
            if first:
                here.zero_()
            sent: list[Tensor | None] = [None] * len(delta)
            for (number, symbol), partial in partials.items():
                if symbol in symbols:
                    source = symbols.index(symbol)
                    term = delta[number] * partial[t]
                    old = sent[source]
                    sent[source] = term if old is None else old + term
            for product, weight in zip(self.step.products, self.blocks, strict=True):
                if not (product.truncated or product.new):
                    term = times(self.step.reached(here, product.gates), weight)
                    if self.schedule.mask is not None:
                        term = term * self.schedule.mask
                    if kept is not None:
                        term = term * kept[t]
                    old = sent[product.source]
                    sent[product.source] = term if old is None else old + term
            delta = [
                torch.zeros_like(error) if new is None else new
                for new, error in zip(sent, delta, strict=True)
            ]
        for product, d_block in zip(self.step.products, d_blocks, strict=True):
            reached = self.step.reached(d_drives[block], product.gates)
            states = before
            if product.new:
                states = states_after(self.lowered, self.trajectory, block.start, block.stop)
            read = self.step.read(product, states, self.schedule.mask)
            d_block += outer(reached, read, self.replicated)
        if with_units:
            self._add_units(partials, visited, d_units)
        return delta

    def _partials(self, block: slice, before: list[Tensor], keep: Tensor | None) -> dict:
        """The partials of a block, as the schedule lets them act, each of a state's shape."""
        clock = None if self.schedule.clock is None else self.schedule.clock[block]
        partials = self.step.partials(
            self.drive[block], before, self.blocks, self.weights.units, self.schedule.mask, clock
        )
        shape = before[0].shape
        states = self.recurrence.state_symbols
        active = None if self.schedule.active is None else self.schedule.active[block]
        if active is not None:
            for number, symbol in enumerate(states):
                if (number, symbol) not in partials:
                    partials[number, symbol] = torch.zeros_like(before[0])
        for key, partial in partials.items():
            number, symbol = key
            partial = partial.expand(shape)
            if keep is not None and symbol in states:
                partial = partial.masked_fill(~keep, 0.0)
            if active is not None:
                kept = float(symbol in states and states.index(symbol) == number)
                partial = partial.masked_fill(~active, kept)
            partials[key] = partial
        return partials

    def _add_units(
        self, partials: dict, visited: list[list[Tensor]], d_units: list[Tensor]
    ) -> None:
        deltas = [torch.stack(path[::-1]) for path in visited]
        for unit, symbol in enumerate(self.recurrence.unit_symbols):
            for number, delta in enumerate(deltas):
                partial = partials.get((number, symbol))
                if partial is not None:
                    d_units[unit] += (delta * partial).sum((0, -2)).unsqueeze(-2)


class Derived(Backend):
    """The forward loop of the reference, outside autograd's graph, with a backward pass of its own.

    Time: the forward loop once forward, and about as much again backward. Memory: the states.
    """

    name = "derived"

    def unsupported(self, like: Tensor) -> None:  # noqa: D102
        return None

    def forward(self, inputs: ScanInputs, backward: bool) -> Run:  # noqa: D102
        return run_steps(inputs)

    def backward(  # noqa: D102
        self, inputs: ScanInputs, run: Run, gradients: Sequence[Tensor | None], wanted: Wanted
    ) -> Gradients:
        recurrence, _, weights, _, schedule, _ = inputs
        d_output, *final = gradients
        initial = first_states(lower(recurrence), run.states)
        x, drive, _ = unfolded(inputs._replace(initial=initial))
        if d_output is None:
            d_output = drive.new_zeros((len(drive), *initial[0].shape))
        final = [
            torch.zeros_like(state) if error is None else error
            for error, state in zip(final, initial, strict=True)
        ]
        run_backward = _Backward(recurrence, drive, weights, run.states, schedule)
        sent = run_backward((d_output, *final), wanted.units)
        matrix, d_drive = weights.input, sent.x
        if matrix is None:
            return sent
        assert d_drive is not None
        return sent._replace(
            x=times(d_drive, matrix) if wanted.x else None,
            input=outer(d_drive, x, drive.dim() == 4) if wanted.input else None,
            bias=d_drive.sum((0, -2)) if wanted.bias and weights.bias is not None else None,
        )
