"""Recurrent modules of torch.nn inside any model turned into those of this package."""

import itertools
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from longlag.nn.recurrent import DTYPES, KINDS


class Acceleration(NamedTuple):
    """What :func:`accelerate` did, by the path of a module in the model; "" is the model itself.

    Attributes:
        replaced: what each replaced module is.
        kept: why each of the others stays as it was.

    It prints as lines.
    """

    replaced: dict[str, str]
    kept: dict[str, str]

    def __str__(self) -> str:
        lines = {name: f"{kind}: runs on longlag's kernels" for name, kind in self.replaced.items()}
        lines |= {name: f"stays: {reason}" for name, reason in self.kept.items()}
        if not lines:
            return "no recurrent module of torch.nn"
        named = {name or "(the model)": line for name, line in lines.items()}
        width = max(map(len, named))
        return "\n".join(f"{name:{width}}  {line}" for name, line in named.items())


def accelerate(module: nn.Module) -> Acceleration:
    """Run every torch.nn.RNN, LSTM and GRU in a model on longlag's kernels, in place.

    Each stays the object that it was, with its parameters, hooks, places and settings, and becomes
    an instance of :class:`longlag.nn.RNN`, ``LSTM`` or ``GRU``. So optimizers go on, state
    dictionaries keep their names, what was shared or tied stays so, and outputs are the same up to
    rounding. A module that cannot be replaced stays as it is, and the result says why.

    Args:
        module: any model, or one of the three itself.

    Returns:
        What was replaced, and what was not and why; it prints as lines.

    Raises:
        TypeError: for what is no module.

    Example:
        >>> model = torch.nn.ModuleDict(
        ...     {"reader": torch.nn.GRU(3, 4), "writer": torch.nn.LSTM(4, 4, proj_size=2)}
        ... )
        >>> print(accelerate(model))
        reader  GRU(3, 4): runs on longlag's kernels
        writer  stays: proj_size=2, and longlag's LSTM has no projection
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: got {type(module).__name__}, expected a torch.nn.Module")
    report = Acceleration({}, {})
    for name, part in module.named_modules():
        if not _is_recurrent(part):
            continue
        reason = _reason(part)
        if reason is None:
            kind: Any = KINDS[type(part)]  # pyright: ignore[reportArgumentType]
            part.__class__ = kind
            report.replaced[name] = repr(part)
        else:
            report.kept[name] = reason
    return report


def _is_recurrent(part: nn.Module) -> bool:
    if isinstance(part, torch.jit.ScriptModule):
        return part.original_name in [kind.__name__ for kind in KINDS]
    return isinstance(part, (nn.RNNBase, nn.RNNCellBase))


def _reason(part: nn.Module) -> str | None:
    """Why a recurrent module stays as it is; None where it does not."""
    if isinstance(part, torch.jit.ScriptModule):
        return "compiled by torch.jit; accelerate the model that it was compiled from"
    if isinstance(part, nn.RNNCellBase):
        return f"{type(part).__name__} is a single step, and the loop over time the model's own"
    if isinstance(part, tuple(KINDS.values())):
        return "longlag's already"
    if parametrize.is_parametrized(part):
        return "its class is that of a parametrization; accelerate first, then parametrize"
    if type(part) not in KINDS:
        return f"{type(part).__name__} is a class of its own"
    if "forward" in vars(part):
        return "something has put another forward in the place of its own"
    assert isinstance(part, nn.RNNBase)
    if part.proj_size:
        return f"proj_size={part.proj_size}, and longlag's LSTM has no projection"
    for weight in itertools.chain(*part.all_weights):
        if weight.device.type == "cuda":
            return (
                f"on {weight.device}, where torch.nn has cuDNN's kernels; longlag's are for a CPU"
            )
        if weight.device.type != "cpu":
            return f"on {weight.device}, and longlag's kernels are for the CPU"
        if weight.dtype not in DTYPES:
            return f"its weights are {weight.dtype}, and longlag's kernels for float32 and float64"
    return None
