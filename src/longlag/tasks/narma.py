"""NARMA10: a nonlinear moving average over ten steps, to be followed from its input.

Atiya & Parlos 2000, "New results on recurrent network training: unifying the algorithms and
accelerating convergence"; Jaeger 2003, "Adaptive nonlinear system identification with echo state
networks"; Rodan & Tino 2011, "Minimum complexity echo state network".
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from longlag.tasks.arrays import generator
from longlag.tasks.series import Driven, InputTarget

_ORDER = 10
_DIVERGED = 2.0  # what does not diverge stays below 1.3
_MOST_DRAWS = 100


@dataclass(frozen=True)
class NARMA10(Driven):
    r"""Follow a system of order ten that is driven by noise.

    The input u(t) is independent and uniform in [0, 0.5). The system is

    .. math:: y(t + 1) = 0.3\, y(t) + 0.05\, y(t) \sum_{i=0}^{9} y(t - i)
        + 1.5\, u(t - 9)\, u(t) + 0.1

    with y and u 0 before the first step. x(t) = u(t) and target(t) = y(t + 1), the newest value
    that u(t) has a part in: x (T, 1), target (T, 1). Leave the first hundred steps or more out of
    fit and measure. The long-term mean of y is 0.39, its variance 0.012.

    The system can diverge, once in about 200,000 steps. A series in which y exceeds 2 is drawn
    anew as a whole, with the next of the generators that the seed has; so 1 in 20 seeds is, of
    10,000 steps. Draw several series where more than 200,000 steps are wanted.

    Raises:
        ValueError: by `series`, if a hundred draws diverge.

    Measure: the NMSE (`nmse`). A linear readout of the last 20 inputs has 0.16, of the last one
    0.75. Rodan & Tino 2011 report for echo state networks roughly 0.17 (50 units) and 0.04 (200
    units).

    Source: Atiya & Parlos 2000; Jaeger 2003; Rodan & Tino 2011. That a series which diverges is
    drawn anew was chosen here; why they diverge: Kubota, Nakajima & Takahashi 2019, "Dynamical
    anatomy of NARMA10 benchmark task".

    Example:
        >>> from longlag.tasks import NARMA10
        >>> task = NARMA10()
        >>> x, target = task.series(steps=1000, seed=0)
        >>> x.shape, target.shape
        ((1000, 1), (1000, 1))
        >>> round(task.nmse(target.mean() + 0 * target, target), 3)
        1.0
    """

    INPUT_SIZE: ClassVar = 1
    OUTPUT_SIZE: ClassVar = 1

    def _draw(self, steps: int, seed: int, purpose: int) -> InputTarget:
        for draw in range(_MOST_DRAWS):
            u = generator(seed, purpose, draw).uniform(0.0, 0.5, size=steps)
            y = _response(u.tolist())
            if y is not None:
                return InputTarget(u[:, None], np.array(y)[:, None])
        raise ValueError(
            f"steps must be few enough for a series that does not diverge, got {steps}, of which "
            f"{_MOST_DRAWS} draws did; draw several series of 100000 steps or less"
        )


def _response(u: list[float]) -> list[float] | None:
    """y(1) .. y(T) for the input u(0) .. u(T - 1), or None where it diverges."""
    past = deque([0.0] * _ORDER, maxlen=_ORDER)
    y, response = 0.0, []
    for now, nine_ago in zip(u, [0.0] * (_ORDER - 1) + u, strict=False):
        # fsum: the built-in sum rounds in another way in each version of Python
        y = 0.3 * y + 0.05 * y * math.fsum(past) + 1.5 * nine_ago * now + 0.1
        if y > _DIVERGED:
            return None
        past.append(y)
        response.append(y)
    return response
