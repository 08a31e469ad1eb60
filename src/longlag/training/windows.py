"""Batches cut into the windows after which a method updates the weights."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from longlag.batch import Batch


class Window(NamedTuple):
    """Some steps of a batch."""

    batch: Batch[Tensor]
    """The steps, as a batch of their own."""
    first: bool
    """Whether the sequences begin here."""
    last: bool
    """Whether they end here."""


def windows_of(batch: Batch[Tensor], steps: int, start: int = 0) -> Iterator[Window]:
    """Cut a batch with one target a step into windows.

    What lies beyond the longest sequence is left out.

    Args:
        batch: x (N, T, C), target (N, T, ...).
        steps: of a window, >= 1; the last may be shorter.
        start: how many windows to leave out.

    >>> import torch
    >>> whole = Batch(torch.zeros(1, 5, 1), torch.zeros(1, 5, 1))
    >>> [(tuple(each.batch.x.shape), each.last) for each in windows_of(whole, 2, start=1)]
    [((1, 2, 1), False), ((1, 1, 1), True)]
    """
    total = batch.x.shape[1]
    if batch.lengths is not None:
        total = max(1, int(batch.lengths.max()))
    for first in range(start * steps, max(total, 1), steps):
        stop = min(first + steps, total)
        yield Window(batch.steps(first, stop), first == 0, stop == total)
