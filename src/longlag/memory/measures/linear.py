r"""The linearised step of layers, as matrices and as products with vectors.

With the pointwise partials of the update :math:`s_t = \phi(a_t, r_t, s_{t-1}, \theta)`,

.. math:: J_t = \frac{\partial s_t}{\partial s_{t-1}}
    = \frac{\partial\phi}{\partial s} + \sum_g \operatorname{diag}\!\left(
    \frac{\partial\phi}{\partial r_g}\right) W_g

Where W_g reads a new value, W_g times the rows of that state in J_t takes its place, the earliest
stage first. Products that the cell truncates are left out, as they are of the gradient. In a stack
the states of all layers are one vector, the layer that reads x first; since an upper layer reads
what the one below puts out at the same step,

.. math:: \frac{\partial s^{(l)}_t}{\partial s_{t-1}} = J^{(l)}_t
    + \frac{\partial s^{(l)}_t}{\partial a^{(l)}_t}\, U^{(l)}\,
    \frac{\partial h^{(l-1)}_t}{\partial s_{t-1}}

which is block lower triangular.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from longlag.gradients.runs.layer_run import LayerRun
from longlag.recurrence.lowered import Product

AT_ONCE = 1 << 22
"""Numbers of partials that are taken at once."""


def joint_size(passes: Sequence[LayerRun]) -> int:
    """S, the numbers of the states of all layers together."""
    return sum(len(run.states) * run.layer.hidden_size for run in passes)


def stretches(passes: Sequence[LayerRun]) -> list[slice]:
    """The steps in stretches, as long as the partials of any layer may be taken at once."""
    steps = len(passes[0].drive)
    numbers = max(run.drive[:1].numel() * (2 + len(run.states)) for run in passes)
    length = max(1, AT_ONCE // max(1, numbers))
    return [slice(first, min(first + length, steps)) for first in range(0, steps, length)]


def apart_from_padding(run: LayerRun, stretch: slice) -> Tensor | None:
    """Where J_t is not zero by definition, (B, N, 1): no padding, no reset; None for everywhere."""
    masks = (run.schedule.active, run.schedule.keep)
    parts = [mask[stretch] for mask in masks if mask is not None]
    return functools.reduce(torch.logical_and, parts) if parts else None


class Linear:
    """The linearised update of one layer at some steps: (B, M, .) for B steps of M sequences.

    R replicas put an R before M. Vectors at one step are (M, K, H), one such for each state.

    Args:
        run: the layer's pass, for its weights.
        drive: (B, M, G H), a of these steps.
        before: s_{t-1} of these steps, each (B, M, H).
        clock: t of these steps, (B, M, 1), where the recurrence reads it.
    """

    def __init__(
        self, run: LayerRun, drive: Tensor, before: Sequence[Tensor], clock: Tensor | None
    ) -> None:
        self.step, self.layer, weights = run.step, run.layer, run.weights
        self.blocks = self.step.blocks(weights)
        self.count, shape = len(before), before[0].shape
        partials = self.step.partials(drive, before, self.blocks, weights.units, None, clock)
        recurrence = self.layer.recurrence
        self.zero = torch.zeros_like(before[0][:1]).expand(shape)
        self.by_drives = self.step.stacked(partials, before[0])
        """By state its partials by all drives, (B, M, D, H); None where it has none."""
        self.by_states = [
            (k, n, partials[k, symbol].expand(shape))
            for k in range(self.count)
            for n, symbol in enumerate(recurrence.state_symbols)
            if (k, symbol) in partials
        ]

    def back(
        self, at: int, errors: Sequence[Tensor], below: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        """J^T times vectors at one step; and what goes to the layer's input, (M, K, C).

        Args:
            at: number of the step among the B.
            errors: (M, K, H) by state.
            below: whether the second is wanted.
        """
        d_drives = None
        if self.step.lowered.inner:
            here = [None if part is None else part[at].unsqueeze(-3) for part in self.by_drives]
            errors = self.step.within(here, errors, self.blocks, multiply=_rows_times)
        for error, partial in zip(errors, self.by_drives, strict=True):
            if partial is not None:
                slope, error = partial[at].unsqueeze(-3), error.unsqueeze(-2)
                if d_drives is None:
                    d_drives = error * slope
                else:
                    d_drives.addcmul_(error, slope)
        sent: list[Any] = [None] * self.count
        for k, n, partial in self.by_states:
            sent[n] = _add(sent[n], errors[k] * partial[at].unsqueeze(-2))
        d_input = None
        if d_drives is not None:
            for product, block in zip(self.step.products, self.blocks, strict=True):
                if not (product.truncated or product.new):
                    term = _rows_times(self.step.reached(d_drives, product.gates), block)
                    sent[product.source] = _add(sent[product.source], term)
            if below:
                d_gates = self.step.by_gate(d_drives)
                d_input = _rows_times(d_gates, self.layer.weight_ih.detach())
        return [torch.zeros_like(errors[0]) if d is None else d for d in sent], d_input

    def ahead(
        self, at: int, tangents: Sequence[Tensor], d_input: Tensor | None = None
    ) -> list[Tensor]:
        """J times vectors at one step, plus what a tangent of the layer's input adds.

        Args:
            at: number of the step among the B.
            tangents: (M, K, H) by state.
            d_input: (M, K, C), of the layer's input at that step; None for zero.
        """
        drives: list[Any] = [None] * len(self.layer.recurrence.drive_symbols)

        def add(product: Product, read: Sequence[Tensor]) -> None:
            block = self.blocks[self.step.products.index(product)]
            parts = _rows_times(read[product.source], block.mT).chunk(len(product.gates), -1)
            for gate, part in zip(product.gates, parts, strict=True):
                number = self.step.apart + gate
                drives[number] = _add(drives[number], part)

        for product in self.step.products:
            if not (product.truncated or product.new):
                add(product, tangents)
        if d_input is not None:
            parts = _rows_times(d_input, self.layer.weight_ih.detach().mT)
            for number, part in zip(
                self.step.drive_of_gate, parts.chunk(len(self.step.drive_of_gate), -1), strict=True
            ):
                drives[number] = _add(drives[number], part)
        for product in self.step.lowered.inner:
            if not product.truncated:
                add(product, self._after(at, drives, tangents))
        return self._after(at, drives, tangents)

    def _after(
        self, at: int, drives: Sequence[Tensor | None], tangents: Sequence[Tensor]
    ) -> list[Tensor]:
        """The tangents of the new states, from those of the drives and of the old states."""
        after: list[Any] = [None] * self.count
        for k, partial in enumerate(self.by_drives):
            if partial is not None:
                for number, drive in enumerate(drives):
                    if drive is not None:
                        term = drive * partial[at, ..., number, :].unsqueeze(-2)
                        after[k] = _add(after[k], term)
        for k, n, partial in self.by_states:
            after[k] = _add(after[k], tangents[n] * partial[at].unsqueeze(-2))
        return [torch.zeros_like(tangents[0]) if d is None else d for d in after]

    def matrices(self) -> Tensor:
        """J of all steps: (B, M, S, S)."""
        hidden = self.layer.hidden_size
        jacobians = self._zeros(hidden, self.count, hidden)
        for k, n, partial in self.by_states:
            jacobians[..., k, :, n, :].diagonal(dim1=-2, dim2=-1).add_(partial)
        for product, block in zip(self.step.products, self.blocks, strict=True):
            if product.truncated or product.new:
                continue
            for gate, rows in zip(product.gates, block.split(hidden, -2), strict=True):
                rows = rows.unsqueeze(-3)
                for k, partial in enumerate(self.by_drives):
                    if partial is not None:
                        slope = partial[..., self.step.apart + gate, :].unsqueeze(-1)
                        jacobians[..., k, :, product.source, :].addcmul_(slope, rows)
        self._add_stages(jacobians.flatten(-2))
        return jacobians.flatten(-4, -3).flatten(-2)

    def input_matrices(self) -> Tensor:
        """ds_t/dx_t of all steps: (B, M, S, C)."""
        hidden, matrix = self.layer.hidden_size, self.layer.weight_ih.detach().unsqueeze(-3)
        jacobians = self._zeros(hidden, matrix.shape[-1])
        for number, rows in zip(self.step.drive_of_gate, matrix.split(hidden, -2), strict=True):
            for k, partial in enumerate(self.by_drives):
                if partial is not None:
                    jacobians[..., k, :, :].addcmul_(partial[..., number, :].unsqueeze(-1), rows)
        self._add_stages(jacobians)
        return jacobians.flatten(-3, -2)

    def _add_stages(self, jacobians: Tensor) -> None:
        """To derivatives of the new states, (B, M, K, H, Z), add what products of new values do."""
        for product in self.step.lowered.inner:
            if product.truncated:
                continue
            block = self.blocks[self.step.products.index(product)].unsqueeze(-3)
            parts = (block @ jacobians[..., product.source, :, :]).chunk(len(product.gates), -2)
            for gate, part in zip(product.gates, parts, strict=True):
                for k, partial in enumerate(self.by_drives):
                    if partial is not None:
                        slope = partial[..., self.step.apart + gate, :].unsqueeze(-1)
                        jacobians[..., k, :, :].addcmul_(slope, part)

    def _zeros(self, *shape: int) -> Tensor:
        """(B, M, K, *shape) for K states."""
        return self.zero.new_zeros((*self.zero.shape[:-1], self.count, *shape))


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _rows_times(x: Tensor, matrix: Tensor) -> Tensor:
    """(*R, M, K, A) times (*R, A, B): one product for all rows of a network."""
    return (x.flatten(-3, -2) @ matrix).view(*x.shape[:-1], matrix.shape[-1])
