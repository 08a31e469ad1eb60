"""Leaky units."""

from dataclasses import dataclass

from longlag.recurrence import Absent, Cell, Dense, UnitParameter, activation

__all__ = ["Leaky"]


@dataclass(frozen=True)
class Leaky(Cell):
    r"""Leaky units: each unit keeps a part of its state and moves by the rest.

    .. math:: h_t = (1 - a) \odot h_{t-1} + a \odot \phi(U x_t + W h_{t-1} + b)

    A unit with leak a forgets with the time constant of about 1/a steps. With
    ``recurrent=False`` there is no W: :math:`h_t = (1-a) h_{t-1} + a\,\phi(U x_t + b)`.

    Args:
        leak: a, in (0, 1]: one number, or one for each unit (multiple time scales). A trained
            leak starts strictly inside (0, 1) and stays there.
        train_leak: whether a is trained.
        shared_leak: one a for all units instead of one per unit.
        recurrent: whether there is a matrix W.
        activation: phi, as for :class:`~longlag.cells.Elman`.

    Raises:
        ValueError: for a leak outside its range, or an unknown activation.

    Source: M. C. Mozer, Induction of multiscale temporal structure, NIPS 1991; H. Jaeger et al.,
    Optimization and applications of echo state networks with leaky-integrator neurons, 2007.

    Example:
        >>> Leaky(leak=0.1, recurrent=False).recurrence.equations["h"]
        state.h*(1 - unit.leak) + unit.leak*tanh(pre.candidate)
    """

    leak: float | tuple[float, ...] = 0.1
    train_leak: bool = False
    shared_leak: bool = False
    recurrent: bool = True
    activation: str = "tanh"

    state = ("h",)
    gates = ("candidate",)
    latex_symbols = {"leak": r"\alpha"}

    def __post_init__(self) -> None:
        activation(self.activation)
        if not isinstance(self.leak, (int, float)):
            object.__setattr__(self, "leak", tuple(float(value) for value in self.leak))
        values = self.leak if isinstance(self.leak, tuple) else (self.leak,)
        for value in values:
            if not 0 < value <= 1 or (self.train_leak and value == 1):
                inside = "0 < leak < 1 for a trained leak" if self.train_leak else "0 < leak <= 1"
                raise ValueError(f"leak: got {value}, expected {inside}")

    @property
    def unit_parameters(self):  # noqa: D102
        interval = (0.0, 1.0) if self.train_leak else None
        leak = UnitParameter(self.leak, self.train_leak, self.shared_leak, interval)
        return {"leak": leak}

    @property
    def wiring(self):  # noqa: D102
        return {"candidate": Dense() if self.recurrent else Absent()}

    def update(self, pre, state, unit):  # noqa: D102
        phi = activation(self.activation)
        return {"h": (1 - unit.leak) * state.h + unit.leak * phi(pre.candidate)}
