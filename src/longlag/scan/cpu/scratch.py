"""Memory that calls use and leave: kept by thread, so that it is in the cache and mapped already.

Fresh memory of this size comes page by page from the system, which for a short call takes longer
than the arithmetic.
"""

import threading

from torch import Tensor

__all__ = ["LARGEST", "clear", "hold", "take"]

LARGEST = 1 << 22
"""Bytes of one piece that is kept; larger ones are made anew."""

_KEPT = threading.local()


def take(name: str, like: Tensor, *shape: int) -> Tensor:
    """A tensor whose content is left over; the next call with this name gives the same memory.

    Args:
        name: of the piece; two that are in use at once have two names.
        like: gives dtype and device.
        shape: of the tensor.
    """
    pieces = _KEPT.__dict__
    key = (name, like.dtype)
    piece = pieces.get(key)
    if piece is not None and piece[1].shape == shape:
        return piece[1]
    size = 1
    for extent in shape:
        size *= extent
    if size * like.element_size() > LARGEST:
        return like.new_empty(shape)
    whole = piece[0] if piece is not None and piece[0].numel() >= size else like.new_empty((size,))
    part = whole[:size].view(shape)
    pieces[key] = (whole, part)
    return part


def hold(name: str, tensor: Tensor) -> None:
    """Keep a tensor alive, whose address a kernel is given, until the next of this name."""
    _KEPT.__dict__[name] = tensor


def clear() -> None:
    """Forget what this thread keeps."""
    _KEPT.__dict__.clear()
