"""One step of a recurrence in PyTorch, and its linearisation for many steps at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import Product, Stage, lower
from longlag.scan.connections import Entries, matrix_of, stored_gradient
from longlag.scan.inputs import Schedule, Weights
from longlag.scan.programs import run_program


class TorchStep:
    """A recurrence ready for PyTorch. It has no weights: they are arguments.

    Shapes are those of one step, (N, .); or of many at once, (T, N, .). R replicas put an R
    before N.
    """

    def __init__(self, recurrence: Recurrence) -> None:
        self.recurrence = recurrence
        lowered = lower(recurrence)
        self.lowered, self.apart = lowered, lowered.apart
        self.output = recurrence.states.index(recurrence.output)
        self.products, self.drive_of_gate = lowered.products, lowered.drive_of_gate
        # One product has one wire of each of its gates, in order: all rows as they are.
        self.fused = (
            len(self.products) == 1
            and not lowered.inner
            and self.products[0].pattern is None
            and all(gate.dense and not gate.split for gate in recurrence.gates)
        )

    def blocks(self, weights: Weights) -> list[Tensor]:
        """For each product, the rows (W'' H, H) of its wires; zero where nothing is there."""
        matrix = matrix_of(self.recurrence, weights.recurrent, weights.entries, weights.bfloat16)
        if matrix is None:
            return []
        if len(self.products) == 1:
            return [matrix]
        wires = matrix.split(matrix.shape[-1], dim=-2)
        return [torch.cat([wires[n] for n in product.wires], dim=-2) for product in self.products]

    def read(self, product: Product, states: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        """A state as the product reads it: truncated and dropped out where it is so.

        Args:
            product: one of ``products``.
            states: those at t - 1; those at t where it reads a new value.
            mask: the recurrent dropout mask, or None.
        """
        source = states[product.source]
        if product.truncated:
            source = source.detach()
        return source if mask is None else source * mask

    def drives(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        blocks: Sequence[Tensor],
        mask: Tensor | None,
        units: Sequence[Tensor] = (),
        clock: Tensor | None = None,
    ) -> list[Any]:
        """What the matrix products give the update, in the order of ``drive_symbols``.

        Args:
            a: (..., N, G H), the input part of every gate.
            states: the states at t - 1, each (..., N, H).
            blocks: from :meth:`blocks`.
            mask: the recurrent dropout mask (N, H), or None.
            units, clock: as for :meth:`update`, for products that read new values.
        """
        gates = self.recurrence.gates
        if self.fused:
            read = self.read(self.products[0], states, mask)
            return list(_add_product(a, read, blocks[0]).chunk(len(gates), dim=-1))
        inputs = dict(zip((gate.name for gate in gates), a.chunk(len(gates), dim=-1), strict=True))
        new: dict[int, Tensor] = {}
        recurrent: dict[int, Tensor] = {}
        drives = self._stage(0, inputs, states, recurrent, blocks, mask)
        for number, stage in enumerate(self.lowered.stages[:-1]):
            after = self._found(stage, new, drives, states, units, clock)
            new |= zip(stage.states, after, strict=True)
            there = list(states)
            for place, state in new.items():
                there[self.lowered.stored[place]] = state
            drives = self._stage(number + 1, inputs, there, recurrent, blocks, mask)
        return drives

    def _stage(
        self,
        number: int,
        inputs: Mapping[str, Tensor],
        states: Sequence[Tensor],
        recurrent: dict[int, Tensor],
        blocks: Sequence[Tensor],
        mask: Tensor | None,
    ) -> list[Any]:
        """The drives after the products of one stage, which are added to those before; None for
        those of later stages."""
        for product, block in zip(self.products, blocks, strict=True):
            if product.stage != number:
                continue
            parts = times(self.read(product, states, mask), block.mT).chunk(
                len(product.gates), dim=-1
            )
            for gate, part in zip(product.gates, parts, strict=True):
                recurrent[gate] = recurrent[gate] + part if gate in recurrent else part
        gates, dense_gates = self.recurrence.gates, enumerate(self.recurrence.dense_gates)
        apart = [inputs[gate.name] for gate in gates if gate.split or not gate.dense]
        sums = [(gate, recurrent.get(number)) for number, gate in dense_gates]
        return apart + [r if r is None or gate.split else inputs[gate.name] + r for gate, r in sums]

    def _found(
        self,
        stage: Stage,
        new: Mapping[int, Tensor],
        drives: Sequence[Any],
        states: Sequence[Tensor],
        units: Sequence[Tensor],
        clock: Tensor | None,
    ) -> list[Tensor]:
        """The new states of one stage; ``new`` are those of the stages before, by place."""
        stored = [states[number] for number in self.lowered.stored]
        inputs = [*drives, *stored, *units, *([] if clock is None else [clock])]
        after = run_program(stage.forward, [*inputs, *(new[place] for place in stage.earlier)])
        return [state.expand(states[0].shape) for state in after]

    def update(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        blocks: Sequence[Tensor],
        units: Sequence[Tensor],
        mask: Tensor | None,
        clock: Tensor | None = None,
    ) -> list[Tensor]:
        """The new states of one step; ``clock`` is t, (..., N, 1), where the update reads it."""
        inputs = [*self.drives(a, states, blocks, mask, units, clock), *states, *units]
        inputs += [] if clock is None else [clock]
        new = run_program(self.recurrence.forward, inputs)
        return [state.expand(old.shape) for state, old in zip(new, states, strict=True)]

    def run(
        self,
        drive: Tensor,
        weights: Weights,
        initial: Sequence[Tensor],
        schedule: Schedule,
    ) -> Iterator[list[Tensor]]:
        """The states after each step, one step after the other.

        Args:
            drive: a_t = U x_t + b of every gate, (T, N, G H), zero in the padding.
            weights: recurrent matrix and unit parameters.
            initial: the states before the first step, each (N, H).
            schedule: padding, where the states stay; resets; dropout mask.
        """
        blocks = self.blocks(weights)
        states = list(initial)
        # Unbound once: indexing would give each step a gradient as large as the whole drive.
        for t, a in enumerate(drive.unbind(0)):
            before = states
            if schedule.keep is not None:
                before = [state.masked_fill(~schedule.keep[t], 0.0) for state in states]
            clock = None if schedule.clock is None else schedule.clock[t]
            after = self.update(a, before, blocks, weights.units, schedule.mask, clock)
            if schedule.active is not None:
                active = schedule.active[t]
                after = [torch.where(active, *pair) for pair in zip(after, states, strict=True)]
            states = after
            yield states

    def partials(
        self,
        a: Tensor,
        states: Sequence[Tensor],
        blocks: Sequence[Tensor],
        units: Sequence[Tensor],
        mask: Tensor | None,
        clock: Tensor | None = None,
    ) -> dict[tuple[int, sympy.Symbol], Tensor]:
        """The pointwise partials of each new state, by (number of the state, symbol).

        Those that are not there are zero. Each broadcasts to the shape of a state.
        """
        drives = self.drives(a, states, blocks, mask, units, clock)
        inputs = [*drives, *states, *units, *([] if clock is None else [clock])]
        values = run_program(self.recurrence.linearisation, inputs)
        numbers = {name: number for number, name in enumerate(self.recurrence.states)}
        return {
            (numbers[state], symbol): value
            for (state, symbol), value in zip(self.recurrence.partials, values, strict=True)
        }

    def reached(self, d_drives: Tensor, gates: Sequence[int]) -> Tensor:
        """dr of some dense gates, side by side as the rows of their block.

        Args:
            d_drives: (..., drives, H), in the order of ``drive_symbols``.
            gates: numbers among the dense gates.

        Returns:
            (..., G'' H).
        """
        dense = d_drives[..., self.apart :, :]
        if len(gates) < len(self.recurrence.dense_gates):
            dense = dense[..., list(gates), :]
        return dense.flatten(-2)

    def stacked(
        self, partials: Mapping[tuple[int, sympy.Symbol], Tensor], like: Tensor
    ) -> list[Tensor | None]:
        """By state its partials by all drives, (..., drives, H), each of the shape of ``like``;
        None where it has none."""
        zero = torch.zeros_like(like[:1]).expand(like.shape)
        symbols = self.recurrence.drive_symbols
        return [
            torch.stack([partials.get((k, s), zero).expand(like.shape) for s in symbols], dim=-2)
            if any((k, s) in partials for s in symbols)
            else None
            for k in range(len(self.recurrence.states))
        ]

    def within(
        self,
        by_drives: Sequence[Tensor | None],
        errors: Sequence[Tensor],
        blocks: Sequence[Tensor],
        mask: Tensor | None = None,
        multiply: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> list[Tensor]:
        """Errors of the states with what products of new values send back within the step.

        Args:
            by_drives: by state, its partials by all drives, (..., drives, H); None for zeros.
            errors: by state, the error with the other states of the step held, (..., H).
            blocks: from :meth:`blocks`.
            mask: the recurrent dropout mask, or None.
            multiply: what to take in place of :func:`times`.
        """
        errors = list(errors)
        for product in reversed(self.lowered.inner):
            sent = self.sent_within(product, by_drives, errors, blocks, mask, multiply)
            if sent is not None:
                errors[product.source] = errors[product.source] + sent
        return errors

    def sent_within(
        self,
        product: Product,
        by_drives: Sequence[Tensor | None],
        errors: Sequence[Tensor],
        blocks: Sequence[Tensor],
        mask: Tensor | None = None,
        multiply: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor | None:
        """What one product of new values sends back to the state that it reads, or nothing.

        The arguments are those of :meth:`within`.
        """
        numbers = [self.apart + gate for gate in product.gates]
        terms = [
            error.unsqueeze(-2) * partial[..., numbers, :]
            for error, partial in zip(errors, by_drives, strict=True)
            if partial is not None
        ]
        if product.truncated or not terms:
            return None
        block = blocks[self.products.index(product)]
        sent = (multiply or times)(sum(terms[1:], terms[0]).flatten(-2), block)
        return sent if mask is None else sent * mask

    def by_gate(self, d_drives: Tensor) -> Tensor:
        """From the order of ``drive_symbols`` to that of the gates, side by side: (..., G H)."""
        if self.apart:
            d_drives = d_drives[..., list(self.drive_of_gate), :]
        return d_drives.flatten(-2)

    def by_row(self, d_blocks: Sequence[Tensor], entries: Entries | None) -> Tensor | None:
        """From one block of rows per product to the gradient by W as it is stored."""
        if not d_blocks:
            return None
        wires: dict[int, Tensor] = {}
        for product, d_block in zip(self.products, d_blocks, strict=True):
            rows = d_block.split(d_block.shape[-1], dim=-2)
            wires |= dict(zip(product.wires, rows, strict=True))
        in_order = [wires[number] for number in range(len(wires))]
        matrix = d_blocks[0] if len(d_blocks) == 1 else torch.cat(in_order, dim=-2)
        return stored_gradient(self.recurrence, entries, matrix)


def torch_step(recurrence: Recurrence) -> TorchStep:
    """The recurrence ready for PyTorch: made at its first use, and kept with it."""
    step = recurrence.__dict__.get("_torch_step")
    if step is None:
        step = TorchStep(recurrence)
        recurrence.__dict__["_torch_step"] = step
    return step


def times(x: Tensor, matrix: Tensor) -> Tensor:
    """x (..., N, A) times matrix (A, B), with (R, A, B) for x (R, N, A) or (T, R, N, A)."""
    if matrix.dim() == 2 or x.dim() == 3:
        return x @ matrix
    steps, replicas, batch, _ = x.shape
    flat = x.transpose(0, 1).reshape(replicas, steps * batch, x.shape[-1]) @ matrix
    return flat.view(replicas, steps, batch, matrix.shape[-1]).transpose(0, 1)


def outer(x: Tensor, y: Tensor, replicated: bool) -> Tensor:
    """Sum over steps and sequences of x y^T: (T, N, A) and (T, N, B) give (A, B)."""
    if not replicated:
        return x.flatten(0, -2).mT @ y.flatten(0, -2)
    x, y = (z.transpose(0, 1).flatten(1, -2) for z in (x, y))
    return x.mT @ y


def _add_product(a: Tensor, state: Tensor, block: Tensor) -> Tensor:
    """a + state W^T; one call where it is one step of one network, or of R."""
    if block.dim() == 2 and state.dim() == 2:
        return torch.addmm(a, state, block.mT)
    if block.dim() == 3 and state.dim() == 3:
        return torch.baddbmm(a, state, block.mT)
    return a + times(state, block.mT)
