"""The Elman network."""

from dataclasses import dataclass

from longlag.recurrence import Cell, Dense, activation
from longlag.recurrence.wiring import check_constraint


@dataclass(frozen=True)
class Elman(Cell):
    r"""Elman network, the simple recurrent network.

    .. math:: h_t = \phi(U x_t + W h_{t-1} + b)

    Args:
        activation: phi: ``"tanh"``, ``"sigmoid"``, ``"relu"``, ``"identity"`` (a linear network),
            ``"saturated"``, min(1, max(0, .)), the network of Siegelmann and Sontag;
            ``"bipolar"``, 2 sigma - 1, ``"double_bipolar"``, 4 sigma - 2, or ``"positive"``,
            a + 1/2 where a >= 0 and sigma below.
        constraint: what training keeps W: ``"orthogonal"``, so that a linear network keeps the
            norm of what it remembers; ``"antisymmetric"``; or None. A W that is kept orthogonal
            costs a system of H linear equations in each call.

    Raises:
        ValueError: for an unknown activation or constraint.

    Source: J. L. Elman, Finding structure in time, Cognitive Science 14, 1990; K. Helfrich,
    D. Willmott and Q. Ye, Orthogonal recurrent neural networks with scaled Cayley transform, ICML
    2018 (the orthogonal constraint).

    Example:
        >>> import torch, longlag as ll
        >>> print(ll.cells.Elman().latex("update"))
        \begin{align*}
        a_t &= U x_t + W h_{t-1} + b \\
        h_t &= \tanh{\left(a_t \right)}
        \end{align*}
        >>> sum(parameter.numel() for parameter in ll.Elman(15, 16).parameters())
        512
        >>> W = ll.Elman(3, 64, constraint="orthogonal").weight_hh
        >>> torch.allclose(W.T @ W, torch.eye(64), atol=1e-5)
        True
    """

    activation: str = "tanh"
    constraint: str | None = None

    state = ("h",)
    gates = ("candidate",)

    def __post_init__(self) -> None:
        activation(self.activation)
        check_constraint(self.constraint)

    @property
    def wiring(self):  # noqa: D102
        return {"candidate": Dense(constraint=self.constraint)}

    def update(self, pre, state, unit):  # noqa: D102
        return {"h": activation(self.activation)(pre.candidate)}
