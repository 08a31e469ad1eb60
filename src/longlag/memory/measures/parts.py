"""What of a module is measured for itself: all of it, or the layers of a stack in both directions.

Several layers that read in both directions have no joint state that goes from one step to the next:
for the layer above, the past is in part the future of the layer below.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from longlag.layers import Bidirectional, Stack
from longlag.layers.base import RecurrentModule
from longlag.layers.inputs import Inputs
from longlag.memory.measures.flow import ErrorFlow, error_flow, last_step, product, renamed


class Part(NamedTuple):
    """A module that is measured for itself.

    Attributes:
        name: its path in the module that was watched, "" for all of it.
        layer: the module; `inputs`, what it read.
        error: of its output, (N, T, H), or None.
    """

    name: str
    layer: RecurrentModule
    inputs: Inputs
    error: Tensor | None

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What it read and the options of a measure, which overrule all but x."""
        return {**self.inputs._asdict(), **options, "x": self.inputs.x}


def parts_of(reader: RecurrentModule, inputs: Inputs, error: Tensor | None) -> list[Part]:
    """The parts of a module.

    Args:
        reader: the module; `inputs`, what it read; `error`, of its output, or None.
    """
    both = any(isinstance(module, Bidirectional) for module in reader.modules())
    if not isinstance(reader, Stack) or not both:
        return [Part("", reader, inputs, error)]
    parts, outputs, x = [], [], inputs.x
    with torch.set_grad_enabled(error is not None):
        for name, layer, state in _flat("", reader, inputs.state):
            own = inputs._replace(x=x.detach(), state=state)
            parts.append(Part(name, layer, own, None))
            x = inputs._replace(x=x, state=state).output_of(layer)
            outputs.append(x)
    if error is None:
        return parts
    errors = torch.autograd.grad(product(x, error), outputs, materialize_grads=True)
    return [part._replace(error=own) for part, own in zip(parts, errors, strict=True)]


def _flat(name: str, stack: Stack, state: Any) -> Iterator[tuple[str, RecurrentModule, Any]]:
    states = [None] * len(stack.layers) if state is None else state
    for number, (layer, own) in enumerate(zip(stack.layers, states, strict=True)):
        assert isinstance(layer, RecurrentModule)
        path = f"{name}.layers.{number}".lstrip(".")
        if isinstance(layer, Stack):
            yield from _flat(path, layer, own)
        else:
            yield path, layer, own


def flow_of(part: Part, step: int | Literal["all"] | None, **options: Any) -> ErrorFlow:
    """The flow of the error of a part; by default of the last step that has one."""
    assert part.error is not None
    arguments = part.arguments(options)
    step = last_step_with_error(part, arguments["lengths"]) if step is None else step
    flow = error_flow(part.layer, target=part.error, loss=product, step=step, **arguments)
    return ErrorFlow(flow.loss, step, tuple(renamed(layer, part.name) for layer in flow.layers))


def last_step_with_error(part: Part, lengths: Tensor | None) -> int:
    """The last step, from the end of each sequence, at which there is an error; -1 without one."""
    assert part.error is not None
    width = part.error.shape[-1]
    if isinstance(part.layer, Bidirectional):
        width = part.layer.forward_layer.output_size
    remaining = part.inputs._replace(lengths=lengths).remaining
    has_error = (part.error[..., :width] != 0).any(-1), (part.error[..., width:] != 0).any(-1)
    # A backward direction is at its end where x begins.
    from_start = torch.arange(remaining.shape[-1], device=remaining.device).expand(remaining.shape)
    lasts = (
        last_step(has_error[0], remaining),
        last_step(has_error[1] & (remaining >= 0), from_start),
    )
    return max((last for last in lasts if last is not None), default=-1)
