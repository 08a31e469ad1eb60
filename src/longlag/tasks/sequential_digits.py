"""Handwritten digits read as a sequence, pixel by pixel or row by row.

The 8 x 8 digits of scikit-learn, the small counterpart of sequential MNIST (Le, Jaitly & Hinton
2015, "A simple way to initialize recurrent networks of rectified linear units"), which also
introduced the fixed permutation of the pixels.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.tasks.arrays import DATA_SET, TRAIN, check_choice, check_integer, generator
from longlag.tasks.base import Predict, Task
from longlag.tasks.criteria import Criterion, Rule

_PERMUTATION, _SPLIT = 0, 1


@dataclass(frozen=True)
class SequentialDigits(Task):
    """Name the digit after reading its 8 x 8 image step by step.

    The 1797 images of scikit-learn's `load_digits`, scaled to [0, 1], are read row by row from the
    top, each row from the left. order="pixels": 64 steps of one value, x (N, 64, 1). order="rows":
    8 steps of a row, x (N, 8, 8). The class 0 .. 9 is due at the end: target (N,) int64.

    A fixed fifth of each class is the test set (`test`), the rest the training set (`train`). The
    training stream goes through the training set in an order that is new in every epoch: batch
    `index` holds the places index N .. (index + 1) N - 1 of the endless sequence of epochs. So it
    does in `test_batch`, for the test set.

    Args:
        order: "pixels" or "rows".
        permuted: whether the 64 pixels are read in one fixed random order, the same for all images.
        split: which division into training and test set, >= 0.

    Raises:
        ValueError: an argument is not in its range.

    Success: at least 95 % of the test set right. No paper states a rule for these images; this
    figure is this library's own.

    Source: the images: scikit-learn `load_digits`; the task: Le, Jaitly & Hinton 2015.

    Example:
        >>> from longlag.tasks import SequentialDigits
        >>> task = SequentialDigits(order="rows")
        >>> task.train.x.shape, task.test.x.shape
        ((1442, 8, 8), (355, 8, 8))
        >>> task.describe(task.test, row=0)
        '..=O*:.. ..O#o#=. .-#:.o+. .-O..++. .=+..*+. .-o.:O+. .:#=oO.. ..=Oo... -> 0'
    """

    order: Literal["pixels", "rows"] = "pixels"
    permuted: bool = False
    split: int = 0

    reduce: ClassVar = "last"
    kind: ClassVar = "classification"
    OUTPUT_SIZE: ClassVar = 10
    TEST_SHARE: ClassVar = Fraction(1, 5)
    WRONG_BELOW: ClassVar = Fraction(5, 100)

    def __post_init__(self) -> None:
        check_choice("order", self.order, ("pixels", "rows"))
        check_choice("permuted", self.permuted, (False, True))
        check_integer("split", self.split, 0, "number the divisions 0, 1, 2, ...")

    @property
    def input_size(self) -> int:
        """C = 1 (pixels) or 8 (rows)."""
        return 1 if self.order == "pixels" else 8

    @property
    def steps(self) -> int:
        """T = 64 (pixels) or 8 (rows)."""
        return 64 // self.input_size

    @property
    def rule(self) -> Rule:
        """The success criterion."""
        return Rule(
            tolerance=0.5,  # a wrong class is an error of 1
            sequences=len(self.test.x),
            wrong_below=self.WRONG_BELOW,
            source="this library",
        )

    @property
    def train(self) -> Batch[NDArray]:
        """The whole training set."""
        return self._digits[0]

    @property
    def test(self) -> Batch[NDArray]:
        """The whole test set."""
        return self._digits[1]

    @cached_property
    def _digits(self) -> tuple[Batch[NDArray], Batch[NDArray]]:
        """The training set and the test set."""
        images, classes = _load()
        if self.permuted:
            images = images[:, generator(0, DATA_SET, _PERMUTATION).permutation(64)]
        x = images.reshape(-1, self.steps, self.input_size)
        rng = generator(self.split, DATA_SET, _SPLIT)
        is_test = np.zeros(len(x), dtype=np.bool_)
        for digit in range(10):
            members = rng.permutation(np.flatnonzero(classes == digit))
            is_test[members[: int(self.TEST_SHARE * len(members))]] = True
        return Batch(x[~is_test], classes[~is_test]), Batch(x[is_test], classes[is_test])

    def _draw(self, seed: int, purpose: int, index: int, batch_size: int) -> Batch[NDArray]:
        data = self.train if purpose == TRAIN else self.test
        size = len(data.x)
        place = index * batch_size + np.arange(batch_size)
        rows = np.zeros(batch_size, dtype=np.int64)
        for epoch in range(index * batch_size // size, -(-(index + 1) * batch_size // size)):
            here = place // size == epoch
            rows[here] = generator(seed, purpose, epoch).permutation(size)[place[here] % size]
        return Batch(data.x[rows], data.target[rows], None)

    def success(self, predict: Predict, seed: int = 0, sequences: int | None = None) -> Criterion:
        """Hold a predictor against the criterion, on the test set.

        Args:
            predict: (x (N, T, C), None) -> scores (N, 10).
            seed: changes nothing, since the test set is fixed; every task takes it.
            sequences: how many of the test set, from its start; None: all.

        Raises:
            ValueError: `sequences` is not in 1 .. the size of the test set.
        """
        rule = self.rule
        fix = f"the test set has {rule.sequences}"
        count = rule.sequences if sequences is None else sequences
        if check_integer("sequences", count, 1, fix) > rule.sequences:
            raise ValueError(f"sequences must be at most {rule.sequences}, got {count}; {fix}")
        part = Batch(self.test.x[:count], self.test.target[:count], None)
        return self._judge(predict, [part], rule)

    def _words(self, x: NDArray[np.float32]) -> list[str]:
        shades = ".:-=+*oO#@"
        return ["".join(shades[round(9 * float(value))] for value in step) for step in x]

    def _answer(self, target: NDArray) -> str:
        return str(int(target))


def _load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (1797, 64) in [0, 1] and classes (1797,)."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    return np.asarray(images / 16, dtype=np.float32), np.asarray(classes, dtype=np.int64)
