"""Any layer that learns by backpropagation through the last few steps, many nets side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from longlag.gradients.online import TorchLearner, as_mask, as_vectors, choose, descend, readouts_of
from longlag.gradients.refusals import refuse_dropout
from longlag.layers.base import RecurrentModule
from longlag.layers.composition import composition_of
from longlag.layers.readout import ReadoutModule
from longlag.layers.state_tree import detached, map_tensors


class WindowNet(TorchLearner):
    """R nets, each a layer with readouts; see :class:`longlag.chunker.OnlineBPTT`.

    Every net keeps its last K inputs and the states before each of them. A reset inside the window
    is a reset of the layer, so the error stops there.
    """

    def __init__(
        self, model: nn.Module, further: Sequence[ReadoutModule], steps: int, learning_rate: float
    ) -> None:
        refuse_dropout(model, "OnlineBPTT")
        readouts = readouts_of(model, further, "OnlineBPTT")
        layer = composition_of(model, "OnlineBPTT").recurrent
        if not isinstance(layer, RecurrentModule):
            raise TypeError(
                f"model: OnlineBPTT() is for layers of longlag, got {type(model).__name__}; "
                "ll.from_torch(...) converts a module of torch.nn"
            )
        parameter = next(layer.parameters())
        super().__init__(readouts, layer.replicas, layer.output_size, parameter, learning_rate)
        self._layer, count = layer, layer.replicas or 1
        modules = (layer, *readouts)
        self._parameters = [p for m in modules for p in m.parameters() if p.requires_grad]
        self._x = parameter.detach().new_zeros(count, steps, layer.input_size)
        self._resets = torch.ones(count, steps, dtype=torch.bool, device=self._device)
        self._fresh = np.ones(count, dtype=bool)
        # What each of the steps begins from; known once the layer has said what a state looks like.
        with torch.no_grad():
            state = layer(self._front(self._x[:, :1]))[1]
        self._before: list[Any] = [map_tensors(state, torch.zeros_like)] * steps
        self._state: Any = self._before[0]

    def reset(self, rows: NDArray) -> None:
        """The next step begins from zero."""
        self._fresh[rows] = True
        self._h[rows] = 0.0

    def read(self, rows: NDArray, x: NDArray) -> None:
        """One step of the rows."""
        chosen = as_mask(rows, len(self._fresh), self._x)
        index = torch.from_numpy(np.asarray(rows)).to(self._device)
        # New tensors: the graph of the step before may still need the old ones.
        window, resets = self._x.roll(-1, 1), self._resets.roll(-1, 1)
        window[index, -1] = as_vectors(x, self._x)
        resets[index, -1] = torch.from_numpy(self._fresh[rows]).to(self._device)
        after = (window, resets, [*self._before[1:], self._state])
        now = (self._x, self._resets, self._before)
        self._x, self._resets, self._before = choose(chosen, after, now)
        self._fresh[rows] = False
        seen = self._front(self._x)
        h, final = self._layer(seen, self._before[0], resets=self._front(self._resets))
        self._state = choose(chosen, detached(final), self._state)
        self._read_out(rows, h[..., -1:, :], seen[..., -1:, :])

    def learn(self, rows: NDArray, errors: Sequence[NDArray]) -> None:
        """One step of gradient descent of the rows, of the graph that `read` left."""
        gradients = self._gradients(rows, errors, self._parameters)
        descend(self._parameters, gradients, self._rate)
