"""Both directions of time."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longlag.layers.backward import read_backward
from longlag.layers.base import LayerPart, RecurrentModule, check_recurrent, take_last
from longlag.layers.checks import check_parts
from longlag.layers.init import as_generator
from longlag.torch_private import name_in_files


class BidirectionalState(NamedTuple):
    """The states of the two directions: after the last step, and after the first."""

    forward: Any
    backward: Any


name_in_files(BidirectionalState, "longlag.BidirectionalState")


class Bidirectional(RecurrentModule):
    """One module reads forward in time and one backward; their outputs stand side by side.

    Args:
        layer: the module that reads forward.
        backward_layer: the module that reads backward; by default one like ``layer`` with
            parameters of its own, drawn anew.
        seed: for those parameters: a whole number, a generator, or None for PyTorch's global one.

    A backward reading starts at each sequence's own last step, so padding changes nothing; and
    with ``resets`` each segment is read on its own in both directions.

    Raises:
        ValueError: where the two modules do not fit each other.

    Example:
        >>> import torch
        >>> from longlag.layers import GRU
        >>> output, state = Bidirectional(GRU(3, 4))(torch.zeros(2, 5, 3))
        >>> output.shape, state.backward.h.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        layer: RecurrentModule,
        backward_layer: RecurrentModule | None = None,
        *,
        seed: int | torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, module in (("layer", layer), ("backward_layer", backward_layer)):
            if module is not None or name == "layer":
                check_recurrent(name, module)
        if backward_layer is None:
            for part in layer.parts():
                if part.layer.replaced:
                    raise ValueError(
                        f"backward_layer: expected a layer, as {part.layer.replaced[0]} of `layer` "
                        "is computed from other parameters, and cannot be drawn anew"
                    )
            backward_layer = copy.deepcopy(layer)
            backward_layer.reset_parameters(as_generator(seed, "backward direction"))
        for name in ("input_size", "replicas"):
            ours, theirs = getattr(layer, name), getattr(backward_layer, name)
            if ours != theirs:
                raise ValueError(
                    f"backward_layer: has {name}={theirs}, expected {ours}, as the forward layer"
                )
        self.forward_layer, self.backward_layer = layer, backward_layer
        self.input_size, self.replicas = layer.input_size, layer.replicas
        self.output_size = layer.output_size + backward_layer.output_size

    @property
    def directions(self) -> Mapping[str, RecurrentModule]:
        """The module that reads forward, and the one that reads backward."""
        return {"forward_layer": self.forward_layer, "backward_layer": self.backward_layer}

    def parts(self, state: Any = None) -> Iterator[LayerPart]:  # noqa: D102
        for (name, module), own in zip(self.directions.items(), check_parts(state, 2), strict=True):
            yield from (part.inside(name) for part in module.parts(own))

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, BidirectionalState]:
        """Read sequences in both directions; as :meth:`Recurrent.forward`.

        Raises:
            ValueError: for a state that is not a pair.
        """
        state = check_parts(state, 2)
        ahead, forward_state = self.forward_layer(x, state[0], lengths=lengths, resets=resets)
        # x fits, as the layer has taken it.
        back, backward_state = read_backward(self.backward_layer, x, state[1], lengths, resets)
        output = torch.cat([ahead, back], dim=-1)
        return output, BidirectionalState(forward_state, backward_state)

    def last(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The output for the whole sequence: after the last step forward, the first backward."""
        width = self.forward_layer.output_size
        ahead, back = output[..., :width], output[..., width:]
        if lengths is None:
            lengths = torch.full(back.shape[:-2], back.shape[-2], device=back.device)
        lengths = torch.as_tensor(lengths, device=back.device)
        first = lengths.clamp(max=1)
        return torch.cat([take_last(ahead, lengths), take_last(back, first)], dim=-1)

    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:  # noqa: D102
        generator = as_generator(seed, "directions")
        self.forward_layer.reset_parameters(generator)
        self.backward_layer.reset_parameters(generator)

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {
            "type": "Bidirectional",
            "layer": self.forward_layer.config(),
            "backward_layer": self.backward_layer.config(),
        }
