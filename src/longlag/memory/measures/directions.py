"""The two directions of a bidirectional module, each as a module that reads forward."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from longlag.layers.bidirectional import Bidirectional
from longlag.layers.checks import check_parts
from longlag.layers.inputs import Inputs
from longlag.layers.sequence_model import SequenceModel

T = TypeVar("T")


class Directions(NamedTuple, Generic[T]):
    """What was found for each direction of a bidirectional module.

    Attributes:
        forward: of the module that reads from the first step to the last.
        backward: of the one that reads from each sequence's own last step to the first.
    """

    forward: T
    backward: T


def by_direction(result: T | Directions[T]) -> dict[str, T]:
    """A result by the name of the direction; "" where there is one only."""
    return result._asdict() if isinstance(result, Directions) else {"": result}


class Direction(NamedTuple):
    """One direction: a module, and what it reads in the order in which it reads it.

    Attributes:
        layer: the module of this direction.
        inputs: what it reads.
        order: (N, T), the steps of x in the order of reading; padding stays in place. None for a
            module that is not bidirectional, which reads x as it is.
    """

    layer: nn.Module
    inputs: Inputs
    order: Tensor | None = None


def recurrent_of(model: nn.Module) -> nn.Module:
    """The recurrent module of a `SequenceModel`, or the module itself."""
    return model.layer if isinstance(model, SequenceModel) else model


def reads_back_inside(module: nn.Module) -> bool:
    """Whether a module inside a recurrent one is bidirectional, so that none above it has a past.

    A bidirectional module itself does not count, but where it stands in another.
    """
    inside = (part for part in module.modules() if part is not module)
    return any(isinstance(part, Bidirectional) for part in inside)


def each_direction(
    model: nn.Module, inputs: Inputs, measure: Callable[[Direction], T]
) -> T | Directions[T]:
    """Measure the recurrent module of a model, or each direction of a bidirectional one.

    Raises:
        TypeError, ValueError: as :func:`directions_of`.
    """
    layer = recurrent_of(model)
    both = directions_of(layer, inputs)
    return measure(Direction(layer, inputs)) if both is None else Directions(*map(measure, both))


def directions_of(layer: Any, inputs: Inputs) -> Directions[Direction] | None:
    """The two directions of a bidirectional module; None for any other module.

    Raises:
        TypeError, ValueError: the state is no pair; as :meth:`Inputs.checked`.
    """
    if not isinstance(layer, Bidirectional):
        return None
    x, lengths, resets, state = inputs = inputs.checked()
    ahead, back = check_parts(state, 2)
    steps = torch.arange(x.shape[-2], device=x.device).expand(x.shape[:-1])
    remaining = inputs.remaining
    order = torch.where(remaining >= 0, remaining, steps)
    turned = None
    if resets is not None:
        # Read backward, a segment is entered at its last step: the one before a reset.
        turned = torch.cat([resets[..., 1:], torch.zeros_like(resets[..., :1])], -1)
        turned = (turned & (remaining > 0)).gather(-1, order)
    flipped = Inputs(in_order_of_x(x, order), lengths, turned, back)
    return Directions(
        Direction(layer.forward_layer, Inputs(x, lengths, resets, ahead), steps),
        Direction(layer.backward_layer, flipped, order),
    )


def in_order_of_x(sequence: Tensor, order: Tensor) -> Tensor:
    """(N, T, ...) from the order of reading to that of x, or back: the order is its own inverse."""
    index = order.reshape(*order.shape, *[1] * (sequence.dim() - order.dim()))
    return torch.gather(sequence, order.dim() - 1, index.expand(sequence.shape))
