"""Sequences that are run piece by piece in time, with the bits of one run.

Sums of floating-point numbers depend on their order. So that the gradients of the weights have the
bits of one backward pass over all steps, the compiled backend has to know which pieces belong
together: it then goes on with its sums, and gives the gradients with the last piece.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


class Sums:
    """What one recurrence leaves for its next piece.

    Attributes:
        opens: whether this is the first piece of the backward pass, the last in time.
        closes: whether it is the last of the backward pass, which gives the gradients.
        kept: the engine's own.
    """

    def __init__(self) -> None:
        self.opens, self.closes = True, False
        self.kept: Any = None


class Pieces:
    """Forward and backward passes over pieces of the same sequences; the backward ones last first.

    Inside ``with pieces:`` every scan of this thread is over a piece. Its backward passes run in
    ``with pieces.backward(closes):``, and all but the one that ``closes`` give no gradients of the
    weights: its are those of all pieces.

    What this asks of the caller: the same recurrences in the same order in each piece; no other
    scan meanwhile; and a backward pass over every piece.

    Args:
        steps: T of the whole sequences.
        lengths: of the whole sequences, or None. A piece has lengths of its own.
    """

    def __init__(self, steps: int, lengths: Tensor | None) -> None:
        self.steps, self.lengths = steps, lengths
        self._sums: list[Sums] = []
        self._next: int | None = None
        self._before: Pieces | None = None

    def __enter__(self) -> "Pieces":
        self._before, _HERE.pieces = _HERE.pieces, self
        return self

    def __exit__(self, *error: object) -> None:
        _HERE.pieces = self._before

    @contextmanager
    def backward(self, closes: bool) -> Iterator[None]:
        """The backward pass of one piece."""
        self._next = 0
        for sums in self._sums:
            sums.opens = False
        self._closes = closes
        try:
            yield
        finally:
            self._next = None

    def sums(self) -> Sums | None:
        """Those of the recurrence whose backward pass runs now; None where none was begun."""
        if self._next is None:
            return None
        if self._next == len(self._sums):
            self._sums.append(Sums())
        following = self._sums[self._next]
        self._next += 1
        following.closes = self._closes
        return following


class _Here(threading.local):
    pieces: Pieces | None = None


_HERE = _Here()


def current() -> Pieces | None:
    """The pieces that this thread is in."""
    return _HERE.pieces
