"""Where float64 computes a network of saturated-linear units without rounding, and where not.

All weights and states are multiples of powers of two. If in W h + b every term of a row is a
multiple of 2^-s, and the sum of the sizes of its terms is at most 2^m with m + s <= 53, then every
partial sum is a number of float64, in whatever order the terms are added, with or without fused
multiply-adds. So a state that is exact has an exact successor wherever this holds for all rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BITS = 53
"""Of the significand of float64."""


class Certificate:
    """Tells, for states of one layer, whether their successors have no rounding error.

    Args:
        layer: a layer in float64.

    Example:
        >>> import longlag as ll
        >>> net = ll.turing.compile(ll.turing.TuringMachine.parse("1RB1LB_1LA1RH"))
        >>> Certificate(net.layer).exact_steps(np.zeros((3, 14)))
        3
    """

    def __init__(self, layer: Any) -> None:
        self.weights = layer.recurrent_matrix().detach().cpu().numpy()
        self.bias = layer.bias.detach().cpu().numpy()
        self.sizes = np.abs(self.weights)
        self.powers = np.where(self.weights != 0.0, _power(self.weights), -np.inf)
        bias_powers = np.where(self.bias != 0.0, _power(self.bias), -np.inf)
        self.row_power = np.maximum(self.powers.max(1, initial=-np.inf), bias_powers)

    def exact_steps(self, states: Array) -> int:
        """Of successive states (T, H), how many have an exact successor, up to the first that may
        not.

        Cost: T H^2 operations.
        """
        whole = states == np.rint(states)
        needed = np.broadcast_to(self.row_power, (len(states), len(self.bias))).copy()
        for unit in np.flatnonzero(~whole.all(0)):
            reached = np.flatnonzero(self.weights[:, unit])
            power = np.where(states[:, unit] != 0.0, _power(states[:, unit]), -np.inf)
            both = power[:, None] + self.powers[reached, unit]
            needed[:, reached] = np.maximum(needed[:, reached], both)
        # The product is rounded, by far less than the factor 1 + 1e-6.
        size = (states @ self.sizes.T + np.abs(self.bias)) * (1 + 1e-6)
        most = np.ceil(np.log2(np.maximum(size, 2.0**-60)))
        exact = ((size == 0.0) | (most + needed <= _BITS)).all(1)
        return len(states) if exact.all() else int(exact.argmin())


def _power(numbers: Array) -> Array:
    """The smallest s with a multiple of 2^-s; of 0 anything."""
    mantissa, exponent = np.frexp(numbers)
    whole = np.abs(mantissa * 2.0**_BITS).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return (_BITS - exponent - lowest).astype(np.float64)
