"""Any layer that learns by backpropagation through the last few steps, many nets side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longlag.gradients.online import (
    OnlineLearner,
    Readouts,
    as_mask,
    as_vectors,
    choose,
    descend,
    readouts_of,
)
from longlag.gradients.refusals import refuse_dropout
from longlag.layers.base import RecurrentModule
from longlag.layers.composition import composition_of
from longlag.layers.readout import ReadoutModule
from longlag.layers.state_tree import map_tensors, tensors_of

__all__ = ["WindowNet"]


class WindowNet(OnlineLearner):
    """R nets, each a layer with readouts; see :class:`longlag.chunker.OnlineBPTT`.

    Every net keeps its last K inputs and the states before each of them. A reset inside the window
    is a reset of the layer, so the error stops there.
    """

    def __init__(
        self,
        model: nn.Module,
        further: Sequence[ReadoutModule],
        steps: int,
        learning_rate: float,
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
        self._layer, self._rate = layer, learning_rate
        self._readouts = Readouts(readouts, layer.replicas, parameter)
        self._single = layer.replicas is None
        self._device, self._dtype = parameter.device, parameter.dtype
        count, width = layer.replicas or 1, layer.input_size
        modules = (layer, *readouts)
        self._parameters = [p for m in modules for p in m.parameters() if p.requires_grad]
        self._x = torch.zeros(count, steps, width, device=self._device, dtype=self._dtype)
        self._resets = torch.ones(count, steps, dtype=torch.bool, device=self._device)
        self._fresh = np.ones(count, dtype=bool)
        # What each of the steps begins from; known once the layer has said what a state looks like.
        with torch.no_grad():
            state = layer(self._front(self._x[:, :1]))[1]
        self._before: list[Any] = [map_tensors(state, torch.zeros_like)] * steps
        self._state: Any = self._before[0]
        self._h = np.zeros((count, layer.output_size), parameter.detach().cpu().numpy().dtype)

    def _front(self, x: Tensor) -> Tensor:
        """(R, K, ...) as the layer takes it: one sequence a replica."""
        return x if self._single else x.unsqueeze(1)

    def _choose(self, rows: Tensor | None, new: Any, old: Any) -> Any:
        """The new state where it is a row's, else the old one."""
        parts = iter(list(tensors_of(old)))
        return map_tensors(new, lambda part: choose(rows, part, next(parts)))

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
        window = choose(chosen, window, self._x)
        self._x, self._resets = window, choose(chosen, resets, self._resets)
        later = [*self._before[1:], self._state]
        self._before = [
            self._choose(chosen, new, old) for new, old in zip(later, self._before, strict=True)
        ]
        self._fresh[rows] = False
        seen, resets = self._front(window), self._front(self._resets)
        h, final = self._layer(seen, self._before[0], resets=resets)
        final = map_tensors(final, Tensor.detach)
        self._state = self._choose(chosen, final, self._state)
        last = h[..., -1:, :]
        self._readouts.read(rows, last, seen[..., -1:, :])
        self._h[rows] = last.detach().flatten(0, -2).cpu().numpy()[rows]

    def outputs(self) -> list[NDArray]:
        """What each readout says, (R, K)."""
        return self._readouts.outputs

    def hidden(self) -> NDArray:
        """(R, H)."""
        return self._h

    def learn(self, rows: NDArray, errors: Sequence[NDArray]) -> None:
        """One step of gradient descent of the rows, of the graph that `read` left."""
        gradients = self._readouts.gradients(rows, errors, self._parameters)
        descend(self._parameters, gradients, self._rate)
