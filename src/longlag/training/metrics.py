"""Metrics over a whole data set, blind to places where no error is due."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from longlag.gradients.losses import due, name_of

if TYPE_CHECKING:
    import torchmetrics


MetricLike: TypeAlias = str | Callable[..., Any]
"""A name, a `torchmetrics.Metric`, or a callable(output, target) or (output, target, weights)."""

Metrics: TypeAlias = MetricLike | Sequence[MetricLike] | Mapping[str, MetricLike]


@runtime_checkable
class Meter(Protocol):
    """One number over a data set, batch by batch.

    Attributes:
        higher_is_better: None: it does not say.
        takes_weights: whether it follows weights of sequences.
    """

    higher_is_better: bool | None
    takes_weights: bool

    def reset(self) -> None:
        """Forget all batches."""
        ...

    def update(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        """Take in one batch of N sequences.

        Args:
            output, target: of the model, and of the data.
            weights: (N,), what each sequence counts for; None: all the same.

        Raises:
            ValueError: the metric cannot take them; there are weights, and it takes none.
        """
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
            if they have one dimension; a row with a NaN is left out. Where sequences have weights,
            names are weighted means, and a callable needs a third argument called weights: (M,),
            what each row counts for; None where all count the same. One that has a default other
            than None, or is bound, is left to the callable.

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


def check_weights(meters: Mapping[str, Meter]) -> None:
    """Raise `ValueError` where a metric does not follow weights of sequences."""
    for name, meter in meters.items():
        if not meter.takes_weights:
            raise _without_weights(name)


def _make(metric: Any) -> tuple[str, Meter]:
    if isinstance(metric, str):
        if metric in _MEANS:
            return metric, _Mean(*_MEANS[metric])
        raise ValueError(
            f"metric {metric!r} is unknown; expected 'accuracy', 'mse', 'mae', a "
            "torchmetrics.Metric or a callable(output, target)"
        )
    from torchmetrics import Metric  # here: it takes a second to import

    if isinstance(metric, Metric):
        return type(metric).__name__, _Wrapped(metric)
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
    chosen = _are_due(target)
    if not target.is_floating_point():
        return output.reshape(-1, output.shape[-1])[chosen], target.reshape(-1)[chosen]
    if target.ndim == 1:
        return output[chosen], target[chosen]
    width = target.shape[-1]
    return output.reshape(-1, output.shape[-1])[chosen], target.reshape(-1, width)[chosen]


def _are_due(target: Tensor) -> Tensor:
    """Which rows count, a bool for each place of a class, or of one or several numbers."""
    wanted = due(target)
    if target.is_floating_point() and target.ndim > 1:
        return wanted.reshape(-1, target.shape[-1]).all(dim=1)
    return wanted.reshape(-1)


def _shares(weights: Tensor | None, target: Tensor) -> Tensor | None:
    """What each of `rows` counts for, as its sequence does; None: all the same.

    >>> _shares(torch.tensor([1.0, 3.0]), torch.tensor([[0, 1], [2, -100]])).tolist()
    [1.0, 1.0, 3.0]
    """
    if weights is None:
        return None
    chosen = _are_due(target)
    each = len(chosen) // max(1, len(weights))
    return weights.repeat_interleave(each)[chosen]


class _Wrapped:
    """A metric of torchmetrics."""

    takes_weights = False

    def __init__(self, metric: "torchmetrics.Metric"):
        self.metric = metric
        self.higher_is_better = metric.higher_is_better
        # Each process of several has all outputs, and what it measures is that of the whole set.
        metric.distributed_available_fn = lambda: False

    def reset(self) -> None:
        self.metric.reset()

    def update(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        if weights is not None:
            raise _without_weights(type(self.metric).__name__)
        output, target = rows(output, target)
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


class _Mean:
    """A mean over the places where an error is due, each of which counts as its sequence does.

    Args:
        errors: of outputs and targets (N, ...) what there is to average, of the targets' shape.
        higher_is_better: whether it is.
    """

    takes_weights = True

    def __init__(
        self, errors: Callable[[Tensor, Tensor], Tensor], higher_is_better: bool | None
    ) -> None:
        self.errors = errors
        self.higher_is_better = higher_is_better
        self.reset()

    def reset(self) -> None:
        self.total, self.count = 0.0, 0.0

    def update(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        wanted = due(target)
        each = self.errors(output, target)[wanted].double()
        if weights is None:
            self.total += float(each.sum())
            self.count += len(each)
            return
        shares = weights.double().view(-1, *[1] * (wanted.ndim - 1)).expand(wanted.shape)[wanted]
        self.total += float(shares @ each)
        self.count += float(shares.sum())

    def compute(self) -> float:
        return self.total / self.count if self.count else float("nan")


def _right(output: Tensor, target: Tensor) -> Tensor:
    if target.is_floating_point():
        raise ValueError(
            f"metric 'accuracy' needs a target of int64 classes, and target is {target.dtype}; "
            "cast it, or pass a metric for float values such as 'mse'"
        )
    return output.argmax(-1).reshape(target.shape) == target


def _squares(output: Tensor, target: Tensor) -> Tensor:
    return _differences(output, target).square()


def _sizes(output: Tensor, target: Tensor) -> Tensor:
    return _differences(output, target).abs()


def _differences(output: Tensor, target: Tensor) -> Tensor:
    if output.shape != target.shape:
        raise ValueError(
            f"metric: output has shape {tuple(output.shape)} and target {tuple(target.shape)}; "
            "expected the same shape"
        )
    return output.double() - target.double()


_MEANS = {"accuracy": (_right, True), "mse": (_squares, False), "mae": (_sizes, False)}


class _Whole:
    """A callable, called once with everything: its mean over batches might be another number."""

    higher_is_better: bool | None = None

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.takes_weights, self._asks = _asks_for_weights(function)
        self.seen: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def reset(self) -> None:
        self.seen.clear()

    def update(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> None:
        if weights is not None and not self.takes_weights:
            raise _without_weights(name_of(self.function))
        self.seen.append((*rows(output, target), _shares(weights, target)))

    def compute(self) -> float:
        if not any(len(target) for _, target, _ in self.seen):
            return float("nan")
        outputs, targets, shares = zip(*self.seen, strict=True)
        self.seen.clear()
        given: dict[str, Tensor | None] = {"weights": None} if self._asks else {}
        if shares[0] is not None:
            given["weights"] = torch.cat(shares)
        value = self.function(torch.cat(outputs), torch.cat(targets), **given)
        return _number(name_of(self.function), value)


def _asks_for_weights(function: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether it has an argument of this name, and whether it must be given.

    One that is bound already, or has a default that is not None, has weights of another kind.
    """
    called = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        weights = inspect.signature(called).parameters.get("weights")
    except ValueError:  # some that are written in C have none
        return False, False
    if weights is None:
        return False, False
    asks = weights.default is weights.empty
    return asks or weights.default is None, asks


def _without_weights(name: str) -> ValueError:
    return ValueError(
        f"metric {name!r}: the sequences of the validation data have weights, which it does not "
        "take; expected 'accuracy', 'mse', 'mae' or a callable(output, target, weights)"
    )


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(
            f"metric {name!r} gave a tensor of shape {tuple(value.shape)}; expected one number. "
            "Choose an average, or wrap it in a callable that returns one."
        )
    return float(value)
