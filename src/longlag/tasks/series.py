"""What the series of reservoir computing share: drawing one long series, and its measures.

A `Task` draws batches of many sequences and has a criterion that is met or not. Here one series is
learned and predicted, and its paper reports a number. So a `Series` draws in float64, since errors
far below float32's precision are reported, and has a measure in place of a rule.

A series is a function of (task, steps, seed) and of nothing else. What a prediction has that is not
finite counts as wrong as can be: an infinite error, a capacity of 0.
"""

from __future__ import annotations

import abc
from typing import ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longlag.tasks.arrays import TEST, TRAIN, check_integer

Floats = NDArray[np.float64]
Drawn = TypeVar("Drawn")


class InputTarget(NamedTuple):
    """A series that is read, and the series that is to be put out.

    Attributes:
        x: (T, C) float64.
        target: (T, D) float64; NaN where none is due.
    """

    x: Floats
    target: Floats


class Series(abc.ABC, Generic[Drawn]):
    """One long series, made by an equation from a seed.

    Attributes:
        input_size: C, numbers per step that a network reads: `INPUT_SIZE`.
        output_size: D, numbers per step that it puts out: `OUTPUT_SIZE`.
    """

    INPUT_SIZE: ClassVar[int]
    OUTPUT_SIZE: ClassVar[int]

    @property
    def input_size(self) -> int:
        """C, numbers per step that a network reads."""
        return self.INPUT_SIZE

    @property
    def output_size(self) -> int:
        """D, numbers per step that it puts out."""
        return self.OUTPUT_SIZE

    @abc.abstractmethod
    def _draw(self, steps: int, seed: int, purpose: int) -> Drawn:
        """The series for `purpose` (train or test), from `generator(seed, purpose, ...)` alone."""

    def series(self, steps: int, seed: int) -> Drawn:
        """The training series `seed`.

        Args:
            steps: T >= 1.
            seed: >= 0.

        Returns:
            (T, C) float64, of which the steps to come are to be predicted; of a series that is
            driven, an `InputTarget`. The same bits for the same arguments, with one version of
            NumPy. Another seed: an independent series.

        Raises:
            ValueError: an argument is not an integer in its range.
        """
        return self._checked_draw(steps, seed, TRAIN)

    def test_series(self, steps: int, seed: int) -> Drawn:
        """As `series`, the test series `seed`, which shares no random numbers with training."""
        return self._checked_draw(steps, seed, TEST)

    def _checked_draw(self, steps: int, seed: int, purpose: int) -> Drawn:
        steps = check_integer("steps", steps, 1, "give the number of steps wanted")
        seed = check_integer("seed", seed, 0, "give a whole number such as 0")
        return self._draw(steps, seed, purpose)


class Driven(Series[InputTarget]):
    """A series of targets that an input drives."""

    def nmse(self, prediction: ArrayLike, target: ArrayLike) -> float:
        r"""The mean squared error over the variance of the target, both over the steps due.

        .. math:: \mathrm{NMSE} = \frac{\langle \lVert \hat y - y \rVert^2 \rangle}
            {\langle \lVert y - \langle y \rangle \rVert^2 \rangle}

        0 is perfect; the mean of the target as prediction has 1. The washout is for the caller to
        leave out of both.

        Args:
            prediction: (T, D).
            target: (T, D), NaN where none is due.

        Raises:
            ValueError: the shapes differ, or the target does not vary.
        """
        outputs, targets = check_pair(prediction, target, ("T", self.output_size))
        due = ~np.isnan(targets).any(axis=1)
        spread = np.square(check_spread(targets[due])).sum()
        return float(squared_errors(outputs[due], targets[due]).sum(axis=1).mean() / spread)


def check_pair(
    prediction: ArrayLike, target: ArrayLike, shape: tuple[str | int, ...]
) -> tuple[Floats, Floats]:
    """Both as float64, or a ValueError unless both have the shape; a letter is any size from 1."""
    wanted = "({})".format(", ".join(map(str, shape)) + ("," if len(shape) == 1 else ""))
    outputs, targets = (np.asarray(part, dtype=np.float64) for part in (prediction, target))
    for name, part in (("target", targets), ("prediction", outputs)):
        fits = part.ndim == len(shape) and all(
            size == want if isinstance(want, int) else size > 0
            for size, want in zip(part.shape, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{name} must have shape {wanted}, got {part.shape}; reshape it")
    if outputs.shape != targets.shape:
        raise ValueError(
            f"prediction must have the target's shape {targets.shape}, got {outputs.shape}; "
            "give one prediction for each target"
        )
    return outputs, targets


def check_spread(target: Floats) -> Floats:
    """The standard deviation (D,) of the target (T, D), or a ValueError unless each is above 0."""
    if not len(target):
        raise ValueError("target must have a step where it is due, got none; give more steps")
    spread = target.std(axis=0)
    if not (spread > 0).all():
        raise ValueError(
            f"target must vary and be finite, got a standard deviation of {spread.min()}; "
            "give more steps"
        )
    return spread


def squared_errors(prediction: Floats, target: Floats) -> Floats:
    """The squared errors from a finite target; infinite where the prediction is not finite."""
    if not np.isfinite(target).all():
        raise ValueError("target must be finite, got NaN or infinity; leave such steps out")
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.square(prediction - target)
    return np.where(np.isfinite(prediction), errors, np.inf)
