"""New memory for large results, in large pages where the system has them.

Memory that a process has not had comes page by page from the system at the first touch: with pages
of 4 KB that takes longer than all arithmetic of a small net. Linux gives pages of 2 MB where it is
asked for them, which is a hint: it costs nothing where it is not followed.
"""

import ctypes
import functools
import sys
from collections.abc import Callable

from torch import Tensor

LEAST = 1 << 22
"""Bytes from which large pages are asked for."""

_PAGE = 1 << 21
_HUGE_PAGES = 14  # MADV_HUGEPAGE of Linux, on every architecture that longlag compiles for


def fresh(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor whose content is left over; dtype and device are those of ``like``."""
    tensor = like.new_empty(shape)
    size = tensor.numel() * tensor.element_size()
    if size >= LEAST:
        first = tensor.data_ptr()
        begin, end = -(-first // _PAGE) * _PAGE, (first + size) // _PAGE * _PAGE
        if end > begin:
            _advise()(begin, end - begin, _HUGE_PAGES)
    return tensor


@functools.lru_cache(maxsize=1)
def _advise() -> Callable[[int, int, int], object]:
    """madvise of the C library; does nothing where there is none."""
    if sys.platform != "linux":
        return lambda *_: None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise
