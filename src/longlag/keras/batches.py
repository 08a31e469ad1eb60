"""Keras' batches of arrays, in Keras' order, without PyTorch's loader around each.

Keras cuts a batch out of NumPy arrays by lists of numbers, converts it and hands it through a
``DataLoader``: in small networks that takes longer than the update. Here the arrays become tensors
once an epoch, and the sampler of that same loader says which rows come next.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MOST = 1 << 28
"""Bytes of arrays that may be copied for that, at most."""


class _Batches:
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        iter(self._loader)  # which draws a number from the generator that the sampler draws from
        return self._cut()

    def _cut(self) -> Iterator[tuple[Tensor, ...]]:
        tensors = self._loader.dataset.__getitems__(slice(None))
        for numbers in self._loader.batch_sampler:
            rows = torch.as_tensor(numbers)
            yield tuple([tensor.index_select(0, rows) for tensor in tensors])


def hasten(iterator: Any) -> None:
    """Let an epoch iterator of Keras take its batches from here, where it reads arrays."""
    adapter: Any = getattr(iterator, "data_adapter", None)
    kind = type(adapter)
    if kind.__name__ != "ArrayDataAdapter" or kind.__module__.partition(".")[0] != "keras":
        return
    if "get_torch_dataloader" in vars(adapter):  # it does already
        return
    own = adapter.get_torch_dataloader

    def get_torch_dataloader() -> Any:
        loader = own()
        parts = getattr(loader.dataset, "array", None)
        arrays = [getattr(part, "array", None) for part in parts or ()]
        plain = isinstance(parts, tuple) and all(map(_is_plain, arrays))
        return _Batches(loader) if plain else loader

    adapter.get_torch_dataloader = get_torch_dataloader


def _is_plain(array: Any) -> bool:
    if isinstance(array, Tensor):
        return array.is_cpu
    return type(array) is np.ndarray and array.nbytes <= _MOST
