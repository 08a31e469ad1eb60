"""How fast each feature changes, and where in the series, as further features of the network."""

from dataclasses import dataclass

import numpy as np

from longlag.arguments import check_whole
from longlag.batch import Batch
from longlag.pipeline.dataset import lengths_of

PLACES = 8
"""Cosines that tell a place: of half a period over the series, of one, ... of four."""


@dataclass(frozen=True)
class Changes:
    r"""Beside each feature its change since the step before, in units of its own spread.

    .. math:: x'_t = (x_t, \; (x_t - x_{t-1}) / s), \qquad x'_1 = (x_1, 0)

    Random units that are to see a slow series and its fast details need both: of two neighbouring
    values alone their sum drowns their difference.

    With `steps` the place of the step is beside them, as :math:`\cos(\pi k (t - 1) / (T - 1))` for
    k = 1 ... `PLACES`. A unit is then above 0 for some values at some places, and the share of the
    steps at which it is tells where a value was, which the series alone does not let it tell.

    Args:
        scale: s (C,), the standard deviation of the changes of each feature, positive.
        steps: T, those of the longest series, positive; None: places are not told.

    Raises:
        ValueError, TypeError: a scale is not positive and finite, or there are no steps.

    Source: A. Vaswani et al., Attention is all you need, 2017 (places told by waves).

    Example:
        >>> x = np.array([[[1.0], [3.0], [3.0]]], np.float32)
        >>> Changes((2.0,)).apply(Batch(x)).x.tolist()
        [[[1.0, 0.0], [3.0, 1.0], [3.0, 0.0]]]
    """

    scale: tuple[float, ...]
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_whole("places", self.steps, 1)
        if not all(0 < scale < np.inf for scale in self.scale):
            raise ValueError(f"changes: expected positive finite scales, got {self.scale}")

    @classmethod
    def fit(cls, train: Batch[np.ndarray], *, places: bool = False) -> "Changes":
        """The scales of prepared sequences, 1 for a feature that never changes, and their steps.

        Args:
            train: the sequences.
            places: whether places are told.
        """
        inside = np.arange(1, train.x.shape[1]) < lengths_of(train)[:, None]
        changes = np.diff(train.x, axis=1)[inside].astype(np.float64)
        scale = changes.std(axis=0) if len(changes) else np.zeros(train.x.shape[2])
        steps = train.x.shape[1] if places else None
        return cls(tuple(np.where(scale > 0, scale, 1.0).tolist()), steps)

    @property
    def size(self) -> int:
        """How many further features there are."""
        return len(self.scale) + len(self.waves)

    @property
    def waves(self) -> np.ndarray:
        """pi k / (T - 1) of each cosine, (0 or `PLACES`,)."""
        if self.steps is None:
            return np.empty(0)
        return np.pi * np.arange(1, PLACES + 1) / max(self.steps - 1, 1)

    def apply(self, prepared: Batch[np.ndarray], first: int = 0) -> Batch[np.ndarray]:
        """The sequences with the further features; zero beyond their end, as they were.

        Args:
            prepared: the sequences.
            first: which step of them is the first that is given.
        """
        x, steps = prepared.x, np.arange(prepared.x.shape[1])
        changes = np.diff(x, axis=1, prepend=x[:, :1]) / np.array(self.scale, x.dtype)
        places = np.cos((first + steps[:, None]) * self.waves).astype(x.dtype)
        places = np.broadcast_to(places, (len(x), *places.shape))
        further = np.concatenate([changes, places], axis=2)
        further[steps >= lengths_of(prepared)[:, None]] = 0.0
        return prepared._replace(x=np.concatenate([x, further], axis=2))
