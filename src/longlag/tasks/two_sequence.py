"""The 2-sequence problem: which of two signs stood at the start, with noise on the same line?

Hochreiter & Schmidhuber 1997, "Long short-term memory", section 5.3 (tasks 3a, 3b, 3c), after
Bengio, Simard & Frasconi 1994, "Learning long-term dependencies with gradient descent is
difficult".
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.tasks.arrays import TRAIN, check_choice, check_integer, generator, padding
from longlag.tasks.base import Predict, Task
from longlag.tasks.criteria import Criterion, Rule

_SECTION = "Hochreiter & Schmidhuber 1997, section 5.3"


@dataclass(frozen=True)
class TwoSequence(Task):
    """Tasks 3a, 3b, 3c: classify a noisy sequence by its first N values.

    There is one input line. The length is uniform in T .. T + T // 10. The first N values are +1
    for class 1 and -1 for class 2 (probability 1/2 each); all later ones are Gaussian with mean 0
    and variance 0.2. The target is due at the end: x (N, T, 1), target (N, 1).

    - 3a: the target is 1 for class 1 and 0 for class 2.
    - 3b: as 3a, with the same noise added to the first N values too.
    - 3c: as 3a, with targets 0.2 for class 1 and 0.8 for class 2, and Gaussian noise with mean 0
      and variance 0.1 added to the training targets. Test targets (`test_batch`) have no noise.

    Args:
        variant: "3a", "3b" or "3c".
        length: T >= 1, the least number of steps.
        informative: N in 1 .. T, the values that tell the class.

    Raises:
        ValueError: an argument is not in its range.

    Success: on 256 test sequences (TOLERANCE, WRONG_BELOW, MEAN_ERROR_BELOW say it by variant)

    - 3a: ST1, none has abs(error) of 0.2 or more; ST2, also the mean abs(error) is below 0.01.
    - 3b: ST1, fewer than 6 have abs(error) of 0.2 or more; ST2, also the mean abs(error) is below
      0.04.
    - 3c: none differs from the noise-free target by 0.1 or more and the mean abs(difference) is
      below 0.015. This is ST2; there is no ST1.

    The paper then counts the wrong ones of `TEST_SEQUENCES`, 2560 (tables 4 to 6).

    Random weight guessing solves 3a and 3b faster than any method in the paper (section 5.3): they
    show that noise does no harm, not that a method bridges long lags.

    Source: Hochreiter & Schmidhuber 1997, section 5.3.

    Example:
        >>> from longlag.tasks import TwoSequence
        >>> task = TwoSequence("3a", length=100, informative=3)
        >>> task.describe(task.batch(batch_size=1, seed=0, index=0))
        '+1.00 +1.00 +1.00 ... +1.02 -> 1'
    """

    variant: Literal["3a", "3b", "3c"] = "3a"
    length: int = 100
    informative: int = 3

    reduce: ClassVar = "last"
    kind: ClassVar = "regression"
    INPUT_SIZE: ClassVar = 1
    OUTPUT_SIZE: ClassVar = 1
    INPUT_VARIANCE: ClassVar = 0.2
    TARGET_VARIANCE: ClassVar = 0.1
    TARGETS: ClassVar = {"3a": (1.0, 0.0), "3b": (1.0, 0.0), "3c": (0.2, 0.8)}
    TOLERANCE: ClassVar = {"3a": 0.2, "3b": 0.2, "3c": 0.1}
    WRONG_BELOW: ClassVar = {"3a": None, "3b": Fraction(6, 256), "3c": None}
    MEAN_ERROR_BELOW: ClassVar = {"3a": 0.01, "3b": 0.04, "3c": 0.015}
    CRITERION_SEQUENCES: ClassVar = 256
    TEST_SEQUENCES: ClassVar = 2560  # tables 4 to 6

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, ("3a", "3b", "3c"))
        check_integer("length", self.length, 1, "the paper's lengths are 100 and 1000")
        fix = "the paper has 1 and 3"
        if check_integer("informative", self.informative, 1, fix) > self.length:
            raise ValueError(
                f"informative must be at most length = {self.length}, got {self.informative}; {fix}"
            )

    @property
    def steps(self) -> int:
        """T, the least number of steps."""
        return self.length

    @property
    def rule(self) -> Rule:
        """The success criterion, ST2."""
        return self._rule(self.MEAN_ERROR_BELOW[self.variant])

    def _rule(self, mean_error_below: float) -> Rule:
        return Rule(
            tolerance=self.TOLERANCE[self.variant],
            sequences=self.CRITERION_SEQUENCES,
            wrong_below=self.WRONG_BELOW[self.variant],
            mean_error_below=mean_error_below,
            source=f"{_SECTION}, task {self.variant}",
        )

    def success(
        self,
        predict: Predict,
        seed: int = 0,
        sequences: int | None = None,
        stopping: Literal["ST1", "ST2"] = "ST2",
    ) -> Criterion:
        """As `Task.success`, for the paper's stopping criterion ST1 or ST2.

        Raises:
            ValueError: ST1 is asked of 3c, which has none, or an argument is not in its range.
        """
        check_choice("stopping", stopping, ("ST2",) if self.variant == "3c" else ("ST1", "ST2"))
        rule = self.rule if stopping == "ST2" else self._rule(float("inf"))
        return self._hold_against(rule, predict, seed, sequences)

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        rng = generator(seed, purpose, index)
        second = rng.integers(2, size=batch_size)
        lengths = rng.integers(
            self.length, self.length + self.length // 10, size=batch_size, endpoint=True
        )
        longest = int(lengths.max(initial=self.length))
        x = rng.standard_normal((batch_size, longest, 1), dtype=np.float32)
        x *= np.float32(np.sqrt(self.INPUT_VARIANCE))
        if self.variant != "3b":
            x[:, : self.informative] = 0.0
        x[:, : self.informative, 0] += (1 - 2 * second)[:, None]
        x[padding(lengths, longest)] = 0.0
        target = np.array(self.TARGETS[self.variant])[second]
        if self.variant == "3c" and purpose == TRAIN:
            target += rng.normal(0.0, np.sqrt(self.TARGET_VARIANCE), size=batch_size)
        return Batch(x, target.astype(np.float32)[:, None], lengths)

    def _words(self, x: NDArray[np.float32]) -> list[str]:
        return [f"{value:+.2f}" for value in x[:, 0]]

    def _answer(self, target: NDArray) -> str:
        return f"{target[0]:.3g}"
