"""Sequences cut into windows, each an update that goes on from a state before it.

A row is a window of k1 steps, and before it the k2 - k1 steps to which its errors go back: they are
run through again, with the weights of now, from the state that the window before has kept. Where
sequences have no such steps yet there are zeros, and the state begins anew after them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longlag.batch import IGNORED_CLASS, Batch


class Cut(ABC):
    """How windows follow each other.

    Args:
        steps: k1.
        before: k2 - k1.

    Attributes:
        steps, before: these.
        ragged: whether sequences have lengths.
        has_resets: whether their states begin anew within them.
    """

    ragged, has_resets = False, True

    def __init__(self, steps: int, before: int) -> None:
        self.steps, self.before = steps, before

    @abstractmethod
    def passed(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Of each row of numbers of windows of a batch, the steps of its sequences before them; any
        number above k2 - k1 where there are more."""

    @abstractmethod
    def lengths(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any] | None":
        """Of each row, how many steps there are until the end of its longest sequence; None: all
        have all steps."""

    @abstractmethod
    def are_whole(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Of each row, whether sequences begin and end there."""

    def begin(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Of each row, whether sequences begin there, or in the steps before."""
        return self.passed(order) <= self.before

    def carried(self, last: "np.ndarray[Any, Any]") -> tuple[int, bool]:
        """After the windows with these numbers: how many steps are run through again by the next
        ones, and whether sequences begin with these."""
        passed = int(self.passed(last[None])[0]) + self.steps
        return min(passed, self.before), passed <= self.before


class Windows(Cut):
    """Sequences of T steps as windows, which lie one after the other.

    Args:
        data: x (N, T, C), a target at each step, and perhaps lengths and resets.
        steps, before: k1, k2 - k1.

    Attributes:
        rows: windows as sequences: number n W + w is window w of sequence n, of which x and resets
            have k2 steps, and rows share memory; targets have k1. What is beyond the ends of a
            sequence is padding.
        count: W.
    """

    def __init__(self, data: Batch[Tensor], steps: int, before: int = 0) -> None:
        super().__init__(steps, before)
        sequences, total = data.x.shape[:2]
        windows = -(-total // steps)
        self.count = windows + -(-before // steps)  # room for the steps before the first
        self.ragged, self.has_resets = data.lengths is not None, data.resets is not None
        ends = torch.full((sequences,), total) if data.lengths is None else data.lengths
        self._ends: np.ndarray[Any, Any] = ends.numpy()

        def cut(part: Tensor, nothing: float, before: int = 0) -> Tensor:
            if total == self.count * steps:
                return part.contiguous().view(-1, steps, *part.shape[2:])
            room = part.new_full(
                (sequences * self.count * steps + before, *part.shape[2:]), nothing
            )
            whole = room[: sequences * self.count * steps]
            whole = whole.view(sequences, self.count * steps, *part.shape[2:])
            whole[:, before : before + total] = part
            return room.unfold(0, before + steps, steps).movedim(-1, 1)

        nothing = float("nan") if data.target.is_floating_point() else IGNORED_CLASS
        lengths, resets = None, data.resets
        if self.ragged or total % steps:
            begins = torch.arange(self.count) * steps - before
            lengths = (ends.unsqueeze(1) - begins).clamp(0, before + steps).reshape(-1)
        if before:
            resets = torch.zeros((sequences, total)) if resets is None else resets.clone()
            resets = resets.bool()
            resets[:, 0] = True
        if resets is not None:
            resets = cut(resets, False, before)
        weights = None if data.weights is None else data.weights.repeat_interleave(self.count)
        self.rows = Batch(
            cut(data.x, 0.0, before), cut(data.target, nothing), lengths, resets, weights
        )

    def of(self, sequences: "np.ndarray[Any, Any]") -> int:
        """How many windows a batch of sequences has: none beyond the longest."""
        return max(1, -(-int(self._ends[sequences].max()) // self.steps))

    def passed(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":  # noqa: D102
        return order[:, 0] % self.count * self.steps

    def lengths(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":  # noqa: D102
        left = self._ends[order // self.count].max(1) - self.passed(order)
        return left.clip(1, self.steps)

    def are_whole(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":  # noqa: D102
        return self._ends[order // self.count].max(1) <= self.steps


class Following(Cut):
    """Windows of recordings, which come one by one: each goes on where the one before ended."""

    def __init__(self, steps: int, before: int) -> None:
        super().__init__(steps, before)
        self._passed = 0  # steps before the first window of a block

    def passed(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":  # noqa: D102
        return self._passed + order[:, 0] // order.shape[1] * self.steps

    def lengths(self, order: "np.ndarray[Any, Any]") -> None:  # noqa: D102
        return None

    def are_whole(self, order: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """None is: where no error is due there is no update."""
        return np.zeros(len(order), dtype=bool)

    def rows_of(
        self, batches: Sequence[Batch[Tensor]], carry: Any, own: slice
    ) -> Iterator[Batch[Tensor]]:
        """The windows of a block with the steps before each.

        Args:
            batches: one after the other, with resets.
            carry: what the first goes on from; None where recordings begin.
            own: the rows of a batch that it is of.
        """
        like, before = batches[0].x, 0 if carry is None else carry["x"].shape[1]
        seen = like.new_zeros((len(like), before, like.shape[2]))
        resets, self._passed = torch.zeros(seen.shape[:2], dtype=torch.bool), before
        if carry is not None:
            seen[own] = carry["x"]
            if carry["resets"] is not None:
                resets[own] = carry["resets"]
            # A state is that before the earliest of these steps, if not all begins there.
            self._passed += carry["state"] is not None
        for number, batch in enumerate(batches):
            assert batch.resets is not None
            x, resets = torch.cat([seen, batch.x], 1), torch.cat([resets, batch.resets], 1)
            first = self.before + self.steps - x.shape[1]
            whole = x.new_zeros((len(x), self.before + self.steps, x.shape[2]))
            begins = resets.new_zeros(whole.shape[:2])
            whole[:, first:], begins[:, first:] = x, resets
            if self._passed + number * self.steps <= self.before:
                begins[:, first] = True
            yield batch._replace(x=whole, resets=begins)
            kept = x.shape[1] - min(self.before, x.shape[1])
            seen, resets = x[:, kept:], resets[:, kept:]
