"""The Lorenz system: a chaotic flow of three numbers, and how long a free run stays on it.

Lorenz 1963, "Deterministic nonperiodic flow". Valid time: Pathak et al. 2018, "Hybrid forecasting
of chaotic processes"; Vlachas et al. 2020, "Backpropagation algorithms and reservoir computing in
recurrent neural networks for the forecasting of complex spatiotemporal dynamics"; Platt et al.
2022, "A systematic exploration of reservoir computing for forecasting complex spatiotemporal
dynamics".
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longlag.tasks.arrays import check_integer, check_positive, generator
from longlag.tasks.series import Series, check_pair, check_spread, squared_errors

Point = tuple[float, float, float]

_TRANSIENT = 100.0  # units of time


@dataclass(frozen=True)
class Lorenz(Series[NDArray[np.float64]]):
    r"""A chaotic series of three numbers per step; its measure is the valid time of a free run.

    The equations are

    .. math::
        \dot x &= \sigma (y - x) \\
        \dot y &= x (\rho - z) - y \\
        \dot z &= x y - \beta z

    by one step of the classic Runge-Kutta method of order 4 for each step of the series. The first
    point is uniform in x, y in [-10, 10), z in [15, 35); the first 100 units of time are left out.

    Args:
        sigma: > 0.
        rho: > 0; with the other two as they are, chaotic from 24.74 on.
        beta: > 0.
        step: time per step > 0. Up to 0.05 the integration keeps the classic attractor; above 0.1
            it comes to rest, or grows without bound.

    Raises:
        ValueError: an argument is not a number above 0.

    Measure: the valid time (`valid_time`), in Lyapunov times, each 1 / 0.9056 = 1.10 units of time.

    Source: Lorenz 1963. The largest exponent, 0.9056: Sprott 2003, "Chaos and
    time-series analysis".

    Example:
        >>> from longlag.tasks import Lorenz
        >>> task = Lorenz()
        >>> series = task.series(steps=600, seed=0)
        >>> series.shape
        (600, 3)
        >>> disturbed = task.trajectory(series[99] + 1e-3, steps=500)
        >>> 4 < task.valid_time(disturbed, series[100:]) < 9
        True
    """

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8.0 / 3.0
    step: float = 0.02

    INPUT_SIZE: ClassVar = 3
    OUTPUT_SIZE: ClassVar = 3
    CLASSIC: ClassVar = (10.0, 28.0, 8.0 / 3.0)
    CLASSIC_EXPONENT: ClassVar = 0.9056  # per unit of time

    def __post_init__(self) -> None:
        for name, common in (("sigma", "10"), ("rho", "28"), ("beta", "8 / 3"), ("step", "0.02")):
            check_positive(name, getattr(self, name), f"the common value is {common}")

    def _draw(self, steps: int, seed: int, purpose: int) -> NDArray[np.float64]:
        start = generator(seed, purpose, 0).uniform([-10.0, -10.0, 15.0], [10.0, 10.0, 35.0])
        before = math.ceil(_TRANSIENT / self.step)
        return self.trajectory(start, before + steps)[before:]

    def trajectory(self, start: ArrayLike, steps: int) -> NDArray[np.float64]:
        """The series that goes on from a point: (T, 3), the first one step after it.

        Args:
            start: (3,) finite numbers.
            steps: T >= 1.

        Raises:
            ValueError: an argument is not of this form, or the numbers grow without bound, which
                they do where `step` is too large.
        """
        steps = check_integer("steps", steps, 1, "give the number of steps wanted")
        point = np.asarray(start, dtype=np.float64)
        if point.shape != (3,) or not np.isfinite(point).all():
            raise ValueError(f"start must be three finite numbers, got {start!r}; give x, y and z")
        x, y, z = point.tolist()
        numbers = (number for point in self._steps((x, y, z), steps) for number in point)
        series = np.fromiter(numbers, np.float64, 3 * steps).reshape(steps, 3)
        if not np.isfinite(series[-1]).all():
            raise ValueError(
                f"step must be small enough for the integration to stay finite, got {self.step!r}; "
                "the common value is 0.02"
            )
        return series

    def _steps(self, point: Point, steps: int) -> Iterator[Point]:
        step, sigma, rho, beta = map(float, (self.step, self.sigma, self.rho, self.beta))
        half, sixth = step / 2.0, step / 6.0

        def slope(x: float, y: float, z: float) -> Point:
            return sigma * (y - x), x * (rho - z) - y, x * y - beta * z

        for _ in range(steps):
            a, b, c = point
            k1, l1, m1 = slope(a, b, c)
            k2, l2, m2 = slope(a + half * k1, b + half * l1, c + half * m1)
            k3, l3, m3 = slope(a + half * k2, b + half * l2, c + half * m2)
            k4, l4, m4 = slope(a + step * k3, b + step * l3, c + step * m3)
            point = (
                a + sixth * (k1 + 2.0 * (k2 + k3) + k4),
                b + sixth * (l1 + 2.0 * (l2 + l3) + l4),
                c + sixth * (m1 + 2.0 * (m2 + m3) + m4),
            )
            yield point

    def valid_time(
        self,
        prediction: ArrayLike,
        target: ArrayLike,
        threshold: float = 0.5,
        deviation: ArrayLike | None = None,
        exponent: float | None = None,
    ) -> float:
        """How long a free run is right, in Lyapunov times.

        The error of a step is e = sqrt(mean over coordinates of ((prediction - target) / s)^2),
        s the standard deviation of the coordinate over time (Vlachas et al. 2020, Platt et al.
        2022). The valid time is that of the steps before the first with e > threshold:
        their number times `step` times `exponent`. Of a run that stays below to its end this is the
        time of the whole run, a lower bound.

        Args:
            prediction: (T, 3), the first one step after the last that the network read.
            target: (T, 3), the series there.
            threshold: > 0. Papers have 0.3 to 0.5.
            deviation: s, (3,) or one number for all; None: the target's own. A target of a few
                Lyapunov times does not show it: then give that of the training series. Pathak et
                al. 2018 have one number, sqrt(mean over time and coordinates of target^2), and the
                threshold 0.4.
            exponent: the largest Lyapunov exponent, per unit of time; None: 0.9056, which is that
                of the classic sigma, rho and beta alone.

        Raises:
            ValueError: the shapes differ, an argument is not above 0, or the exponent of other
                parameters than the classic is not there.
        """
        threshold = check_positive("threshold", threshold, "papers have 0.3 to 0.5")
        exponent = self._exponent(exponent)
        outputs, targets = check_pair(prediction, target, ("T", 3))
        if deviation is None:
            spread = check_spread(targets)
        else:
            spread = np.asarray(deviation, dtype=np.float64)
            if spread.shape not in ((), (3,)) or not ((spread > 0) & (spread < np.inf)).all():
                raise ValueError(
                    "deviation must be one or three finite numbers above 0, "
                    f"got {deviation!r}; give series.std(axis=0)"
                )
        errors = np.sqrt(squared_errors(outputs / spread, targets / spread).mean(axis=1))
        wrong = ~(errors <= threshold)
        steps = int(wrong.argmax()) if wrong.any() else len(wrong)
        return steps * self.step * exponent

    def _exponent(self, exponent: float | None) -> float:
        if exponent is not None:
            return check_positive("exponent", exponent, "the classic parameters have 0.9056")
        if (self.sigma, self.rho, self.beta) != self.CLASSIC:
            raise ValueError(
                "exponent must be given for other parameters than sigma=10, rho=28, beta=8/3, "
                f"got None for {self!r}; give the largest Lyapunov exponent, or 1.0 to have the "
                "valid time in units of time"
            )
        return self.CLASSIC_EXPONENT
