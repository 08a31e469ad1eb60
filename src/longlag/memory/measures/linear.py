r"""The linearised step of layers, as matrices and as products with vectors.

With the pointwise partials of the update :math:`s_t = \phi(a_t, r_t, s_{t-1}, \theta)`,

.. math:: J_t = \frac{\partial s_t}{\partial s_{t-1}}
    = \frac{\partial\phi}{\partial s} + \sum_g \operatorname{diag}\!\left(
    \frac{\partial\phi}{\partial r_g}\right) W_g

Products that the cell truncates are left out, as they are of the gradient. In a stack the states of
all layers are one vector, the layer that reads x first; since an upper layer reads what the one
below puts out at the same step,

.. math:: \frac{\partial s^{(l)}_t}{\partial s_{t-1}} = J^{(l)}_t
    + \frac{\partial s^{(l)}_t}{\partial a^{(l)}_t}\, U^{(l)}\,
    \frac{\partial h^{(l-1)}_t}{\partial s_{t-1}}

which is block lower triangular.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from longlag.gradients.layer_pass import Pass

__all__ = ["Chains", "Linear", "apart_from_padding", "joint_size"]

AT_ONCE = 1 << 25
"""Numbers that the partials of some steps may take: 128 MB in float32."""


def joint_size(passes: Sequence[Pass]) -> int:
    """S, the numbers of the states of all layers together."""
    return sum(len(each.states) * each.layer.hidden_size for each in passes)


def apart_from_padding(each: Pass, block: slice) -> Tensor | None:
    """Where J_t is not zero by definition, (B, N, 1): no padding, no reset; None for everywhere."""
    there = None
    for part in (each.schedule.active, each.schedule.keep):
        if part is not None:
            there = part[block] if there is None else there & part[block]
    return there


class Linear:
    """The linearised update of one layer at some steps: (B, M, .) for B steps of M sequences.

    R replicas put an R before M. Vectors at one step are (M, K, H), one such for each state.

    Args:
        each: the layer's pass, for its weights.
        drive: (B, M, G H), a of these steps.
        before: s_{t-1} of these steps, each (B, M, H).
    """

    def __init__(self, each: Pass, drive: Tensor, before: Sequence[Tensor]) -> None:
        self.step, self.layer, weights = each.step, each.layer, each.weights
        self.blocks = self.step.blocks(weights)
        self.count, shape = len(before), before[0].shape
        partials = self.step.partials(drive, before, self.blocks, weights.units, None)
        recurrence = self.layer.recurrence
        zero = torch.zeros_like(before[0][:1]).expand(shape)
        symbols = recurrence.drive_symbols
        self.by_drives = [
            torch.stack([partials.get((k, s), zero).expand(shape) for s in symbols], -2)
            if any((k, s) in partials for s in symbols)
            else None
            for k in range(self.count)
        ]
        """By state its partials by all drives, (B, M, D, H); None where it has none."""
        self.by_states = [
            (k, n, partials[k, symbol].expand(shape))
            for k in range(self.count)
            for n, symbol in enumerate(recurrence.state_symbols)
            if (k, symbol) in partials
        ]
        self.inputs = [symbols.index(gate.from_input) for gate in recurrence.gates]

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
        for error, by in zip(errors, self.by_drives, strict=True):
            if by is not None:
                slope, error = by[at].unsqueeze(-3), error.unsqueeze(-2)
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
                if not product.truncated:
                    term = _rows_times(self.step.reached(d_drives, product.gates), block)
                    sent[product.source] = _add(sent[product.source], term)
            if below:
                d_gates = self.step.by_gate(d_drives)
                d_input = _rows_times(d_gates, self.layer.weight_ih.detach())
        sent = [torch.zeros_like(errors[0]) if each is None else each for each in sent]
        return sent, d_input

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
        for product, block in zip(self.step.products, self.blocks, strict=True):
            if product.truncated:
                continue
            parts = _rows_times(tangents[product.source], block.mT).chunk(len(product.gates), -1)
            for gate, part in zip(product.gates, parts, strict=True):
                number = self.step.apart + gate
                drives[number] = _add(drives[number], part)
        if d_input is not None:
            parts = _rows_times(d_input, self.layer.weight_ih.detach().mT)
            for number, part in zip(self.inputs, parts.chunk(len(self.inputs), -1), strict=True):
                drives[number] = _add(drives[number], part)
        after: list[Any] = [None] * self.count
        for k, by in enumerate(self.by_drives):
            if by is not None:
                for number, drive in enumerate(drives):
                    if drive is not None:
                        term = drive * by[at, ..., number, :].unsqueeze(-2)
                        after[k] = _add(after[k], term)
        for k, n, partial in self.by_states:
            after[k] = _add(after[k], tangents[n] * partial[at].unsqueeze(-2))
        return [torch.zeros_like(tangents[0]) if each is None else each for each in after]

    def matrices(self) -> Tensor:
        """J of all steps: (B, M, S, S)."""
        hidden, like = self.layer.hidden_size, self._like()
        found = like.new_zeros((*like.shape[:-1], self.count, hidden, self.count, hidden))
        for k, n, partial in self.by_states:
            found[..., k, :, n, :].diagonal(dim1=-2, dim2=-1).add_(partial)
        for product, block in zip(self.step.products, self.blocks, strict=True):
            if product.truncated:
                continue
            for gate, rows in zip(product.gates, block.split(hidden, -2), strict=True):
                rows = rows.unsqueeze(-3)
                for k, by in enumerate(self.by_drives):
                    if by is not None:
                        slope = by[..., self.step.apart + gate, :].unsqueeze(-1)
                        found[..., k, :, product.source, :].addcmul_(slope, rows)
        return found.flatten(-4, -3).flatten(-2)

    def input_matrices(self) -> Tensor:
        """ds_t/dx_t of all steps: (B, M, S, C)."""
        like, matrix = self._like(), self.layer.weight_ih.detach().unsqueeze(-3)
        hidden = self.layer.hidden_size
        found = like.new_zeros((*like.shape[:-1], self.count, hidden, matrix.shape[-1]))
        for number, rows in zip(self.inputs, matrix.split(hidden, -2), strict=True):
            for k, by in enumerate(self.by_drives):
                if by is not None:
                    found[..., k, :, :].addcmul_(by[..., number, :].unsqueeze(-1), rows)
        return found.flatten(-3, -2)

    def _like(self) -> Tensor:
        for by in self.by_drives:
            if by is not None:
                return by[..., 0, :]
        return self.by_states[0][2]


class Chains:
    """Products of Jacobians back from chosen steps, as they act on vectors.

    The chain of sequence n that ends at step t is J_t J_{t-1} ... ; its factor at lag k is
    J_{t-k+1}. Beyond the chain's reach, where the sequence begins or was reset, the factors are
    taken to be the identity, so that chains of different reach go side by side.

    Args:
        passes: the layers, the one that reads x first.
        sequences, ends: (M,), with R replicas (R, M): n from 0, and t from 1 to T.
        reach: likewise, how many factors each chain has.
    """

    def __init__(
        self, passes: Sequence[Pass], sequences: Tensor, ends: Tensor, reach: Tensor
    ) -> None:
        self.passes, self.sequences, self.ends, self.reach = passes, sequences, ends, reach
        self.size = joint_size(passes)
        self.sizes = [each.layer.hidden_size for each in passes for _ in each.states]
        self.longest = int(reach.max()) if reach.numel() else 0
        self.shortest = int(reach.min()) if reach.numel() else 0
        numbers = 1
        for each in passes:
            recurrence = each.layer.recurrence
            wide = (len(recurrence.states) + 2) * (len(recurrence.drive_symbols) + 2)
            numbers += wide * each.layer.hidden_size * sequences.numel()
        self.block = max(1, AT_ONCE // numbers)
        self._first = -1
        self._linear: list[Linear] = []

    @property
    def front(self) -> torch.Size:
        """(M,) or (R, M)."""
        return self.sequences.shape

    def back(self, lag: int, vectors: Tensor) -> Tensor:
        """(M, K, S): each row v of a chain becomes v J, for its factor J at a lag from 1."""
        if lag > self.longest:
            return vectors
        linear, at = self._at(lag)
        parts, found = list(vectors.split(self.sizes, -1)), []
        down: Tensor | None = None
        stop = len(parts)
        for number in reversed(range(len(linear))):
            each = linear[number]
            own = parts[stop - each.count : stop]
            stop -= each.count
            if down is not None:
                own[each.step.output] = own[each.step.output] + down
            sent, down = each.back(at, own, number > 0)
            found = sent + found
        return self._masked(lag, torch.cat(found, -1), vectors)

    def ahead(self, lag: int, vectors: Tensor) -> Tensor:
        """(M, K, S): each row v of a chain becomes J v, for its factor J at a lag from 1."""
        if lag > self.longest:
            return vectors
        linear, at = self._at(lag)
        parts, found, first = vectors.split(self.sizes, -1), [], 0
        below: Tensor | None = None
        for each in linear:
            after = each.ahead(at, parts[first : first + each.count], below)
            first += each.count
            below = after[each.step.output]
            found += after
        return self._masked(lag, torch.cat(found, -1), vectors)

    def _masked(self, lag: int, new: Tensor, old: Tensor) -> Tensor:
        if lag <= self.shortest:
            return new
        return torch.where((lag <= self.reach)[..., None, None], new, old)

    def _at(self, lag: int) -> tuple[list[Linear], int]:
        """The linearised layers of the block that holds a lag, and its place there."""
        first = (lag - 1) // self.block * self.block
        if first != self._first:
            self._linear = []  # the old block goes before the new one comes
            stop = min(first + self.block, self.longest)
            lags = torch.arange(first + 1, stop + 1, device=self.ends.device)
            times = (self.ends - lags.view(-1, *[1] * self.ends.dim())).clamp(min=0)
            rows: tuple[Tensor, ...] = (self.sequences,)
            if self.sequences.dim() == 2:
                replicas = torch.arange(len(self.sequences), device=self.ends.device)
                rows = (replicas.unsqueeze(-1), self.sequences)
            self._linear = [
                Linear(each, each.drive[(times, *rows)], [p[(times, *rows)] for p in each.states])
                for each in self.passes
            ]
            self._first = first
        return self._linear, lag - 1 - first


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _rows_times(x: Tensor, matrix: Tensor) -> Tensor:
    """(*R, M, K, A) times (*R, A, B): one product for all rows of a network."""
    return (x.flatten(-3, -2) @ matrix).view(*x.shape[:-1], matrix.shape[-1])
