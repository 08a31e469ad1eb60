"""The Mackey-Glass series: a chaotic equation with a delay, to be predicted 84 steps ahead.

Mackey & Glass 1977, "Oscillation and chaos in physiological control systems". Integration and
protocol: Jaeger 2001, "The 'echo state' approach to analysing and training recurrent neural
networks", GMD report 148; Jaeger & Haas 2004, "Harnessing nonlinearity".
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longlag.tasks.arrays import check_integer, check_positive, generator
from longlag.tasks.series import Series, check_pair, squared_errors

_STEP = 0.1
_STEPS_PER_UNIT = 10
_TRANSIENT = 1000  # units of time


class FreeRuns(NamedTuple):
    """The parts of the protocol: R runs in which a trained network goes on by itself.

    Attributes:
        training: (`training`, 1), of which the first `WASHOUT` steps are left out of the fit.
        forced: (R, `FORCED_STEPS`, 1), what the network reads before it is left alone.
        free: (R, `FREE_STEPS`, 1), what it should then put out, each step read back by itself.
    """

    training: NDArray[np.float64]
    forced: NDArray[np.float64]
    free: NDArray[np.float64]


@dataclass(frozen=True)
class MackeyGlass(Series[NDArray[np.float64]]):
    r"""A chaotic series of one number per step; its measure is the error of the 84th free step.

    The equation is

    .. math:: \dot y(t) = \frac{0.2\, y(t - \tau)}{1 + y(t - \tau)^{10}} - 0.1\, y(t)

    by Euler steps of 0.1, of which every tenth is kept: one step of the series is one unit of time.
    The history y(t <= 0) is 1.2 + 0.2 (u - 0.5) with u uniform in [0, 1), independent at each Euler
    step, and the first 1000 units of time are left out: so it was chosen here. 20 series of 30,000
    steps have these figures:

    ==== ===== ======== ============ ===============
    tau  mean  variance range        mapped variance
    ==== ===== ======== ============ ===============
    17   0.930 0.051    0.41 .. 1.32 0.047
    30   0.896 0.079    0.19 .. 1.40 0.067
    ==== ===== ======== ============ ===============

    Args:
        tau: the delay >= 1, in units of time; chaotic from about 17 on.
        mapped: the series is tanh(y - 1), in (-1, 1), as Jaeger gives it to networks.

    Raises:
        ValueError: `tau` is not an integer of at least 1.

    Measure: NRMSE84 (`nrmse84`), by the protocol that `runs` cuts. Jaeger 2001, 400 units: 0.00028
    (3000 training steps) and 0.00012 (21,000) for tau = 17; 0.11 and 0.032 for tau = 30. Jaeger &
    Haas 2004, 1000 units, 3000 steps: 10^-4.2 for tau = 17.

    Source: Jaeger 2001; Jaeger & Haas 2004.

    Example:
        >>> from longlag.tasks import MackeyGlass
        >>> task = MackeyGlass(tau=17)
        >>> task.series(steps=3, seed=0).shape
        (3, 1)
        >>> training, forced, free = task.runs(seed=0)
        >>> training.shape, forced.shape, free.shape
        ((3000, 1), (20, 1000, 1), (20, 84, 1))
        >>> unchanged = forced[:, -1]
        >>> round(task.nrmse84(unchanged, free[:, -1]), 1)
        1.4
    """

    tau: int = 17
    mapped: bool = False

    INPUT_SIZE: ClassVar = 1
    OUTPUT_SIZE: ClassVar = 1
    WASHOUT: ClassVar = 1000
    TRAINING_STEPS: ClassVar = (3000, 21_000)  # the washout is part of them
    FORCED_STEPS: ClassVar = 1000
    FREE_STEPS: ClassVar = 84
    VARIANCE_2001: ClassVar = 0.067

    def __post_init__(self) -> None:
        check_integer("tau", self.tau, 1, "the papers' delays are 17 and 30")

    @property
    def number_of_runs(self) -> int:
        """R of Jaeger 2001: 20 for tau = 17, else 50."""
        return 20 if self.tau == 17 else 50

    def _draw(self, steps: int, seed: int, purpose: int) -> NDArray[np.float64]:
        delay = self.tau * _STEPS_PER_UNIT
        history = generator(seed, purpose, 0).random(delay + 1)
        *past, y = (1.2 + 0.2 * (history - 0.5)).tolist()  # past[n % delay] is y a delay ago
        series = np.empty((_TRANSIENT + steps, 1))
        for unit in range(len(series)):
            for n in range(unit * _STEPS_PER_UNIT, (unit + 1) * _STEPS_PER_UNIT):
                delayed, past[n % delay] = past[n % delay], y
                # Products, not a power: powers differ in their last bit, which chaos magnifies.
                square = delayed * delayed
                fourth = square * square
                tenth = fourth * fourth * square
                y += _STEP * (0.2 * delayed / (1.0 + tenth) - 0.1 * y)
            series[unit] = y
        series = series[_TRANSIENT:].copy()
        return self.map(series) if self.mapped else series

    @staticmethod
    def map(y: ArrayLike) -> NDArray[np.float64]:
        """tanh(y - 1), which Jaeger's networks read and put out."""
        return np.tanh(np.asarray(y, dtype=np.float64) - 1.0)

    @staticmethod
    def unmap(mapped: ArrayLike) -> NDArray[np.float64]:
        """The y of `map(y)`; infinite for what no y is mapped to: -1, 1 and what lies beyond."""
        within = np.clip(np.asarray(mapped, dtype=np.float64), -1.0, 1.0)
        with np.errstate(divide="ignore"):
            return np.arctanh(within) + 1.0

    def runs(self, seed: int, training: int = 3000, number: int | None = None) -> FreeRuns:
        """Draw one series and cut it into the parts of the protocol.

        The training part is followed by the runs, each of 1000 + 84 steps, end to end. (That they
        stand end to end was chosen here.)

        Args:
            seed: of the series, >= 0.
            training: steps of the training part > 1000; the papers have 3000 and 21,000.
            number: R >= 1; None: as many as in the source, `number_of_runs`.

        Raises:
            ValueError: an argument is not an integer in its range.
        """
        fix = f"the first {self.WASHOUT} are the washout; the papers have 3000 and 21000"
        training = check_integer("training", training, self.WASHOUT + 1, fix)
        count = self.number_of_runs if number is None else number
        count = check_integer("number", count, 1, "give the number of runs, such as 20")
        steps = self.FORCED_STEPS + self.FREE_STEPS
        series = self.series(training + count * steps, seed)
        runs = series[training:].reshape(count, steps, 1)
        return FreeRuns(
            series[:training], runs[:, : self.FORCED_STEPS], runs[:, self.FORCED_STEPS :]
        )

    def nrmse84(
        self, prediction: ArrayLike, target: ArrayLike, variance: float = VARIANCE_2001
    ) -> float:
        """The normalised error of the 84th free step over R runs.

        NRMSE84 = sqrt(mean over runs of (prediction - target)^2 / variance), in the coordinate y:
        of a `mapped` task, both are mapped back first. It is infinite if a run has left the range.

        Args:
            prediction: (R, 1), what the network put out at the 84th free step of each run.
            target: (R, 1), the series there: `free[:, -1]` of `runs`.
            variance: 0.067 is that in the formula of Jaeger 2001; series have it for tau = 30 where
                they are mapped. With the variance of y, such as 0.051 for tau = 17, the mean as
                prediction has an NRMSE84 of 1.

        Raises:
            ValueError: the shapes differ, or `variance` is not a number above 0.
        """
        variance = check_positive("variance", variance, "Jaeger 2001 has 0.067")
        y, true = check_pair(prediction, target, ("R", 1))
        if self.mapped:
            y, true = self.unmap(y), self.unmap(true)
        return float(np.sqrt(squared_errors(y, true).mean() / variance))
