"""The multiplication problem of 1997.

Hochreiter & Schmidhuber 1997, "Long short-term memory", section 5.5.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.tasks.adding import SHORTEST_1997, PairTask, marked_pairs
from longlag.tasks.arrays import check_integer, generator
from longlag.tasks.criteria import Rule
from longlag.tasks.training_criterion import Paper1997


@dataclass(frozen=True)
class Multiplication(PairTask, Paper1997):
    """Multiply the two marked numbers of a long sequence.

    The sequences are those of `Adding1997`, except that the values are uniform in [0, 1) and that
    the value of a first pair that is chosen becomes 1. The target, due at the end, is X1 X2:
    x (N, T, 2), target (N, 1).

    Args:
        length: T >= 20, the least number of steps.
        n_seq: fewer than this many of 2000 sequences may be wrong, 1 .. 2000. The paper has 140
            (the relevant inputs are stored) and 13 (the outputs are fine-tuned too).

    Raises:
        ValueError: `length` or `n_seq` is not an integer in its range.

    Success: fewer than `n_seq` of 2000 sequences have abs(error) > 0.04. The paper asks this of the
    2000 most recent training sequences (`training_criterion`); `success` asks it of 2000 fresh
    ones. The paper then counts the wrong ones of `TEST_SEQUENCES`, 2560 (table 8).

    Source: Hochreiter & Schmidhuber 1997, section 5.5.

    Example:
        >>> from longlag.tasks import Multiplication
        >>> task = Multiplication(length=100, n_seq=13)
        >>> task.describe(task.batch(batch_size=1, seed=0, index=0))
        '|+0.94| +0.90 +0.48 ... [+0.90] ... [+0.35] ... |+0.29| -> 0.318'
    """

    length: int = 100
    n_seq: int = 140

    TOLERANCE: ClassVar = 0.04  # section 5.5
    RECENT: ClassVar = 2000  # section 5.5

    def __post_init__(self) -> None:
        check_integer("length", self.length, SHORTEST_1997, "the paper's length is 100")
        fix = f"give at most {self.RECENT}; the paper has 140 and 13"
        if check_integer("n_seq", self.n_seq, 1, fix) > self.RECENT:
            raise ValueError(f"n_seq must be at most {self.RECENT}, got {self.n_seq}; {fix}")

    @property
    def rule(self) -> Rule:
        """The success criterion."""
        return Rule(
            tolerance=self.TOLERANCE,
            sequences=self.RECENT,
            wrong_below=Fraction(self.n_seq, self.RECENT),
            source="Hochreiter & Schmidhuber 1997, section 5.5",
        )

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        rng = generator(seed, purpose, index)
        pairs = marked_pairs(rng, batch_size, self.length, low=0.0, neutral=1.0)
        target = pairs.first * pairs.second
        return Batch(pairs.x, target.astype(np.float32)[:, None], pairs.lengths)
