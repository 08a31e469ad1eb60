"""Settings of `fit` that belong together: small frozen objects with a closed schema."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from longlag.arguments import check_optional


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run is saved.

    A save is atomic, holds a SHA-256 and keeps the save before it. A run is also saved when it
    ends and when SIGINT or SIGTERM interrupts it.

    Args:
        folder: holds `checkpoint.longlag`, and the save before it beside it; made if it is absent.
            One run at a time may use it.
        every_steps: save after each so many steps.
        every_seconds: save when so many seconds have passed since the last save, seconds > 0;
            None: never by time. How often a run is saved does not change its numbers.

    Cost: a save writes model, optimizer, best weights and history, and waits for the disk.

    >>> Checkpoint("runs/first", every_steps=500)
    Checkpoint(folder='runs/first', every_steps=500, every_seconds=30.0)
    """

    folder: str | Path
    every_steps: int | None = None
    every_seconds: float | None = 30.0

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | os.PathLike):
            raise TypeError(f"Checkpoint: folder is {self.folder!r}; expected the path of a folder")
        _require_positive("Checkpoint", "every_steps", self.every_steps)
        _require_positive("Checkpoint", "every_seconds", self.every_seconds)

    @property
    def path(self) -> Path:
        """The file of the newest save."""
        return Path(self.folder) / "checkpoint.longlag"


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when the monitored number no longer improves, and end with the best weights.

    Args:
        monitor: "loss", "validation_loss" or the name of a metric; by default "validation_loss"
            if there is validation data, else "loss".
        patience: how many records in a row may bring no improvement, >= 1.
        mode: whether less ("min") or more ("max") is better; by default what the metric says,
            and "min" for losses.
        min_delta: an improvement must exceed it, >= 0, in the unit of the monitored number.

    Cost: one copy of the weights in memory, and in each checkpoint.

    Source: L. Prechelt (1998), "Early stopping - but when?", in Neural Networks: Tricks of the
    Trade; `patience` is his criterion UP.

    >>> EarlyStopping("accuracy", patience=3).patience
    3
    """

    monitor: str | None = None
    patience: int = 10
    mode: Literal["min", "max"] | None = None
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        _require_positive("EarlyStopping", "patience", self.patience)
        if self.mode not in ("min", "max", None):
            raise ValueError(f"EarlyStopping: mode is {self.mode!r}; expected 'min', 'max' or None")
        if not self.min_delta >= 0:
            raise ValueError(f"EarlyStopping: min_delta is {self.min_delta}; expected >= 0")


@dataclass(frozen=True)
class Schedule:
    """A learning-rate scheduler and when it takes a step.

    Args:
        scheduler: a scheduler of torch, or a callable that makes one from the optimizer.
        every: "epoch": after each record (each epoch, unless `validate_every` says otherwise);
            "step": after each update.
        monitor: what `ReduceLROnPlateau` looks at; by default as in `EarlyStopping`.

    >>> from torch.optim.lr_scheduler import OneCycleLR
    >>> Schedule(lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=500), every="step").every
    'step'
    """

    scheduler: LRScheduler | Callable[[Optimizer], LRScheduler]
    every: Literal["epoch", "step"] = "epoch"
    monitor: str | None = None

    def __post_init__(self) -> None:
        if self.every not in ("epoch", "step"):
            raise ValueError(f"Schedule: every is {self.every!r}; expected 'epoch' or 'step'")


@dataclass(frozen=True)
class Limits:
    """When a run ends, when it makes records, and how large a gradient may be; see `fit`."""

    epochs: int | None
    steps: int | None
    validate_every: int | None
    clip_norm: float | None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"epochs is {self.epochs} and steps is {self.steps}; expected exactly one of them "
                "as a number"
            )
        for name in ("epochs", "steps", "validate_every"):
            check_optional(name, getattr(self, name), 1)
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(
                f"clip_norm is {self.clip_norm}; expected a finite number > 0, or None"
            )


def _require_positive(owner: str, name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{owner}: {name} is {value}; expected a number > 0, or None")
