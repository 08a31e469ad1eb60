"""The initial draw of a sparse recurrent matrix: which entries are there, and their numbers."""

from typing import Any

import torch
from torch import Tensor

from longlag.layers.init import Initializer, SpectralRadius
from longlag.recurrence import Recurrence
from longlag.scan.connections import Entries, blocks_left_out

CPU = torch.device("cpu")
"""Where all is drawn, so that a seed means the same everywhere."""


def draw_entries(
    recurrence: Recurrence, hidden: int, density: Any, generator: torch.Generator | None
) -> Entries:
    """Which entries of W are there; see ``density`` of :class:`longlag.Recurrent`.

    Raises:
        ValueError, TypeError: for a density that is out of range, or none.
    """
    shape = (len(recurrence.wires) * hidden, hidden)
    if not recurrence.wires:
        raise ValueError(
            f"density: got {density!r}, but {recurrence.name} has no recurrent matrix W; leave it "
            "out"
        )
    allowed = ~blocks_left_out(recurrence, hidden, CPU)
    if isinstance(density, Tensor):
        if density.dtype != torch.bool or density.shape != shape:
            raise ValueError(
                f"density: got {tuple(density.shape)} of {density.dtype}, expected a fraction, or "
                f"a boolean matrix {shape} that is True where W has an entry"
            )
        there = density.cpu() & allowed
        if not bool(there.any()):
            raise ValueError("density: got a matrix without an entry that is there, expected some")
        return Entries.of(there)
    if isinstance(density, bool) or not isinstance(density, (int, float)):
        raise TypeError(
            f"density: got {density!r} ({type(density).__name__}), expected None, a fraction or a "
            "boolean matrix"
        )
    if not 0.0 < density <= 1.0:
        raise ValueError(f"density: got {density}, expected a fraction in (0, 1]")
    return Entries.of(draw_share(allowed, density, generator))


def draw_share(allowed: Tensor, density: float, generator: torch.Generator | None) -> Tensor:
    """A boolean matrix: in each row a share of what is allowed, at least one, drawn at random."""
    count = (allowed.sum(-1, keepdim=True) * density).round().long().clamp(min=1)
    drawn = torch.rand(allowed.shape, generator=generator, dtype=torch.float64, device=CPU)
    drawn.masked_fill_(~allowed, 2.0)
    least = drawn.topk(int(count.max()), largest=False).indices
    chosen = torch.arange(least.shape[-1]) < count
    return torch.zeros_like(allowed).scatter_(-1, least, chosen) & allowed


def draw_values(
    recurrence: Recurrence,
    entries: Entries,
    initial: Initializer,
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> Tensor:
    """The initial numbers (E,) of the entries: those of matrices (H, H) drawn by ``initial``."""
    hidden, entries = entries.hidden, entries.cpu()
    there = entries.dense(torch.ones(len(entries.indices), dtype=dtype, device=CPU))
    matrix, allowed = torch.empty_like(there), ~blocks_left_out(recurrence, hidden, CPU)
    share = there.sum(-1, keepdim=True) / allowed.sum(-1, keepdim=True).clamp(min=1)
    scale = there / share.clamp(min=1e-12).sqrt()
    base = initial.base if isinstance(initial, SpectralRadius) else initial
    factor = scale if base.by_width else there
    for block, factors in zip(matrix.split(hidden), factor.split(hidden), strict=True):
        base.fill_(block, generator)
        block.mul_(factors)
        if isinstance(initial, SpectralRadius):
            initial.scale_(block)
    return entries.values(matrix)
