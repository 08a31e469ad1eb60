"""Two propagations to carry the influence of the parameters on the states over a block of steps.

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

from longlag.gradients.influence.layer import Influence, Propagation, Scope
from longlag.gradients.influence.opened import opened, within_units
from longlag.layers.recurrent import Recurrent
from longlag.recurrence import Recurrence
from longlag.scan import Schedule

AT_ONCE = 1 << 24
"""Numbers that errors sent back at once may take: 64 MB in float32."""


class Law(ABC):
    """How errors and influence go over a block.

    Args:
        layers: the recurrent layers, the one that reads x first.
    """

    def __init__(self, layers: Sequence[Recurrent]) -> None:
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
        self, propagations: Sequence[Propagation], d_output: Tensor, influence: Sequence[Influence]
    ) -> list[dict[str, Tensor]]:
        """The gradient of the error of a block.

        Args:
            propagations: back through the layers over the block.
            d_output: error of the top layer's output, (T, F, H).
            influence: that on the states at the start of the block, by layer; what is not there is
                zero.

        Returns:
            By layer and the parameter's name, of the parameter's shape.
        """

    @abstractmethod
    def advance(
        self, propagations: Sequence[Propagation], influence: Sequence[Influence]
    ) -> list[Influence]:
        """The influence on the states at the end of a block, from that at its start."""

    @cached_property
    def trained(self) -> bool:
        """Whether there is a trained parameter in any layer."""
        return any(scope.trained for scope in self.scopes)

    def runs(
        self, x: Tensor, state: Sequence[Sequence[Tensor]], schedule: Schedule
    ) -> list[Propagation]:
        """The layers over a block: x (T, N, C), and for each layer the states before it."""
        propagations: list[Propagation] = []
        for scope, begin in zip(self.scopes, state, strict=True):
            run = scope.run(x, begin, schedule)
            propagations.append(Propagation(scope, run))
            x = run.output
        return propagations


class Joint(Law):
    """Exact: the states of all layers as one, each of its numbers a row of the influence.

    Rows are the states of the top layer first, then of those below: a layer's parameters influence
    its own states and those above, so the influence of layer l has the first ``ends[l]`` rows.
    """

    made = staticmethod(opened)

    def __init__(self, layers: Sequence[Recurrent]) -> None:
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
        self, propagations: Sequence[Propagation], d_output: Tensor, influence: Sequence[Influence]
    ) -> list[dict[str, Tensor]]:
        gradients: list[dict[str, Tensor]] = [{} for _ in propagations]
        error, initial = d_output.unsqueeze(2), d_output.new_empty(d_output.shape[1], 0)
        for number in reversed(range(self._lowest, len(propagations))):
            propagation = propagations[number]
            errors = propagation.back(1, error, None)
            initial = torch.cat([initial, errors.initial.flatten(1)], -1)
            for name, within in propagation.by_parameter(errors.drive).items():
                by = _over_sequences(within.squeeze(1), propagation)
                before = influence[number].get(name)
                if before is not None:
                    replicas = len(by)
                    rows = before.reshape(replicas, -1, by[0].numel())
                    by = by + (initial.reshape(replicas, 1, -1) @ rows).view(by.shape)
                gradients[number][name] = propagation.scope.gradient(name, by)
            if number > self._lowest:
                error = propagation.below(errors.drive)
        return gradients

    def advance(  # noqa: D102
        self, propagations: Sequence[Propagation], influence: Sequence[Influence]
    ) -> list[Influence]:
        after: list[dict[str, list[Tensor]]] = [{} for _ in propagations]
        size = self._rows_at_once(propagations)
        for first in range(0, self.ends[0], size):
            stop = min(first + size, self.ends[0])
            self._advance_rows(propagations, influence, first, stop, after)
        return [
            {
                name: parts[0] if len(parts) == 1 else torch.cat(parts, 1)
                for name, parts in of.items()
            }
            for of in after
        ]

    def _rows_at_once(self, propagations: Sequence[Propagation]) -> int:
        numbers = 1
        for propagation in propagations:
            wide = propagation.run.full_drive.shape[-1] + 3 * propagation.scope.size
            numbers = max(numbers, wide * propagation.run.steps * propagation.run.front.numel())
        return max(1, AT_ONCE // numbers)

    def _advance_rows(
        self,
        propagations: Sequence[Propagation],
        influence: Sequence[Influence],
        first: int,
        stop: int,
        after: list[dict[str, list[Tensor]]],
    ) -> None:
        """Add the rows first .. stop - 1 of the new influence."""
        error: Tensor | None = None
        total = propagations[0].run.front.numel()
        jacobian = propagations[0].run.x.new_zeros(total, stop - first, self.ends[0])
        for number in reversed(range(self._lowest, len(propagations))):
            propagation, end = propagations[number], self.ends[number]
            begin = end - propagation.scope.size
            count = min(stop, end) - first
            if count <= 0:
                continue
            # Row r is a unit error at number r - begin of this layer's states; those before begin
            # are errors of the layers above.
            ones = propagation.run.x.new_ones(propagation.scope.size).diag()
            own = ones[max(first - begin, 0) : max(stop - begin, 0)]
            d_final = torch.cat([own.new_zeros(count - len(own), own.shape[1]), own])
            d_final = d_final.view(count, -1, propagation.scope.hidden)
            if error is not None and error.shape[2] < count:  # rows that begin here
                more = error.new_zeros((*error.shape[:2], count - error.shape[2], error.shape[-1]))
                error = torch.cat([error, more], 2)
            errors = propagation.back(count, error, d_final.expand(total, *d_final.shape))
            jacobian[:, :count, begin:end] = errors.initial.flatten(2)
            for name, within in propagation.by_parameter(errors.drive).items():
                before = influence[number].get(name)
                if before is not None:
                    new = within.flatten(2).baddbmm_(jacobian[:, :count, :end], before.flatten(2))
                    within = new.view(within.shape)
                after[number].setdefault(name, []).append(within)
            if number > self._lowest:
                error = propagation.below(errors.drive)


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
        self, propagations: Sequence[Propagation], d_output: Tensor, influence: Sequence[Influence]
    ) -> list[dict[str, Tensor]]:
        gradients: list[dict[str, Tensor]] = [{} for _ in propagations]
        for number in reversed(range(len(propagations))):
            propagation = propagations[number]
            if propagation.scope.trained:
                errors = propagation.back(1, d_output.unsqueeze(2), None)
                initial = errors.initial.squeeze(1)  # (F, S, H)
                for name, within in propagation.by_parameter(errors.drive).items():
                    by = within.squeeze(1)
                    before = influence[number].get(name)
                    if before is not None:
                        by = by + (initial[:, :, None, :, None] * before).sum(1)
                    by = _over_sequences(by, propagation)
                    gradients[number][name] = propagation.scope.gradient(name, by)
            if number:
                d_output = propagation.below(propagation.at_once(d_output))
        return gradients

    def advance(  # noqa: D102
        self, propagations: Sequence[Propagation], influence: Sequence[Influence]
    ) -> list[Influence]:
        return [
            self._advance(propagation, before) if propagation.scope.trained else {}
            for propagation, before in zip(propagations, influence, strict=True)
        ]

    def _advance(self, propagation: Propagation, influence: Influence) -> Influence:
        states = len(propagation.scope.layer.recurrence.states)
        ones = propagation.run.x.new_ones(states).diag().unsqueeze(-1)
        shape = (propagation.run.front.numel(), states, states, propagation.scope.hidden)
        errors = propagation.back(states, None, ones.expand(shape))
        after = propagation.by_parameter(errors.drive)
        for name, within in after.items():
            before = influence.get(name)
            if before is not None:
                for source in range(states):
                    slope = errors.initial[:, :, source, None, :, None]
                    within.addcmul_(slope, before[:, source, None])
        return after


def _over_sequences(gradients: Tensor, propagation: Propagation) -> Tensor:
    """The sum of (F, K, H, Z) over the sequences: (R or 1, K, H, Z)."""
    replicas = propagation.run.front[0] if len(propagation.run.front) == 2 else 1
    return gradients.reshape(replicas, propagation.run.front[-1], *gradients.shape[1:]).sum(1)
