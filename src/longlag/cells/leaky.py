"""Leaky units."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from longlag.recurrence import Absent, Cell, Dense, Geometric, UnitParameter, activation


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
        time_scales: 1/a of the first and of the last unit, in steps, at least 1, in place of
            ``leak``; those between lie on a logarithmic scale. For lags that are not known: (2, T)
            has units for all up to T.

    Raises:
        ValueError: for a leak or time scales outside their range, both of them, or an unknown
            activation.

    Source: M. C. Mozer, Induction of multiscale temporal structure, NIPS 1991; H. Jaeger et al.,
    Optimization and applications of echo state networks with leaky-integrator neurons, 2007.

    Example:
        >>> import longlag as ll
        >>> ll.cells.Leaky(leak=0.1, recurrent=False).recurrence.equations["h"]
        state.h*(1 - unit.leak) + unit.leak*tanh(pre.candidate)
        >>> ll.Leaky(3, 4, leak=(0.5, 0.1, 0.02, 0.004)).unit("leak")
        tensor([0.5000, 0.1000, 0.0200, 0.0040])
        >>> 1 / ll.Leaky(3, 4, time_scales=(2, 250)).unit("leak")
        tensor([  2.0000,  10.0000,  50.0000, 250.0000])
    """

    leak: float | Sequence[float] = 0.1
    train_leak: bool = False
    shared_leak: bool = False
    recurrent: bool = True
    activation: str = "tanh"
    time_scales: tuple[float, float] | None = None

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
        if self.time_scales is not None:
            self._check_time_scales()

    def _check_time_scales(self) -> None:
        value, least = self.time_scales, "above 1" if self.train_leak else "at least 1"
        scales = tuple(value) if isinstance(value, (tuple, list)) else ()
        inside = all(isinstance(s, (int, float)) and 1 <= s < math.inf for s in scales)
        if len(scales) != 2 or not inside or (self.train_leak and 1 in scales):
            raise ValueError(
                f"time_scales: got {value!r}, expected two numbers of steps, {least} each, such as "
                "(2, 100)"
            )
        if self.leak != Leaky.leak:
            raise ValueError(
                f"time_scales: got {scales} with leak = {self.leak}, expected one of the two, as "
                "a leak is 1 / time scale"
            )
        if self.shared_leak:
            raise ValueError(
                f"time_scales: got {scales} with shared_leak=True, expected shared_leak=False, as "
                "each unit has its own"
            )
        object.__setattr__(self, "time_scales", tuple(map(float, scales)))

    @property
    def unit_parameters(self):  # noqa: D102
        interval = (0.0, 1.0) if self.train_leak else None
        initial = self.leak if isinstance(self.leak, (int, float)) else tuple(self.leak)
        if self.time_scales is not None:
            first, last = self.time_scales
            initial = Geometric(1 / first, 1 / last)
        return {"leak": UnitParameter(initial, self.train_leak, self.shared_leak, interval)}

    @property
    def wiring(self):  # noqa: D102
        return {"candidate": Dense() if self.recurrent else Absent()}

    def update(self, pre, state, unit):  # noqa: D102
        phi = activation(self.activation)
        return {"h": (1 - unit.leak) * state.h + unit.leak * phi(pre.candidate)}
