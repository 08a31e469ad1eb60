"""A module that reads backward in time."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from longlag.layers.base import LayerPart, RecurrentModule, check_recurrent, take_last
from longlag.layers.checks import check_input, check_lengths, check_resets


def read_backward(
    layer: RecurrentModule, x: Tensor, state: Any, lengths: Any, resets: Any
) -> tuple[Tensor, Any]:
    """What a module makes of sequences that it reads from their own last steps to their first.

    Args:
        layer: the module.
        x, state, lengths, resets: as of :meth:`Recurrent.forward`; x fits the module.

    Returns:
        Its output in the order of x, and the state after the first step.
    """
    # What may be a list or an array becomes a tensor.
    lengths = None if lengths is None else check_lengths(lengths, x)
    order = _reversal(x, lengths)
    ends = None
    if resets is not None:
        resets = check_resets(resets, x)
        # The backward reading enters a segment at its last step: the one before a reset.
        ends = torch.cat([resets[..., 1:], torch.zeros_like(resets[..., :1])], dim=-1)
        if lengths is not None:
            steps = torch.arange(x.shape[-2], device=x.device)
            ends = ends & (steps < lengths.unsqueeze(-1) - 1)
        ends = _reorder(ends.unsqueeze(-1), order).squeeze(-1)
    back, final = layer(_reorder(x, order), state, lengths=lengths, resets=ends)
    return _reorder(back, order), final


def _reversal(x: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Numbers of the steps in reversed order, padding left in place; None for a plain flip."""
    if lengths is None:
        return None
    steps = torch.arange(x.shape[-2], device=x.device).expand(x.shape[:-1])
    ends = lengths.unsqueeze(-1)
    return torch.where(steps < ends, ends - 1 - steps, steps)


def _reorder(sequence: Tensor, order: Tensor | None) -> Tensor:
    if order is None:
        return sequence.flip(-2)
    return torch.gather(sequence, -2, order.unsqueeze(-1).expand(sequence.shape))


class Backward(RecurrentModule):
    """A module that reads each sequence from its own last step to its first.

    Args:
        layer: the module. Its state is after the first step.

    With ``resets`` each segment is read on its own. For both directions there is
    :class:`~longlag.Bidirectional`.

    Raises:
        TypeError: it is no recurrent module of longlag.

    Example:
        >>> from longlag.layers import GRU
        >>> output, state = Backward(GRU(3, 4))(torch.zeros(2, 5, 3))
        >>> bool((output[:, 0] == state.h).all())
        True
    """

    def __init__(self, layer: RecurrentModule) -> None:
        super().__init__()
        check_recurrent("layer", layer)
        self.layer = layer
        self.input_size, self.output_size = layer.input_size, layer.output_size
        self.replicas = layer.replicas

    @property
    def causal(self) -> bool:  # noqa: D102
        return False

    def parts(self, state: Any = None) -> Iterator[LayerPart]:  # noqa: D102
        yield from (part.inside("layer") for part in self.layer.parts(state))

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Read sequences; as :meth:`Recurrent.forward`."""
        x = check_input(x, self.input_size, self.replicas, self.like)
        return read_backward(self.layer, x, state, lengths, resets)

    def last(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The output for the whole sequence: after its first step."""
        if lengths is None:
            lengths = torch.full(output.shape[:-2], output.shape[-2], device=output.device)
        return take_last(output, torch.as_tensor(lengths, device=output.device).clamp(max=1))

    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:  # noqa: D102
        self.layer.reset_parameters(seed)

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"type": "Backward", "layer": self.layer.config()}
