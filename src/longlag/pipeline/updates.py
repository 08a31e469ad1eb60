"""Optimizers and schedules by name."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from longlag.training import Schedule

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "rmsprop": torch.optim.RMSprop,
}
"""The optimizers by their names; all else is torch's default."""


def optimizer(name: str, learning_rate: float) -> Callable[[list[Any]], Optimizer]:
    """What makes the optimizer from the parameters."""
    return lambda parameters: OPTIMIZERS[name](parameters, lr=learning_rate)


def schedule(name: str, learning_rate: float, updates: int) -> Schedule | None:
    """The schedule of a name; None for "none".

    Args:
        name: "none", "one_cycle", "cosine" or "plateau".
        learning_rate: the largest one.
        updates: of the whole run.
    """
    if name == "none":
        return None
    if name == "plateau":
        return Schedule(lambda of: ReduceLROnPlateau(of, factor=0.5, patience=5))
    if name == "cosine":
        return Schedule(lambda of: CosineAnnealingLR(of, updates), every="step")
    return Schedule(lambda of: OneCycleLR(of, learning_rate, total_steps=updates), every="step")
