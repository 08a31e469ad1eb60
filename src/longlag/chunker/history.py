"""What happened at each step of a stream."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StreamHistory:
    """R nets over T steps of their streams; without R where the nets have no replicas.

    Attributes:
        surprised: (R, T) bool, whether A's prediction failed, so that C was trained and read the
            step; True at the first step of an episode.
        error: (R, T), A's largest absolute error in x(t) and the target that was due; NaN at the
            first step of an episode, of which there is no prediction.
        target_error: (R, T), the same for the target alone; NaN where none was due.
        imitation_error: (R, T), the largest absolute error of A's prediction of C's state.
        chunker_error: (R, T), C's largest absolute error where it was trained, else NaN.
        seconds: the time it took.

    >>> surprised = np.array([True, False, False, True])
    >>> numbers = np.zeros(4)
    >>> history = StreamHistory(surprised, numbers, numbers, numbers, numbers, 0.1)
    >>> history.steps, history.surprise_rate()
    (4, array(0.5))
    """

    surprised: NDArray[np.bool_]
    error: NDArray
    target_error: NDArray
    imitation_error: NDArray
    chunker_error: NDArray
    seconds: float

    @property
    def steps(self) -> int:
        """T."""
        return self.surprised.shape[-1]

    def surprise_rate(self) -> NDArray:
        """The share of the steps that surprised A: how long the stream of C is, (R,)."""
        return np.asarray(self.surprised.mean(-1))
