"""Temporal order: in which order did two or three widely separated symbols come?

Hochreiter & Schmidhuber 1997, "Long short-term memory", section 5.6 (tasks 6a and 6b).
Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.tasks.arrays import check_choice, check_integer, generator, one_hot, padding
from longlag.tasks.base import Task
from longlag.tasks.criteria import WRONG_CLASSES_2013, Rule
from longlag.tasks.training_criterion import Paper1997


def _order(number: NDArray[np.int64], keys: int) -> NDArray[np.int64]:
    """The keys (N, K), 0 or 1, of class number (N,): its binary digits, the first key highest."""
    return number[:, None] >> np.arange(keys)[::-1] & 1


@dataclass(frozen=True)
class TemporalOrder1997(Paper1997):
    """Tasks 6a and 6b: name the order of two or three X or Y among distractors.

    The 8 symbols are a, b, c, d, X, Y, E, B. A sequence starts with E and ends with B; its length
    is uniform in 100 .. 110. At positions t_1, t_2 (and t_3), counted from 1, stands X or Y, with
    probability 1/2; everywhere else a, b, c or d. For two keys t_1 is uniform in 10 .. 20 and t_2
    in 50 .. 60; for three keys they are in 10 .. 20, 33 .. 43 and 66 .. 76. All bounds are
    included. The 2^K classes have the paper's order, XX, XY, YX, YY. The target, due at the end, is
    the unit vector of the class, with squared error: x (N, T, 8), target (N, 2^K).

    Args:
        keys: K = 2 (task 6a) or 3 (task 6b).

    Raises:
        ValueError: `keys` is neither 2 nor 3.

    Success: 2000 sequences have all outputs' abs(error) < 0.3 and the mean abs(error) is below 0.1.
    The paper asks this of the 2000 most recent training sequences (`training_criterion`); `success`
    asks it of 2000 fresh ones. The paper then counts the wrong ones of `TEST_SEQUENCES`, 2560
    (table 9).

    Source: Hochreiter & Schmidhuber 1997, section 5.6.

    Example:
        >>> from longlag.tasks import TemporalOrder1997
        >>> task = TemporalOrder1997(keys=3)
        >>> task.describe(task.batch(batch_size=1, seed=0, index=0))
        'E d d ... X ... X ... X ... B -> XXX'
    """

    keys: int = 2

    reduce: ClassVar = "last"
    kind: ClassVar = "regression"
    POSITIONS: ClassVar = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}
    LENGTHS: ClassVar = (100, 110)
    SYMBOLS: ClassVar = ("a", "b", "c", "d", "X", "Y", "E", "B")
    INPUT_SIZE: ClassVar = len(SYMBOLS)
    RULE: ClassVar = Rule(
        tolerance=0.3,
        sequences=2000,
        mean_error_below=0.1,
        source="Hochreiter & Schmidhuber 1997, section 5.6",
    )

    def __post_init__(self) -> None:
        check_choice("keys", self.keys, (2, 3))

    @property
    def output_size(self) -> int:
        """D = 2^K classes."""
        return 2**self.keys

    @property
    def steps(self) -> int:
        """T >= 100."""
        return self.LENGTHS[0]

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        rng = generator(seed, purpose, index)
        row = np.arange(batch_size)
        number = rng.integers(2**self.keys, size=batch_size)
        lengths = rng.integers(*self.LENGTHS, size=batch_size, endpoint=True)
        longest = int(lengths.max(initial=self.steps))
        symbols = rng.integers(4, size=(batch_size, longest))
        for key, (low, high) in zip(
            _order(number, self.keys).T, self.POSITIONS[self.keys], strict=True
        ):
            position = rng.integers(low, high, size=batch_size, endpoint=True)
            symbols[row, position - 1] = 4 + key
        symbols[:, 0] = self.SYMBOLS.index("E")
        symbols[row, lengths - 1] = self.SYMBOLS.index("B")
        symbols[padding(lengths, longest)] = -1
        target = one_hot(number[:, None], self.output_size)[:, 0]
        return Batch(one_hot(symbols, self.input_size), target, lengths)

    def _answer(self, target: NDArray) -> str:
        keys = _order(np.array([target.argmax()]), self.keys)[0]
        return "".join("XY"[key] for key in keys)

    def _landmarks(self, x: NDArray[np.float32]) -> Iterable[int]:
        return np.flatnonzero(x[:, 4:6].any(axis=1)).tolist()


@dataclass(frozen=True)
class TemporalOrder(Task):
    """Temporal order at any length L: the form in use since 2013.

    The 6 symbols are the keys A, B and the distractors c, d, e, f. Counted from 0, a key, A or B
    with probability 1/2, stands at a step uniform in [L // 10, L // 5) and another at one in
    [L // 2, 3 L // 5); everywhere else a distractor. The classes AA, AB, BA, BB are 0 .. 3, due at
    the end, for a softmax: x (N, L, 6), target (N,) int64.

    Args:
        length: L >= 10 steps.
        longest: None: every sequence has L steps; else each has its own, uniform in
            length .. longest, as one model was trained on 50 .. 200.

    Raises:
        ValueError: `length` or `longest` is not an integer in its range.

    Success: less than 1 % of 10,000 sequences are given a wrong class.

    Source: Pascanu, Mikolov & Bengio 2013, the temporal order problem.

    Example:
        >>> from longlag.tasks import TemporalOrder
        >>> task = TemporalOrder(length=100)
        >>> task.describe(task.batch(batch_size=1, seed=0, index=0))
        'e f f ... A ... A ... c -> AA'
    """

    length: int = 100
    longest: int | None = None

    reduce: ClassVar = "last"
    kind: ClassVar = "classification"
    SYMBOLS: ClassVar = ("A", "B", "c", "d", "e", "f")
    INPUT_SIZE: ClassVar = len(SYMBOLS)
    OUTPUT_SIZE: ClassVar = 4
    RULE: ClassVar = WRONG_CLASSES_2013

    def __post_init__(self) -> None:
        check_integer("length", self.length, 10, "each key needs a tenth of the steps")
        if self.longest is not None:
            check_integer("longest", self.longest, self.length, "give at least `length`, or None")

    @property
    def steps(self) -> int:
        """L, the least number of steps."""
        return self.length

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        rng = generator(seed, purpose, index)
        row = np.arange(batch_size)
        number = rng.integers(4, size=batch_size)
        top = self.length if self.longest is None else self.longest
        lengths = rng.integers(self.length, top, size=batch_size, endpoint=True)
        steps = int(lengths.max(initial=self.length))
        symbols = rng.integers(2, 6, size=(batch_size, steps))
        first, second = _order(number, 2).T
        symbols[row, rng.integers(lengths // 10, lengths // 5)] = first
        symbols[row, rng.integers(lengths // 2, 3 * lengths // 5)] = second
        symbols[padding(lengths, steps)] = -1
        x = one_hot(symbols, self.input_size)
        return Batch(x, number, None if self.longest is None else lengths)

    def _answer(self, target: NDArray) -> str:
        return ("AA", "AB", "BA", "BB")[int(target)]

    def _landmarks(self, x: NDArray[np.float32]) -> Iterable[int]:
        return np.flatnonzero(x[:, :2].any(axis=1)).tolist()
