"""Success criteria that look at the training sequences themselves, as they go by."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longlag.batch import Batch
from longlag.tasks.base import Task


class Paper1997(Task):
    """A task of the paper of 1997, which stops at its training sequences and then tests on 2560."""

    TEST_SEQUENCES: ClassVar = 2560  # tables 4 to 9

    def training_criterion(self) -> "TrainingCriterion":
        """The paper's stopping rule, on the 2000 most recent training sequences."""
        return TrainingCriterion(self)


@dataclass
class TrainingCriterion:
    """A rule on the most recent training sequences, fed with outputs as training goes.

    It is met when at least `rule.sequences` sequences were seen and the most recent of them
    satisfy the rule; the mean error is taken over these same sequences.

    Args:
        task: the task, which judges the sequences; its `rule` is the rule.

    Example:
        >>> import numpy as np
        >>> from longlag.tasks import Adding1997
        >>> task = Adding1997(length=100)
        >>> criterion = task.training_criterion()
        >>> batch = task.batch(1999, seed=0, index=0)
        >>> criterion.update(batch.target, batch)
        False
        >>> batch = task.batch(1, seed=0, index=1)
        >>> criterion.update(batch.target, batch)
        True
    """

    task: Task
    seen: int = field(default=0, init=False)
    _right: NDArray[np.bool_] = field(init=False, repr=False)
    _error: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._right = np.zeros(self.task.rule.sequences, dtype=np.bool_)
        self._error = np.zeros(self.task.rule.sequences, dtype=np.float64)

    def update(self, output: ArrayLike, batch: Batch[NDArray]) -> bool:
        """Add the sequences of one batch, in order; whether the rule is met after the last."""
        errors = self.task.errors(output, batch.target)
        window, rows = len(self._right), len(batch.target)
        recent = np.arange(max(0, rows - window), rows)
        self._right[(self.seen + recent) % window] = errors.within(self.task.rule.tolerance)[recent]
        self._error[(self.seen + recent) % window] = errors.mean()[recent]
        self.seen += rows
        return self.met

    @property
    def met(self) -> bool:
        """Whether the most recent sequences satisfy the rule."""
        window = len(self._right)
        wrong = window - int(self._right.sum())
        mean_error = float(self._error.mean())
        return self.seen >= window and self.task.rule.met(wrong, window, mean_error)

    def state_dict(self) -> dict[str, NDArray]:
        """All that an exact resume needs, as arrays."""
        return {
            "seen": np.array(self.seen, dtype=np.int64),
            "right": self._right.copy(),
            "error": self._error.copy(),
        }

    def load_state_dict(self, state: dict[str, NDArray]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: a name or a shape differs from this criterion's own.
        """
        own = {name: value.shape for name, value in self.state_dict().items()}
        came = {name: np.shape(value) for name, value in state.items()}
        if came != own:
            raise ValueError(
                f"state must have the shapes {own}, got {came}; "
                "load it into the training criterion of the same task"
            )
        self.seen = int(state["seen"])
        self._right = np.array(state["right"], dtype=np.bool_)
        self._error = np.array(state["error"], dtype=np.float64)
