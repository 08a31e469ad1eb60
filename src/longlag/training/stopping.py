"""Early stopping: which record was best, its weights, and when to give up."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from longlag.training.metrics import Meter
from longlag.training.options import EarlyStopping
from longlag.training.record import Record

_KEPT = ("best", "best_step", "weights", "without_improvement")
"""What of a `Stopper` a checkpoint keeps."""


def monitored(name: str | None, meters: dict[str, Meter], *, validated: bool, owner: str) -> str:
    """The name of the monitored number, by default the validation loss if there is one.

    Raises:
        ValueError: there is no such number in this run.
    """
    known = ["loss", *(["validation_loss"] if validated else []), *meters]
    name = name or ("validation_loss" if validated else "loss")
    if name not in known:
        fix = "" if validated else "; pass validation=data to have its loss and metrics"
        raise ValueError(f"{owner}: monitor is {name!r}; this run has {', '.join(known)}{fix}")
    return name


class Stopper:
    """The memory of early stopping.

    >>> stopper = Stopper(EarlyStopping("loss", patience=1), {}, validated=False)
    >>> model = nn.Linear(1, 1)
    >>> [stopper.update(Record(n, n, 0.0, 0.1, loss), model) for n, loss in enumerate([2, 1, 1])]
    [False, False, True]
    """

    def __init__(self, options: EarlyStopping, meters: dict[str, Meter], *, validated: bool):
        self.options = options
        self.name = monitored(options.monitor, meters, validated=validated, owner="EarlyStopping")
        mode = options.mode
        if mode is None:
            better = meters[self.name].higher_is_better if self.name in meters else False
            if better is None:
                raise ValueError(
                    f"EarlyStopping: mode is None, and {self.name!r} does not say whether more or "
                    "less is better; expected 'min' or 'max'"
                )
            mode = "max" if better else "min"
        self.sign = -1.0 if mode == "max" else 1.0
        self.best = math.inf
        self.best_step: int | None = None
        self.weights: dict[str, Tensor] = {}
        self.without_improvement = 0

    @property
    def stopped(self) -> bool:
        """Whether patience is at its end."""
        return self.without_improvement >= self.options.patience

    def update(self, record: Record, model: nn.Module) -> bool:
        """Take in a record; True: stop. A NaN is no improvement."""
        value = self.sign * record.value(self.name)
        if value < self.best - self.options.min_delta or (
            self.best_step is None and not math.isnan(value)
        ):
            self.best = value
            self.best_step = record.step
            self.weights = {name: tensor.detach().clone() for name, tensor in _tensors(model)}
            self.without_improvement = 0
        else:
            self.without_improvement += 1
        return self.stopped

    def restore(self, model: nn.Module) -> None:
        """Give the model its best weights back."""
        with torch.no_grad():
            for name, tensor in _tensors(model):
                if name in self.weights:
                    tensor.copy_(self.weights[name])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in _KEPT}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take in what `state` gave."""
        for name in _KEPT:
            setattr(self, name, state[name])


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers, those of `state_dict` and no other."""
    return [(k, v) for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)]
