"""What a scan reads beside its input: weights and schedule, with time first."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Schedule", "Weights"]


@dataclass(frozen=True)
class Weights:
    """The numbers of one layer; R replicas put an R in front of every shape.

    Attributes:
        recurrent: (G' H, H), the rows of the dense gates; None where there are none.
        units: one (1, H) per unit parameter of the recurrence, in order.
    """

    recurrent: Float[Tensor, "*R GH H"] | None
    units: tuple[Float[Tensor, "*R 1 H"], ...]


@dataclass(frozen=True)
class Schedule:
    """Which steps count; None where all do.

    Attributes:
        active: (T, N, 1), False in the padding: the state is kept and the output is zero.
        keep: (T, N, 1), False where the state is set to zero before the step.
        mask: (N, H), the recurrent dropout mask of each sequence, on the state that W reads.
    """

    active: Bool[Tensor, "T *R N 1"] | None = None
    keep: Bool[Tensor, "T *R N 1"] | None = None
    mask: Float[Tensor, "*R N H"] | None = None
