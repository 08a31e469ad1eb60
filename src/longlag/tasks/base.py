"""What all tasks share: the batch, the stream, and the class `Task`.

A batch is a function of (task, seed, index, batch_size) and of nothing else. There is no hidden
state, so training that stops at batch k goes on at batch k with the same bits.

Where no error is due a float target is NaN and a class target is -100, so a loss needs no mask.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longlag.batch import Batch
from longlag.tasks.arrays import TEST, TRAIN, check_integer, spell
from longlag.tasks.criteria import Criterion, Errors, Rule, measure

Predict = Callable[[NDArray[np.float32], "NDArray[np.int64] | None"], ArrayLike]

# Test sequences are drawn and predicted in portions of about this many numbers (16 MiB).
_NUMBERS_AT_ONCE = 2**22


class Task(abc.ABC):
    """A problem that needs memory: endless sequences, their targets, and when it counts as learned.

    Attributes:
        input_size: C, numbers per step: `INPUT_SIZE`, where it is the same for all of a class.
        output_size: D, outputs (classes) of the model: `OUTPUT_SIZE`, where it is the same for all.
        steps: T, the number of steps of a sequence; the smallest if it varies.
        reduce: "last" if the target is due at the end only, None if at every step.
        kind: "regression": squared error on real targets; "classification": class targets.
        rule: the success criterion: `RULE`, where it is the same for all.
    """

    reduce: ClassVar[Literal["last"] | None]
    kind: ClassVar[Literal["regression", "classification"]]
    INPUT_SIZE: ClassVar[int]
    OUTPUT_SIZE: ClassVar[int]
    RULE: ClassVar[Rule]
    SYMBOLS: ClassVar[Sequence[str]]

    @property
    def input_size(self) -> int:
        """C, numbers per step."""
        return self.INPUT_SIZE

    @property
    def output_size(self) -> int:
        """D, outputs (classes) of the model."""
        return self.OUTPUT_SIZE

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """T, the number of steps of a sequence; the smallest if it varies."""

    @property
    def rule(self) -> Rule:
        """The success criterion: `RULE`, where it is the same for all tasks of a class."""
        return self.RULE

    @abc.abstractmethod
    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        """A batch for `purpose` (train or test), from `generator(seed, purpose, index)` alone."""

    def _words(self, x: NDArray[np.float32]) -> list[str]:
        """One word for each step of one sequence (T, C): where steps are symbols, their names."""
        return spell(x, self.SYMBOLS)

    @abc.abstractmethod
    def _answer(self, target: NDArray) -> str:
        """The target of one sequence in words."""

    def _landmarks(self, x: NDArray[np.float32]) -> Iterable[int]:
        """Steps of one sequence (T, C) that `describe` never leaves out."""
        return ()

    def batch(self, batch_size: int, seed: int, index: int) -> Batch[NDArray]:
        """Batch `index` of the training stream `seed`: N = `batch_size` sequences.

        Args:
            batch_size: N >= 0.
            seed: of the stream, >= 0.
            index: of the batch in the stream, >= 0.

        Returns:
            x (N, T, C) float32; the target float32, or int64 classes, (N, D) or (N,) where it is
            due at the end only, (N, T, D) or (N, T) where at every step; lengths int64, or None if
            every sequence has T steps. The same bits for the same arguments, with one version of
            NumPy. Another seed or index: independent sequences.

        Raises:
            ValueError: an argument is not an integer in its range.
        """
        return self._checked_draw(seed, TRAIN, index, batch_size)

    def test_batch(self, batch_size: int, seed: int, index: int) -> Batch[NDArray]:
        """As `batch`, from the test stream `seed`, which shares no random numbers with training."""
        return self._checked_draw(seed, TEST, index, batch_size)

    def _checked_draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        size = check_integer("batch_size", batch_size, 0, "give the number of sequences wanted")
        seed = check_integer("seed", seed, 0, "give a whole number such as 0")
        index = check_integer("index", index, 0, "count the batches of the stream from 0")
        return self._draw(seed, purpose, index, size)

    def stream(self, batch_size: int = 1, seed: int = 0) -> Stream:
        """The endless, reproducible training stream of batches of `batch_size` sequences."""
        return Stream(self, batch_size, seed)

    def errors(self, output: ArrayLike, target: NDArray) -> Errors:
        """The absolute errors that the success criterion looks at.

        Args:
            output: (N, D) if `reduce` is "last", else (N, T, D).
            target: as in `longlag.batch.Batch`.

        Raises:
            ValueError: the output's shape does not fit the target's.
        """
        shape = (*target.shape[: 1 if self.reduce == "last" else 2], self.output_size)
        if np.shape(output) != shape:
            where = "per sequence, read at its last step" if self.reduce else "at every step"
            raise ValueError(
                f"output must have shape {shape}, got {np.shape(output)}; "
                f"give {self.output_size} outputs {where}"
            )
        return self._errors(np.asarray(output), target)

    def _errors(self, output: NDArray, target: NDArray) -> Errors:
        return Errors.of(output, target)

    def correct(self, output: ArrayLike, target: NDArray) -> NDArray[np.bool_]:
        """Per sequence (N,): every error due is below the rule's tolerance."""
        return self.errors(output, target).within(self.rule.tolerance)

    def success(self, predict: Predict, seed: int = 0, sequences: int | None = None) -> Criterion:
        """Hold a predictor against the published criterion, on fresh test sequences.

        Args:
            predict: (x (N, T, C), lengths (N,) or None) -> outputs (N, D) or (N, T, D).
            seed: of the test stream, >= 0.
            sequences: how many, >= 1; None: as many as the rule says.

        Returns:
            Whether it is met, and what was measured.
        """
        return self._hold_against(self.rule, predict, seed, sequences)

    def meets(self, predict: Predict, seed: int = 0, sequences: int | None = None) -> bool:
        """Whether a predictor meets the published criterion: as `success`, but where no sequence
        may be wrong the first that is ends the test."""
        if self.rule.wrong_below is not None:
            return self.success(predict, seed, sequences).success
        parts = list[Errors]()
        for batch in self._test_batches(self._count(self.rule, sequences), seed):
            parts.append(self.errors(predict(batch.x, batch.lengths), batch.target))
            if not parts[-1].within(self.rule.tolerance).all():
                return False
        return measure(parts, self.rule).success

    @staticmethod
    def _count(rule: Rule, sequences: int | None) -> int:
        count = rule.sequences if sequences is None else sequences
        return check_integer("sequences", count, 1, "give the number of test sequences")

    def _hold_against(
        self, rule: Rule, predict: Predict, seed: int, sequences: int | None
    ) -> Criterion:
        batches = self._test_batches(self._count(rule, sequences), seed)
        return self._judge(predict, batches, rule)

    def _test_batches(self, sequences: int, seed: int) -> Iterator[Batch[NDArray]]:
        for index, size in enumerate(self._test_sizes(sequences)):
            yield self.test_batch(size, seed, index)

    def _test_sizes(self, sequences: int) -> list[int]:
        """Of the batches in which test sequences are drawn."""
        numbers = self.steps * (self.input_size + self.output_size)
        size = max(1, min(1000, _NUMBERS_AT_ONCE // numbers))
        return [min(size, sequences - start) for start in range(0, sequences, size)]

    def _judge(self, predict: Predict, batches: Iterable[Batch[NDArray]], rule: Rule) -> Criterion:
        parts = [self.errors(predict(b.x, b.lengths), b.target) for b in batches]
        return measure(parts, rule)

    def describe(self, batch: Batch[NDArray], row: int = 0, most: int = 8) -> str:
        """One sequence in words, "input ... -> answer", for reading and teaching.

        Args:
            batch: a batch of this task.
            row: of the batch.
            most: sequences of more steps than this are shown without their middle.
        """
        x, target = batch.x[row], batch.target[row]
        if batch.lengths is not None:
            x = x[: batch.lengths[row]]
            target = target if self.reduce == "last" else target[: batch.lengths[row]]
        words = self._words(x)
        shown = set(range(len(words)))
        if len(words) > most:
            shown = {0, 1, 2, len(words) - 1, *self._landmarks(x)}
        return " ".join([*_with_gaps(words, shown), "->", self._answer(target)])


def _with_gaps(words: Sequence[str], shown: set[int]) -> Iterator[str]:
    for step, word in enumerate(words):
        if step in shown:
            yield word
        elif step - 1 in shown:
            yield "..."


@dataclass(frozen=True)
class Stream:
    """The endless training stream of a task: batch 0, 1, 2, ... for one seed and batch size.

    Args:
        task: the task.
        batch_size: N >= 0 sequences in each batch.
        seed: of the stream, >= 0.

    Raises:
        ValueError: `batch_size` or `seed` is not an integer in its range.

    Example:
        >>> from longlag.tasks import LongLag
        >>> stream = LongLag(delay=4).stream(batch_size=2, seed=7)
        >>> first = next(iter(stream))
        >>> bool((first.x == stream.batch(0).x).all())
        True
    """

    task: Task
    batch_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("batch_size", self.batch_size, 0, "give the number of sequences wanted")
        check_integer("seed", self.seed, 0, "give a whole number such as 0")

    def batch(self, index: int) -> Batch[NDArray]:
        """Batch `index`, the same bits each time."""
        return self.task.batch(self.batch_size, self.seed, index)

    def __iter__(self) -> Iterator[Batch[NDArray]]:
        """Batches 0, 1, 2, ... without end."""
        return map(self.batch, itertools.count())
