"""The independently recurrent network."""

from dataclasses import dataclass

from longlag.recurrence import Cell, Diagonal, Uniform, activation


@dataclass(frozen=True)
class IndRNN(Cell):
    r"""Independently recurrent network: each unit sees only its own past.

    .. math:: h_t = \phi(U x_t + w \odot h_{t-1} + b)

    The state-to-state Jacobian is diagonal, so the memory of unit i over k steps is
    :math:`|w_i|^k` at the most for an activation of slope 1.

    Args:
        activation: phi, as for :class:`~longlag.cells.Elman`; the paper's is ``"relu"``.
        initial_low: w starts uniform in [initial_low, initial_high).
        initial_high: see ``initial_low``. For a memory of T steps the paper keeps
            :math:`|w_i| \le 2^{1/T}`, and starts the last layer near 1.

    Raises:
        ValueError: for an unknown activation, or bounds out of order.

    Source: S. Li, W. Li, C. Cook, C. Zhu and Y. Gao, Independently recurrent neural network
    (IndRNN), CVPR 2018.

    Example:
        >>> import longlag as ll
        >>> ll.cells.IndRNN().recurrence.equations["h"]
        relu(pre.candidate + state.h*unit.diagonal.candidate)
        >>> ll.IndRNN(3, 4).weight_hh_diagonal.shape
        torch.Size([4])
    """

    activation: str = "relu"
    initial_low: float = 0.0
    initial_high: float = 1.0

    state = ("h",)
    gates = ("candidate",)

    def __post_init__(self) -> None:
        activation(self.activation)
        Uniform(self.initial_low, self.initial_high)

    @property
    def wiring(self):  # noqa: D102
        return {"candidate": Diagonal("h", initial=Uniform(self.initial_low, self.initial_high))}

    def update(self, pre, state, unit):  # noqa: D102
        return {"h": activation(self.activation)(pre.candidate)}
