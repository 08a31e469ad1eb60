"""The output units of a model."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from longlag.layers.init import Initializer, as_generator, initializer

STRETCH = 1 << 12
"""Rows, sequences times steps, that are read out at once."""

OUTPUT_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda y: y,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
"""What ``output_activation`` can be. For classes the readout gives logits: use identity."""


class ReadoutModule(nn.Module, ABC):
    r"""What makes outputs of a recurrent module's h, and of x where it sees x.

    A readout of your own has ``forward``, ``config`` and the attributes below, and goes into
    ``SequenceModel(layer, readout=...)``. What it says of a step is a function of that step alone:
    gradients by pieces of the sequence call it piece by piece.

    Attributes:
        input_size: H, width of what is read.
        output_size: K.
        direct_size: C, where it also sees the network's input x, else None.
        replicas: R, or None.

    Example:
        >>> class Cosine(ReadoutModule):
        ...     def __init__(self, input_size, output_size):
        ...         super().__init__()
        ...         self.input_size, self.output_size = input_size, output_size
        ...         self.inner = nn.Linear(input_size, output_size)
        ...     def forward(self, h, x=None):
        ...         return self.inner(h).cos()
        ...     def config(self):
        ...         return {"type": "Cosine"}
        >>> import longlag as ll
        >>> ll.SequenceModel(ll.GRU(3, 4), readout=Cosine(4, 2))(torch.zeros(5, 6, 3)).shape
        torch.Size([5, 2])
    """

    input_size: int
    output_size: int
    direct_size: int | None = None
    replicas: int | None = None

    @abstractmethod
    def forward(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """Read out: h (..., H), and x (..., C) where it sees x, to (..., K)."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What :func:`longlag.load` needs to build the readout again, as plain data."""

    def stretch(self, batch: int) -> int:
        """Steps of `batch` sequences that are read out at once, by each replica."""
        return max(1, STRETCH // max(1, batch))

    def by_step(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """Read out each step: h (..., N, T, H) and x (..., N, T, C).

        In stretches of some steps: a sum over all steps would have other bits than one over pieces
        of the sequence, and gradients by pieces are to be equal to the bit.
        """
        steps = self.stretch(h.shape[-3])
        if h.shape[-2] <= steps:
            return self(h, x)
        seen = [None] * len(h.split(steps, -2)) if x is None else x.split(steps, -2)
        pairs = zip(h.split(steps, -2), seen, strict=True)
        return torch.cat([self(part, other) for part, other in pairs], -2)

    def sum_over_steps(self, sequence: Tensor) -> Tensor:
        """(..., N, T, F) to (..., N, F), added up in the same stretches."""
        first, *rest = sequence.split(self.stretch(sequence.shape[-3]), -2)
        total = first.sum(-2)
        for part in rest:
            total = total + part.sum(-2)
        return total


class Readout(ReadoutModule):
    r"""The output units: :math:`y = \phi(V h + S h^2 + D x + b)`.

    Args:
        input_size: H, width of what is read.
        output_size: K.
        direct_size: C, width of the direct connection D from the network's input, or None.
        squares: whether there is an S, for the squares of h.
        bias: whether there is a b.
        activation: phi, a key of :data:`OUTPUT_ACTIVATIONS`.
        init: how V and D are drawn; None for uniform in ±1/sqrt(fan-in), as torch.nn.Linear.
        replicas, seed, device, dtype: as for :class:`Recurrent`.

    Example:
        >>> Readout(16, 8)(torch.zeros(2, 16)).shape
        torch.Size([2, 8])
    """

    weight: nn.Parameter
    weight_squares: nn.Parameter | None
    weight_direct: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        direct_size: int | None = None,
        squares: bool = False,
        bias: bool = True,
        activation: str = "identity",
        init: str | Initializer | None = None,
        replicas: int | None = None,
        seed: int | torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if activation not in OUTPUT_ACTIVATIONS:
            known = ", ".join(repr(name) for name in OUTPUT_ACTIVATIONS)
            raise ValueError(f"output_activation: got {activation!r}, expected one of {known}")
        self.input_size, self.output_size = input_size, output_size
        self.direct_size, self.replicas = direct_size, replicas
        self.activation = activation
        self._init = None if init is None else initializer("readout_init", init)

        def parameter(*shape: int) -> nn.Parameter:
            shape = shape if replicas is None else (replicas, *shape)
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight = parameter(output_size, input_size)
        self.register_parameter(
            "weight_squares", parameter(output_size, input_size) if squares else None
        )
        direct = None if direct_size is None else parameter(output_size, direct_size)
        self.register_parameter("weight_direct", direct)
        self.register_parameter("bias", parameter(output_size) if bias else None)
        self.reset_parameters(seed)

    @torch.no_grad()
    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:
        """Draw the initial parameters anew."""
        if self.weight.is_meta:
            return  # there is nothing to draw into
        generator = as_generator(seed, "readout")
        weights = self._weights()
        bound = 1 / math.sqrt(max(1, self.features_size))
        for stored in (*weights, self.bias):
            if stored is None:
                continue
            for part in (stored,) if self.replicas is None else stored.unbind(0):
                block = torch.empty(part.shape, dtype=torch.promote_types(part.dtype, torch.float))
                if self._init is None:
                    block.uniform_(-bound, bound, generator=generator)
                elif part.dim() == 2:
                    self._init.fill_(block, generator)
                else:
                    block.zero_()
                part.copy_(block)

    def forward(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """Read out: h (..., H), and x (..., C) where there is a direct connection."""
        y = self._times(h, self.weight)
        if self.weight_squares is not None:
            y = y + self._times(h.square(), self.weight_squares)
        if self.weight_direct is not None:
            assert x is not None
            y = y + self._times(x, self.weight_direct)
        if self.bias is not None:
            bias = self.bias
            if self.replicas is not None:
                bias = bias.view(self.replicas, *(1,) * (y.dim() - 2), -1)
            y = y + bias
        return OUTPUT_ACTIVATIONS[self.activation](y)

    def features(self, h: Tensor, x: Tensor | None = None) -> Tensor:
        """What the weights are multiplied by, side by side: h, its squares, x; those there are."""
        squares = None if self.weight_squares is None else h.square()
        x = None if self.weight_direct is None else x
        return torch.cat([part for part in (h, squares, x) if part is not None], -1)

    @property
    def features_size(self) -> int:
        """D, how many features there are."""
        return sum(weight.shape[-1] for weight in self._weights())

    @torch.no_grad()
    def take(self, weight: Tensor, bias: Tensor) -> None:
        """Set all weights: (K, D) for the features, in their order, and b (K,)."""
        weights = self._weights()
        sizes = [part.shape[-1] for part in weights]
        for part, values in zip(weights, weight.split(sizes, -1), strict=True):
            part.copy_(values)
        if self.bias is not None:
            self.bias.copy_(bias)

    def _weights(self) -> list[nn.Parameter]:
        """The matrices that there are, in the order of the features."""
        every = (self.weight, self.weight_squares, self.weight_direct)
        return [weight for weight in every if weight is not None]

    def config(self) -> dict[str, Any]:
        """What :func:`longlag.load` needs to build the readout again, as plain data."""
        return {
            "type": "Readout",
            "input_size": self.input_size,
            "output_size": self.output_size,
            "direct_size": self.direct_size,
            "squares": self.weight_squares is not None,
            "bias": self.bias is not None,
            "activation": self.activation,
            "replicas": self.replicas,
        }

    def _times(self, h: Tensor, weight: Tensor) -> Tensor:
        if self.replicas is None:
            return nn.functional.linear(h, weight)
        return (h.flatten(1, -2) @ weight.mT).unflatten(1, h.shape[1:-1])
