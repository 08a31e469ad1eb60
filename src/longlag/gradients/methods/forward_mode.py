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
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from longlag.arguments import check_optional
from longlag.gradients.influence.law import Law
from longlag.gradients.influence.layer import Influence
from longlag.gradients.influence.learner import InfluenceLearner
from longlag.gradients.method import Accumulated, Backward, Loss
from longlag.gradients.methods.piecewise_method import Found, PiecewiseMethod
from longlag.gradients.parameters import add_gradients, trained
from longlag.gradients.refusals import (
    refuse_dropout,
    refuse_reduced,
    refuse_without_autograd,
)
from longlag.gradients.runs.layer_run import add_by_name
from longlag.gradients.runs.piecewise_run import (
    GradientSums,
    OutputError,
    PiecewiseReadout,
    PiecewiseRun,
)
from longlag.layers.base import LayerPart
from longlag.layers.computed import plain_model
from longlag.layers.inputs import Inputs
from longlag.layers.readout import ReadoutModule
from longlag.layers.recurrent import Recurrent
from longlag.layers.state_tree import as_lists, detached, tensors_of


@dataclass(frozen=True)
class ForwardMethod(PiecewiseMethod):
    """A method that goes through the steps forward, with the influence of the parameters.

    Of whole sequences the steps are read twice: first the output of all steps is had, and its
    error; then the influence is carried along. Whether it is ``online`` makes no difference there.
    """

    online: bool = False
    block: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.online, bool):
            raise TypeError(f"online: got {self.online!r}, expected True or False")
        check_optional("block", self.block, 1)

    @abstractmethod
    def _law(self, layers: Sequence[Recurrent]) -> Law:
        """How the influence goes over a block."""

    @property
    def window(self) -> int | None:
        """Steps between two updates: 1 if ``online``, else None: one update for whole sequences."""
        return 1 if self.online else None

    def _find(self, model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss) -> Found | None:
        sequences = self._sequences(model, inputs)
        if not _any_steps(inputs.x):
            return None
        return self._walk(model, sequences, target, loss, None, False)

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
        refuse_without_autograd(type(self).__name__)
        refuse_reduced(model)
        state, influence = (None, None) if carry is None else (carry["state"], carry["influence"])
        inputs, plain = Inputs(x, lengths, resets, state), plain_model(model)
        sequences = self._sequences(plain.model, inputs)
        if not _any_steps(x):
            done = self.accumulate(model, x, target, loss, backward, **inputs.options)
            return done._replace(carry=carry)
        gradients, accumulated = self._walk(plain.model, sequences, target, loss, influence, True)
        add_gradients(model, plain.by_original(gradients), backward)
        return accumulated

    def start(
        self, model: nn.Module, learning_rate: float, further: Sequence[ReadoutModule] = ()
    ) -> InfluenceLearner:
        """A learner that reads one input at a time, and may change the weights after any.

        Args:
            model: with one output a step, or a recurrent layer or stack alone.
            learning_rate: of plain gradient descent.
            further: readouts beside that of the model, which read the same hidden units.

        Returns:
            See :class:`longlag.gradients.OnlineLearner`. As for ``online``, the influence of the
            steps before stays the one that they had with the weights of their time.

        Raises:
            TypeError, ValueError: as for :meth:`gradients`; the model has one output a sequence.

        >>> import longlag as ll
        >>> model = ll.SequenceModel(ll.GRU(2, 3, seed=0), 1, reduce=None, seed=1)
        >>> learner = ll.RTRL(online=True).start(model, learning_rate=0.1)
        >>> said = [learner.step([[1.0, 0.0]], [[0.5]]) for _ in range(100)]
        >>> bool(abs(said[-1] - 0.5) < 0.01)
        True
        """
        return InfluenceLearner(self._law, model, learning_rate, further, type(self).__name__)

    def _sequences(self, model: nn.Module, inputs: Inputs) -> PiecewiseRun:
        name = type(self).__name__
        sequences = PiecewiseRun.of(model, inputs, name)
        list(sequences.model.parts(name, None))
        refuse_dropout(model, name)
        return sequences

    def _walk(
        self,
        model: nn.Module,
        sequences: PiecewiseRun,
        target: Tensor,
        loss: Loss,
        influence: list[Influence] | None,
        go_on: bool,
    ) -> Found:
        """Through all steps, twice; with ``go_on`` to carry on state and influence at the end."""
        parts = list(sequences.model.parts(type(self).__name__, sequences.inputs.state))
        law = self._law([part.layer for part in parts])
        size = self.block or law.block
        blocks = list(itertools.pairwise([*range(0, sequences.steps, size), sequences.steps]))
        readout, state = PiecewiseReadout(sequences), sequences.inputs.state
        with torch.no_grad():
            for first, stop in blocks:
                h, state = sequences.run(state, first, stop)
                readout.add(h, first, stop)
        error = readout.error(loss, target)
        total = error.start(trained(model))
        with torch.no_grad(), torch.autocast(sequences.inputs.x.device.type, enabled=False):
            walk = _Walk(law, model, parts, sequences.inputs, error, total)
            influence = walk(blocks, influence, go_on)
        sums, of_layers = total.by_name(), walk.gradients
        gradients = {n: by + of_layers[n] if n in of_layers else by for n, by in sums.items()}
        rest = {"state": as_lists(detached(state)), "influence": influence} if go_on else None
        return gradients, error.accumulated(rest)


@dataclass
class _Walk:
    """The second time through the steps, with the influence.

    Attributes:
        law: how the influence goes over a block.
        model, parts: the model, and its layers with the states before the first step.
        inputs, error: of all steps.
        total: gets the gradients of the readout.
        gradients: those of the layers' parameters so far, by their names in the model.
    """

    law: Law
    model: nn.Module
    parts: Sequence[LayerPart]
    inputs: Inputs
    error: OutputError
    total: GradientSums
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def __call__(
        self, blocks: Sequence[tuple[int, int]], influence: list[Influence] | None, go_on: bool
    ) -> list[Influence]:
        """The influence after the last block."""
        law, scopes = self.law, self.law.scopes
        influence = [{} for _ in scopes] if influence is None else influence
        due = [self.error.touches(first, stop) for first, stop in blocks]
        last = max((number for number, there in enumerate(due) if there), default=-1)
        states = [self._begin(part) for part in self.parts]
        for number, (first, stop) in enumerate(blocks):
            if number > last and not (go_on and law.trained):
                break
            block = self.inputs.between(first, stop)
            propagations = law.runs(block.x.movedim(-2, 0), states, block.schedule)
            if due[number]:
                h = propagations[-1].run.output.movedim(0, -2)
                slope = self.error.of_piece(h, first, stop, self.total).movedim(-2, 0)
                if law.trained:
                    slope = slope.reshape(stop - first, -1, slope.shape[-1])
                    by_layer = law.send(propagations, slope, influence)
                    for part, gradients in zip(self.parts, by_layer, strict=True):
                        add_by_name(self.model, part.layer, gradients, self.gradients)
            if law.trained and (go_on or number < last):
                influence = law.advance(propagations, influence)
            states = [propagation.run.final for propagation in propagations]
        return influence

    def _begin(self, part: LayerPart) -> list[Tensor]:
        """The states of a layer before the first step."""
        x, layer = self.inputs.x, part.layer
        if part.state is not None:
            return [state.detach().to(x.dtype) for state in tensors_of(part.state)]
        zero = x.new_zeros((*x.shape[:-2], layer.hidden_size))
        return [zero] * len(layer.recurrence.states)


def _any_steps(x: Tensor) -> bool:
    """Whether there are sequences, and steps of them."""
    return 0 not in x.shape[:-1]
