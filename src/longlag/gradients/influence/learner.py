"""Real-time recurrent learning, one step after the other: an online learner for any layer."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longlag.gradients.influence.law import Law
from longlag.gradients.influence.layer import Influence, Propagation
from longlag.gradients.online import TorchLearner, as_mask, as_vectors, choose, descend, readouts_of
from longlag.gradients.refusals import refuse_computed, refuse_dropout, refuse_reduced
from longlag.layers.composition import composition_of
from longlag.layers.readout import ReadoutModule
from longlag.layers.recurrent import Recurrent
from longlag.layers.state_tree import map_tensors
from longlag.scan import Schedule


class InfluenceLearner(TorchLearner):
    """R nets that carry along what their parameters did to their states.

    What a step began from, states and influence, is kept, so that a net learns from its own last
    step even where others have read since.

    Args:
        law: from the recurrent layers to how the influence goes over a step.
        model, learning_rate, further: as for :meth:`OnlineMethod.start`.
        method: who asks, for errors.

    Raises:
        TypeError, ValueError: the model cannot be seen into, drops out units, or has one output a
            sequence.
    """

    def __init__(
        self,
        law: Callable[[Sequence[Recurrent]], Law],
        model: nn.Module,
        learning_rate: float,
        further: Sequence[ReadoutModule],
        method: str,
    ) -> None:
        refuse_reduced(model)
        refuse_dropout(model, method)
        readouts = readouts_of(model, further, method)
        self._layers = [part.layer for part in composition_of(model, method).parts(method)]
        refuse_computed(self._layers, method)
        self._law_of, lowest, top = law, self._layers[0], self._layers[-1]
        count, like = lowest.replicas or 1, lowest.weight_ih.detach()
        super().__init__(readouts, lowest.replicas, top.hidden_size, like, learning_rate)
        self._weights = [p for readout in readouts for p in readout.parameters() if p.requires_grad]
        self._x = like.new_zeros(count, lowest.input_size)
        # Before and after the last step, what each layer carries, states and t, (R, S, H); and the
        # influence on the states.
        carried = [
            like.new_zeros(count, len(layer.recurrence.carried), layer.hidden_size)
            for layer in self._layers
        ]
        self._now: tuple[list[Tensor], list[Influence]] = carried, [{} for _ in self._layers]
        self._before = self._now
        self._leaf = like.new_zeros(())
        self._propagations: list[Propagation] = []

    def reset(self, rows: NDArray) -> None:
        """The state is zero, and so is the influence on it."""
        mask = as_mask(rows, len(self._h), self._x)
        self._now = choose(mask, map_tensors(self._now, torch.zeros_like), self._now)
        self._h[rows] = 0.0

    @torch.no_grad()
    def read(self, rows: NDArray, x: NDArray) -> None:
        """One step of the rows."""
        mask = as_mask(rows, len(self._h), self._x)
        self._x[torch.from_numpy(np.asarray(rows)).to(self._x.device)] = as_vectors(x, self._x)
        self._before = choose(mask, self._now, self._before)
        states, influence = self._before
        self._law = self._law_of(self._layers)  # it holds what follows from the weights of now
        begin = [[self._front(part) for part in state.unbind(1)] for state in states]
        seen = self._front(self._x).unsqueeze(0)
        self._propagations = self._law.runs(seen, begin, Schedule())
        after = [
            # Of t, (R, 1), each unit has a copy.
            torch.stack(
                [part.flatten(0, -2).expand(state[:, 0].shape) for part in one.run.final], 1
            )
            for one, state in zip(self._propagations, states, strict=True)
        ]
        influence = self._law.advance(self._propagations, influence)
        self._now = choose(mask, (after, influence), self._now)
        h = self._propagations[-1].run.output.movedim(0, -2)
        with torch.enable_grad():
            self._leaf = h.detach().requires_grad_()
            self._read_out(rows, self._leaf, seen.movedim(0, -2))

    def learn(self, rows: NDArray, errors: Sequence[NDArray]) -> None:
        """One step of gradient descent of the rows."""
        sources = [self._leaf, *self._weights]
        slope, *gradients = self._gradients(rows, errors, sources)
        assert slope is not None
        with torch.no_grad():
            d_output = slope.movedim(-2, 0).reshape(1, -1, slope.shape[-1])
            by_layer = self._law.send(self._propagations, d_output, self._before[1])
        descend(self._weights, gradients, self._rate)
        for layer, by_name in zip(self._layers, by_layer, strict=True):
            own = [layer.get_parameter(name) for name in by_name]
            descend(own, [*by_name.values()], self._rate)
