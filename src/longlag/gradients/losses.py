"""Losses that respect the convention for places where no error is due.

A float target is NaN there, a class target -100. Whatever the model puts out at such a place, NaN
included, changes neither the loss nor any gradient. Each loss is the mean over the places where
an error is due; it is 0 if there is none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass

import torch
from torch import Tensor
from torch.nn import functional

from longlag.batch import IGNORED_CLASS
from longlag.gradients.method import Loss


def due(target: Tensor) -> Tensor:
    """Where an error is due: not NaN, or not -100.

    >>> due(torch.tensor([3, -100])).tolist(), due(torch.tensor([3.0, float("nan")])).tolist()
    ([True, False], [True, False])
    """
    return ~target.isnan() if target.is_floating_point() else target != IGNORED_CLASS


def as_scalar(value: Tensor) -> Tensor:
    """The loss, checked.

    Raises:
        ValueError: it is not a scalar.
    """
    if value.ndim != 0:
        raise ValueError(
            f"loss(output, target) has shape {tuple(value.shape)}; expected a scalar, shape (). "
            "Take its mean or its sum."
        )
    return value


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """The mean of -log softmax(output)[target], in nats.

    Args:
        output: (..., K) logits.
        target: (...) int64, classes 0..K-1, or -100.

    Raises:
        ValueError: the shapes do not fit.

    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([1, -100]))
    tensor(1.3863)
    """
    total = _class_losses(output, target, None)
    return total / due(target).sum().clamp(min=1)


def _class_losses(output: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """The sum of -log softmax(output)[target], each times the weight of its class."""
    if output.shape[:-1] != target.shape or output.ndim == 0:
        raise ValueError(
            f"cross_entropy: the model's output has shape {tuple(output.shape)} and target "
            f"{tuple(target.shape)}; expected output (..., K) and target (...), for example (N, K) "
            "and (N,), or (N, T, K) and (N, T). " + _reduce_hint(output, target, classes=True)
        )
    wanted = due(target).reshape(-1)
    # Filled, not only ignored: the gradient of log softmax at a NaN is NaN even times zero.
    logits = output.reshape(-1, output.shape[-1]).masked_fill(~wanted.unsqueeze(-1), 0.0)
    try:
        return functional.cross_entropy(
            logits, target.reshape(-1), weights, ignore_index=IGNORED_CLASS, reduction="sum"
        )
    except IndexError as error:
        present = target[due(target)]
        raise ValueError(
            f"cross_entropy: target has classes {int(present.min())}..{int(present.max())}, and "
            f"the model's output has K = {output.shape[-1]}; expected classes 0..K-1. Give the "
            f"model an output for each class, or mark places without a class {IGNORED_CLASS}."
        ) from error


def mse(output: Tensor, target: Tensor) -> Tensor:
    """The mean of (output - target)^2.

    Args:
        output: (...).
        target: the same shape, float; NaN where no error is due.

    Raises:
        ValueError: the shapes differ.

    >>> mse(torch.tensor([1.0, 7.0]), torch.tensor([3.0, float("nan")]))
    tensor(4.)
    """
    difference, count = _difference("mse", output, target)
    return difference.square().sum() / count


def mae(output: Tensor, target: Tensor) -> Tensor:
    """The mean of |output - target|; arguments as for `mse`.

    >>> mae(torch.tensor([1.0, 7.0]), torch.tensor([3.0, float("nan")]))
    tensor(2.)
    """
    difference, count = _difference("mae", output, target)
    return difference.abs().sum() / count


def logistic(output: Tensor, target: Tensor) -> Tensor:
    r"""The mean of -t log p - (1 - t) log(1 - p) with p = 1 / (1 + exp(-y)), in nats.

    For answers that are yes or no, each output for itself, as where a sequence may have several
    labels. Without the roundings of p:

    .. math:: E = \log(1 + e^{-|y|}) + \max(y, 0) - t y, \qquad dE/dy = p - t

    Args:
        output: (...) logits y: the readout has no ``output_activation``.
        target: t, the same shape, float in [0, 1]; NaN where no error is due.

    Raises:
        ValueError: the shapes differ.

    >>> logistic(torch.zeros(2), torch.tensor([1.0, float("nan")]))
    tensor(0.6931)
    """
    losses = _logistic_losses("logistic", output, target)
    return losses.sum() / due(target).sum().clamp(min=1)


def _logistic_losses(name: str, output: Tensor, target: Tensor) -> Tensor:
    """-t log p - (1 - t) log(1 - p) of each place; 0 where no error is due."""
    _difference(name, output, target)
    ignored = target.isnan()
    logits, answers = output.masked_fill(ignored, 0.0), target.masked_fill(ignored, 0.0)
    losses = functional.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    return losses.masked_fill(ignored, 0.0)


@dataclass(frozen=True)
class Quantile:
    r"""The loss whose least mean has the outputs at a quantile of the targets.

    .. math:: E = \max(\alpha (t - y),\; (\alpha - 1)(t - y))

    Args:
        level: alpha, 0 < alpha < 1: the share of the targets that shall lie below the output. Half
            of "mae" for 0.5.

    Called with output and target as "mse" is.

    Raises:
        ValueError: the level is out of range; when called: the shapes differ.

    Source: R. Koenker and G. Bassett (1978), "Regression quantiles", Econometrica 46(1).

    >>> Quantile(0.9)(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
    tensor(0.5000)
    """

    level: float

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}; expected a number between 0 and 1")

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean over the places where an error is due."""
        difference, count = _difference(repr(self), output, target)
        return torch.maximum(-self.level * difference, (1 - self.level) * difference).sum() / count


@dataclass(frozen=True)
class WeightedCrossEntropy:
    r"""Cross-entropy in which errors of each class have a weight, as where classes are rare.

    .. math:: E = \sum w_c \, (-\log \mathrm{softmax}(y)_c) \,/\, \sum w_c

    over the places where an error is due, c the class there.

    Args:
        weights: of each class, K finite numbers >= 0, not all 0; their scale does not matter.

    Called with output and target as "cross_entropy" is.

    Raises:
        ValueError: a weight is out of range; when called: the shapes do not fit.

    >>> loss = WeightedCrossEntropy((1, 3))
    >>> loss(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    tensor(0.4082)
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        weights = tuple(float(weight) for weight in self.weights)
        if not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
            raise ValueError(
                f"weights are {weights}; expected a finite number >= 0 for each class, not all 0"
            )
        object.__setattr__(self, "weights", weights)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean over the places where an error is due."""
        if output.shape[-1:] != (len(self.weights),):
            raise ValueError(
                f"WeightedCrossEntropy: has {len(self.weights)} weights, and the model's output "
                f"has shape {tuple(output.shape)}; expected one weight for each of its classes"
            )
        weights = output.new_tensor(self.weights)
        total = _class_losses(output, target, weights)
        return total / self.of(target, weights).sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def of(self, target: Tensor, weights: Tensor) -> Tensor:
        """What each place counts for; 0 where no error is due."""
        classes = target.clamp(0, len(weights) - 1)
        return weights[classes].masked_fill(~due(target), 0.0)


@dataclass(frozen=True)
class WeightedLogistic:
    r"""The logistic loss in which labels that hold have a weight, as where they seldom do.

    .. math:: E = \sum w \, e \,/\, \sum w, \qquad w = 1 + (w_k - 1) t

    over the places where an error is due, e the error of :func:`logistic` there, k the label and t
    whether it holds.

    Args:
        weights: w_k of each label, K finite numbers > 0.

    Called with output (..., K) and target (..., K) as "logistic" is.

    Raises:
        ValueError: a weight is out of range; when called: the shapes do not fit.

    >>> loss = WeightedLogistic((3.0,))
    >>> loss(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]))
    tensor(0.4082)
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        weights = tuple(float(weight) for weight in self.weights)
        if not weights or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights are {weights}; expected a finite number > 0 for each label")
        object.__setattr__(self, "weights", weights)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean over the places where an error is due."""
        if output.shape[-1:] != (len(self.weights),):
            raise ValueError(
                f"WeightedLogistic: has {len(self.weights)} weights, and the model's output has "
                f"shape {tuple(output.shape)}; expected one weight for each of its labels"
            )
        weights = self.of(target)
        losses = _logistic_losses("WeightedLogistic", output, target)
        return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(losses.dtype).tiny)

    def of(self, target: Tensor) -> Tensor:
        """What each place counts for; 0 where no error is due."""
        weights = 1.0 + (target.new_tensor(self.weights) - 1.0) * target
        return torch.where(due(target), weights, 0.0)


_LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy, "logistic": logistic, "mse": mse, "mae": mae,
}  # fmt: skip


def resolve_loss(loss: str | Loss | None, target: Tensor) -> tuple[str, Loss]:
    """The name of a loss and the function; by default what fits the dtype of the target.

    Args:
        loss: "cross_entropy", "logistic", "mse", "mae", a callable(output, target) -> scalar, or
            None.
        target: float targets have "mse" as default, integer ones "cross_entropy".

    Raises:
        ValueError: the name is unknown, or it does not fit the dtype of the target.
        TypeError: it is neither a name nor callable.

    >>> resolve_loss(None, torch.tensor([0, 2]))[0]
    'cross_entropy'
    """
    if loss is None:
        loss = "mse" if target.is_floating_point() else "cross_entropy"
    if isinstance(loss, str):
        if loss not in _LOSSES:
            raise ValueError(f"loss is {loss!r}; expected one of {sorted(_LOSSES)} or a callable")
        if target.is_floating_point() == (loss == "cross_entropy"):
            wanted = "int64 classes" if loss == "cross_entropy" else "float values"
            raise ValueError(f"loss {loss!r} takes {wanted}, and target is {target.dtype}; cast it")
        return loss, _LOSSES[loss]
    if not callable(loss):
        raise TypeError(
            f"loss is a {type(loss).__name__}; expected a name or callable(output, target)"
        )
    return name_of(loss), loss


def is_built_in(loss: Loss) -> bool:
    """Whether it is one of those that have a name."""
    return loss in _LOSSES.values() or isinstance(
        loss, Quantile | WeightedCrossEntropy | WeightedLogistic
    )


def name_of(function: Callable[..., object]) -> str:
    """A name for a callable: its own, with all settings, or that of its class."""
    if is_dataclass(function):
        return repr(function)
    return getattr(function, "__name__", type(function).__name__)


def _difference(name: str, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """output - target, 0 where no error is due, and at how many places one is, at least 1."""
    if output.shape != target.shape:
        raise ValueError(
            f"{name}: the model's output has shape {tuple(output.shape)} and target "
            f"{tuple(target.shape)}; expected the same shape. "
            + _reduce_hint(output, target, classes=False)
        )
    ignored = target.isnan()
    difference = torch.where(ignored, 0.0, output - target)
    return difference, (~ignored).sum().clamp(min=1)


def _reduce_hint(output: Tensor, target: Tensor, *, classes: bool) -> str:
    dimensions = target.ndim + classes
    if output.ndim == dimensions + 1 and output.shape[0] == target.shape[0]:
        if not classes and output.shape == (*target.shape, 1):
            return "Give the target a last dimension of 1: target.unsqueeze(-1)."
        if not classes and output.shape[:-1] == target.shape:
            return (
                "Give classes as whole numbers, target.long(); or, of numbers, a last dimension "
                f"with {output.shape[-1]} of them."
            )
        return "For one answer a sequence the model must keep one step only (reduce='last')."
    return "Change the model's output size or reshape the target."
