"""The embedded Reber grammar: predict the next symbol; the last but one repeats the second.

Hochreiter & Schmidhuber 1997, "Long short-term memory", section 5.1; the grammar goes back to
Cleeremans, Servan-Schreiber & McClelland 1989 and Fahlman 1991.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.tasks.arrays import (
    DATA_SET,
    TRAIN,
    check_choice,
    check_integer,
    generator,
    one_hot,
    padding,
    spell,
)
from longlag.tasks.base import Predict, Task
from longlag.tasks.criteria import Criterion, Errors, Rule

# The inner grammar: node -> {symbol: next node}. An inner string is B, a walk from 0 to 5, E.
_EDGES = (
    {"T": 1, "P": 2},
    {"S": 1, "X": 3},
    {"T": 2, "V": 4},
    {"X": 2, "S": 5},
    {"P": 3, "V": 5},
)


@dataclass(frozen=True)
class EmbeddedReber(Task):
    """Predict every next symbol of strings of the embedded Reber grammar.

    A string is B, then T or P, then a string of the Reber grammar, then the same T or P again, then
    E. Wherever the grammar allows two symbols, each has probability 1/2. The shortest string has 9
    symbols. The model reads all but the last symbol of a string and predicts all but the first:
    x (N, T, 7), target (N, T, 7), the unit vector of the symbol that came, with squared error at
    every step (NaN at the steps t >= length).

    As in the paper, 256 training strings are drawn from the grammar, and 256 test strings that do
    not occur among them; a string may occur more than once within its own set. Training picks
    uniformly from the training strings.

    Args:
        pair: which pair of training and test sets, >= 0; the paper uses three.

    Raises:
        ValueError: `pair` is not an integer of at least 0.

    Success: at every step of all 512 strings every legal next symbol's output is above all others.

    Source: Hochreiter & Schmidhuber 1997, section 5.1.

    Example:
        >>> from longlag.tasks import EmbeddedReber
        >>> task = EmbeddedReber(pair=0)
        >>> len(task.train_strings), len(task.test_strings)
        (256, 256)
        >>> task.legal_next("BTBPVVETE")
        ('PT', 'B', 'PT', 'TV', 'PV', 'E', 'T', 'E')
        >>> task.describe(task.batch(batch_size=1, seed=0, index=0), most=20)
        'B P B P T V V E P -> E'
    """

    pair: int = 0

    reduce: ClassVar = None
    kind: ClassVar = "regression"
    SYMBOLS: ClassVar = ("B", "T", "P", "S", "X", "V", "E")
    INPUT_SIZE: ClassVar = len(SYMBOLS)
    OUTPUT_SIZE: ClassVar = len(SYMBOLS)
    STRINGS: ClassVar = 256  # training strings, and as many test strings (section 5.1)
    RULE: ClassVar = Rule(
        tolerance=0.5,  # a step whose most active outputs are not the legal ones is an error of 1
        sequences=512,
        source="Hochreiter & Schmidhuber 1997, section 5.1",
    )

    def __post_init__(self) -> None:
        check_integer("pair", self.pair, 0, "number the pairs of data sets 0, 1, 2")

    @property
    def steps(self) -> int:
        """T >= 8: the shortest string has 9 symbols."""
        return 8

    @property
    def train_strings(self) -> tuple[str, ...]:
        """The 256 training strings."""
        return self._strings[0]

    @property
    def test_strings(self) -> tuple[str, ...]:
        """The 256 test strings."""
        return self._strings[1]

    @cached_property
    def _strings(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        rng = generator(self.pair, DATA_SET, 0)
        train = tuple(_draw_string(rng) for _ in range(self.STRINGS))
        seen, test = frozenset(train), []
        while len(test) < self.STRINGS:
            string = _draw_string(rng)
            if string not in seen:
                test.append(string)
        return train, tuple(test)

    def legal_next(self, string: str) -> tuple[str, ...]:
        """For each symbol of `string` but the last: the symbols that may follow, in order.

        Raises:
            ValueError: `string` is not one of the grammar.
        """
        return tuple("".join(sorted(legal)) for legal in _legal(string))

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        strings = self.train_strings if purpose == TRAIN else self.test_strings
        rows = generator(seed, purpose, index).integers(len(strings), size=batch_size)
        return self.encode([strings[row] for row in rows])

    def encode(self, strings: Sequence[str]) -> Batch[NDArray]:
        """The batch of these strings.

        Raises:
            ValueError: a string is not one of the grammar.
        """
        lengths = np.array([len(_legal_mask(string)) for string in strings], dtype=np.int64)
        longest = int(lengths.max(initial=self.steps))
        symbols = np.full((len(strings), longest + 1), -1)
        for row, string in enumerate(strings):
            symbols[row, : len(string)] = [self.SYMBOLS.index(symbol) for symbol in string]
        read, following = symbols[:, :-1].copy(), symbols[:, 1:]
        read[padding(lengths, longest)] = -1  # the final E is predicted but never read
        return Batch(one_hot(read, 7), one_hot(following, 7, fill=np.nan), lengths)

    def success(self, predict: Predict, seed: int = 0, sequences: int | None = None) -> Criterion:
        """Hold a predictor against the criterion, on all training and test strings.

        Args:
            predict: (x (N, T, 7), lengths (N,)) -> outputs (N, T, 7).
            seed: changes nothing, since the strings are fixed; every task takes it.
            sequences: None or 512; the criterion asks for all strings.

        Raises:
            ValueError: `sequences` is another number.
        """
        check_choice("sequences", sequences, (None, self.RULE.sequences))
        strings = [*self.train_strings, *self.test_strings]
        return self._judge(predict, [self.encode(strings)], self.RULE)

    def _errors(self, output: NDArray, target: NDArray) -> Errors:
        due = np.isfinite(target[..., 0])
        legal = np.zeros(target.shape, dtype=np.bool_)
        for row, length in enumerate(due.sum(axis=1)):
            string = "".join(["B", *spell(target[row, :length], self.SYMBOLS)])
            legal[row, :length] = _legal_mask(string)
        least_legal = np.where(legal, output, np.inf).min(axis=-1)
        most_other = np.where(legal, -np.inf, output).max(axis=-1)
        return Errors(np.where(due, ~(least_legal > most_other), False).astype(np.float64), due)

    def _answer(self, target: NDArray) -> str:
        return spell(target, self.SYMBOLS)[-1]


def _draw_string(rng: np.random.Generator) -> str:
    outer = "TP"[rng.integers(2)]
    inner, node = "", 0
    while node < len(_EDGES):
        symbol = tuple(_EDGES[node])[rng.integers(2)]
        inner, node = inner + symbol, _EDGES[node][symbol]
    return f"B{outer}B{inner}E{outer}E"


def _legal(string: str) -> list[frozenset[str]]:
    """The legal next symbols after each symbol of a whole string but the last."""
    legal, node = [frozenset("TP"), frozenset("B")], 0
    for symbol in string[3:-3]:
        legal.append(frozenset(_EDGES[node]))
        if symbol not in legal[-1]:
            break
        node = _EDGES[node][symbol]
        if node == len(_EDGES):
            break
    legal += [frozenset("E"), frozenset(string[1:2]), frozenset("E")]
    whole = string[:1] == "B" and len(string) == len(legal) + 1
    if not whole or any(s not in may for s, may in zip(string[1:], legal, strict=True)):
        raise ValueError(
            f"string must be of the embedded Reber grammar, got {string!r}; one is 'BTBTXSETE'"
        )
    return legal


@lru_cache(maxsize=1024)
def _legal_mask(string: str) -> NDArray[np.bool_]:
    """(T, 7): which symbols may follow each symbol of a whole string but the last."""
    return np.array([[s in may for s in EmbeddedReber.SYMBOLS] for may in _legal(string)])
