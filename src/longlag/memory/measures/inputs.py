"""What a module reads, as one value; and modules run without dropout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.gradients.parts import map_tensors

__all__ = ["Inputs", "evaluation_mode", "last_step"]


class Inputs(NamedTuple):
    """Sequences and what goes with them, as the modules of longlag take them.

    Attributes:
        x: (N, T, C), R replicas in front.
        lengths: (N,), steps that count; None for all.
        resets: (N, T), True where the state is set to zero before the step; None for nowhere.
        state: what the module starts from; None for zeros.
    """

    x: Tensor
    lengths: Any = None
    resets: Any = None
    state: Any = None

    @property
    def ends(self) -> Tensor:
        """How many steps of each sequence count, (N,)."""
        if self.lengths is None:
            return torch.full(self.x.shape[:-2], self.x.shape[-2], device=self.x.device)
        return torch.as_tensor(self.lengths, device=self.x.device).long()

    @property
    def remaining(self) -> Tensor:
        """How many steps of its sequence follow each step, (N, T); negative in the padding."""
        steps = torch.arange(self.x.shape[-2], device=self.x.device)
        return self.ends.unsqueeze(-1) - 1 - steps

    @property
    def options(self) -> dict[str, Any]:
        """What goes with x, as keyword arguments."""
        return {"lengths": self.lengths, "resets": self.resets, "state": self.state}

    def first(self, count: int) -> "Inputs":
        """Those of the first sequences."""
        return Inputs(*map_tensors(tuple(self), lambda part: part[:count]))

    def output_of(self, model: nn.Module) -> Tensor:
        """What a recurrent module, or a model with a readout, gives for them."""
        output = model(self.x, self.state, lengths=self.lengths, resets=self.resets)
        return output[0] if isinstance(output, tuple) else output


def last_step(marked: Tensor, remaining: Tensor) -> int | None:
    """The marked step that is nearest to the end of its sequence, as a negative number from there.

    Args:
        marked: (N, T); None is returned where no step is.
        remaining: (N, T), from :attr:`Inputs.remaining`.

    >>> last_step(torch.tensor([[True, False, False]]), torch.tensor([[1, 0, -1]]))
    -2
    """
    distances = remaining[marked & (remaining >= 0)]
    return -1 - int(distances.min()) if distances.numel() else None


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and each of its modules back into its own mode after.

    >>> layer = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5).eval())
    >>> with evaluation_mode(layer):
    ...     assert not layer.training
    >>> layer.training, layer[1].training
    (True, False)
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
