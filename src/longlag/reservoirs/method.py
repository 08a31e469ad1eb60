"""What fits a readout: the protocol of such methods of `fit`."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from longlag.reservoirs.rows import Rows


class LinearReadout(NamedTuple):
    """A fitted linear readout.

    Attributes:
        weight: (K, D), for the features.
        bias: (K,).
    """

    weight: Tensor
    bias: Tensor


@runtime_checkable
class ReadoutMethod(Protocol):
    """A way to a linear readout, all else staying as it is."""

    @property
    def washout(self) -> int:
        """Steps at the beginning of each sequence that are left out."""
        ...

    @property
    def state_noise(self) -> float:
        """The standard deviation of the noise on what drives the units; see :class:`Rows`."""
        ...

    def solve(self, rows: Rows) -> LinearReadout:
        """The readout for these rows; the model is not changed."""
        ...
