"""The Elman network."""

from dataclasses import dataclass

from longlag.recurrence import Cell, activation


@dataclass(frozen=True)
class Elman(Cell):
    r"""Elman network, the simple recurrent network.

    .. math:: h_t = \phi(U x_t + W h_{t-1} + b)

    Args:
        activation: phi: ``"tanh"``, ``"sigmoid"``, ``"relu"``, ``"identity"`` (a linear network),
            ``"saturated"``, min(1, max(0, .)), the network of Siegelmann and Sontag;
            ``"bipolar"``, 2 sigma - 1, ``"double_bipolar"``, 4 sigma - 2, or ``"positive"``,
            a + 1/2 where a >= 0 and sigma below.

    Raises:
        ValueError: for an unknown activation.

    Source: J. L. Elman, Finding structure in time, Cognitive Science 14, 1990.

    Example:
        >>> import longlag as ll
        >>> print(ll.cells.Elman().latex("update"))
        \begin{align*}
        a_t &= U x_t + W h_{t-1} + b \\
        h_t &= \tanh{\left(a_t \right)}
        \end{align*}
        >>> sum(parameter.numel() for parameter in ll.Elman(15, 16).parameters())
        512
    """

    activation: str = "tanh"

    state = ("h",)
    gates = ("candidate",)

    def __post_init__(self) -> None:
        activation(self.activation)

    def update(self, pre, state, unit):  # noqa: D102
        return {"h": activation(self.activation)(pre.candidate)}
