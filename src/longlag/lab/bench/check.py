"""Whether a result is right: the gate that every time has to pass."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

TOLERANCE = 5e-5
"""Largest difference from the float64 reference, as a share of the tensor's largest number.

A right float32 gradient of the rows differs by up to 6e-6, of 100,000 steps by 1.4e-5: its terms
have either sign, so rounding grows with the root of their number. One step left out of so many
makes some 4e-3.
"""


class Difference(NamedTuple):
    """Where a result is farthest from the reference.

    Attributes:
        tensor: the output, or the parameter whose gradient it is.
        value: the largest difference as a share of the largest number of the reference.
    """

    tensor: str
    value: float

    @property
    def accepted(self) -> bool:
        """Whether it is within float32 rounding; false for NaN."""
        return self.value <= TOLERANCE


def largest_difference(result: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Difference:
    """Compare every tensor of a result with the reference.

    Args:
        result: output, and gradients by parameter unless only the output was computed.
        right: output and all gradients, float64.
    """
    wanted = ("output",) if set(result) == {"output"} else tuple(right)
    differences = [Difference(name, _distance(result.get(name), right[name])) for name in wanted]
    return max(differences, key=lambda d: math.inf if math.isnan(d.value) else d.value)


def _distance(result: Tensor | None, right: Tensor) -> float:
    """The largest difference, as a share of the largest number of what is right."""
    if result is None or result.shape != right.shape:
        return math.inf
    scale, distance = right.abs().max(), (result.double() - right).abs().max()
    return float(distance / scale if scale else distance)
