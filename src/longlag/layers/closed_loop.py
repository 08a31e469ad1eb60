"""A model that goes on by itself: what it puts out is what it reads in the next step."""

import functools
import itertools
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.layers.base import RecurrentModule, take_last
from longlag.layers.checks import check_input, check_state
from longlag.layers.next_generation import NextGeneration
from longlag.layers.readout import Readout, ReadoutModule
from longlag.layers.recurrent import Recurrent
from longlag.layers.stack import Stack
from longlag.layers.state_noise import StateNoise
from longlag.recurrence import Recurrence
from longlag.recurrence.closed import Closed, closed_loop
from longlag.scan import Weights, register, scan, scan_fed
from longlag.scan.inputs import with_noise


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
        self,
        steps: int,
        warmup: Tensor | None = None,
        lengths: Tensor | None = None,
        x: Tensor | None = None,
        teacher: Tensor | None = None,
        state: Any = None,
        noise: StateNoise | None = None,
    ) -> tuple[Tensor, Any]:
        """See :meth:`SequenceModel.generate`."""
        check_whole("steps", steps, 0)
        layer, like = self.layer, self.layer.like
        front = () if layer.replicas is None else (layer.replicas,)
        h = read = None
        if warmup is not None:
            h, read, state = self._warmed(warmup, lengths, state)
            batch = warmup.shape[:-2]
        elif lengths is not None:
            raise ValueError("lengths: got some without a warmup, whose lengths they are")
        elif x is not None or teacher is not None:
            batch = (teacher if x is None else x).shape[:-2]  # type: ignore[union-attr]
        else:
            batch = (*front, 1) if state is None else _output_of(layer, state).shape[:-1]
        if x is None:
            if self.free:
                raise ValueError(
                    f"x: got None, expected {_shown((*batch, steps, self.free))}, the features of "
                    f"each step that are not fed back: {self.free} of {layer.input_size}"
                )
            x = like.new_zeros((*batch, steps, 0))
        x = check_input(x, self.free, layer.replicas, like)
        if x.shape[:-1] != (*batch, steps):
            raise ValueError(
                f"x: got {_shown(x.shape)}, expected {_shown((*batch, steps, self.free))}"
            )
        if teacher is not None:
            teacher = self._checked(teacher, x)
        if h is None:
            if self.readout.direct_size is not None:
                raise ValueError(
                    "warmup: got no step, and the readout sees the input of the step before, which "
                    "the state does not hold; give the steps before as warmup"
                )
            h = x.new_zeros((*batch, 1, layer.output_size))
            if state is not None:
                h = _output_of(layer, state).unsqueeze(-2)
        at, outputs = _At(h, read, state), []
        with noise or nullcontext():
            for first, stop, given in _stretches(teacher, steps):
                free = x[..., first:stop, :]
                told = None if teacher is None or not given else teacher[..., first:stop, :]
                y, at = self._stretch(at, free, told, given == "all", noise)
                outputs.append(y)
        return torch.cat(outputs, -2) if len(outputs) > 1 else outputs[0], at.state

    def _warmed(
        self, warmup: Tensor, lengths: Tensor | None, state: Any
    ) -> tuple[Tensor | None, Tensor | None, Any]:
        """What the layer put out and read last, of each sequence; None where there was no step."""
        if lengths is None:
            h, state = self.layer(warmup, state)
            if not warmup.shape[-2]:
                return None, None, state
            return h[..., -1:, :], warmup[..., -1:, :], state
        h, state = self.layer(warmup, state, lengths=lengths)
        lengths = torch.as_tensor(lengths, device=h.device)
        if self.readout.direct_size is not None and not bool((lengths > 0).all()):
            return None, None, state
        return (
            _output_of(self.layer, state).unsqueeze(-2),
            take_last(warmup, lengths).unsqueeze(-2),
            state,
        )

    def _checked(self, teacher: Tensor, x: Tensor) -> Tensor:
        """The teacher's values: they fit the steps of x."""
        if not isinstance(teacher, Tensor):
            raise TypeError(
                f"teacher: got {type(teacher).__name__}, expected a torch.Tensor, NaN where the "
                "model reads its own output"
            )
        outputs, steps = self.readout.output_size, x.shape[-2]
        if (
            teacher.dim() != x.dim()
            or teacher.shape[:-2] != x.shape[:-2]
            or teacher.shape[-1] != outputs
            or teacher.shape[-2] > steps
        ):
            expected = (*x.shape[:-2], steps, outputs)
            raise ValueError(
                f"teacher: got {_shown(teacher.shape)}, expected {_shown(expected)}, or fewer of "
                f"these {steps} steps"
            )
        if (teacher.dtype, teacher.device) != (x.dtype, x.device):
            raise TypeError(
                f"teacher: got {teacher.dtype} on {teacher.device}, expected {x.dtype} on "
                f"{x.device}, as the weights"
            )
        return teacher

    def _stretch(
        self,
        at: "_At",
        x: Tensor,
        teacher: Tensor | None,
        whole: bool,
        noise: StateNoise | None,
    ) -> tuple[Tensor, "_At"]:
        """The outputs of some steps, and where the model then is."""
        if whole:
            assert teacher is not None
            read = torch.cat([x, teacher], -1)
            h, state = self.layer(read, at.state)
            before = torch.cat([at.h, h], -2)[..., :-1, :]
            seen = None
            if self.readout.direct_size is not None:
                assert at.read is not None
                seen = torch.cat([at.read, read], -2)[..., :-1, :]
            y = self.readout.by_step(before, seen)
            return y, _At(h[..., -1:, :], read[..., -1:, :], state)
        if teacher is None and _is_linear(self.layer, self.readout):
            return self._at_once(at, x, noise)
        return self._step_by_step(at, x, teacher)

    def _step_by_step(self, at: "_At", x: Tensor, teacher: Tensor | None) -> tuple[Tensor, "_At"]:
        outputs = [self._read(at)[..., :0, :]]
        for t in range(x.shape[-2]):
            y = self._read(at)
            outputs.append(y)
            if teacher is not None:
                told = teacher[..., t : t + 1, :]
                y = torch.where(told.isnan(), y, told)
            read = torch.cat([x[..., t : t + 1, :], y], -1)
            h, state = self.layer(read, at.state)
            at = _At(h, read, state)
        return torch.cat(outputs, -2), at

    def _read(self, at: "_At") -> Tensor:
        return self.readout(at.h, None if self.readout.direct_size is None else at.read)

    def _at_once(self, at: "_At", x: Tensor, noise: StateNoise | None) -> tuple[Tensor, "_At"]:
        """All steps as one scan of a recurrence that is closed over its output."""
        layer, readout = self.layer, self.readout
        assert isinstance(layer, Recurrent)
        assert isinstance(readout, Readout)
        hidden = layer.hidden_size
        initial = None
        if at.state is not None:
            initial = check_state(at.state, layer.recurrence, x, hidden)
        if layer.entries is not None and noise is None:
            fed = self._in_kernel(x, initial)
            if fed is not None:
                return fed
        closed = _closed(layer.recurrence)
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
        weights = Weights(
            torch.cat(wires, -2),
            layer.unit_rows(),
            nn.functional.pad(inputs, (0, 0, 0, further)),
            nn.functional.pad(bias, (0, further)),
        )
        given = x
        if noise is not None:

            def draw(drive: Tensor) -> Tensor:  # gates that read no input have none of their own
                own = noise.draw(drive[..., : drive.shape[-1] - further])
                return nn.functional.pad(own, (0, further))

            given, weights = with_noise(x, weights, draw)
        result = scan(closed.recurrence, given, weights, initial, backend=layer.backend)
        out = torch.cat([at.h, result.output], -2)
        y = readout.by_step(out[..., :-1, :])
        return y, _At(out[..., -1:, :], None, layer.state_of(result.state))

    def _in_kernel(
        self, x: Tensor, initial: tuple[Tensor, ...] | None
    ) -> "tuple[Tensor, _At] | None":
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
            layer.scan_weights(),
            (weight, bias),
            initial,
            backend=layer.backend,
        )
        if result is None:
            return None
        outputs, scanned = result
        state = layer.state_of(scanned.state)
        return outputs, _At(_output_of(layer, state).unsqueeze(-2), None, state)


class _At(NamedTuple):
    """Where a model is between two steps.

    Attributes:
        h: (N, 1, H), what the layer put out last.
        read: (N, 1, C), what it read last, where the readout sees that.
        state: after that step.
    """

    h: Tensor
    read: Tensor | None
    state: Any


def _stretches(teacher: Tensor | None, steps: int) -> list[tuple[int, int, str]]:
    """Steps that are alike: first, one past the last, and whether the teacher's values are read.

    That is "" for none, "all", or "some" of the sequences and outputs.
    """
    kinds: list[str] = []
    if teacher is not None:
        there = (~teacher.isnan()).movedim(-2, 0).flatten(1)
        both = zip(there.any(1).tolist(), there.all(1).tolist(), strict=True)
        kinds = ["all" if every else "some" if any_ else "" for any_, every in both]
    kinds += [""] * (steps - len(kinds))
    if not kinds:
        return [(0, 0, "")]
    changes = [t for t in range(1, steps) if kinds[t] != kinds[t - 1]]
    bounds = itertools.pairwise([0, *changes, steps])
    return [(first, stop, kinds[first]) for first, stop in bounds]


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
