"""Memory that all pieces of a step share, and where the numbers of a model lie."""

import torch
from torch import nn

from longlag.torch_private import slots, version
from longlag.training.compiled.optimizers import COEFFICIENTS

MOST = 1024
"""Updates of a block, at most."""


class Cells:
    """Memory that all pieces share: the number of the update, and its numbers.

    Args:
        clip_norm: the largest norm of a gradient, or None.
        groups: how many parameter groups the optimizer has.
    """

    def __init__(self, clip_norm: float | None, groups: int) -> None:
        cells = (torch.zeros(1, dtype=torch.int64) for _ in range(3))
        self.clock, self.stop, self.stopped = cells
        self.loss = torch.zeros(1, dtype=torch.float64)
        self.losses, self.norms = (torch.zeros(MOST, dtype=torch.float64) for _ in range(2))
        self.seen = self.losses.numpy(), self.norms.numpy()  # the same memory
        most = float("inf") if clip_norm is None else clip_norm
        self.clip = torch.tensor([most, 1.0], dtype=torch.float64)
        self.row = COEFFICIENTS * groups
        self.coefficients = torch.zeros((MOST, self.row), dtype=torch.float64)

    def begin(self) -> None:
        """Nothing has stopped."""
        self.stop.zero_()
        self.stopped.zero_()


class Places:
    """Where the numbers of a model lie: they are what was compiled for as long as these hold.

    Args:
        model: whose modules stay, until another of these is made.
    """

    def __init__(self, model: nn.Module) -> None:
        # PyTorch's own walk through a model takes as long as an update of a small one.
        self._parameters, self._buffers = slots(model)

    def now(self) -> list[int]:
        """The places, as numbers to compare."""
        places = list[int]()
        for own, name in self._parameters:
            parameter = own.get(name)
            if parameter is not None:
                places += (parameter.data_ptr(), parameter.requires_grad)
        for own, name in self._buffers:
            buffer = own.get(name)
            if buffer is not None:
                places += (buffer.data_ptr(), version(buffer))
        return places
