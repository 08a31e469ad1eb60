"""What a recurrent model is given: sequences, which of their steps count, what it starts from."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.layers.checks import check_lengths, check_resets, check_sequences
from longlag.layers.state_tree import map_tensors
from longlag.scan import Schedule


class Inputs(NamedTuple):
    """The arguments of a recurrent model, batch first; R replicas put an R in front of each.

    Attributes:
        x: (N, T, C).
        lengths: (N,), the number of steps of each sequence; None where all count.
        resets: (N, T), True where the state is set to zero before the step; None for nowhere.
        state: the state before the first step, as the model takes it; None for zeros.

    >>> Inputs(torch.zeros(2, 5, 3), torch.tensor([5, 2])).between(1, 4).lengths
    tensor([3, 1])
    """

    x: Tensor
    lengths: Tensor | None = None
    resets: Tensor | None = None
    state: Any = None

    @property
    def steps(self) -> int:
        """T."""
        return self.x.shape[-2]

    @property
    def ends(self) -> Tensor:
        """(N,), the number of steps of each sequence."""
        if self.lengths is not None:
            return torch.as_tensor(self.lengths, device=self.x.device).long()
        return torch.full(self.x.shape[:-2], self.steps, device=self.x.device)

    @property
    def remaining(self) -> Tensor:
        """How many steps of its sequence follow each step, (N, T); negative in the padding."""
        return self.ends.unsqueeze(-1) - 1 - torch.arange(self.steps, device=self.x.device)

    @property
    def options(self) -> dict[str, Any]:
        """What there is beside x, by the name of the argument of a model."""
        return {name: v for name, v in self._asdict().items() if name != "x" and v is not None}

    @property
    def schedule(self) -> Schedule:
        """Padding and resets as a scan reads them."""
        return Schedule.of(self.x, self.lengths, self.resets)

    def checked(self) -> "Inputs":
        """The same, with lengths and resets as tensors that fit x.

        Raises:
            TypeError, ValueError: x is no tensor of sequences; lengths or resets have another
                dtype, shape or range than x asks for.
        """
        check_sequences(self.x)
        lengths = None if self.lengths is None else check_lengths(self.lengths, self.x)
        resets = None if self.resets is None else check_resets(self.resets, self.x)
        return self._replace(lengths=lengths, resets=resets)

    def first(self, count: int) -> "Inputs":
        """Those of the first sequences."""
        return Inputs(*map_tensors(tuple(self), lambda part: part[:count]))

    def output_of(self, model: nn.Module) -> Tensor:
        """The output of a recurrent module, or of a model with a readout, for them.

        Raises:
            TypeError: the model returns no tensor.
        """
        result = model(self.x, **self.options)
        output = result[0] if isinstance(result, tuple) else result
        if not isinstance(output, Tensor):
            raise TypeError(
                f"model {type(model).__name__} returned a {type(output).__name__}; expected a "
                "tensor or a tuple that begins with one"
            )
        return output

    def between(self, first: int, stop: int, state: Any = None) -> "Inputs":
        """The steps first .. stop - 1, from a state."""
        lengths, resets = self.lengths, self.resets
        if lengths is not None:
            lengths = (lengths - first).clamp(0, stop - first)
        if resets is not None:
            resets = resets[..., first:stop]
        return Inputs(self.x[..., first:stop, :], lengths, resets, state)

    def after(self, before: "Inputs") -> "Inputs":
        """Earlier steps of the same sequences and these, from the state of the earlier ones."""
        lengths = resets = None
        if before.lengths is not None or self.lengths is not None:
            lengths = before.ends + (self.steps if self.lengths is None else self.lengths)
        if before.resets is not None or self.resets is not None:
            parts = (
                torch.zeros(part.x.shape[:-1], dtype=torch.bool, device=self.x.device)
                if part.resets is None
                else part.resets
                for part in (before, self)
            )
            resets = torch.cat(list(parts), -1)
        return Inputs(torch.cat([before.x, self.x], -2), lengths, resets, before.state)
