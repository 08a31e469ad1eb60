"""The minimal gated recurrent unit."""

from dataclasses import dataclass

from longlag.recurrence import Absent, Cell, activation, sigmoid


@dataclass(frozen=True)
class MinGRU(Cell):
    r"""Minimal gated unit: a gate and a candidate that see the input alone.

    .. math::
        z_t &= \sigma(U_z x_t + b_z) \\
        \tilde h_t &= g(U_h x_t + b_h) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    It is linear in its state: a weighted mean of the candidates, which the inputs choose. There is
    no W, and the Jacobian is diagonal, so that memory over k steps is the product of k numbers
    :math:`1 - z`. With ``bias_init=ll.init.Chrono(lag)`` it starts with memories up to a lag.
    What couples the units is the next layer of a stack.

    Args:
        activation: g, as for :class:`~longlag.cells.Elman`. ``"identity"`` is the paper's plain
            form, and ``"positive"`` that of its computation in logarithms.

    Raises:
        ValueError: for an unknown activation.

    Source: L. Feng, F. Tung, M. O. Ahmed, Y. Bengio and H. Hajimirsadeghi, Were RNNs all we
    needed?, 2024.

    Example:
        >>> import longlag as ll
        >>> print(ll.cells.MinGRU().latex("update"))
        \begin{align*}
        a^{z}_t &= U_{z} x_t + b_{z} \\
        a^{\tilde h}_t &= U_{\tilde h} x_t + b_{\tilde h} \\
        z_t &= \sigma\left(a^{z}_t\right) \\
        h_t &= z_t \odot a^{\tilde h}_t + h_{t-1} \odot \left(1 - z_t\right)
        \end{align*}
        >>> ll.MinGRU(3, 4).weight_hh is None
        True
    """

    activation: str = "identity"

    state = ("h",)
    gates = ("update", "candidate")
    wiring = {"update": Absent(), "candidate": Absent()}
    keeping_gates = {"update": -1}
    latex_symbols = {"update": "z", "candidate": r"\tilde h"}

    def __post_init__(self) -> None:
        activation(self.activation)

    def update(self, pre, state, unit):  # noqa: D102
        z = sigmoid(pre.update)
        return {"h": (1 - z) * state.h + z * activation(self.activation)(pre.candidate)}
