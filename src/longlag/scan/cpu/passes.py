"""The kernels of a layer's two passes over memory that stays: noted once, called again and again.

What a kernel is given depends on where its tensors lie, and on nothing else of a call. So a caller
that keeps the memory can note the kernels of one call, and run them without Python in between.
"""

import ctypes
from typing import Any, NamedTuple

from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan.backend import Wanted
from longlag.scan.cpu import scratch
from longlag.scan.cpu.backend import BackwardPass, begun, run_forward, stores_residuals
from longlag.scan.cpu.call import Call, find_shape
from longlag.scan.cpu.fresh import fresh
from longlag.scan.cpu.team import Meetings
from longlag.scan.inputs import Schedule, Weights


class Noted(NamedTuple):
    """A kernel and what it is given: called as kernel(parameters, part, parts).

    Attributes:
        address: of the compiled function.
        parameters: 64-bit whole numbers, as bytes.
        parts: how many threads share it.
        places: which of the parameters are addresses of numbers.
        memory: the tensors that they belong to.
    """

    address: int
    parameters: bytes
    parts: int = 1
    places: tuple[int, ...] = ()
    memory: tuple[Tensor, ...] = ()


class Noting(Call):
    """A call that notes its kernels in place of running them."""

    def run(self, kind: str, parameters: bytes, meetings: Meetings | None = None) -> None:
        """Note a kernel."""
        assert meetings is None  # no team was asked for
        kernel: Any = self.shape.kernel(kind)
        function = ctypes.cast(kernel, ctypes.c_void_p).value
        assert function is not None
        fixed = self.shape.backward if kind == "backward" else self.shape.forward
        self.noted.append(Noted(function, parameters, self.shape.parts, fixed.places))

    @property
    def noted(self) -> list[Noted]:
        """All so far, in order."""
        return vars(self).setdefault("_noted", [])


class Passes:
    """Forward and backward pass of one layer, from states that are zero or that the caller writes.

    Args:
        recurrence: the traced cell.
        x: (T, N, C), the memory that the layer reads.
        weights: of the layer, whose memory stays; W is dense.
        schedule: which steps count; of lengths the order of the rows is memory too, see ``order``.
        dilation: d, how many steps before the states are that a step reads.
        backward: whether a backward pass follows.
        networks: of how many the numbers lie side by side where the kernels will read and write:
            all memory is to be exchanged for such.
        places: (N,) whole numbers, where the sequences of x begin, in numbers from the first of its
            memory, which may be written between passes; None where they are as far apart as x says.

    Attributes:
        paths: of each stored state (T + 1, N, H), s_0 first: zeros, unless the caller writes others
            there before each forward pass, which a dilated recurrence would not read.
        path: that of the state that is put out.
        forward, backward: kernels to call, in order.
        gradients: of U, b and W, where the backward pass writes them: (parts, ...), one of each
            thread, of which the sum is to be taken.
        d_x: the error of x, (T, N, C); None where it is not wanted.
        deltas: of each stored state (2, N, H): the error of the state after the last step is
            expected in the first half, with lengths in both. Zeros, unless the caller writes them
            before each backward pass. Of a dilated recurrence see ``final``.
        final: (d, N, H) zeros, where the error of a put out state after step t is expected at
            t mod d, of a dilated recurrence; else None.
        ring: to be zero before each backward pass, where a cell has delays; else None.
        pieces: kernels of a backward pass.
        output: number of the state that is put out, among ``deltas``.
        units: (P, H), where the kernels read the unit parameters; None without any.
        d_units: (parts, P, H), zeros to which the backward pass adds their gradients.

    Raises:
        ValueError: the tensors do not fit together.
    """

    backward: list[Noted]
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None]
    d_x: Tensor | None
    deltas: list[Tensor]
    final: Tensor | None
    ring: Tensor | None
    pieces: int
    d_units: Tensor | None

    def __init__(
        self,
        recurrence: Recurrence,
        x: Tensor,
        weights: Weights,
        schedule: Schedule,
        *,
        dilation: int = 1,
        backward: bool = True,
        networks: int = 1,
        places: Tensor | None = None,
    ) -> None:
        shape = find_shape(
            recurrence, x, weights, None, schedule, dilation=dilation, team=False, folds=False,
            networks=networks, placed=places is not None,
        )  # fmt: skip
        self.output = shape.lowered.output
        self._call = Noting(recurrence, x, weights, schedule, shape, places)
        self.units = self._call.joined_units
        if shape.dilated:  # a step of zeros before the first, as others have
            whole = [x.new_zeros((1 + size[0], *size[1:])) for size in shape.paths]
            self._given = [path[1:] for path in whole]
        else:
            whole = [begun(x, shape, place, None) for place in range(len(shape.paths))]
            self._given = whole
        depths, self.dilation = shape.lowered.depths, dilation
        self.paths = [path[depth:] for path, depth in zip(whole, depths, strict=True)]
        self._residuals = None
        if backward and stores_residuals(shape):
            self._residuals = fresh(x, (shape.steps, *shape.stored_state))
        kind = "forward" if self._residuals is None else "store"
        with scratch.apart() as memory:
            run_forward(self._call, self._given, self._residuals, 0, shape.steps, kind)
        call = self._call
        self._memory = [
            call.x, places, *weights[:1], *weights.units, *weights[2:4], call.joined_units,
            *call.held, *self._given, self._residuals, *memory.values(),
        ]  # fmt: skip
        self.forward = self._taken()
        self.path = self.paths[self.output]

    def send_back(
        self, d_output: Tensor | None, *, want_x: bool, want_units: bool, since: int = 0
    ) -> None:
        """Note the backward pass.

        Args:
            d_output: (T, N, H), the memory of the errors of the output; None for zeros.
            want_x: whether x has an error.
            want_units: whether the unit parameters have.
            since: the step to which errors go back, of a recurrence that is not dilated; those of
                x before it are not written.
        """
        wanted = Wanted(x=want_x, initial=False, units=want_units)
        shape = self._call.shape
        final: list[Tensor | None] = [None] * len(self._call.recurrence.states)
        if shape.dilated:
            deep = self.path.new_zeros((self.dilation, *self.path.shape[1:]))
            final[shape.lowered.stored[self.output]] = deep
        with scratch.apart() as memory:
            passing = BackwardPass(
                self._call, self._given, self._residuals, [d_output, *final], wanted, since=since
            )
            self.final = passing.final[self.output] if shape.dilated else None
            totals = passing.sums()
        self._memory += [
            *memory.values(), passing.d_output, passing.d_x, passing.d_units, *totals
        ]  # fmt: skip
        self.backward, self.deltas = self._taken(), passing.deltas
        self.ring, self.pieces = passing.ring, len(passing.blocks)
        several = shape.single_parts > 1
        of_input, of_bias, of_matrix = (
            part if part is None or several else part.unsqueeze(0) for part in totals
        )
        self.gradients, self.d_x = (of_input, of_bias, of_matrix), passing.d_x
        self.d_units = None if passing.d_units is None else passing.d_units.squeeze(1)
        self._held = passing

    @property
    def order(self) -> tuple[Tensor, Tensor] | None:
        """With lengths the memory of the rows by falling length (N,), and of how many count in each
        step (T + 1,): both are read by the kernels, and may be written between passes."""
        rows = self._call.ordered
        return None if rows is None else (rows.order.view(-1), rows.counts.view(-1))

    def _taken(self) -> list[Noted]:
        memory = tuple(tensor for tensor in self._memory if tensor is not None)
        noted = [one._replace(memory=memory) for one in self._call.noted]
        self._call.noted.clear()
        return noted
