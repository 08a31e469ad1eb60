"""From whatever holds sequences to a batch of checked tensors."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from longlag.batch import IGNORED_CLASS, Batch

_PAD = (
    f"Pad x with zeros, a target with one entry a step with {IGNORED_CLASS} (classes) or NaN "
    "(numbers), and give the lengths: (x, target, lengths)."
)


@runtime_checkable
class Sequences(Protocol):
    """Arrays held together: has `x` and `target`, and perhaps `lengths`, `resets`, `weights`."""

    @property
    def x(self) -> Any:
        """(N, T, C)."""
        ...

    @property
    def target(self) -> Any:
        """(N, ...)."""
        ...


def as_batch(data: Any, name: str, dtype: torch.dtype) -> Batch[Tensor]:
    """Check and convert x, target, lengths, resets and weights.

    >>> as_batch((np.zeros((2, 5, 1)), np.array([1, 0])), "data", torch.float32).x.dtype
    torch.float32
    """
    if isinstance(data, Sequences):  # before tuples: a named tuple is both
        raw_x, raw_target = data.x, data.target
        raw_lengths, raw_resets, raw_weights = (
            getattr(data, part, None) for part in ("lengths", "resets", "weights")
        )
    elif isinstance(data, tuple | list):
        if len(data) not in (2, 3):
            raise ValueError(
                f"{name} has {len(data)} entries; expected (x, target) or (x, target, lengths)"
            )
        raw_x, raw_target, raw_lengths, *_ = (*data, None)
        raw_resets = raw_weights = None
    else:
        raise TypeError(
            f"{name} is a {type(data).__name__}; expected (x, target), (x, target, lengths) or an "
            "object with x and target"
        )
    if raw_target is None:
        raise ValueError(f"target of {name} is None; expected one target a sequence or a step")
    x = _tensor(raw_x, f"x of {name}", dtype)
    if x.dtype == torch.bool:
        x = x.to(dtype)
    target = _tensor(raw_target, f"target of {name}", dtype)
    if not target.is_floating_point():
        target = target.to(torch.int64)
    if x.ndim < 2:
        raise ValueError(f"x of {name} has shape {tuple(x.shape)}; expected (N, T, C) or (N, T)")
    count, steps = x.shape[:2]
    if target.ndim == 0 or len(target) != count:
        raise ValueError(
            f"target of {name} has shape {tuple(target.shape)} and x {tuple(x.shape)}; expected "
            f"the same number of sequences, {count}, in front"
        )
    if count == 0:
        raise ValueError(f"x of {name} has shape {tuple(x.shape)}; expected at least one sequence")
    lengths = resets = weights = None
    if raw_lengths is not None:
        lengths = _lengths(raw_lengths, name, count, steps)
        target = _without_padding(target, lengths, steps)
    if raw_resets is not None:
        resets = _tensor(raw_resets, f"resets of {name}", dtype)
        if resets.shape != (count, steps) or resets.dtype != torch.bool:
            raise ValueError(
                f"resets of {name} has shape {tuple(resets.shape)} and dtype {resets.dtype}; "
                f"expected ({count}, {steps}) and bool"
            )
    if raw_weights is not None:
        weights = _weights(_tensor(raw_weights, f"weights of {name}", dtype).to(dtype), name, count)
    return Batch(x, target, lengths, resets, weights)


def _tensor(value: Any, name: str, dtype: torch.dtype) -> Tensor:
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"{name} is ragged; expected one length T for all sequences. {_PAD}"
            ) from error
        if array.dtype.kind not in "biuf":
            fix = f". {_PAD}" if array.dtype.kind == "O" else ""
            raise TypeError(
                f"{name} has dtype {array.dtype}; expected real numbers, rectangular{fix}"
            )
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        value = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    if value.is_floating_point():
        return value.to(dtype)
    return value if value.dtype == torch.bool else value.to(torch.int64)


def _lengths(value: Any, name: str, count: int, steps: int) -> Tensor:
    lengths = _tensor(value, f"lengths of {name}", torch.float64)
    if lengths.shape != (count,) or lengths.dtype != torch.int64:
        raise ValueError(
            f"lengths of {name} has shape {tuple(lengths.shape)} and dtype {lengths.dtype}; "
            f"expected ({count},) and integers"
        )
    if int(lengths.min()) < 0 or int(lengths.max()) > steps:
        raise ValueError(
            f"lengths of {name} lie in {int(lengths.min())}..{int(lengths.max())}; expected "
            f"0..{steps}, the number of steps of x"
        )
    return lengths


def _weights(weights: Tensor, name: str, count: int) -> Tensor:
    expected = f"expected {count} finite numbers >= 0, one for each sequence"
    if weights.shape != (count,):
        raise ValueError(f"weights of {name}: got shape {tuple(weights.shape)}, {expected}")
    wrong = (~(weights.isfinite() & (weights >= 0))).nonzero()
    if len(wrong):
        at = int(wrong[0])
        raise ValueError(f"weights of {name}: that of {at} is {float(weights[at])}, {expected}")
    return weights


def _without_padding(target: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Mark the steps beyond each length as not due, where the target plainly has one entry a step.

    That is (N, T) classes and (N, T, K) floats. Floats of shape (N, T) might be T values a
    sequence: there the caller marks them.
    """
    floating = target.is_floating_point()
    if target.ndim != (3 if floating else 2) or target.shape[1] != steps:
        return target
    beyond = torch.arange(steps, device=target.device) >= lengths.to(target.device).unsqueeze(1)
    if floating:
        return target.masked_fill(beyond.unsqueeze(2), float("nan"))
    return target.masked_fill(beyond, IGNORED_CLASS)
