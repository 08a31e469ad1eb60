"""`fit` with a method that fits a readout in one step, and leaves all else as it is."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from longlag import randomness
from longlag.batch import Batch
from longlag.gradients import Loss
from longlag.gradients.losses import WeightedCrossEntropy, WeightedLogistic, resolve_loss
from longlag.reservoirs import ReadoutMethod, RecursiveLeastSquares, Ridge, Rows
from longlag.training.evaluation import Evaluator
from longlag.training.history import History
from longlag.training.metrics import Metrics, make_meters
from longlag.training.record import Record
from longlag.training.sources import Data, Reading, make_source

_WINDOW = 512
"""Steps of recordings that are read at once."""


def check_unused(method: ReadoutMethod, arguments: Mapping[str, Any]) -> None:
    """Refuse what has no meaning where there are no updates.

    Raises:
        ValueError: one of the arguments is there.
    """
    for name, value in arguments.items():
        if value:
            raise ValueError(
                f"{name}: got {value!r:.80}, but {method!r} fits the readout in one step; leave it "
                "out"
            )


def fit_readout(
    model: nn.Module,
    data: Data,
    method: ReadoutMethod,
    *,
    validation: Data | None,
    loss: str | Loss | None,
    metrics: Metrics | None,
    batch_size: int,
    seed: int,
) -> History:
    """Fit the readout; see `fit`."""
    started = time.perf_counter()
    like = next(model.parameters())
    reading = Reading(like.dtype, like.device, batch_size, seed, shuffle=False, window=_WINDOW)
    source = make_source(data, "data", reading)
    if source.endless:
        raise ValueError(
            f"data is a stream without end, and {method!r} needs all of it; give one batch of it, "
            "for example data=stream.batch(0)"
        )
    held_out = None if validation is None else make_source(validation, "validation", reading)
    meters = make_meters(metrics)
    first = source.peek()
    if first is None:
        raise ValueError("data gave no batch in a whole epoch; expected at least one")
    _, measure = resolve_loss(loss, first.target)
    _check_weights(method, first, measure)
    evaluator = Evaluator(model, held_out, measure, meters)
    was_training = model.training
    model.eval()
    try:
        with randomness.isolated(like.device):
            rows = Rows(
                model, lambda: source.batches(0, 0), source.continues, method.washout,
                repr(method), method.state_noise, seed, measure,
            )  # fmt: skip
            fitted = method.solve(rows)
            rows.readout.take(fitted.weight, fitted.bias)
            history = History()
            mean = _mean_square_error(rows)
            history.append(mean, math.nan)
            result = evaluator.run(like.device, lambda: False)
            assert result is not None
            seconds = time.perf_counter() - started
            history.records.append(Record(1, 1, seconds, 0.0, mean, *result))
            history.stopped = "epochs"
            return history
    finally:
        model.train(was_training)


def _check_weights(method: ReadoutMethod, first: Batch[Tensor], loss: Loss) -> None:
    """Refuse weights that the method would not follow.

    Raises:
        ValueError: the sequences or the loss have such ones.
    """
    follows = isinstance(method, Ridge | RecursiveLeastSquares)
    if first.weights is not None and not follows:
        raise ValueError(
            f"weights of data: {method!r} has none for sequences; use ll.Ridge(), or leave them out"
        )
    if isinstance(loss, WeightedCrossEntropy) and not follows:
        raise ValueError(
            f"loss: got {loss!r}, but {method!r} has no weights for classes; use ll.Ridge(), or "
            "leave it out"
        )
    if isinstance(loss, WeightedLogistic):
        raise ValueError(
            f"loss: got {loss!r}, but {method!r} fits the readouts of all labels at once, so that "
            "none of them can have weights of its own; use 'logistic', or train by updates"
        )


def _mean_square_error(rows: Rows) -> float:
    """Of the readout as the model has it now, over all rows."""
    total, count = 0.0, 0.0
    with torch.no_grad():
        for piece in rows:
            difference = rows.readout(piece.h, piece.x).double() - piece.target
            squares = difference.square().mean(-1)
            weights = torch.ones_like(squares) if piece.weights is None else piece.weights
            total += float(weights @ squares)
            count += float(weights.sum())
    return total / count
