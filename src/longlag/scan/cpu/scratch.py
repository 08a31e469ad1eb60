"""Memory that calls use and leave: kept by thread, so that it is in the cache and mapped already.

Fresh memory of this size comes page by page from the system, which for a short call takes longer
than the arithmetic.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from longlag.scan.cpu.fresh import fresh

LARGEST = 1 << 25
"""Bytes of one piece that is kept; larger ones are made anew."""

_Pieces = dict[tuple[str, torch.dtype], tuple[Tensor, Tensor]]
"""By name and dtype, a piece, and what was last given of it."""


class _Kept(threading.local):
    def __init__(self) -> None:
        self.pieces: _Pieces = {}
        self.apart: dict[tuple[Any, ...], Tensor] | None = None


_KEPT = _Kept()


def take(name: str, like: Tensor, *shape: int) -> Tensor:
    """A tensor whose content is left over; the next call with this name gives the same memory.

    Args:
        name: of the piece; two that are in use at once have two names.
        like: gives dtype and device.
        shape: of the tensor.
    """
    if _KEPT.apart is not None:
        return _KEPT.apart.setdefault((name, like.dtype, shape), fresh(like, shape))
    pieces = _KEPT.pieces
    key = (name, like.dtype)
    piece = pieces.get(key)
    if piece is not None and piece[1].shape == shape:
        return piece[1]
    size = 1
    for extent in shape:
        size *= extent
    if size * like.element_size() > LARGEST:
        return fresh(like, shape)
    whole = piece[0] if piece is not None and piece[0].numel() >= size else fresh(like, (size,))
    part = whole[:size].view(shape)
    pieces[key] = (whole, part)
    return part


@contextmanager
def apart() -> Iterator[dict[tuple[Any, ...], Tensor]]:
    """What is taken inside is no other call's: it is there as long as what this gives."""
    before, _KEPT.apart = _KEPT.apart, {}
    try:
        yield _KEPT.apart
    finally:
        _KEPT.apart = before


def clear() -> None:
    """Forget what this thread keeps."""
    _KEPT.pieces.clear()
