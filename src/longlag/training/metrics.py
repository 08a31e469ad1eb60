"""Metrics over a whole data set, blind to places where no error is due."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from longlag.gradients.losses import due, name_of

if TYPE_CHECKING:
    import torchmetrics


MetricLike: TypeAlias = str | Callable[..., Any]
"""A name, a `torchmetrics.Metric` or a callable(output, target) -> number."""

Metrics: TypeAlias = MetricLike | Sequence[MetricLike] | Mapping[str, MetricLike]


@runtime_checkable
class Meter(Protocol):
    """One number over a data set, batch by batch."""

    higher_is_better: bool | None

    def reset(self) -> None:
        """Forget all batches."""
        ...

    def update(self, output: Tensor, target: Tensor) -> None:
        """Take in one batch."""
        ...

    def compute(self) -> float:
        """The number over all batches since `reset`; NaN if no error was due anywhere."""
        ...


def make_meters(metrics: Metrics | None) -> dict[str, Meter]:
    """Make the meters that `fit` was asked for, by name.

    Args:
        metrics: one metric, several, or a mapping of names to metrics. A metric is
            "accuracy" (the share of right classes), "mse", "mae" (over all entries);
            a `torchmetrics.Metric`; or a callable(output, target) -> number, called once with the
            whole set. Metrics and callables get the places where an error is due only, as rows:
            output (M, K) and target (M,) for classes, (M, K) each for float targets, or (M,) each
            if they have one dimension; a row with a NaN is left out.

    Raises:
        ValueError: a name is unknown or comes twice.
        TypeError: something else is among them.

    >>> meters = make_meters("accuracy")
    >>> meters["accuracy"].update(torch.eye(3), torch.tensor([0, 1, 1]))
    >>> round(meters["accuracy"].compute(), 4)
    0.6667
    """
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        return {str(name): _make(metric)[1] for name, metric in metrics.items()}
    listed = list(metrics) if isinstance(metrics, list | tuple) else [metrics]
    meters: dict[str, Meter] = {}
    for metric in listed:
        name, meter = _make(metric)
        if name in meters:
            raise ValueError(f"metrics: {name!r} comes twice; give names: metrics={{name: metric}}")
        meters[name] = meter
    return meters


def _make(metric: Any) -> tuple[str, Meter]:
    from torchmetrics import Metric  # here: it takes a second to import
    from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

    if isinstance(metric, str):
        if metric == "accuracy":
            return metric, _Accuracy()
        if metric in ("mse", "mae"):
            error = MeanSquaredError() if metric == "mse" else MeanAbsoluteError()
            return metric, _Wrapped(error, _entries)
        raise ValueError(
            f"metric {metric!r} is unknown; expected 'accuracy', 'mse', 'mae', a "
            "torchmetrics.Metric or a callable(output, target)"
        )
    if isinstance(metric, Metric):
        return type(metric).__name__, _Wrapped(metric, rows)
    if callable(metric):
        return name_of(metric), _Whole(metric)
    raise TypeError(
        f"metric is a {type(metric).__name__}; expected a name, a torchmetrics.Metric or a "
        "callable(output, target)"
    )


def rows(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The places where an error is due, as rows; see `make_meters`.

    >>> rows(torch.zeros(2, 3, 4), torch.tensor([[0, 1, -100], [2, -100, -100]]))[0].shape
    torch.Size([3, 4])
    """
    wanted = due(target)
    if not target.is_floating_point():
        return output.reshape(-1, output.shape[-1])[wanted.reshape(-1)], target[wanted]
    if target.ndim == 1:
        return output[wanted], target[wanted]
    width = target.shape[-1]
    whole = wanted.reshape(-1, width).all(dim=1)
    return output.reshape(-1, output.shape[-1])[whole], target.reshape(-1, width)[whole]


def _entries(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if output.shape != target.shape:
        raise ValueError(
            f"metric: output has shape {tuple(output.shape)} and target {tuple(target.shape)}; "
            "expected the same shape"
        )
    wanted = due(target)
    return output[wanted], target[wanted]


class _Wrapped:
    """A metric of torchmetrics."""

    def __init__(
        self,
        metric: "torchmetrics.Metric",
        select: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    ):
        self.metric = metric
        self.select = select
        self.higher_is_better = metric.higher_is_better
        # Each process of several has all outputs, and what it measures is that of the whole set.
        metric.distributed_available_fn = lambda: False

    def reset(self) -> None:
        self.metric.reset()

    def update(self, output: Tensor, target: Tensor) -> None:
        output, target = self.select(output, target)
        if target.shape[0] == 0:
            return
        try:
            self.metric.to(output.device).update(output, target)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ValueError(
                f"metric {type(self.metric).__name__!r} cannot take output {tuple(output.shape)} "
                f"of {output.dtype} with target {tuple(target.shape)} of {target.dtype} ({error}). "
                "Choose one for such outputs (for K classes a Multiclass one with num_classes=K), "
                "or wrap it in a callable(output, target)."
            ) from error

    def compute(self) -> float:
        if self.metric.update_count == 0:
            return float("nan")
        return _number(type(self.metric).__name__, self.metric.compute())


class _Accuracy:
    """The share of right classes; the number of classes is known at the first batch."""

    higher_is_better: bool | None = True

    def __init__(self) -> None:
        self.meter: _Wrapped | None = None

    def reset(self) -> None:
        if self.meter is not None:
            self.meter.reset()

    def update(self, output: Tensor, target: Tensor) -> None:
        from torchmetrics.classification import MulticlassAccuracy

        if target.is_floating_point():
            raise ValueError(
                f"metric 'accuracy' needs a target of int64 classes, and target is {target.dtype}; "
                "cast it, or pass a metric for float values such as 'mse'"
            )
        if self.meter is None:
            metric = MulticlassAccuracy(num_classes=output.shape[-1], average="micro")
            self.meter = _Wrapped(metric, rows)
        self.meter.update(output, target)

    def compute(self) -> float:
        return float("nan") if self.meter is None else self.meter.compute()


class _Whole:
    """A callable, called once with everything: its mean over batches might be another number."""

    higher_is_better: bool | None = None

    def __init__(self, function: Callable[[Tensor, Tensor], Any]):
        self.function = function
        self.seen: list[tuple[Tensor, Tensor]] = []

    def reset(self) -> None:
        self.seen.clear()

    def update(self, output: Tensor, target: Tensor) -> None:
        self.seen.append(rows(output, target))

    def compute(self) -> float:
        if not any(len(target) for _, target in self.seen):
            return float("nan")
        outputs, targets = zip(*self.seen, strict=True)
        self.seen.clear()
        return _number(
            name_of(self.function), self.function(torch.cat(outputs), torch.cat(targets))
        )


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(
            f"metric {name!r} gave a tensor of shape {tuple(value.shape)}; expected one number. "
            "Choose an average, or wrap it in a callable that returns one."
        )
    return float(value)
