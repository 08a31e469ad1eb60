"""The copy problem: hold ten symbols over a long blank, then repeat them.

Arjovsky, Shah & Bengio 2016, "Unitary evolution recurrent neural networks", after the 20-bit
problem of Hochreiter & Schmidhuber 1997.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.tasks.arrays import check_integer, generator, one_hot
from longlag.tasks.base import Task
from longlag.tasks.criteria import WRONG_CLASSES_2013

_HELD = 10
_BLANK, _MARKER = 0, 9


@dataclass(frozen=True)
class Copy(Task):
    """Repeat ten symbols after a delay of T steps.

    The input has T + 20 steps of 10 symbols: ten symbols uniform in 1 .. 8, T - 1 blanks (0), one
    marker (9), ten blanks. The target class is the blank for T + 10 steps, then the ten symbols in
    order; the cross-entropy is taken over all steps: x (N, T + 20, 10), target (N, T + 20) int64 in
    0 .. 8. Each symbol has to be kept for T + 10 steps. Without memory the best mean cross-entropy
    is 10 ln 8 / (T + 20) (`baseline`).

    Args:
        delay: T >= 1.

    Raises:
        ValueError: `delay` is not an integer of at least 1.

    Success: less than 1 % of 10,000 sequences have a wrong class at any step. The source reports
    the cross-entropy only; this is the rule of Pascanu et al. for their memorisation problem.

    Source: Arjovsky, Shah & Bengio 2016, the copying memory problem. Criterion: Pascanu,
    Mikolov & Bengio 2013.

    Example:
        >>> from longlag.tasks import Copy
        >>> task = Copy(delay=1000)
        >>> task.batch(batch_size=4, seed=0, index=0).x.shape
        (4, 1020, 10)
        >>> round(task.baseline, 4)
        0.0204
        >>> short = Copy(delay=2)
        >>> short.describe(short.batch(batch_size=1, seed=0, index=0), most=22)
        '1 5 8 8 8 4 1 7 8 7 _ ? _ _ _ _ _ _ _ _ _ _ -> 1 5 8 8 8 4 1 7 8 7'
    """

    delay: int = 100

    reduce: ClassVar = None
    kind: ClassVar = "classification"
    INPUT_SIZE: ClassVar = 10  # blank, 8 symbols, marker
    OUTPUT_SIZE: ClassVar = 9  # blank and 8 symbols
    SYMBOLS: ClassVar = "_12345678?"
    RULE: ClassVar = WRONG_CLASSES_2013

    def __post_init__(self) -> None:
        check_integer("delay", self.delay, 1, "give the blank's length plus one, such as 100")

    @property
    def steps(self) -> int:
        """T + 20."""
        return self.delay + 2 * _HELD

    @property
    def baseline(self) -> float:
        """10 ln 8 / (T + 20): the least mean cross-entropy without memory, in nats."""
        return _HELD * math.log(8) / self.steps

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        held = generator(seed, purpose, index).integers(1, 9, size=(batch_size, _HELD))
        symbols = np.full((batch_size, self.steps), _BLANK)
        symbols[:, :_HELD] = held
        symbols[:, _HELD + self.delay - 1] = _MARKER
        target = np.full((batch_size, self.steps), _BLANK, dtype=np.int64)
        target[:, -_HELD:] = held
        return Batch(one_hot(symbols, self.input_size), target, None)

    def _answer(self, target: NDArray) -> str:
        return " ".join(str(symbol) for symbol in target[-_HELD:])
