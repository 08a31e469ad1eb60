"""Any layer that learns by backpropagation through the last few steps, many nets side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longlag.gradients.parts import map_tensors, refuse_dropout, tensors_of
from longlag.layers.base import RecurrentModule
from longlag.layers.readout import Readout

__all__ = ["WindowNet"]


class WindowNet:
    """R nets, each a layer with readouts; see :class:`longlag.chunker.OnlineBPTT`.

    Every net keeps its last K inputs and the states before each of them. A reset inside the window
    is a reset of the layer, so the error stops there.
    """

    def __init__(
        self,
        layer: RecurrentModule,
        readouts: Sequence[Readout],
        steps: int,
        learning_rate: float,
    ) -> None:
        refuse_dropout(layer, "OnlineBPTT")
        parameter = next(layer.parameters())
        self._layer, self._readouts, self._rate = layer, list(readouts), learning_rate
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
        self._graph: list[Tensor] = []
        self._outputs: list[NDArray] = [
            np.zeros((count, readout.weight.shape[-2]), self._h.dtype) for readout in readouts
        ]

    def _front(self, x: Tensor) -> Tensor:
        """(R, K, ...) as the layer takes it: one sequence a replica."""
        return x if self._single else x.unsqueeze(1)

    def _choose(self, rows: Tensor | None, new: Any, old: Any) -> Any:
        """The new state where it is a row's, else the old one."""
        if rows is None:
            return new
        parts = iter(list(tensors_of(old)))

        def choose(part: Tensor) -> Tensor:
            chosen = rows.view(-1, *(1,) * (part.dim() - 1))
            return torch.where(chosen, part, next(parts))

        return map_tensors(new, choose)

    def reset(self, rows: NDArray) -> None:
        """The next step begins from zero."""
        self._fresh[rows] = True
        self._h[rows] = 0.0

    def read(self, rows: NDArray, x: NDArray) -> None:
        """One step of the rows."""
        count = len(self._fresh)
        everyone = len(rows) == count
        index = torch.from_numpy(np.asarray(rows))
        chosen = None
        if not everyone:
            chosen = torch.zeros(count, dtype=torch.bool)
            chosen[index] = True
            chosen = chosen.to(self._device)
        given = torch.from_numpy(np.asarray(x))
        if given.dim() == 1:
            given = nn.functional.one_hot(given.long(), self._x.shape[-1])
        given = given.to(self._device, self._dtype)
        index = index.to(self._device)
        # New tensors: the graph of the step before may still need the old ones.
        window, resets = self._x.roll(-1, 1), self._resets.roll(-1, 1)
        window[index, -1] = given
        resets[index, -1] = torch.from_numpy(self._fresh[rows]).to(self._device)
        if chosen is not None:
            window = torch.where(chosen[:, None, None], window, self._x)
            resets = torch.where(chosen[:, None], resets, self._resets)
        self._x, self._resets = window, resets
        later = [*self._before[1:], self._state]
        self._before = [
            self._choose(chosen, new, old) for new, old in zip(later, self._before, strict=True)
        ]
        self._fresh[rows] = False
        h, final = self._layer(self._front(window), self._before[0], resets=self._front(resets))
        final = map_tensors(final, Tensor.detach)
        self._state = self._choose(chosen, final, self._state)
        last, seen = h[..., -1:, :], self._front(window[:, -1:])
        self._graph = [
            readout(last, None if readout.weight_direct is None else seen).flatten(0, -2)
            for readout in self._readouts
        ]
        self._h[rows] = last.detach().flatten(0, -2).cpu().numpy()[rows]
        for outputs, graph in zip(self._outputs, self._graph, strict=True):
            outputs[rows] = graph.detach().cpu().numpy()[rows]

    def outputs(self) -> list[NDArray]:
        """What each readout says, (R, K)."""
        return self._outputs

    def hidden(self) -> NDArray:
        """(R, H)."""
        return self._h

    def learn(self, rows: NDArray, errors: Sequence[NDArray]) -> None:
        """One step of gradient descent of the rows, of the graph that `read` left."""
        due = []
        for error in errors:
            masked = np.zeros_like(error)
            masked[rows] = error[rows]
            due.append(torch.from_numpy(masked).to(self._device))
        gradients = torch.autograd.grad(
            self._graph, self._parameters, due, allow_unused=True, retain_graph=False
        )
        with torch.no_grad():
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(gradient, alpha=self._rate)
