"""Recall of a past input: by one delay, and over all delays as the memory capacity.

Jaeger 2002, "Short term memory in echo state networks", GMD report 152; Dambre, Verstraeten,
Schrauwen & Massar 2012, "Information processing capacity of dynamical systems".
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longlag.tasks.arrays import check_integer, check_positive, generator
from longlag.tasks.series import Driven, InputTarget, Series, check_pair, check_spread


def delayed(x: NDArray[np.float64], delay: int) -> NDArray[np.float64]:
    """x(t - delay) for each step of x (T, C); NaN at the steps t < delay."""
    target = np.full_like(x, np.nan)
    target[delay:] = x[: max(0, len(x) - delay)]
    return target


@dataclass(frozen=True)
class MemoryCapacity(Driven):
    """Recall the inputs of the last K steps, all at once.

    The input u(t) is independent and uniform in [-amplitude, amplitude). x(t) = u(t), and the
    target k = 1 .. K at step t is u(t - k), NaN at the steps t < k: x (T, 1), target (T, K).

    Args:
        delays: K >= 1. Beyond the number of units nothing is to be expected; twice that is ample.
        amplitude: > 0. The source has 0.5, Rodan & Tino 2011 have 0.8. A linear network has the
            same capacity for all.

    Raises:
        ValueError: an argument is not in its range.

    Measure: the memory capacity (`capacity`), the sum over k of the squared correlation of output k
    with u(t - k). It is at most the number of units, which a generic linear network reaches.

    Source: Jaeger 2002.

    Example:
        >>> from longlag.tasks import MemoryCapacity
        >>> task = MemoryCapacity(delays=20)
        >>> x, target = task.test_series(steps=1000, seed=0)
        >>> recalled = target.copy()
        >>> recalled[:, 5:] = 0.0
        >>> round(task.capacity(recalled, target), 6)
        5.0
    """

    delays: int = 50
    amplitude: float = 1.0

    INPUT_SIZE: ClassVar = 1

    def __post_init__(self) -> None:
        check_integer("delays", self.delays, 1, "give the longest delay to recall, such as 50")
        check_positive("amplitude", self.amplitude, "the common values are 0.5, 0.8 and 1")

    @property
    def output_size(self) -> int:
        """K, one output for each delay."""
        return self.delays

    def _draw(self, steps: int, seed: int, purpose: int) -> InputTarget:
        u = _noise(steps, seed, purpose, self.amplitude)
        return InputTarget(u, np.hstack([delayed(u, k) for k in range(1, self.delays + 1)]))

    def capacities(
        self, prediction: ArrayLike, target: ArrayLike, chance: float = 1.0
    ) -> NDArray[np.float64]:
        """The squared correlation of each output with its target over the steps due, (K,).

        An output that is constant, or not finite, has 0. Measure on a series that the readout was
        not fitted to: on its own it recalls what it cannot know.

        An output without memory has by chance 1 / (T - 1) in the mean, so the sum is too large by
        up to K / (T - 1). Dambre et al. 2012 take what chance explains as 0: give `chance` to do
        so, such as 1e-4.

        Args:
            prediction: (T, K), on held-out data.
            target: (T, K), NaN where none is due.
            chance: in (0, 1]. A capacity counts as 0 if an output without memory exceeds it with
                this probability or more. For long series T r^2 is then chi-squared with one degree
                of freedom: the threshold is 15.1 / T for 1e-4, and 0 for 1.

        Raises:
            ValueError: the shapes differ, `chance` is not in its range, or a target does not vary.
        """
        if check_positive("chance", chance, "give 1.0, or a probability such as 1e-4") > 1.0:
            raise ValueError(f"chance must be at most 1, got {chance!r}; give a probability")
        outputs, targets = check_pair(prediction, target, ("T", self.delays))
        threshold = NormalDist().inv_cdf(chance / 2.0) ** 2
        capacities = np.zeros(self.delays)
        for k, (output, past) in enumerate(zip(outputs.T, targets.T, strict=True)):
            due = ~np.isnan(past)
            capacity = _squared_correlation(output[due], past[due])
            capacities[k] = capacity if capacity * due.sum() >= threshold else 0.0
        return capacities

    def capacity(self, prediction: ArrayLike, target: ArrayLike, chance: float = 1.0) -> float:
        """MC, the sum of the `capacities`, in 0 .. K; the arguments are the same."""
        return float(self.capacities(prediction, target, chance).sum())


@dataclass(frozen=True)
class Delay(Driven):
    """Put out what was read k steps ago.

    x(t) is a series, target(t) = x(t - k), NaN at the steps t < k: x (T, C), target (T, C).

    Args:
        delay: k >= 1.
        source: what draws the series, such as `MackeyGlass()`; None: independent numbers, uniform
            in [-1, 1), C = 1.

    Raises:
        ValueError: `delay` is not an integer of at least 1, or `source` is no series that makes
            itself.

    Measure: the NMSE (`nmse`). Of independent numbers the best without memory has 1, and one minus
    the NMSE of the best linear readout is the capacity k of `MemoryCapacity`.

    Source: Jaeger 2002.

    Example:
        >>> from longlag.tasks import Delay
        >>> x, target = Delay(delay=2).series(steps=4, seed=0)
        >>> bool((target[2:] == x[:2]).all()), target[:2].ravel().tolist()
        (True, [nan, nan])
    """

    delay: int = 10
    source: Series[NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        check_integer("delay", self.delay, 1, "give the number of steps to look back, such as 10")
        source: Any = self.source
        if source is not None and (not isinstance(source, Series) or isinstance(source, Driven)):
            raise ValueError(
                f"source must be a series that makes itself, or None, got {source!r}; "
                "give MackeyGlass() or Lorenz()"
            )

    @property
    def input_size(self) -> int:
        """C of the source."""
        return 1 if self.source is None else self.source.input_size

    @property
    def output_size(self) -> int:
        """C of the source."""
        return self.input_size

    def _draw(self, steps: int, seed: int, purpose: int) -> InputTarget:
        if self.source is None:
            x = _noise(steps, seed, purpose, amplitude=1.0)
        else:
            x = self.source._draw(steps, seed, purpose)
        return InputTarget(x, delayed(x, self.delay))


def _noise(steps: int, seed: int, purpose: int, amplitude: float) -> NDArray[np.float64]:
    """Independent numbers uniform in [-amplitude, amplitude), (T, 1)."""
    return generator(seed, purpose, 0).uniform(-amplitude, amplitude, size=(steps, 1))


def _squared_correlation(output: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Of two series (T,); 0 if the output is constant or not finite."""
    spread = check_spread(target[:, None])
    if not np.isfinite(output).all() or np.ptp(output) == 0:
        return 0.0
    output = output / np.abs(output).max()
    output -= output.mean()
    target = (target - target.mean()) / spread
    return float((output @ target) ** 2 / ((output @ output) * (target @ target)))
