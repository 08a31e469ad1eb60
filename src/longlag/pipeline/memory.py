"""How far back a trained network remembers, on some of the series that it was made for."""

import numpy as np
import torch

from longlag.batch import Batch
from longlag.data import Preparation
from longlag.layers import SequenceModel
from longlag.memory import MemoryReport, memory_report
from longlag.messages import GuidedError, Setting
from longlag.pipeline.dataset import lengths_of
from longlag.pipeline.settings import LOOKED_AT


def measure(
    model: SequenceModel,
    preparation: Preparation,
    prepared: Batch[np.ndarray],
    *,
    lag: int | None,
    sequences: int = LOOKED_AT[0],
    steps: int = LOOKED_AT[1],
    seed: int = 0,
    name: str,
) -> MemoryReport:
    """The report of a trained network on some series, evenly spread over those given.

    Args:
        model: the network.
        preparation: of its data.
        prepared: the series.
        lag: of the task; None: not known.
        sequences, steps: how many series, and how many last steps of each.
        seed: for what is drawn.
        name: for titles.

    Raises:
        GuidedError: no series has a step.
    """
    every = lengths_of(prepared)
    there = np.flatnonzero(every > 0)
    if not len(there):
        raise GuidedError(Setting("data"), ": no series has a step to look at")
    chosen = there[np.linspace(0, len(there) - 1, min(sequences, len(there))).astype(int)]
    ends = every[chosen]
    begins = np.maximum(ends - steps, 0)
    lengths = ends - begins
    # A series shorter than the others begins at 0, and has its own padding there.
    places = chosen[:, None], begins[:, None] + np.arange(lengths.max())
    x, target = prepared.x[places], prepared.target
    if target is not None:
        target = target[places if preparation.reduce is None else chosen]
    return memory_report(
        model, torch.from_numpy(x), None if target is None else torch.from_numpy(target),
        lengths=torch.from_numpy(lengths), lag=lag, seed=seed, name=name,
    )  # fmt: skip
