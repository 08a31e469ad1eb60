"""One trial: a network of some settings, trained by itself."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from longlag.pipeline.dataset import Parts
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import Settings
from longlag.training import NonFiniteLossError


@dataclass(frozen=True)
class Result:
    """What came of a trial.

    Attributes:
        value: the best validation loss; infinity where the training diverged.
        epoch: after which it was reached, from 1; 0 where none was.
        seconds: of the training; of trials side by side each has its share.
    """

    value: float
    epoch: int
    seconds: float


def alone(parts: Parts, settings: Settings) -> Result:
    """Train one network, in this process and on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        history = Pipeline.of(parts, settings).fit(progress=False).history
        assert history is not None
        losses = [record.validation_loss for record in history.records]
    except NonFiniteLossError:
        losses = []
    finally:
        torch.set_num_threads(before)
    return Result(*best_record(losses), time.perf_counter() - began)


def best_record(losses: Sequence[float | None]) -> tuple[float, int]:
    """The least of the losses by epoch, and its epoch from 1; infinity and 0 without any.

    >>> best_record([0.5, math.nan, 0.25]), best_record([])
    ((0.25, 3), (inf, 0))
    """
    best = [(loss, epoch) for epoch, loss in enumerate(losses, 1) if loss is not None]
    return min((b for b in best if math.isfinite(b[0])), default=(math.inf, 0))
