"""Two ways to carry the influence of the parameters on the states over a block of steps.

For a block of steps [a, b) and its error E,

.. math:: \\frac{\\partial E}{\\partial \\theta} = \\text{within}
    + \\frac{\\partial E}{\\partial s_a} M_a, \\qquad
    M_b = \\text{within} + \\frac{\\partial s_b}{\\partial s_a} M_a, \\qquad
    M = \\frac{\\partial s}{\\partial \\theta}

"Within" is what a backward pass over the block finds: of the block's error, or of a unit error at
a number of its last state.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from longlag.gradients.influence_layer import Influence, Piece, Scope
from longlag.gradients.influence_wires import opened, within_units
from longlag.gradients.layers import Layer
from longlag.recurrence import Recurrence
from longlag.scan import Schedule

__all__ = ["Joint", "Law", "Units"]

AT_ONCE = 1 << 24
"""Numbers that errors sent back at once may take: 64 MB in float32."""


class Law(ABC):
    """How errors and influence go over a block.

    Args:
        layers: the recurrent layers, the one that reads x first.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.scopes = [Scope(layer, self.made) for layer in layers]

    @staticmethod
    @abstractmethod
    def made(recurrence: Recurrence, gates: bool, units: Sequence[str]) -> Recurrence:
        """The recurrence that errors go back through."""

    @property
    @abstractmethod
    def block(self) -> int:
        """How many steps a block should have."""

    @abstractmethod
    def send(
        self, pieces: Sequence[Piece], d_output: Tensor, influence: Sequence[Influence]
    ) -> list[dict[str, Tensor]]:
        """The gradient of the error of a block.

        Args:
            pieces: the layers over the block.
            d_output: error of the top layer's output, (T, F, H).
            influence: that on the states at the start of the block, by layer; what is not there is
                zero.

        Returns:
            By layer and the parameter's name, of the parameter's shape.
        """

    @abstractmethod
    def advance(self, pieces: Sequence[Piece], influence: Sequence[Influence]) -> list[Influence]:
        """The influence on the states at the end of a block, from that at its start."""

    @cached_property
    def trained(self) -> bool:
        """Whether there is a trained parameter in any layer."""
        return any(scope.trained for scope in self.scopes)

    def pieces(
        self, x: Tensor, state: Sequence[Sequence[Tensor]], schedule: Schedule
    ) -> list[Piece]:
        """The layers over a block: x (T, N, C), and for each layer the states before it."""
        found: list[Piece] = []
        for scope, begin in zip(self.scopes, state, strict=True):
            found.append(Piece(scope, x, begin, schedule))
            x = found[-1].output
        return found


class Joint(Law):
    """Exact: the states of all layers as one, each of its numbers a row of the influence.

    Rows are the states of the top layer first, then of those below: a layer's parameters influence
    its own states and those above, so the influence of layer l has the first ``ends[l]`` rows.
    """

    made = staticmethod(opened)

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(layers)
        self.ends, count = [0] * len(self.scopes), 0
        for number in reversed(range(len(self.scopes))):
            count += self.scopes[number].size
            self.ends[number] = count

    @property
    def block(self) -> int:  # noqa: D102
        return max(16, self.ends[0])

    @cached_property
    def _lowest(self) -> int:
        return next(number for number, scope in enumerate(self.scopes) if scope.trained)

    def send(  # noqa: D102
        self, pieces: Sequence[Piece], d_output: Tensor, influence: Sequence[Influence]
    ) -> list[dict[str, Tensor]]:
        gradients: list[dict[str, Tensor]] = [{} for _ in pieces]
        error, initial = d_output.unsqueeze(2), d_output.new_empty(d_output.shape[1], 0)
        for number in reversed(range(self._lowest, len(pieces))):
            piece = pieces[number]
            errors = piece.back(1, error, None)
            initial = torch.cat([initial, errors.initial.flatten(1)], -1)
            for name, within in piece.by_parameter(errors.drive).items():
                by = _over_sequences(within.squeeze(1), piece)
                before = influence[number].get(name)
                if before is not None:
                    replicas = len(by)
                    rows = before.reshape(replicas, -1, by[0].numel())
                    by = by + (initial.reshape(replicas, 1, -1) @ rows).view(by.shape)
                gradients[number][name] = piece.scope.gradient(name, by)
            if number > self._lowest:
                error = piece.below(errors.drive)
        return gradients

    def advance(  # noqa: D102
        self, pieces: Sequence[Piece], influence: Sequence[Influence]
    ) -> list[Influence]:
        after: list[dict[str, list[Tensor]]] = [{} for _ in pieces]
        size = self._rows_at_once(pieces)
        for first in range(0, self.ends[0], size):
            stop = min(first + size, self.ends[0])
            self._advance_rows(pieces, influence, first, stop, after)
        return [
            {
                name: parts[0] if len(parts) == 1 else torch.cat(parts, 1)
                for name, parts in of.items()
            }
            for of in after
        ]

    def _rows_at_once(self, pieces: Sequence[Piece]) -> int:
        numbers = 1
        for piece in pieces:
            wide = piece.drive.shape[-1] + 3 * piece.scope.size
            numbers = max(numbers, wide * piece.steps * piece.front.numel())
        return max(1, AT_ONCE // numbers)

    def _advance_rows(
        self,
        pieces: Sequence[Piece],
        influence: Sequence[Influence],
        first: int,
        stop: int,
        after: list[dict[str, list[Tensor]]],
    ) -> None:
        """Add the rows first .. stop - 1 of the new influence."""
        error: Tensor | None = None
        total = pieces[0].front.numel()
        jacobian = pieces[0].x.new_zeros(total, stop - first, self.ends[0])
        for number in reversed(range(self._lowest, len(pieces))):
            piece, end = pieces[number], self.ends[number]
            begin = end - piece.scope.size
            count = min(stop, end) - first
            if count <= 0:
                continue
            # Row r is a unit error at number r - begin of this layer's states; those before begin
            # are errors of the layers above.
            ones = torch.eye(piece.scope.size, dtype=piece.x.dtype, device=piece.x.device)
            own = ones[max(first - begin, 0) : max(stop - begin, 0)]
            d_final = torch.cat([own.new_zeros(count - len(own), own.shape[1]), own])
            d_final = d_final.view(count, -1, piece.scope.hidden)
            if error is not None and error.shape[2] < count:  # rows that begin here
                more = error.new_zeros((*error.shape[:2], count - error.shape[2], error.shape[-1]))
                error = torch.cat([error, more], 2)
            errors = piece.back(count, error, d_final.expand(total, *d_final.shape))
            jacobian[:, :count, begin:end] = errors.initial.flatten(2)
            for name, within in piece.by_parameter(errors.drive).items():
                before = influence[number].get(name)
                if before is not None:
                    new = within.flatten(2).baddbmm_(jacobian[:, :count, :end], before.flatten(2))
                    within = new.view(within.shape)
                after[number].setdefault(name, []).append(within)
            if number > self._lowest:
                error = piece.below(errors.drive)


class Units(Law):
    """The influence of each unit's parameters on its own states: S rows.

    Exact for one layer whose errors do not go from unit to unit; else an approximation, SnAp-1. In
    a stack each layer has its own units, and error goes down to the layer below at the step at
    which it arises, not at earlier ones.
    """

    @staticmethod
    def made(recurrence: Recurrence, gates: bool, units: Sequence[str]) -> Recurrence:  # noqa: D102
        return opened(within_units(recurrence), gates, units)

    @property
    def block(self) -> int:  # noqa: D102
        return max(16, min(256, max(scope.size for scope in self.scopes)))

    def send(  # noqa: D102
        self, pieces: Sequence[Piece], d_output: Tensor, influence: Sequence[Influence]
    ) -> list[dict[str, Tensor]]:
        gradients: list[dict[str, Tensor]] = [{} for _ in pieces]
        for number in reversed(range(len(pieces))):
            piece = pieces[number]
            if piece.scope.trained:
                errors = piece.back(1, d_output.unsqueeze(2), None)
                initial = errors.initial.squeeze(1)  # (F, S, H)
                for name, within in piece.by_parameter(errors.drive).items():
                    by = within.squeeze(1)
                    before = influence[number].get(name)
                    if before is not None:
                        by = by + (initial[:, :, None, :, None] * before).sum(1)
                    by = _over_sequences(by, piece)
                    gradients[number][name] = piece.scope.gradient(name, by)
            if number:
                d_output = piece.below(piece.at_once(d_output))
        return gradients

    def advance(  # noqa: D102
        self, pieces: Sequence[Piece], influence: Sequence[Influence]
    ) -> list[Influence]:
        return [
            self._advance(piece, before) if piece.scope.trained else {}
            for piece, before in zip(pieces, influence, strict=True)
        ]

    def _advance(self, piece: Piece, influence: Influence) -> Influence:
        states = len(piece.scope.layer.recurrence.states)
        ones = torch.eye(states, dtype=piece.x.dtype, device=piece.x.device).unsqueeze(-1)
        shape = (piece.front.numel(), states, states, piece.scope.hidden)
        errors = piece.back(states, None, ones.expand(shape))
        after = piece.by_parameter(errors.drive)
        for name, within in after.items():
            before = influence.get(name)
            if before is not None:
                for source in range(states):
                    slope = errors.initial[:, :, source, None, :, None]
                    within.addcmul_(slope, before[:, source, None])
        return after


def _over_sequences(found: Tensor, piece: Piece) -> Tensor:
    """The sum of (F, K, H, Z) over the sequences: (R or 1, K, H, Z)."""
    replicas = piece.front[0] if len(piece.front) == 2 else 1
    return found.reshape(replicas, piece.front[-1], *found.shape[1:]).sum(1)
