"""Sequences cut into windows, each an update that goes on from the state after the one before."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from longlag.batch import IGNORED_CLASS, Batch


class Windows:
    """Sequences of T steps as W windows of k steps each, which lie one after the other.

    Args:
        data: x (N, T, C), a target at each step, and perhaps lengths and resets.
        steps: k.

    Attributes:
        rows: windows as sequences: number n W + w is window w of sequence n. What is beyond the
            end of a sequence is padding.
        count: W.
        ragged: whether sequences have lengths.
    """

    def __init__(self, data: Batch[Tensor], steps: int) -> None:
        sequences, total = data.x.shape[:2]
        self._steps, self.count = steps, -(-total // steps)
        self.ragged = data.lengths is not None
        missing = self.count * steps - total
        ends = torch.full((sequences,), total) if data.lengths is None else data.lengths
        self._ends: np.ndarray[Any, Any] = ends.numpy()

        def cut(part: Tensor, nothing: float) -> Tensor:
            if missing:
                part = torch.cat(
                    [part, part.new_full((sequences, missing, *part.shape[2:]), nothing)], 1
                )
            return part.reshape(sequences * self.count, steps, *part.shape[2:])

        nothing = float("nan") if data.target.is_floating_point() else IGNORED_CLASS
        lengths = None
        if self.ragged or missing:
            begins = torch.arange(self.count) * steps
            lengths = (ends.unsqueeze(1) - begins).clamp(0, steps).reshape(-1)
        resets = None if data.resets is None else cut(data.resets, False)
        weights = None if data.weights is None else data.weights.repeat_interleave(self.count)
        self.rows = Batch(cut(data.x, 0.0), cut(data.target, nothing), lengths, resets, weights)

    def of(self, sequences: "np.ndarray[Any, Any]") -> int:
        """How many windows a batch of sequences has: none beyond the longest."""
        return max(1, -(-int(self._ends[sequences].max()) // self._steps))

    def lengths(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Of each row of numbers of windows of a batch, how many steps there are until the end of
        its longest sequence."""
        left = self._ends[order // self.count].max(1) - order[:, 0] % self.count * self._steps
        return left.clip(1, self._steps)

    def begin(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Of each row of numbers of windows, whether sequences begin there."""
        return order[:, 0] % self.count == 0

    def are_whole(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Of each row, whether sequences begin and end there."""
        return self._ends[order // self.count].max(1) <= self._steps


class Following:
    """Windows of recordings, which come one by one: each goes on where the one before ended.

    Attributes:
        first: whether recordings begin with the first of a block.
    """

    count, ragged = 1, False

    def __init__(self) -> None:
        self.first = True

    def lengths(self, order: "np.ndarray[Any, Any]") -> None:
        """All have all steps."""

    def begin(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Of each row, whether recordings begin there; within a window `resets` say so."""
        return (order[:, 0] == 0) & self.first

    def are_whole(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """None is: where no error is due there is no update."""
        return np.zeros(len(order), dtype=bool)
