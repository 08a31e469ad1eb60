"""How far back a trained network remembers, on some of the series that it was made for."""

import numpy as np
import torch
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.data import Preparation
from longlag.gradients import Loss
from longlag.layers import EchoState, SequenceModel
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

    Where there is an answer at each step and few series, they are cut into stretches.

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
    if preparation.reduce is None and len(chosen) < sequences:
        chosen, ends = _stretches(chosen, ends, sequences, steps)
    begins = np.maximum(ends - steps, 0)
    lengths = ends - begins
    # A series shorter than the others begins at 0, and has its own padding there.
    places = chosen[:, None], begins[:, None] + np.arange(lengths.max())
    x, target = prepared.x[places], prepared.target
    if target is not None:
        target = target[places if preparation.reduce is None else chosen]
    loss: str | Loss | None = None
    if preparation.classes is not None and isinstance(model.layer, EchoState):
        loss = _squares  # its readout is fitted to shares of classes, and gives no logits
    if preparation.label_sets and loss is None:
        loss = "logistic"
    return memory_report(
        model, torch.from_numpy(x), None if target is None else torch.from_numpy(target),
        None if target is None else loss, lengths=torch.from_numpy(lengths), lag=lag, seed=seed,
        name=name,
    )  # fmt: skip


def _stretches(
    chosen: NDArray[np.int64], ends: NDArray[np.int64], count: int, steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of few long series several stretches each, by series and end, the last ones in time.

    >>> _stretches(np.array([0, 1]), np.array([10, 4]), 4, 4)
    (array([0, 0, 1]), array([ 6, 10,  4]))
    """
    each = max(1, count // len(chosen))
    whole = sorted(
        (n, end - k * steps)
        for n, end in zip(chosen, ends, strict=True)
        for k in range(each)
        if not k or end >= (k + 1) * steps
    )
    return np.array([n for n, _ in whole]), np.array([end for _, end in whole])


def _squares(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean square of what is put out and the share of each class, where a class is due."""
    wanted = target >= 0
    shares = torch.nn.functional.one_hot(target.clamp(min=0), output.shape[-1])
    return (output - shares)[wanted].square().mean()
