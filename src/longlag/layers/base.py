"""What all recurrent modules have in common: a layer, a stack of layers, both directions."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from longlag.layers.to_torch_nn import to_torch
from longlag.recurrence import Cell

__all__ = ["RecurrentModule", "take_last"]


class RecurrentModule(nn.Module, ABC):
    """A module that reads sequences.

    Attributes:
        input_size: C.
        output_size: width of the output.
        replicas: R, or None.
        cell: the cell of a plain layer; None for what is made of several layers.
        dropout: probability with which a number passed between layers is dropped.
    """

    input_size: int
    output_size: int
    replicas: int | None
    cell: Cell | None = None
    dropout: float = 0.0

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Read sequences: x (N, T, C) to (output (N, T, H), state)."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What :func:`longlag.load` needs to build the module again, as plain data."""

    @abstractmethod
    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:
        """Draw the initial parameters anew; without a seed from PyTorch's global generator."""

    def last(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the module says of the whole sequence: (N, T, H) to (N, H)."""
        return take_last(output, lengths)

    def rows(self) -> "list[list[RecurrentModule]]":
        """The layers that lie on one another, from below to above, each as its directions."""
        return [[self]]

    def to_torch(self) -> nn.Module:
        """The same network as a torch.nn module; see :func:`longlag.layers.to_torch`."""
        return to_torch(self)


def take_last(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """The last step that is not padding, (N, T, F) to (N, F); zeros for an empty sequence.

    >>> take_last(torch.arange(6.0).view(1, 6, 1), torch.tensor([3])).item()
    2.0
    """
    if sequence.shape[-2] == 0:
        return sequence.new_zeros((*sequence.shape[:-2], sequence.shape[-1]))
    if lengths is None:
        return sequence[..., -1, :]
    index = (lengths - 1).clamp(min=0)[..., None, None]
    index = index.expand(*sequence.shape[:-2], 1, sequence.shape[-1])
    last = torch.gather(sequence, -2, index).squeeze(-2)
    return last.masked_fill((lengths == 0).unsqueeze(-1), 0.0)
