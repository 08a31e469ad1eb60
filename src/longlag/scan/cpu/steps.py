"""A layer's forward kernel, one step at a time, over memory that stays.

Its arguments are noted once, for some steps that follow on each other in memory, and W and U are
packed once: a step is then one call of a function, and so are several from the first in memory on.
After the last of these steps what the next one reads is copied to the front.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan.cpu import scratch
from longlag.scan.cpu.backend import begun, run_forward
from longlag.scan.cpu.call import find_shape
from longlag.scan.cpu.passes import Noting
from longlag.scan.inputs import FULL, Weights

LEAST, MOST = 32, 256
"""Steps that follow on each other in memory: more of a recurrence that reads far back, whose past
is copied."""


class _Kernel(NamedTuple):
    """What one step calls, as function(parameters, part, parts)."""

    function: Any
    parameters: bytes
    part: int
    parts: int


def steps_of(recurrence: Recurrence) -> int:
    """How many steps should follow on each other in memory."""
    return min(MOST, max(LEAST, len(recurrence.states)))


class Steps:
    """The steps of one layer, in the memory of its input.

    Args:
        recurrence: the traced cell.
        x: (M, *R, N, C), the memory that M steps read, one after the other.
        weights: of the layer, whose memory stays as it is.

    Attributes:
        output: (M, *R, N, H), the states that are put out after each of those steps.
        calls: by step in memory, what is to be called for it.
        stretches: by their number less one, what is to be called for the steps from the first on.

    Raises:
        ValueError: the tensors do not fit together.
    """

    def __init__(self, recurrence: Recurrence, x: Tensor, weights: Weights) -> None:
        self._clock = None
        schedule = FULL
        if recurrence.timed:
            self._clock = x.new_zeros((*x.shape[:-1], 1))
            schedule = FULL._replace(clock=self._clock)
        shape = find_shape(recurrence, x, weights, None, schedule, team=False)
        self._call, self._lowered = Noting(recurrence, x, weights, schedule, shape), shape.lowered
        self._paths = [begun(x, shape, place, None) for place in range(len(shape.paths))]
        with scratch.apart() as self._memory:
            # The first packs the weights; of replicas each does, as they share the work space.
            packed, count = shape.replicas == 1, len(x)
            single = [(n, n + 1, packed) for n in range(count)]
            several = [(0, n + 1, packed) for n in range(count)]
            for first, stop, packed in ((0, 1, False), *single, *several):
                run_forward(self._call, self._paths, None, first, stop, "forward", packed=packed)
        function, parts = shape.kernel("forward"), shape.parts
        packing, *calls = [
            [_Kernel(function, noted.parameters, part, parts) for part in range(parts)]
            for noted in self._call.noted
        ]
        for kernel in packing:
            kernel.function(*kernel[1:])
        self.calls, self.stretches = calls[:count], calls[count:]
        depth = self._lowered.depths[self._lowered.output]
        self.output = self._paths[self._lowered.output][depth + 1 :]
        # NumPy's views take a fraction of the time of PyTorch's.
        self._arrays = [
            (path.numpy(), depth + 1)
            for path, depth in zip(self._paths, self._lowered.depths, strict=True)
        ]
        self.take(None)

    def take(self, states: Sequence[Tensor] | None) -> None:
        """Begin with these states, in the order of ``recurrence.carried``, each (*R, N, H); None
        for zeros. The next step is the first one in memory."""
        for path, before in self._arrays:
            path[:before] = 0.0
        if states is not None:
            for (place, back), state in zip(self._lowered.origins, states, strict=False):
                self._paths[place][self._lowered.depths[place] - back] = state
        if self._clock is not None:
            self._wind(0.0 if states is None else states[-1])

    def states(self, step: int) -> list[Tensor]:
        """The states before a step in memory, in the order of ``recurrence.carried``."""
        states = [
            self._paths[place][self._lowered.depths[place] - back + step].clone()
            for place, back in self._lowered.origins
        ]
        return states if self._clock is None else [*states, self._clock[0] + step]

    def turn(self, steps: int) -> None:
        """After so many of the steps in memory: the next one is the first again."""
        for path, before in self._arrays:
            path[:before] = path[steps : steps + before]  # which may overlap
        if self._clock is not None:
            self._wind(self._clock[0] + steps)

    def _wind(self, start: Tensor | float) -> None:
        assert self._clock is not None
        steps = torch.arange(len(self._clock), dtype=self._clock.dtype, device="cpu")
        self._clock.copy_(start + steps.view(-1, *[1] * (self._clock.dim() - 1)))
