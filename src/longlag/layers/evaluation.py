"""Evaluation mode for as long as something is measured."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
