"""How a run is trained: optimizers and schedules by name, and what a resumed run must agree in."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from longlag.cli.options import UsageError
from longlag.storage import atomic_write_text
from longlag.training import Checkpoint, Schedule
from longlag.training.checkpoints import CheckpointFile

__all__ = ["OPTIMIZERS", "agree", "optimizer", "schedule"]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "rmsprop": torch.optim.RMSprop,
}
"""The optimizers by the names of the option `--optimizer`; all else is torch's default."""

_FILE = "settings.json"


def optimizer(name: str, learning_rate: float) -> Callable[[list[Any]], Optimizer]:
    """What makes the optimizer from the parameters."""
    return lambda parameters: OPTIMIZERS[name](parameters, lr=learning_rate)


def schedule(name: str, learning_rate: float, updates: int) -> Schedule | None:
    """The schedule of the option `--scheduler`.

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


def agree(folder: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a run in its folder; if it holds a run, compare them with its own.

    Raises:
        UsageError: the folder holds a run with other settings; the message names them.
        OSError: the folder cannot be written.
    """
    path = folder / _FILE
    settings = json.loads(json.dumps(settings))  # as they are read again: tuples as lists
    noted = None
    try:
        if CheckpointFile(Checkpoint(folder).path).exists() and path.exists():
            noted = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(
            f"{path}: it is damaged ({error}); delete it to go on without the comparison"
        ) from error
    if noted is not None:
        changed = [
            f"{name} was {json.dumps(noted.get(name))} and is {json.dumps(settings.get(name))}"
            for name in sorted({*noted, *settings})
            if noted.get(name) != settings.get(name)
        ]
        if changed:
            raise UsageError(
                f"--checkpoint {folder}: it holds a run with other settings: {', '.join(changed)}. "
                "Give the same ones to go on, another folder, or delete this one to start anew"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(settings, indent=2) + "\n")
