"""An Elman net that learns by real-time recurrent learning, many of them side by side."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from longlag.cells import Elman
from longlag.gradients.online import OnlineLearner, readouts_of
from longlag.gradients.refusals import refuse_computed
from longlag.layers.composition import composition_of
from longlag.layers.readout import Readout, ReadoutModule
from longlag.layers.recurrent import Recurrent


def _sigmoid(a: NDArray) -> NDArray:
    y = np.tanh(0.5 * a)  # does not overflow
    y += 1.0
    y *= 0.5
    return y


_FUNCTIONS: dict[str, Callable[[NDArray], NDArray]] = {
    "identity": lambda a: a,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}

SLOPES: dict[str, Callable[[NDArray], NDArray]] = {
    "identity": np.ones_like,
    "sigmoid": lambda y: y * (1.0 - y),
    "tanh": lambda y: 1.0 - y * y,
}
"""phi'(a), as a function of phi(a)."""


def view(parameter: nn.Parameter, replicas: int | None) -> NDArray:
    """The memory of a parameter as an array with R in front."""
    array = parameter.detach().numpy()
    return array[None] if replicas is None else array


class ElmanNet(OnlineLearner):
    """R Elman nets with readouts; see :class:`longlag.chunker.OnlineRTRL`.

    The influence of the parameters on the state is `influence`, (R, H, H, Z): the derivative of
    h_k with respect to row i of (U, W, b), Z = C + H + 1 (or C + H without a bias).
    """

    def __init__(
        self, model: nn.Module, further: Sequence[ReadoutModule], learning_rate: float
    ) -> None:
        readouts = readouts_of(model, further, "OnlineRTRL")
        layer = composition_of(model, "OnlineRTRL").recurrent
        if not isinstance(layer, Recurrent) or not isinstance(layer.cell, Elman):
            raise TypeError(
                f"layer: OnlineRTRL() is for ll.Elman layers, got {type(layer).__name__}; use "
                "OnlineBPTT(steps), which takes any layer"
            )
        if layer.cell.activation not in SLOPES:
            raise ValueError(
                f"layer: OnlineRTRL() knows the activations {', '.join(SLOPES)}, got "
                f"{layer.cell.activation!r}; use OnlineBPTT(steps)"
            )
        if layer.dilation > 1:
            raise ValueError(
                f"layer: OnlineRTRL() knows no dilation, got {layer.dilation}; leave it out, or "
                "use OnlineBPTT(steps)"
            )
        refuse_computed([layer], "OnlineRTRL()")
        if layer.weight_ih.device.type != "cpu":
            raise ValueError(
                f"layer: OnlineRTRL() runs on the CPU, got {layer.weight_ih.device}; use "
                "chunker.cpu(), or OnlineBPTT(steps)"
            )
        if layer.entries is not None:
            raise ValueError(
                "layer: OnlineRTRL() knows no sparse W, got a density; leave it out, or use "
                "OnlineBPTT(steps)"
            )
        if layer.input_dropout or layer.recurrent_dropout:
            raise ValueError("layer: OnlineRTRL() knows no dropout; give a layer without")
        assert layer.weight_hh is not None
        replicas = layer.replicas
        self._u = view(layer.weight_ih, replicas)
        self._w = view(layer.weight_hh, replicas)
        self._b = None if layer.bias is None else view(layer.bias, replicas)
        self._readouts = [_Output(readout) for readout in readouts]
        self._rate = learning_rate
        self._phi = _FUNCTIONS[layer.cell.activation]
        self._slope = SLOPES[layer.cell.activation]
        count, units, inputs = self._u.shape
        width = inputs + units + (self._b is not None)
        # What is trained, with its place on the last axis of the influence.
        places = (slice(inputs), slice(inputs, inputs + units), -1)
        parameters = (layer.weight_ih, layer.weight_hh, layer.bias)
        self._trained = [
            (view(parameter, replicas), place)
            for parameter, place in zip(parameters, places, strict=True)
            if parameter is not None and parameter.requires_grad
        ]
        self._h = np.zeros((count, units), self._u.dtype)
        self.influence = np.zeros((count, units, units, width), self._u.dtype)
        self._x: NDArray = np.zeros(count, np.int64)
        self._outputs = [np.zeros(output.shape, self._u.dtype) for output in self._readouts]

    def reset(self, rows: NDArray) -> None:
        """The state is zero, and so is the influence on it."""
        self._h[rows] = 0.0
        self.influence[rows] = 0.0

    def read(self, rows: NDArray, x: NDArray) -> None:
        """One step of the rows."""
        if x.ndim != self._x.ndim:  # symbols or vectors
            self._x = np.zeros((len(self._h), *x.shape[1:]), x.dtype)
        part = self._part(rows)
        self._x[part] = x
        before, w, p = self._h[part], self._w[part], self.influence[part]
        count, units = before.shape
        inputs, every = self._u.shape[-1], np.arange(units)
        p = _product(w, p.reshape(count, units, -1)).reshape(p.shape)
        if x.ndim == 1:
            p[np.arange(count)[:, None], every, every, x[:, None]] += 1.0
        else:
            p[:, every, every, :inputs] += x[:, None]
        p[:, every, every, inputs : inputs + units] += before[:, None]
        a = _times(self._u, rows, part, x) + _product(w, before[..., None])[..., 0]
        if self._b is not None:
            p[:, every, every, -1] += 1.0
            a += self._b[part]
        h = self._phi(a)
        p *= self._slope(h)[..., None, None]
        self._h[part] = h
        self.influence[part] = p
        for outputs, readout in zip(self._outputs, self._readouts, strict=True):
            outputs[part] = readout.of(rows, part, h, x)

    def _part(self, rows: NDArray) -> NDArray | slice:
        """The rows as an index; all of them as a slice, which copies nothing."""
        return slice(None) if len(rows) == len(self._h) else rows

    def outputs(self) -> list[NDArray]:
        """What each readout says, (R, K)."""
        return self._outputs

    def hidden(self) -> NDArray:
        """(R, H)."""
        return self._h

    def learn(self, rows: NDArray, errors: Sequence[NDArray]) -> None:
        """One step of gradient descent of the rows."""
        part = self._part(rows)
        h, x = self._h[part], self._x[part]
        count, units = h.shape
        back = np.zeros_like(h)
        for output, readout, error in zip(self._outputs, self._readouts, errors, strict=True):
            delta = error[part] * readout.slope(output[part])
            back += readout.learn(rows, part, h, x, delta, self._rate)
        if not self._trained:
            return
        p = self.influence[part].reshape(count, units, -1)
        step = _product(self._rate * back[:, None], p).reshape(count, units, -1)
        for weights, place in self._trained:
            weights[part] -= step[..., place]


class _Output:
    """y = phi(V h + D x + b), and one step of gradient descent on it."""

    def __init__(self, readout: ReadoutModule) -> None:
        if not isinstance(readout, Readout) or readout.weight_squares is not None:
            raise TypeError(
                f"readout: OnlineRTRL() learns the linear Readout, got {type(readout).__name__}, "
                "or one that sees squares of h; use OnlineBPTT(steps)"
            )
        replicas = readout.replicas
        self._v = view(readout.weight, replicas)
        direct = readout.weight_direct
        self._d = None if direct is None else view(direct, replicas)
        self._b = None if readout.bias is None else view(readout.bias, replicas)
        self._phi, self.slope = _FUNCTIONS[readout.activation], SLOPES[readout.activation]
        self._trained = [
            p is not None and p.requires_grad
            for p in (readout.weight, readout.weight_direct, readout.bias)
        ]
        self.shape = self._v.shape[:2]

    def of(self, rows: NDArray, part: NDArray | slice, h: NDArray, x: NDArray) -> NDArray:
        a = _product(self._v[part], h[..., None])[..., 0]
        if self._d is not None:
            a += _times(self._d, rows, part, x)
        if self._b is not None:
            a += self._b[part]
        return self._phi(a)

    def learn(
        self,
        rows: NDArray,
        part: NDArray | slice,
        h: NDArray,
        x: NDArray,
        delta: NDArray,
        rate: float,
    ) -> NDArray:
        """Descend; the derivative of E with respect to h before the step, (rows, H)."""
        back = (delta[:, None] @ self._v[part])[:, 0]
        step = rate * delta
        if self._trained[0]:
            self._v[part] -= step[..., None] * h[:, None]
        if self._d is not None and self._trained[1]:
            if x.ndim == 1:
                self._d[rows, :, x] -= step
            else:
                self._d[part] -= step[..., None] * x[:, None]
        if self._b is not None and self._trained[2]:
            self._b[part] -= step
        return back


def _product(a: NDArray, b: NDArray) -> NDArray:
    """A @ b; with one hidden unit a plain product, which is much faster."""
    return a * b if a.shape[-1] == 1 else a @ b


def _times(weight: NDArray, rows: NDArray, part: NDArray | slice, x: NDArray) -> NDArray:
    """W x of each row; of a symbol, that is a column of W."""
    return weight[rows, :, x] if x.ndim == 1 else (weight[part] @ x[..., None])[..., 0]
