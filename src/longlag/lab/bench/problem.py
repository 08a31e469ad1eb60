"""A row as tensors, and its right answer."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from longlag.lab.bench.own_leaky import LEAK, OwnLeaky
from longlag.lab.bench.rows import Row
from longlag.layers import GRU, LSTM, Elman, Leaky, Recurrent

_LAYERS: dict[str, Callable[..., Recurrent]] = {
    "elman": Elman,
    "lstm": LSTM,
    "gru": GRU,
    "leaky": lambda *sizes, **options: Leaky(*sizes, leak=LEAK, **options),
    "own": lambda *sizes, **options: Recurrent(OwnLeaky(), *sizes, **options),
}


_STRETCH = 250
"""Steps that the reference runs at once: autograd's cost of a call grows with their square."""


def _in_stretches(layer: Recurrent, x: Tensor, lengths: Tensor | None) -> Tensor:
    """The output of a layer, stretch by stretch, each from the state in which the last ended."""
    outputs, state = [], None
    for number, part in enumerate(x.split(_STRETCH, dim=-2)):
        left = None
        if lengths is not None:
            left = (lengths - number * _STRETCH).clamp(0, part.shape[-2])
        output, state = layer(part, state, lengths=left)
        outputs.append(output)
    return torch.cat(outputs, dim=-2)


@dataclass(frozen=True)
class Problem:
    """A row with its layer and data, drawn from a fixed seed.

    Attributes:
        row: what it is.
    """

    row: Row

    @cached_property
    def layer(self) -> Recurrent:
        """The layer, float32, with biases that are not zero."""
        row = self.row
        layer = _LAYERS[row.cell](row.features, row.hidden, replicas=row.replicas, seed=0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if name.startswith("bias"):
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return layer

    @cached_property
    def x(self) -> Tensor:
        """(N, T, C), or (R, N, T, C)."""
        row = self.row
        front = () if row.replicas is None else (row.replicas,)
        generator = torch.Generator().manual_seed(2)
        return torch.randn(*front, row.batch, row.steps, row.features, generator=generator)

    @cached_property
    def lengths(self) -> Tensor | None:
        """(N,), for ragged rows."""
        if not self.row.ragged:
            return None
        generator = torch.Generator().manual_seed(3)
        return torch.randint(1, self.row.steps + 1, (self.row.batch,), generator=generator)

    @cached_property
    def valid(self) -> Tensor | None:
        """(N, T, 1), whether a step counts; None where all do."""
        if self.lengths is None:
            return None
        return (torch.arange(self.row.steps) < self.lengths.unsqueeze(-1)).unsqueeze(-1)

    @cached_property
    def error(self) -> Tensor:
        """What comes back to the output, (N, T, H) or (R, N, T, H): zero in the padding.

        The gradients are those of sum(output * error), with the error divided by the number of
        steps that count, as for a mean over them. A loss would have its own passes over the
        output, in eager PyTorch up to a third of the time, which are no work of the network. It is
        contiguous, as is the gradient that a loss written on the output gives, whatever the layout
        of the output.
        """
        row = self.row
        generator = torch.Generator().manual_seed(4)
        error = torch.randn(*self.x.shape[:-1], row.hidden, generator=generator)
        return self.masked(error.div_(self.sequence_steps))

    @cached_property
    def sequence_steps(self) -> int:
        """Steps of all sequences and replicas together, without padding."""
        row = self.row
        steps = row.batch * row.steps if self.lengths is None else int(self.lengths.sum())
        return steps * (row.replicas or 1)

    def masked(self, output: Tensor) -> Tensor:
        """The output with zeros in the padding."""
        return output if self.valid is None else output.masked_fill(~self.valid, 0.0)

    @cached_property
    def reference(self) -> dict[str, Tensor]:
        """Output and gradients by the reference backend in float64."""
        layer = copy.deepcopy(self.layer).double()
        layer.backend = "reference"
        output = _in_stretches(layer, self.x.double(), self.lengths)
        names, parameters = zip(*layer.named_parameters(), strict=True)
        gradients = torch.autograd.grad(output, parameters, self.error.double())
        return {"output": output.detach(), **dict(zip(names, gradients, strict=True))}

    def with_cell(self, cell: str) -> "Problem":
        """The same data for another cell."""
        return Problem(replace(self.row, cell=cell))
