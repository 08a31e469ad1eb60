"""The recurrent modules of any model, as modules of longlag with the same weights; their mode."""

import copy
from typing import Any

import torch
from torch import nn

from longlag.layers import Bidirectional, Recurrent, Stack
from longlag.layers.base import RecurrentModule
from longlag.layers.computed import plain_model
from longlag.layers.from_torch_nn import converted
from longlag.torch_private import without_hooks

TORCH_MODULES = (nn.RNN, nn.LSTM, nn.GRU)
_OURS = (Recurrent, Stack, Bidirectional)


def recurrent_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The recurrent modules of a model by path, the outermost only.

    Raises:
        TypeError, ValueError: as :func:`watch`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    by_path: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside and isinstance(module, TORCH_MODULES + _OURS):
            by_path[name] = module
            inside |= set(module.modules())
    if not by_path:
        kinds = sorted({type(module).__name__ for module in model.modules()} - {"Sequential"})
        raise ValueError(
            f"model: found no recurrent module in {type(model).__name__}, which is made of "
            f"{', '.join(kinds)}; expected torch.nn.RNN, LSTM or GRU, or a layer, Stack or "
            "Bidirectional of longlag"
        )
    if all(getattr(module, "proj_size", 0) for module in by_path.values()):
        name, module = next(iter(by_path.items()))
        _refuse_projection(name or type(module).__name__, module)
    return by_path


def _refuse_projection(name: str, module: nn.Module) -> None:
    if size := getattr(module, "proj_size", 0):
        raise ValueError(
            f"{name}: got an LSTM with proj_size={size}, expected 0; longlag's LSTM has no "
            "projection, so that its memory cannot be measured"
        )


def reader_of(name: str, module: nn.Module) -> RecurrentModule:
    """A module of longlag with the weights of a recurrent module, without dropout or hooks.

    Of torch.nn it is a copy, of longlag it shares the weights; half precision becomes float32.

    Raises:
        ValueError: an LSTM has a projection; `name` is who.
    """
    if isinstance(module, TORCH_MODULES):
        _refuse_projection(name, module)
        # Its initial weights are drawn, and then overwritten: the model's own draws stay as is.
        with torch.random.fork_rng(devices=[]):
            reader = converted(module).eval()
    else:
        reader: Any = without_hooks(plain_model(module).model)
    if next(reader.parameters()).dtype in (torch.float16, torch.bfloat16):
        reader = copy.deepcopy(reader).float()
    return reader
