"""What a scan reads beside its input: weights and schedule, with time first."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["FULL", "Schedule", "Weights"]


class Weights(NamedTuple):
    """The numbers of one layer; R replicas put an R in front of every shape.

    Attributes:
        recurrent: W, (W H, H), one block of rows per wire; None where there are none.
        units: one (1, H) per unit parameter of the recurrence, in order.
        input: U, (G H, C); None where what is scanned is the drive a = U x + b itself.
        bias: b, (G H,); None where there is none, or no ``input``.
    """

    recurrent: Float[Tensor, "*R WH H"] | None
    units: tuple[Float[Tensor, "*R 1 H"], ...]
    input: Float[Tensor, "*R GH C"] | None = None
    bias: Float[Tensor, "*R GH"] | None = None


class Schedule(NamedTuple):
    """Which steps count; None where all do.

    Attributes:
        active: (T, N, 1), False in the padding: the state is kept and the output is zero.
        keep: (T, N, 1), False where the state is set to zero before the step.
        mask: (N, H), the recurrent dropout mask of each sequence, on the state that W reads.
    """

    active: Bool[Tensor, "T *R N 1"] | None = None
    keep: Bool[Tensor, "T *R N 1"] | None = None
    mask: Float[Tensor, "*R N H"] | None = None

    @classmethod
    def of(
        cls,
        x: Tensor,
        lengths: Tensor | None,
        resets: Tensor | None,
        mask: Tensor | None = None,
    ) -> "Schedule":
        """From what a layer is given, batch first: x (N, T, C), lengths (N,), resets (N, T)."""
        if lengths is None and resets is None and mask is None:
            return FULL
        active = keep = None
        if lengths is not None:
            steps = torch.arange(x.shape[-2], device=x.device)
            active = (steps < lengths.unsqueeze(-1)).movedim(-1, 0).unsqueeze(-1)
        if resets is not None:
            keep = ~resets.movedim(-1, 0).unsqueeze(-1)
        return cls(active, keep, mask)


FULL = Schedule()
"""Every step counts."""
