"""Losses that respect the convention for places where no error is due.

A float target is NaN there, a class target -100. Whatever the model puts out at such a place, NaN
included, changes neither the loss nor any gradient. Each loss is the mean over the places where
an error is due; it is 0 if there is none.
"""

from collections.abc import Callable

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
        total = functional.cross_entropy(
            logits, target.reshape(-1), ignore_index=IGNORED_CLASS, reduction="sum"
        )
    except IndexError as error:
        present = target[due(target)]
        raise ValueError(
            f"cross_entropy: target has classes {int(present.min())}..{int(present.max())}, and "
            f"the model's output has K = {output.shape[-1]}; expected classes 0..K-1. Give the "
            f"model an output for each class, or mark places without a class {IGNORED_CLASS}."
        ) from error
    return total / wanted.sum().clamp(min=1)


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


_LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "mae": mae}


def resolve_loss(loss: str | Loss | None, target: Tensor) -> tuple[str, Loss]:
    """The name of a loss and the function; by default what fits the dtype of the target.

    Args:
        loss: "cross_entropy", "mse", "mae", a callable(output, target) -> scalar, or None.
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
    return loss in _LOSSES.values()


def name_of(function: Callable[..., object]) -> str:
    """A name for a callable: its own, or that of its class."""
    return getattr(function, "__name__", type(function).__name__)


def _difference(name: str, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
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
        return "For one answer a sequence the model must keep one step only (reduce='last')."
    return "Change the model's output size or reshape the target."
