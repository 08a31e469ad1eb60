"""The tasks of the comparison, each made for a lag."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from longlag.tasks import (
    Adding,
    Batch,
    Copy,
    LongLagRandom,
    Rule,
    SequentialDigits,
    Task,
    TemporalOrder,
)
from longlag.tasks.arrays import check_integer, generator


class AddingByError(Adding):
    """The adding problem, learned when the mean squared error is below 0.01.

    This is what the later papers look at; without memory it is 1/6.
    """

    RULE: ClassVar = Rule(
        tolerance=math.inf,
        sequences=10_000,
        mean_squared_error_below=0.01,
        source="Rusch et al. 2022 (LEM) draw this error",
    )


@dataclass(frozen=True)
class Recall(Task):
    """Put out at every step what was read `lag` steps before.

    x is uniform in [-1, 1), x (N, 2 lag + 1, 1); the target is x(t - lag), NaN at the steps
    t < lag. Learned when the mean squared error is below a tenth of the variance of x, 1/3, which
    is the error without memory. A network needs room for `lag` numbers at once.

    Args:
        lag: >= 1.
    """

    lag: int = 10

    reduce: ClassVar = None
    kind: ClassVar = "regression"
    INPUT_SIZE: ClassVar = 1
    OUTPUT_SIZE: ClassVar = 1
    RULE: ClassVar = Rule(
        tolerance=math.inf, sequences=1000, mean_squared_error_below=1 / 30, source="this library"
    )

    def __post_init__(self) -> None:
        check_integer("lag", self.lag, 1, "give the number of steps to look back, such as 10")

    @property
    def steps(self) -> int:
        """2 lag + 1."""
        return 2 * self.lag + 1

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        shape = (batch_size, self.steps, 1)
        x = generator(seed, purpose, index).uniform(-1.0, 1.0, shape).astype(np.float32)
        target = np.full_like(x, np.nan)
        target[:, self.lag :] = x[:, : -self.lag]
        return Batch(x, target, None)

    def _words(self, x: NDArray[np.float32]) -> list[str]:
        return [f"{value:+.2f}" for value in x[:, 0]]

    def _answer(self, target: NDArray) -> str:
        return f"{target[-1, 0]:+.2f}"


@dataclass(frozen=True)
class Problem:
    """A task for every lag.

    Attributes:
        name: as the command takes it.
        about: what is asked, and what the lag means.
        criterion: when it is solved.
        make: the task of a lag.
        least: the smallest lag.
        fixed: the only lag there is, where it cannot be chosen.
    """

    name: str
    about: str
    criterion: str
    make: Callable[[int], Task]
    least: int = 2
    fixed: int | None = None


_FEW = "less than 1 % of sequences with a wrong class"

PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem("adding", "add the two marked of as many numbers as the lag; the first lies half "
                "of it or more back", "mean squared error below 0.01 (without memory 0.167)",
                AddingByError, least=4),
        Problem("copy", "repeat ten symbols after so many blanks", _FEW + " anywhere", Copy),
        Problem("delay", "put out at every step what was read so many steps before",
                "mean squared error below a tenth of the variance", Recall, least=1),
        Problem("temporal-order", "in which order two keys came, in sequences of so many steps",
                _FEW, TemporalOrder, least=10),
        Problem("long-lag", "repeat the first symbol after so many random ones (2b of 1997)",
                "all outputs of all sequences wrong by less than 0.25",
                lambda lag: LongLagRandom(lag, at_end=True)),
        Problem("digits", "name the digit after reading its 64 pixels one by one",
                "95 % of the test set right", lambda lag: SequentialDigits(), fixed=64),
    )
}  # fmt: skip
"""All tasks, by name."""
