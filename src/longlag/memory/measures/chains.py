"""Chains of steps back from chosen ends, and products of their Jacobians with vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from longlag.gradients.runs.layer_run import LayerRun
from longlag.memory.measures.linear import Linear, joint_size

AT_ONCE = 1 << 25
"""Numbers that the partials of some steps may take: 128 MB in float32."""


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
        self, passes: Sequence[LayerRun], sequences: Tensor, ends: Tensor, reach: Tensor
    ) -> None:
        self.passes, self.sequences, self.ends, self.reach = passes, sequences, ends, reach
        self.size = joint_size(passes)
        self.sizes = [run.layer.hidden_size for run in passes for _ in run.states]
        self.longest = int(reach.max()) if reach.numel() else 0
        self.shortest = int(reach.min()) if reach.numel() else 0
        numbers = 1
        for run in passes:
            recurrence = run.layer.recurrence
            partials = (len(recurrence.states) + 2) * (len(recurrence.drive_symbols) + 2)
            numbers += partials * run.layer.hidden_size * sequences.numel()
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
        layers, at = self._at(lag)
        errors, sent = list(vectors.split(self.sizes, -1)), []
        to_input: Tensor | None = None
        stop = len(errors)
        for number in reversed(range(len(layers))):
            layer = layers[number]
            own = errors[stop - layer.count : stop]
            stop -= layer.count
            if to_input is not None:
                own[layer.step.output] = own[layer.step.output] + to_input
            own, to_input = layer.back(at, own, number > 0)
            sent = own + sent
        return self._masked(lag, torch.cat(sent, -1), vectors)

    def ahead(self, lag: int, vectors: Tensor) -> Tensor:
        """(M, K, S): each row v of a chain becomes J v, for its factor J at a lag from 1."""
        if lag > self.longest:
            return vectors
        layers, at = self._at(lag)
        before, after = list(vectors.split(self.sizes, -1)), []
        below: Tensor | None = None
        for layer in layers:
            first = len(after)
            own = layer.ahead(at, before[first : first + layer.count], below)
            below = own[layer.step.output]
            after += own
        return self._masked(lag, torch.cat(after, -1), vectors)

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
            at = (times, *rows)
            self._linear = [
                Linear(run, run.drive[at], [path[at] for path in run.states], run.clock(at))
                for run in self.passes
            ]
            self._first = first
        return self._linear, lag - 1 - first


def draw_chains(
    lengths: Tensor, steps: int, count: int | str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sequences and end times, (M,), or (R, M): the same places of the draw for each replica.

    Args:
        lengths: of the sequences, (N,), or (R, N).
        steps: T; `count`, as ``sample`` of :func:`longlag.memory.jacobian_norms`.
        generator: for the draw.
    """
    batch, device = lengths.shape[-1], lengths.device
    sequences = torch.arange(batch, device=device)
    if count == "ends":
        ends = lengths.clone()
    elif count == "all":
        sequences = sequences.repeat_interleave(steps)
        ends = torch.arange(1, steps + 1, device=device).repeat(batch)
        ends = torch.minimum(ends, lengths[..., sequences])
    else:
        assert not isinstance(count, str)
        order = torch.randperm(batch, generator=generator)
        rounds = -(-count // max(1, batch))
        sequences = order.repeat(rounds)[:count].to(device)
        part = torch.rand(len(sequences), generator=generator, dtype=torch.float64)
        part[::2] = 1.0
        ends = (part.to(device) * lengths[..., sequences]).ceil().long()
    return sequences.expand(ends.shape).contiguous(), ends


def reach_of(sequences: Tensor, ends: Tensor, resets: Tensor | None) -> Tensor:
    """How far back each chain goes: to the state before the first step, or to the last reset."""
    if resets is None:
        return ends
    steps = torch.arange(resets.shape[-1], device=resets.device)
    last = torch.where(resets, steps, -1).cummax(-1).values  # (N, T): the last reset up to a step
    index = sequences.unsqueeze(-1).expand(*sequences.shape, resets.shape[-1])
    of_chain = last.gather(-2, index)
    at_end = of_chain.gather(-1, (ends - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(ends > 0, ends - 1 - at_end, 0)
