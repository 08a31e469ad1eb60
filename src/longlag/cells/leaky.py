"""Leaky units."""

from collections.abc import Sequence
from dataclasses import dataclass

from longlag.recurrence import Absent, Cell, Dense, UnitParameter, activation


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
        >>> import longlag as ll
        >>> ll.cells.Leaky(leak=0.1, recurrent=False).recurrence.equations["h"]
        state.h*(1 - unit.leak) + unit.leak*tanh(pre.candidate)
        >>> ll.Leaky(3, 4, leak=(0.5, 0.1, 0.02, 0.004)).unit("leak")
        tensor([0.5000, 0.1000, 0.0200, 0.0040])
    """

    leak: float | Sequence[float] = 0.1
    train_leak: bool = False
    shared_leak: bool = False
    recurrent: bool = True
    activation: str = "tanh"

    state = ("h",)
    gates = ("candidate",)
    latex_symbols = {"leak": r"\alpha"}

    def __post_init__(self) -> None:
        activation(self.activation)
        value = self.leak
        leak = float(value) if isinstance(value, (int, float)) else tuple(map(float, value))
        object.__setattr__(self, "leak", leak)
        for value in leak if isinstance(leak, tuple) else (leak,):
            if not 0 < value <= 1 or (self.train_leak and value == 1):
                inside = "0 < leak < 1 for a trained leak" if self.train_leak else "0 < leak <= 1"
                raise ValueError(f"leak: got {value}, expected {inside}")

    @property
    def unit_parameters(self):  # noqa: D102
        interval = (0.0, 1.0) if self.train_leak else None
        initial = self.leak if isinstance(self.leak, (int, float)) else tuple(self.leak)
        return {"leak": UnitParameter(initial, self.train_leak, self.shared_leak, interval)}

    @property
    def wiring(self):  # noqa: D102
        return {"candidate": Dense() if self.recurrent else Absent()}

    def update(self, pre, state, unit):  # noqa: D102
        phi = activation(self.activation)
        return {"h": (1 - unit.leak) * state.h + unit.leak * phi(pre.candidate)}
