"""Noise on what drives the units of a layer, for as long as a readout is fitted or a model runs."""

from types import TracebackType

import torch
from torch import nn

from longlag.arguments import check_number
from longlag.layers.init import as_generator
from longlag.layers.recurrent import Recurrent


class StateNoise:
    r"""Normal noise on the drive of every gate: :math:`a_t = U x_t + b + \sigma\,\epsilon_t`.

    It acts within the squashing, on each unit, sequence and step anew. A context manager, within
    which all recurrent layers of a module have it; it may be entered again, and then goes on with
    the generator where it was.

    Args:
        module: what has the layers.
        size: sigma, the standard deviation, >= 0.
        seed: a whole number, a generator, or None for PyTorch's global generator.

    Raises:
        ValueError, TypeError: the size is out of range, or the module has no recurrent layer.

    Example:
        >>> import longlag as ll
        >>> layer, x = ll.EchoState(1, 50, seed=0), torch.zeros(1, 10, 1)
        >>> with StateNoise(layer, 1e-3, seed=0):
        ...     noisy, _ = layer(x)
        >>> bool((noisy != 0.0).all()), bool((layer(x)[0] == 0.0).all())
        (True, True)
    """

    def __init__(
        self, module: nn.Module, size: float, seed: int | torch.Generator | None = None
    ) -> None:
        self.size = check_number("state_noise", size, least=0.0)
        self.generator = as_generator(seed, "state noise")
        self.layers = [part for part in module.modules() if isinstance(part, Recurrent)]
        if size and not self.layers:
            raise ValueError(
                f"state_noise: got {size}, but {type(module).__name__} has no recurrent layer, "
                "whose units could have noise; expected 0"
            )

    def __enter__(self) -> None:
        if self.size:
            for layer in self.layers:
                layer.drive_noise = self.draw

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for layer in self.layers:
            vars(layer).pop("drive_noise", None)

    def draw(self, like: torch.Tensor) -> torch.Tensor:
        """Noise of the shape, dtype and device of a drive."""
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        device = None if self.generator is None else self.generator.device
        noise = torch.randn(like.shape, generator=self.generator, dtype=wide, device=device)
        return noise.mul_(self.size).to(like)
