"""The recurrent layers inside a model, as gradient methods see them."""

from collections.abc import Iterator
from typing import Any, Protocol, cast

from torch import Tensor, nn

from longlag.gradients.parts import trained
from longlag.recurrence import Recurrence

__all__ = ["Layer", "layers_in", "names_in"]


class Layer(Protocol):
    """What a recurrent layer of longlag shows; R replicas put an R in front of every parameter."""

    recurrence: Recurrence
    input_size: int
    hidden_size: int
    replicas: int | None
    backend: str
    weight_ih: Tensor
    weight_hh: Tensor | None
    bias: Tensor | None

    def unit(self, name: str) -> Tensor:
        """The value of a unit parameter, (H,)."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters by name."""
        ...


def layers_in(module: Any, name: str, state: Any, method: str) -> Iterator[tuple[str, Layer, Any]]:
    """The recurrent layers of a module, the one that reads x first: path, layer, its state.

    Args:
        module: a recurrent layer or a stack.
        name: its path in the model.
        state: what the module starts from, or None.
        method: who asks, for errors.

    Raises:
        TypeError: there is a module among them whose recurrence cannot be seen.
        ValueError: the state has another number of parts than the stack has layers.
    """
    if hasattr(module, "recurrence") and hasattr(module, "weight_ih"):
        yield name, cast(Layer, module), state
        return
    parts = getattr(module, "layers", None)
    if not isinstance(parts, nn.ModuleList):
        raise TypeError(
            f"model: {method} sees into the recurrence of longlag's layers, and not into that of a "
            f"{type(module).__name__}; ll.from_torch(...) converts a module of torch.nn"
        )
    states = [None] * len(parts) if state is None else state
    if not isinstance(states, tuple | list) or len(states) != len(parts):
        came = f"{len(state)} parts" if isinstance(state, tuple | list) else type(state).__name__
        raise ValueError(
            f"state: got {came}, expected a tuple of {len(parts)}, one state per layer"
        )
    for number, (part, each) in enumerate(zip(parts, states, strict=True)):
        yield from layers_in(part, f"{name}.layers.{number}".lstrip("."), each, method)


def names_in(model: nn.Module, layer: Layer) -> dict[str, str]:
    """From the name of a parameter in a layer of the model to that in the model, of the trained.

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(2, 3, bias=False), 1)
    >>> names_in(model, model.layer)
    {'weight_ih': 'layer.weight_ih', 'weight_hh': 'layer.weight_hh'}
    """
    names = {id(p): name for name, p in trained(model).items()}
    return {own: names[id(p)] for own, p in layer.named_parameters() if id(p) in names}
