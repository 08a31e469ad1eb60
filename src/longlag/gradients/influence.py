"""Gradients forward in time: what the methods have in common that carry an influence along.

References:
    R. J. Williams and D. Zipser (1989), "A learning algorithm for continually running fully
    recurrent neural networks", Neural Computation 1(2).
    J. Schmidhuber (1992), "A fixed size storage O(n^3) time complexity learning algorithm for fully
    recurrent continually running networks", Neural Computation 4(2).
"""

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.gradients.influence_law import Law
from longlag.gradients.influence_layer import Influence
from longlag.gradients.layers import Layer, layers_in, names_in
from longlag.gradients.method import Accumulated, Backward, Loss
from longlag.gradients.parts import (
    add_gradients,
    clipped_lengths,
    detached,
    refuse_dropout,
    refuse_reduced,
    state_tree,
    tensors_of,
    trained,
)
from longlag.gradients.pieces import Error, Reading, Steps
from longlag.gradients.piecewise import Found, PiecewiseMethod
from longlag.scan import Schedule

__all__ = ["ForwardMethod", "check_options"]


def check_options(online: Any, block: Any) -> None:
    """Raise a TypeError or ValueError where an argument of such a method has no meaning."""
    if not isinstance(online, bool):
        raise TypeError(f"online: got {online!r}, expected True or False")
    if block is None:
        return
    if isinstance(block, bool) or not isinstance(block, int):
        raise TypeError(f"block: got {block!r}, expected a whole number of steps >= 1, or None")
    if block < 1:
        raise ValueError(f"block: got {block}, expected a number of steps >= 1")


class _Walked(NamedTuple):
    """What a walk over some steps gives.

    Attributes:
        found: of the steps.
        state: after the steps.
        influence: on that state, by layer.
    """

    found: Found
    state: Any
    influence: list[Influence]


class ForwardMethod(PiecewiseMethod):
    """A method that goes through the steps forward, with the influence of the parameters.

    Of whole sequences the steps are read twice: first the output of all steps is had, and its
    error; then the influence goes along. Whether it is ``online`` makes no difference there.
    """

    online: bool
    block: int | None

    @abstractmethod
    def _law(self, layers: Sequence[Layer]) -> Law:
        """How the influence goes over a block."""

    @property
    def window(self) -> int | None:
        """Steps between two updates: 1 if ``online``, else None: one update for whole sequences."""
        return 1 if self.online else None

    def _find(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        lengths: Tensor | None,
        resets: Tensor | None,
        state: Any,
    ) -> Found | None:
        given = self._given(model, x, lengths, resets)
        if not _any_steps(x):
            return None
        return self._walk(model, given, target, loss, state, None, False).found

    def accumulate_window(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        backward: Backward,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        carry: Any = None,
    ) -> Accumulated:
        """Add the gradient of one window's loss to `.grad`, and go on from the window before.

        Args:
            model: with one output a step.
            x, target, lengths, resets: of the window, of any number of steps.
            loss: of the window's output.
            backward: starts the backward pass.
            carry: what the call for the window before handed back.

        Returns:
            Loss and output of the window, and what the next one goes on from: the state, and the
            influence on it. Where the weights have changed meanwhile, the influence is the one that
            the steps had with the weights of their time.

        Raises:
            TypeError, ValueError: as for :meth:`gradients`; the model has one output a sequence.
        """
        refuse_reduced(model)
        given = self._given(model, x, lengths, resets)
        state, influence = (None, None) if carry is None else (carry["state"], carry["influence"])
        if not _any_steps(x):
            options = {"lengths": lengths, "resets": resets, "state": state}
            done = self.accumulate(model, x, target, loss, backward, **options)
            return done._replace(carry=carry)
        found, after, influence = self._walk(model, given, target, loss, state, influence, True)
        add_gradients(model, found.gradients, backward)
        rest = {"state": state_tree(detached(after)), "influence": influence}
        return Accumulated(found.loss, found.output, rest)

    def _given(
        self, model: nn.Module, x: Tensor, lengths: Tensor | None, resets: Tensor | None
    ) -> Steps:
        name = type(self).__name__
        given = Steps.of(model, x, lengths, resets, name)
        list(layers_in(given.parts.recurrent, "", None, name))
        refuse_dropout(model, name)
        return given

    def _walk(
        self,
        model: nn.Module,
        given: Steps,
        target: Tensor,
        loss: Loss,
        state: Any,
        influence: list[Influence] | None,
        go_on: bool,
    ) -> _Walked:
        """Through all steps, twice; with ``go_on`` the influence is wanted at the end."""
        name = type(self).__name__
        layers = [layer for _, layer, _ in layers_in(given.parts.recurrent, "", None, name)]
        law = self._law(layers)
        size = self.block or law.block
        ends = [*range(0, given.steps, size), given.steps]
        blocks = list(itertools.pairwise(ends))
        reading = Reading(given)
        begin = state
        with torch.no_grad():
            for first, stop in blocks:
                h, state = given.run(state, first, stop)
                reading.add(h, first, stop)
        error = reading.error(loss, target)
        total = error.start(trained(model))
        with torch.no_grad(), torch.autocast(given.x.device.type, enabled=False):
            sums = _Sums(model, layers)
            walk = _Walk(law, given, error, total, sums)
            influence = walk(blocks, begin, influence, go_on)
        gradients = sums.added_to(total.by_name())
        found = Found(gradients, error.loss.detach(), error.output.detach())
        return _Walked(found, state, influence)


class _Walk:
    """The second time through the steps, with the influence."""

    def __init__(self, law: Law, given: Steps, error: Error, total: Any, sums: "_Sums") -> None:
        self.law, self.given, self.error, self.total, self.sums = law, given, error, total, sums

    def __call__(
        self,
        blocks: Sequence[tuple[int, int]],
        state: Any,
        influence: list[Influence] | None,
        go_on: bool,
    ) -> list[Influence]:
        """From the state before the first block; returns the influence at the end."""
        law, scopes = self.law, self.law.scopes
        influence = [{} for _ in scopes] if influence is None else influence
        due = [self.error.touches(first, stop) for first, stop in blocks]
        last = max((number for number, there in enumerate(due) if there), default=-1)
        states = self._begin(state)
        for number, (first, stop) in enumerate(blocks):
            if number > last and not (go_on and law.trained):
                break
            x = self.given.x[..., first:stop, :].movedim(-2, 0)
            pieces = law.pieces(x, states, self._schedule(first, stop))
            if due[number]:
                h = pieces[-1].output.movedim(0, -2)
                slope = self.error.of_piece(h, first, stop, self.total).movedim(-2, 0)
                if law.trained:
                    slope = slope.reshape(stop - first, -1, slope.shape[-1])
                    self.sums.add(law.send(pieces, slope, influence))
            if law.trained and (go_on or number < last):
                influence = law.advance(pieces, influence)
            states = [piece.run.final for piece in pieces]
        return influence

    def _begin(self, state: Any) -> list[list[Tensor]]:
        """The states of each layer before the first step."""
        x, found = self.given.x, []
        parts = layers_in(self.given.parts.recurrent, "", state, "")  # looked at before: all known
        for scope, (_, layer, part) in zip(self.law.scopes, parts, strict=True):
            zero = x.new_zeros((*x.shape[:-2], scope.hidden))
            begin = [zero] * len(layer.recurrence.states)
            found.append(begin if part is None else [each.detach() for each in tensors_of(part)])
        return found

    def _schedule(self, first: int, stop: int) -> Schedule:
        given = self.given
        resets = None if given.resets is None else given.resets[..., first:stop]
        lengths = clipped_lengths(given.lengths, first, stop)
        return Schedule.of(given.x[..., first:stop, :], lengths, resets)


class _Sums:
    """The gradients of the recurrent layers' parameters, by their names in the model."""

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        self.names = [names_in(model, layer) for layer in layers]
        self.found: dict[str, Tensor] = {}

    def add(self, gradients: Sequence[dict[str, Tensor]]) -> None:
        """Add what each layer has found, by the names in the layer."""
        for names, of_layer in zip(self.names, gradients, strict=True):
            for own, by in of_layer.items():
                name = names[own]
                self.found[name] = self.found[name] + by if name in self.found else by

    def added_to(self, others: dict[str, Tensor]) -> dict[str, Tensor]:
        """These and those, by name."""
        return {n: by + self.found[n] if n in self.found else by for n, by in others.items()}


def _any_steps(x: Tensor) -> bool:
    """Whether there are sequences, and steps of them."""
    return 0 not in x.shape[:-1]
