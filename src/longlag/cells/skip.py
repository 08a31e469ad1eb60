"""Skip connections through time."""

from collections.abc import Sequence
from dataclasses import dataclass

from longlag.recurrence import Cell, Dense, activation
from longlag.recurrence.dilation import LONGEST
from longlag.recurrence.wiring import numbers_of_steps


@dataclass(frozen=True)
class Skip(Cell):
    r"""Elman network with skip connections: it also reads what it was several steps before.

    .. math:: h_t = \phi\Bigl(U x_t + \sum_{d \in \text{delays}} W_d h_{t-d} + b\Bigr)

    Error goes back d steps through one :math:`W_d`, so over a lag of k steps it meets some
    k / max(delays) factors where it would meet k, and vanishes or explodes that much later. For
    lags that are roughly known, of some times the longest delay; the state is max(delays) steps
    deep. Without a delay of 1 the short connections give way to long ones, as in a dilated network.

    Args:
        delays: the d, how many steps back h is read; different whole numbers, at least 1.
        activation: phi, as for :class:`~longlag.cells.Elman`.

    Raises:
        ValueError: for an unknown activation, or delays that are none or above 10000.

    Source: T. Lin, B. G. Horne, P. Tino and C. L. Giles, Learning long-term dependencies in NARX
    recurrent neural networks, IEEE Transactions on Neural Networks 7(6), 1996, where the outputs
    are read with delays; S. Chang et al., Dilated recurrent neural networks, NIPS 2017.

    Example:
        >>> import longlag as ll
        >>> print(ll.cells.Skip((1, 5)).latex("update"))
        \begin{align*}
        a_t &= U x_t + W^{(1)} h_{t-1} + W^{(5)} h_{t-5} + b \\
        h_t &= \tanh{\left(a_t \right)}
        \end{align*}
        >>> ll.Skip(3, 4, delays=(1, 10)).weight_hh.shape
        torch.Size([8, 4])
    """

    delays: Sequence[int] = (1, 10)
    activation: str = "tanh"

    state = ("h",)
    gates = ("candidate",)

    def __post_init__(self) -> None:
        activation(self.activation)
        delays = numbers_of_steps("delays", self.delays)
        if max(delays) > LONGEST:
            raise ValueError(
                f"delays: got {max(delays)}, expected at most {LONGEST} steps, because the state "
                "is as deep"
            )
        object.__setattr__(self, "delays", delays)

    @property
    def wiring(self):  # noqa: D102
        return {"candidate": tuple(Dense(delay=delay) for delay in self.delays)}

    def update(self, pre, state, unit):  # noqa: D102
        return {"h": activation(self.activation)(pre.candidate)}
