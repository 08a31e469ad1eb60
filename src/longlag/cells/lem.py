"""The long expressive memory."""

import math
from dataclasses import dataclass

from longlag.recurrence import Cell, Dense, UnitParameter, sigmoid, tanh


@dataclass(frozen=True)
class LEM(Cell):
    r"""Long expressive memory: two states, each of whose units has a time step of its own.

    .. math::
        u_t &= \sigma(U_u x_t + W_u y_{t-1} + b_u), \qquad
            v_t = \sigma(U_v x_t + W_v y_{t-1} + b_v) \\
        z_t &= (1 - \Delta u_t) \odot z_{t-1}
            + \Delta u_t \odot \tanh(U_z x_t + W_z y_{t-1} + b_z) \\
        y_t &= (1 - \Delta v_t) \odot y_{t-1}
            + \Delta v_t \odot \tanh(U_y x_t + W_y z_t + b_y)

    W_y reads the new z. The gates are learnt time steps of a system of differential equations, so
    that units forget at different rates, from step to step anew; the gradient neither explodes nor
    vanishes exponentially for small steps. Gates in the order u, v, z, y.

    Args:
        step: :math:`\Delta`, the longest time step, greater than 0. With at most 1, the states stay
            between -1 and 1.

    Raises:
        ValueError: for a step that is not a finite number greater than 0.

    Source: T. K. Rusch, S. Mishra, N. B. Erichson and M. W. Mahoney, Long expressive memory for
    sequence modeling, ICLR 2022.

    Example:
        >>> import longlag as ll
        >>> ll.cells.LEM().recurrence.states
        ('y', 'z')
        >>> ll.LEM(3, 4).weight_hh.shape
        torch.Size([16, 4])
    """

    step: float = 1.0

    state = ("y", "z")
    gates = ("step_z", "step_y", "candidate_z", "candidate_y")
    wiring = {"candidate_y": Dense("z", delay=0)}
    keeping_gates = {"step_z": -1, "step_y": -1}
    latex_symbols = {
        "step": r"\Delta",
        "step_z": "u",
        "step_y": "v",
        "candidate_z": r"\tilde z",
        "candidate_y": r"\tilde y",
    }

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise ValueError(f"step: got {self.step}, expected a finite number greater than 0")

    @property
    def unit_parameters(self):  # noqa: D102
        return {"step": UnitParameter(self.step, False, True)}

    def update(self, pre, state, unit):  # noqa: D102
        u, v = unit.step * sigmoid(pre.step_z), unit.step * sigmoid(pre.step_y)
        z = (1 - u) * state.z + u * tanh(pre.candidate_z)
        y = (1 - v) * state.y + v * tanh(pre.candidate_y)
        return {"y": y, "z": z}
