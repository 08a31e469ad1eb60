"""What all recurrent modules have in common: a layer, a stack of layers, both directions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.layers.to_torch_nn import to_torch


class LayerPart(NamedTuple):
    """A single recurrent layer inside a module.

    Attributes:
        path: where it is in the module, as in ``module.named_modules()``; "" is the module itself.
        layer: the layer, a :class:`Recurrent`.
        state: what it starts from, or None for zeros.
    """

    path: str
    layer: Any
    state: Any

    def inside(self, name: str) -> "LayerPart":
        """The same part, seen from the module that has this one under a name."""
        return self._replace(path=f"{name}.{self.path}".strip("."))


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
    cell: Any = None
    dropout: float = 0.0

    @property
    def directions(self) -> Mapping[str, "RecurrentModule"]:
        """What reads x: by the name of the attribute, one module for each direction of time.

        A module that reads in one direction is its own only one, under "".
        """
        return {"": self}

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later input, so that it can be run step by step."""
        return len(self.directions) == 1

    @property
    def like(self) -> Tensor:
        """A tensor of the dtype that the module reads, on its device."""
        weight = next(self.parameters(), None)
        return next(self.parts()).layer.like if weight is None else weight

    @abstractmethod
    def parts(self, state: Any = None) -> Iterator[LayerPart]:
        """The recurrent layers inside, those that read x first.

        Args:
            state: what the module starts from, as :meth:`forward` takes it; shared out to them.

        Raises:
            ValueError: the state has another number of parts than the module has.
        """

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
        """The output for the whole sequence: (N, T, H) to (N, H)."""
        return take_last(output, lengths)

    def rows(self) -> "list[list[RecurrentModule]]":
        """The layers that lie on one another, from below to above, each as its directions."""
        return [list(self.directions.values())]

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
    lengths = torch.as_tensor(lengths, device=sequence.device)
    index = (lengths - 1).clamp(min=0)[..., None, None]
    index = index.expand(*sequence.shape[:-2], 1, sequence.shape[-1])
    last = torch.gather(sequence, -2, index).squeeze(-2)
    return last.masked_fill((lengths == 0).unsqueeze(-1), 0.0)


def check_recurrent(argument: str, module: object) -> None:
    """Raise a TypeError for what is no recurrent module of longlag."""
    if not isinstance(module, RecurrentModule):
        raise TypeError(
            f"{argument}: got {type(module).__name__}, expected a recurrent module of longlag; "
            "ll.from_torch(...) converts one of torch.nn"
        )
