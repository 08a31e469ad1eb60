"""Keras' metrics after a compiled step: the loss and accuracies in few operations, else Keras'."""

from typing import Any

import keras
from torch import Tensor


class Metrics:
    """The metrics of a compiled model of Keras, in Keras' own variables.

    Args:
        model: of Keras, whose metrics are built.
        classes: whether an answer is the number of a class.
    """

    def __init__(self, model: Any, classes: bool) -> None:
        self._model, self._classes = model, classes
        self._loss = model._loss_tracker
        plain = keras.metrics.SparseCategoricalAccuracy if classes else (
            keras.metrics.CategoricalAccuracy
        )  # fmt: skip
        self._accuracies = []
        for metric in model.metrics:
            self._accuracies += getattr(metric, "metrics", ()) if metric is not self._loss else ()
        names = [metric.name for metric in (self._loss, *self._accuracies)]
        known = list(model.get_metrics_result())
        self._quick = all(type(m) is plain for m in self._accuracies) and names == known

    def update(self, loss: float, x: Tensor, y: Tensor, target: Tensor, outputs: Tensor) -> Any:
        """Take in a batch, as Keras' step does; the metrics so far.

        Args:
            loss: its loss.
            x, y: the batch.
            target: y as the compiled step reads it.
            outputs: of the model.
        """
        logs = {self._loss.name: _add(self._loss, loss * len(x), len(x))}
        if not self._quick:
            return self._model.compute_metrics(x, y, outputs, sample_weight=None)
        if self._accuracies:
            answers = target if self._classes else target.argmax(-1)
            right = (outputs.argmax(-1) == answers).flatten(1 if answers.dim() > 1 else 0)
            share = right.float().mean(1).sum() if answers.dim() > 1 else right.sum()
            logs |= {metric.name: _add(metric, share, len(x)) for metric in self._accuracies}
        return logs


def _add(metric: Any, value: float | Tensor, count: int) -> Tensor:
    """Add to a mean of Keras; what it is now."""
    total, seen = metric.total.value, metric.count.value
    return total.add_(value) / seen.add_(count)
