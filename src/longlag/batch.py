"""A batch of sequences: the one type in which data, tasks and training hold them.

It stands below all of them and imports nothing but types, so that tasks need no PyTorch; see
docs/decisions/0007-one-batch.md.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from typing_extensions import NamedTuple

IGNORED_CLASS = -100
"""The class target where no error is due; a float target is NaN there."""

Array = TypeVar("Array")
"""NumPy's array, or the tensor of PyTorch."""


class Batch(NamedTuple, Generic[Array]):
    """N sequences, and what is to be said of them.

    Where no error is due a float target is NaN and a class target is -100, so a loss needs no mask.

    Attributes:
        x: (N, T, C), or (N, T) integers; 0 at the steps t >= length.
        target: floats or integer classes, (N, ...) for the whole sequence or (N, T, ...) for each
            step; None where nothing is known.
        lengths: (N,) integers, the steps of each sequence, or None if each has T.
        resets: (N, T) bool, where the state starts anew, or None if nowhere.
        weights: (N,) floats >= 0, what the errors of each sequence count for; their scale does not
            matter; None: the same.

    >>> import numpy as np
    >>> batch = Batch(np.zeros((2, 5, 1)), np.zeros((2, 5)), np.array([5, 3]))
    >>> batch.has_steps, batch.steps(2, 4).lengths.tolist()
    (True, [2, 1])
    """

    x: Array
    target: Any = None
    lengths: Array | None = None
    resets: Array | None = None
    weights: Array | None = None

    @property
    def has_steps(self) -> bool:
        """Whether there is one target a step."""
        x: Any = self.x
        return self.target.ndim >= 2 and self.target.shape[:2] == x.shape[:2]

    def map(self, function: Callable[[Any], Any]) -> "Batch[Any]":
        """The batch of what the function makes of each part that is there."""
        return Batch(*(None if part is None else function(part) for part in self))

    def steps(self, first: int, stop: int) -> "Batch[Array]":
        """The steps first .. stop - 1 of a batch with one target a step."""
        x, target, lengths, resets, weights = cast("tuple[Any, ...]", self)
        if lengths is not None:
            lengths = (lengths - first).clip(0, stop - first)
        if resets is not None:
            resets = resets[:, first:stop]
        return Batch(x[:, first:stop], target[:, first:stop], lengths, resets, weights)
