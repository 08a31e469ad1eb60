"""A model that goes on by itself: what it puts out is what it reads in the next step."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.layers.base import RecurrentModule
from longlag.layers.checks import check_input, check_state
from longlag.layers.next_generation import NextGeneration
from longlag.layers.readout import Readout, ReadoutModule
from longlag.layers.recurrent import Recurrent
from longlag.layers.stack import Stack
from longlag.recurrence import Recurrence
from longlag.recurrence.closed import Closed, closed_loop
from longlag.scan import Weights, register, scan, scan_fed


class ClosedLoop:
    """A recurrent module and a readout, whose output is the last part of the next input.

    Args:
        layer: reads C features, of which the last K are what the readout put out before.
        readout: puts out K numbers.

    Raises:
        ValueError: the module reads in both directions, or less than K features.
    """

    def __init__(self, layer: RecurrentModule, readout: ReadoutModule) -> None:
        self.layer, self.readout = layer, readout
        self.free = layer.input_size - readout.output_size
        if not layer.causal:
            raise ValueError(
                "model: it reads in both directions, and the end of a sequence that it makes "
                "itself is not there; expected layers that read forward"
            )
        if self.free < 0:
            raise ValueError(
                f"model: it puts out {readout.output_size} numbers and reads {layer.input_size}; "
                "expected that the last features of x are all of its outputs"
            )

    def run(
        self, steps: int, warmup: Tensor | None, x: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        """See :meth:`SequenceModel.generate`."""
        check_whole("steps", steps, 0)
        like = self.layer.like
        front = () if self.layer.replicas is None else (self.layer.replicas,)
        h = read = None
        if warmup is not None:
            h, state = self.layer(warmup, state)
            batch = warmup.shape[:-2]
            if warmup.shape[-2]:
                h, read = h[..., -1:, :], warmup[..., -1:, :]
        elif x is not None:
            batch = x.shape[:-2]
        else:
            batch = (*front, 1) if state is None else _output_of(self.layer, state).shape[:-1]
        if x is None:
            if self.free:
                raise ValueError(
                    f"x: got None, expected {_shown((*batch, steps, self.free))}, the features of "
                    f"each step that are not fed back: {self.free} of {self.layer.input_size}"
                )
            x = like.new_zeros((*batch, steps, 0))
        x = check_input(x, self.free, self.layer.replicas, like)
        if x.shape[:-1] != (*batch, steps):
            raise ValueError(
                f"x: got {_shown(x.shape)}, expected {_shown((*batch, steps, self.free))}"
            )
        if h is None:
            if self.readout.direct_size is not None:
                raise ValueError(
                    "warmup: got no step, and the readout sees the input of the step before, which "
                    "the state does not hold; give the steps before as warmup"
                )
            h = x.new_zeros((*batch, 1, self.layer.output_size))
            if state is not None:
                h = _output_of(self.layer, state).unsqueeze(-2)
        if _is_linear(self.layer, self.readout):
            return self._at_once(h, x, state)
        return self._step_by_step(self._read(h, read), x, state)

    def _read(self, h: Tensor, read: Tensor | None) -> Tensor:
        return self.readout(h, None if self.readout.direct_size is None else read)

    def _step_by_step(self, y: Tensor, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs = [y[..., :0, :]]
        for step in x.split(1, -2) if x.shape[-2] else ():
            outputs.append(y)
            read = torch.cat([step, y], -1)
            h, state = self.layer(read, state)
            y = self._read(h, read)
        return torch.cat(outputs, -2), state

    def _at_once(self, h: Tensor, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """All steps as one scan of a recurrence that is closed over its output."""
        layer, readout = self.layer, self.readout
        assert isinstance(layer, Recurrent)
        assert isinstance(readout, Readout)
        if layer.entries is not None:
            fed = self._in_kernel(x, state)
            if fed is not None:
                return fed
        closed = _closed(layer.recurrence)
        hidden = layer.hidden_size
        inputs, fed = layer.weight_ih.split([self.free, readout.output_size], -1)
        bias = inputs.new_zeros(inputs.shape[:-1]) if layer.bias is None else layer.bias
        if readout.bias is not None:
            bias = bias + (fed @ readout.bias.unsqueeze(-1)).squeeze(-1)
        further = len(closed.recurrence.gates) * hidden - inputs.shape[-2]
        matrix = layer.recurrent_matrix()
        parts = () if matrix is None else matrix.split(hidden, -2)
        products = (fed @ readout.weight).split(hidden, -2)
        wires: list[Any] = [None] * len(closed.recurrence.wires)
        for part, number in zip(parts, closed.kept, strict=True):
            wires[number] = part
        for gate, wire, shared in closed.fed:
            wires[wire] = products[gate] if shared is None else wires[wire] + products[gate]
        result = scan(
            closed.recurrence,
            x,
            Weights(
                torch.cat(wires, -2),
                layer.unit_rows(),
                nn.functional.pad(inputs, (0, 0, 0, further)),
                nn.functional.pad(bias, (0, further)),
            ),
            None if state is None else check_state(state, layer.recurrence, x, hidden),
            backend=layer.backend,
        )
        before = torch.cat([h, result.output], -2)[..., :-1, :]
        return readout.by_step(before), layer.state_of(result.state)

    def _in_kernel(self, x: Tensor, state: Any) -> tuple[Tensor, Any] | None:
        """The same without U V: a W that is sparse stays so."""
        layer, readout = self.layer, self.readout
        assert isinstance(layer, Recurrent)
        assert isinstance(readout, Readout)
        weight, bias = readout.weight, readout.bias
        if bias is None:
            bias = weight.new_zeros(weight.shape[:-1])
        result = scan_fed(
            layer.recurrence,
            x,
            Weights(layer.weight_hh, layer.unit_rows(), layer.weight_ih, layer.bias, layer.entries),
            (weight, bias),
            None if state is None else check_state(state, layer.recurrence, x, layer.hidden_size),
            backend=layer.backend,
        )
        if result is None:
            return None
        outputs, scanned = result
        return outputs, layer.state_of(scanned.state)


@functools.lru_cache(maxsize=128)
def _closed(recurrence: Recurrence) -> Closed:
    closed = closed_loop(recurrence)
    register(closed.recurrence)
    return closed


def _is_linear(layer: RecurrentModule, readout: ReadoutModule) -> bool:
    """Whether what is fed back is a linear function of the layer's state."""
    if not isinstance(layer, Recurrent) or not isinstance(readout, Readout):
        return False
    if layer.training and (layer.input_dropout or layer.recurrent_dropout):
        return False
    others = readout.weight_squares is not None or readout.weight_direct is not None
    return readout.activation == "identity" and not others


def _output_of(layer: RecurrentModule, state: Any) -> Tensor:
    """The part of a state that a module puts out."""
    while isinstance(layer, Stack):
        layer, state = layer.layers[-1], state[-1]  # type: ignore[assignment]
    if isinstance(layer, NextGeneration):
        return layer.output_of(state)
    assert isinstance(layer, Recurrent)
    return getattr(state, layer.recurrence.output)


def _shown(shape: Any) -> str:
    return str(tuple(shape))
