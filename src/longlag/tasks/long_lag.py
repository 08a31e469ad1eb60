"""Experiments 2a and 2b of 1997: the first symbol must be repeated p steps later.

Hochreiter & Schmidhuber 1997, "Long short-term memory", section 5.2.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.tasks.arrays import TEST, check_integer, generator, one_hot, spell
from longlag.tasks.base import Predict, Task
from longlag.tasks.criteria import BySequence, Criterion, Errors, Rule, judge

_SECTION = "Hochreiter & Schmidhuber 1997, section 5.2"
_DELAY = "the first symbol comes back after p steps, so give p = 100 for the paper's table"


@dataclass(frozen=True)
class _FirstSymbolAgain(Task):
    """What 2a and 2b share: p + 1 symbols, p of them read, p of them predicted."""

    delay: int = 100

    reduce: ClassVar = None
    kind: ClassVar = "regression"
    BUDGET: ClassVar = 5_000_000  # section 5.2

    def __post_init__(self) -> None:
        check_integer("delay", self.delay, 2, _DELAY)

    @property
    def input_size(self) -> int:
        """C = p + 1 symbols."""
        return self.delay + 1

    @property
    def output_size(self) -> int:
        """D = p + 1 symbols."""
        return self.delay + 1

    @property
    def steps(self) -> int:
        """T = p predictions."""
        return self.delay

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of the p + 1 symbols."""
        return (*(f"a{i}" for i in range(1, self.delay)), "x", "y")

    def _words(self, x: NDArray[np.float32]) -> list[str]:
        return spell(x, self.symbols)

    def _answer(self, target: NDArray) -> str:
        return spell(target, self.symbols)[-1]


class LongLag(_FirstSymbolAgain):
    """Task 2a: predict every next symbol of one of two sequences that differ at their ends only.

    The p + 1 symbols are a_1 .. a_{p-1}, a_p = x, a_{p+1} = y; a_i is the i-th unit vector. The
    sequences are (y, a_1, ..., a_{p-1}, y) and (x, a_1, ..., a_{p-1}, x), each with probability
    1/2. The model reads the first p symbols and predicts the p that follow: x (N, p, p + 1), target
    (N, p, p + 1), squared error at every step. Only the last prediction needs memory.

    Args:
        delay: p >= 2, steps from the first symbol to its repetition.

    Raises:
        ValueError: `delay` is not an integer of at least 2.

    Success: over 10,000 sequences every output's abs(error) is below 0.25, at every step. As there
    are two, a predictor is asked for each once.
    The paper gives up after `BUDGET`, 5,000,000 training sequences.

    Source: Hochreiter & Schmidhuber 1997, section 5.2, task 2a.

    Example:
        >>> from longlag.tasks import LongLag
        >>> task = LongLag(delay=100)
        >>> batch = task.batch(batch_size=3, seed=0, index=0)
        >>> batch.x.shape, batch.target.shape
        ((3, 100, 101), (3, 100, 101))
        >>> task.describe(batch, row=0)
        'x a1 a2 ... a99 -> x'
    """

    RULE: ClassVar = Rule(tolerance=0.25, sequences=10_000, source=f"{_SECTION}, task 2a")

    @cached_property
    def _both(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Input and target (2, p, p + 1) of the sequence of x and of that of y."""
        middle = np.arange(self.delay - 1)
        keys = (self.delay - 1, self.delay)
        sequences = np.stack([np.concatenate([[key], middle, [key]]) for key in keys])
        size = self.input_size
        return one_hot(sequences[:, :-1], size), one_hot(sequences[:, 1:], size)

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        x, target = self._both
        keys = generator(seed, purpose, index).integers(2, size=batch_size)
        return Batch(x.take(keys, axis=0), target.take(keys, axis=0), None)

    def meets(self, predict: Predict, seed: int = 0, sequences: int | None = None) -> bool:  # noqa: D102
        return self.success(predict, seed, sequences).success

    def _hold_against(
        self, rule: Rule, predict: Predict, seed: int, sequences: int | None
    ) -> Criterion:
        # There are two sequences: what is found of them is found of all that would be drawn.
        count = self._count(rule, sequences)
        x, target = self._both
        found = self.errors(predict(x, None), target).by_sequence()
        sizes = self._test_sizes(count)
        drawn = np.concatenate([
            generator(seed, TEST, index).integers(2, size=size) for index, size in enumerate(sizes)
        ])  # fmt: skip
        return judge(BySequence(*(part[drawn] for part in found)), rule)


@dataclass(frozen=True)
class LongLagRandom(_FirstSymbolAgain):
    """Task 2b: as 2a, but what lies between the first symbol and its repetition is random.

    The p - 1 middle symbols are drawn independently and uniformly from a_1 .. a_{p-1}, so that no
    local regularity can be compressed. Shapes and error are those of `LongLag`.

    Args:
        delay: p >= 2, steps from the first symbol to its repetition.
        at_end: whether error is due at the last step only (targets before it are NaN). The paper
            does not say so of this task; but nothing that is read tells that the end has come, so
            with error at every step a net must count to p beside remembering.

    Raises:
        ValueError: `delay` is not an integer of at least 2.

    Success: over 10,000 sequences every output's abs(error) is below 0.25 at the last step; the
    other targets cannot be predicted and do not count.
    The paper gives up after `BUDGET`, 5,000,000 training sequences.

    Source: Hochreiter & Schmidhuber 1997, section 5.2, task 2b.

    Example:
        >>> from longlag.tasks import LongLagRandom
        >>> task = LongLagRandom(delay=6)
        >>> task.describe(task.batch(batch_size=1, seed=1, index=0))
        'x a5 a1 a5 a1 a2 -> x'
    """

    at_end: bool = False

    RULE: ClassVar = Rule(tolerance=0.25, sequences=10_000, source=f"{_SECTION}, task 2b")

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        p, rng = self.delay, generator(seed, purpose, index)
        sequences = rng.integers(p - 1, size=(batch_size, p + 1))
        sequences[:, 0] = rng.integers(p - 1, p + 1, size=batch_size)
        sequences[:, p] = sequences[:, 0]
        target = one_hot(sequences[:, 1:], p + 1)
        if self.at_end:
            target[:, :-1] = np.nan
        return Batch(one_hot(sequences[:, :-1], p + 1), target, None)

    def _errors(self, output: NDArray, target: NDArray) -> Errors:
        return Errors.of(output[:, -1], target[:, -1])
