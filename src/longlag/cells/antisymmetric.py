"""The antisymmetric recurrent network."""

import math
from dataclasses import dataclass

from longlag.recurrence import Cell, Dense, UnitParameter, tanh


@dataclass(frozen=True)
class Antisymmetric(Cell):
    r"""Antisymmetric network: small steps of a differential equation that neither grows nor decays.

    .. math::
        h_t = h_{t-1} + \epsilon \tanh\bigl((W - W^\top - \gamma I) h_{t-1} + U x_t + b\bigr)

    The eigenvalues of an antisymmetric matrix are imaginary, so that the state turns, and error
    that flows back keeps its size over many steps; the diffusion makes up for what a step of finite
    length adds. For long lags, with few parameters. ``weight_hh_raw`` is W, which is trained, and
    ``weight_hh`` is :math:`W - W^\top`.

    Args:
        step: :math:`\epsilon`, greater than 0. The paper searches both numbers for each task.
        diffusion: :math:`\gamma`, at least 0.

    Raises:
        ValueError: for a number out of range.

    Source: B. Chang, M. Chen, E. Haber and E. H. Chi, AntisymmetricRNN: a dynamical system view on
    recurrent neural networks, ICLR 2019; without its gate.

    Example:
        >>> import longlag as ll
        >>> print(ll.cells.Antisymmetric().latex("update"))
        \begin{align*}
        W^\top &= -W \\
        a_t &= U x_t + W h_{t-1} + b \\
        h_t &= h_{t-1} + \epsilon \odot \tanh{\left(a_t - h_{t-1} \odot \gamma \right)}
        \end{align*}
        >>> W = ll.Antisymmetric(3, 4).weight_hh
        >>> bool((W == -W.T).all())
        True
    """

    step: float = 0.1
    diffusion: float = 0.01

    state = ("h",)
    gates = ("candidate",)
    wiring = {"candidate": Dense(constraint="antisymmetric")}
    latex_symbols = {"step": r"\epsilon", "diffusion": r"\gamma"}

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise ValueError(f"step: got {self.step}, expected a number greater than 0")
        if not 0 <= self.diffusion < math.inf:
            raise ValueError(f"diffusion: got {self.diffusion}, expected a number of at least 0")

    @property
    def unit_parameters(self):  # noqa: D102
        numbers = {"step": self.step, "diffusion": self.diffusion}
        return {name: UnitParameter(value, False, True) for name, value in numbers.items()}

    def update(self, pre, state, unit):  # noqa: D102
        return {"h": state.h + unit.step * tanh(pre.candidate - unit.diffusion * state.h)}
