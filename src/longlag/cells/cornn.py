"""The coupled oscillatory recurrent network."""

from dataclasses import dataclass

from longlag.recurrence import Cell, Dense, UnitParameter, tanh


@dataclass(frozen=True)
class CoRNN(Cell):
    r"""Coupled oscillatory network: each unit is a driven, damped oscillator.

    .. math:: \ddot y = \tanh(W y + \tilde W \dot y + U x + b) - \gamma y - \epsilon \dot y

    in steps of :math:`\Delta`, the new velocity z first and the position y with it:

    .. math::
        z_t &= z_{t-1} + \Delta \bigl(\tanh(U x_t + W y_{t-1} + \tilde W z_{t-1} + b)
            - \gamma y_{t-1} - \epsilon z_{t-1}\bigr) \\
        y_t &= y_{t-1} + \Delta z_t

    The states stay bounded, and gradients neither explode nor vanish exponentially for small steps:
    for lags of hundreds of steps and more. :math:`W` is the first H rows of ``weight_hh``,
    :math:`\tilde W` the next.

    Args:
        step: :math:`\Delta`, greater than 0. The three defaults are those of the authors' code for
            adding numbers; other tasks want others.
        gamma: what pulls a unit back, greater than 0; its frequency is about
            :math:`\Delta \sqrt\gamma` in radians a step.
        epsilon: the damping, at least 0. Without input or coupling, the steps are stable where
            :math:`\Delta^2 \gamma + 2 \Delta \epsilon < 4`.

    Raises:
        ValueError: for a number out of range, or numbers with which the states grow by themselves.

    Source: T. K. Rusch and S. Mishra, Coupled oscillatory recurrent neural network (coRNN): an
    accurate and (gradient) stable architecture for learning long time dependencies, ICLR 2021.

    Example:
        >>> import longlag as ll
        >>> ll.cells.CoRNN().recurrence.states
        ('y', 'z')
        >>> ll.CoRNN(3, 4).weight_hh.shape
        torch.Size([8, 4])
    """

    step: float = 0.06
    gamma: float = 66.0
    epsilon: float = 15.0

    state = ("y", "z")
    gates = ("candidate",)
    wiring = {"candidate": (Dense("y"), Dense("z"))}
    latex_symbols = {"step": r"\Delta", "epsilon": r"\epsilon"}

    def __post_init__(self) -> None:
        for name, value in (("step", self.step), ("gamma", self.gamma)):
            if not value > 0:
                raise ValueError(f"{name}: got {value}, expected a number greater than 0")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon: got {self.epsilon}, expected a number of at least 0")
        growth = self.step**2 * self.gamma + 2 * self.step * self.epsilon
        if not growth < 4:
            raise ValueError(
                f"step: got {self.step} with gamma = {self.gamma} and epsilon = {self.epsilon}, "
                f"expected step^2 gamma + 2 step epsilon < 4, and it is {growth:.3g}: the states "
                "would grow by themselves; take a smaller step"
            )

    @property
    def unit_parameters(self):  # noqa: D102
        numbers = {"step": self.step, "gamma": self.gamma, "epsilon": self.epsilon}
        return {name: UnitParameter(value, False, True) for name, value in numbers.items()}

    def update(self, pre, state, unit):  # noqa: D102
        force = tanh(pre.candidate) - unit.gamma * state.y - unit.epsilon * state.z
        z = state.z + unit.step * force
        return {"y": state.y + unit.step * z, "z": z}
