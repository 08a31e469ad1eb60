"""Experiment 2c of 1997: very long lags of unknown length, ended by a trigger symbol.

Hochreiter & Schmidhuber 1997, "Long short-term memory", section 5.2.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.tasks.arrays import check_integer, generator, one_hot, padding, spell
from longlag.tasks.base import Task
from longlag.tasks.criteria import Rule


@dataclass(frozen=True)
class LongLagTrigger(Task):
    """Task 2c: keep the second symbol over at least q random ones, until a trigger asks for it.

    The p + 4 symbols are the distractors a_1 .. a_p, then e, b, x, y. A sequence is b, then x or y
    (probability 1/2), then q distractors; then, again and again, another distractor with
    probability 9/10 or the trigger e with 1/10; after e comes a copy of the second symbol. All
    distractors are uniform. The model reads all but the copy, x (N, T, p + 4), and predicts the
    copy at the end: target (N, 2), (1, 0) for x and (0, 1) for y.

    With k distractors beyond the first q, P(k) = (1/10)(9/10)^k, the sequence has q + k + 4
    symbols, T = q + k + 3 of them read. The least is q + 4, the mean q + 13 (the paper prints
    q + 14, but its own sum, 4 + sum_k P(k) (q + k), is q + 13). The minimal lag is q + 1 steps.

    Args:
        q: distractors that always come, >= 0.
        p: different distractors, >= 1.

    Raises:
        ValueError: `q` or `p` is not an integer in its range.

    Success: both outputs' abs(error) is below 0.2 for 10,000 sequences.

    Source: Hochreiter & Schmidhuber 1997, section 5.2, task 2c.

    Example:
        >>> from longlag.tasks import LongLagTrigger
        >>> task = LongLagTrigger(q=50, p=50)
        >>> batch = task.batch(batch_size=2, seed=0, index=0)
        >>> task.describe(batch, row=0)
        'b x a45 ... e -> x'
    """

    q: int = 50
    p: int = 50

    reduce: ClassVar = "last"
    kind: ClassVar = "regression"
    OUTPUT_SIZE: ClassVar = 2  # x and y
    TRIGGER_PROBABILITY: ClassVar = 0.1  # section 5.2, task 2c
    RULE: ClassVar = Rule(
        tolerance=0.2,
        sequences=10_000,
        source="Hochreiter & Schmidhuber 1997, section 5.2, task 2c",
    )

    def __post_init__(self) -> None:
        check_integer("q", self.q, 0, "give the distractors that always come, such as 50")
        check_integer("p", self.p, 1, "give the number of different distractors, such as 50")

    @property
    def input_size(self) -> int:
        """C = p + 4 symbols."""
        return self.p + 4

    @property
    def steps(self) -> int:
        """T >= q + 3."""
        return self.q + 3

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the p + 4 symbols."""
        return (*(f"a{i}" for i in range(1, self.p + 1)), "e", "b", "x", "y")

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        rng = generator(seed, purpose, index)
        e, b, x = self.p, self.p + 1, self.p + 2
        is_y = rng.integers(2, size=batch_size)
        lengths = self.steps - 1 + rng.geometric(self.TRIGGER_PROBABILITY, size=batch_size)
        longest = int(lengths.max(initial=self.steps))
        symbols = rng.integers(self.p, size=(batch_size, longest))
        symbols[:, 0] = b
        symbols[:, 1] = x + is_y
        symbols[np.arange(batch_size), lengths - 1] = e
        symbols[padding(lengths, longest)] = -1
        target = one_hot(is_y[:, None], 2)[:, 0]
        return Batch(one_hot(symbols, self.input_size), target, lengths)

    def _words(self, x: NDArray[np.float32]) -> list[str]:
        return spell(x, self.symbols)

    def _answer(self, target: NDArray) -> str:
        return "xy"[int(target.argmax())]
