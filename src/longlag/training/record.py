"""What is noted of a run after an epoch, or after some steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """The state of a run after an epoch, or after `validate_every` steps."""

    epoch: int
    """The epoch that the record closes or lies in, counted from 1."""
    step: int
    """Updates made so far."""
    seconds: float
    """Time since the run began, without the time between an interruption and its resumption."""
    learning_rate: float
    """That of the first parameter group, at the last update."""
    loss: float
    """The training loss since the record before, averaged over sequences."""
    validation_loss: float | None = None
    """The loss over the whole validation set."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Each metric over the whole validation set."""

    def numbers(self) -> dict[str, float]:
        """All of it but the step, by name."""
        own = {name: value for name, value in vars(self).items() if value is not None}
        del own["step"], own["metrics"]
        return {**own, **self.metrics}

    def value(self, name: str) -> float:
        """The number called `name`: "loss", "validation_loss" or a metric.

        Raises:
            KeyError: there is none.
        """
        if name == "loss":
            return self.loss
        if name == "validation_loss" and self.validation_loss is not None:
            return self.validation_loss
        return self.metrics[name]
