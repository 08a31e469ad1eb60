"""Steps counted from the end of a sequence; and modules run without dropout."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["evaluation_mode", "last_step"]


def last_step(marked: Tensor, remaining: Tensor) -> int | None:
    """The marked step that is nearest to the end of its sequence, as a negative number from there.

    Args:
        marked: (N, T); None is returned where no step is.
        remaining: (N, T), from :attr:`longlag.layers.inputs.Inputs.remaining`.

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
