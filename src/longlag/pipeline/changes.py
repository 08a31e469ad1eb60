"""How fast each feature changes, as further features of the network."""

from dataclasses import dataclass

import numpy as np

from longlag.batch import Batch
from longlag.pipeline.dataset import lengths_of


@dataclass(frozen=True)
class Changes:
    r"""Beside each feature its change since the step before, in units of its own spread.

    .. math:: x'_t = (x_t, \; (x_t - x_{t-1}) / s), \qquad x'_1 = (x_1, 0)

    Random units that are to see a slow series and its fast details need both: of two neighbouring
    values alone their sum drowns their difference.

    Args:
        scale: s (C,), the standard deviation of the changes of each feature, positive.

    Raises:
        ValueError: a scale is not positive and finite.

    Example:
        >>> x = np.array([[[1.0], [3.0], [3.0]]], np.float32)
        >>> Changes((2.0,)).apply(Batch(x)).x.tolist()
        [[[1.0, 0.0], [3.0, 1.0], [3.0, 0.0]]]
    """

    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(0 < scale < np.inf for scale in self.scale):
            raise ValueError(f"changes: expected positive finite scales, got {self.scale}")

    @classmethod
    def fit(cls, train: Batch[np.ndarray]) -> "Changes":
        """The scales of prepared sequences; 1 for a feature that never changes."""
        inside = np.arange(1, train.x.shape[1]) < lengths_of(train)[:, None]
        changes = np.diff(train.x, axis=1)[inside].astype(np.float64)
        scale = changes.std(axis=0) if len(changes) else np.zeros(train.x.shape[2])
        return cls(tuple(np.where(scale > 0, scale, 1.0).tolist()))

    def apply(self, prepared: Batch[np.ndarray]) -> Batch[np.ndarray]:
        """The sequences with C further features; zero beyond their end, as they were."""
        x = prepared.x
        changes = np.diff(x, axis=1, prepend=x[:, :1]) / np.array(self.scale, x.dtype)
        changes[np.arange(x.shape[1]) >= lengths_of(prepared)[:, None]] = 0.0
        return prepared._replace(x=np.concatenate([x, changes], axis=2))
