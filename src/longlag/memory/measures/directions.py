"""The two directions of a bidirectional module, each as a module that reads forward."""

from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

__all__ = [
    "Directions",
    "Reading",
    "both_ways",
    "by_way",
    "in_order_of_x",
    "reads_back_inside",
    "recurrent_of",
]

T = TypeVar("T")


class Directions(NamedTuple, Generic[T]):
    """What was found for each direction of a bidirectional module.

    Attributes:
        forward: of the module that reads from the first step to the last.
        backward: of the one that reads from each sequence's own last step to the first.
    """

    forward: T
    backward: T


def by_way(found: T | Directions[T]) -> dict[str, T]:
    """What was found by the name of the direction; "" where there is one only."""
    return found._asdict() if isinstance(found, Directions) else {"": found}


class Reading(NamedTuple):
    """One direction: a module, and what it reads in the order in which it reads it.

    Attributes:
        layer: the module of this direction.
        x: (N, T, C); lengths (N,) or None; resets (N, T) or None; state, what it starts from.
        order: (N, T), the steps of x in the order of reading; padding stays in place.
    """

    layer: nn.Module
    x: Tensor
    lengths: Tensor | None
    resets: Tensor | None
    state: Any
    order: Tensor


def recurrent_of(model: nn.Module) -> nn.Module:
    """The recurrent module of a `SequenceModel`, or the module itself."""
    if hasattr(model, "readout") and isinstance(getattr(model, "layer", None), nn.Module):
        return getattr(model, "layer")  # noqa: B009 (the type of an attribute of nn.Module)
    return model


def reads_back_inside(module: nn.Module) -> bool:
    """Whether a module inside a recurrent one is bidirectional, so that none above it has a past.

    A bidirectional module itself does not count, but where it stands in another.
    """
    return any(hasattr(each, "backward_layer") for each in module.modules() if each is not module)


def both_ways(
    layer: Any, x: Tensor, lengths: Any, resets: Any, state: Any
) -> Directions[Reading] | None:
    """The two readings of a bidirectional module; None for any other module.

    Args:
        layer: the module.
        x, lengths, resets: as its forward method takes them; state, a pair or None.

    Raises:
        ValueError: the state is no pair, or x has too few axes.
    """
    if not hasattr(layer, "backward_layer"):
        return None
    if not isinstance(x, Tensor) or x.dim() < 3:
        came = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x: got {came}, expected a torch.Tensor (N, T, {layer.input_size})")
    state = (None, None) if state is None else state
    if not isinstance(state, tuple | list) or len(state) != 2:
        raise ValueError(f"state: got {type(state).__name__}, expected a pair: (forward, backward)")
    steps = torch.arange(x.shape[-2], device=x.device).expand(x.shape[:-1])
    ends = torch.full_like(steps[..., :1], x.shape[-2])
    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=x.device)
        ends = lengths.unsqueeze(-1)
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    turned = None
    if resets is not None:
        resets = torch.as_tensor(resets, device=x.device)
        # Read backward, a segment is entered at its last step: the one before a reset.
        turned = torch.cat([resets[..., 1:], torch.zeros_like(resets[..., :1])], -1)
        turned = (turned & (steps < ends - 1)).gather(-1, order)
    flipped = in_order_of_x(x, order)
    return Directions(
        Reading(layer.forward_layer, x, lengths, resets, state[0], steps),
        Reading(layer.backward_layer, flipped, lengths, turned, state[1], order),
    )


def in_order_of_x(sequence: Tensor, order: Tensor) -> Tensor:
    """(N, T, ...) from the order of reading to that of x, or back: the order is its own inverse."""
    index = order.reshape(*order.shape, *[1] * (sequence.dim() - order.dim()))
    return torch.gather(sequence, order.dim() - 1, index.expand(sequence.shape))
