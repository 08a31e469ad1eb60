"""Layers one on another."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from longlag.layers.base import LayerPart, RecurrentModule, check_recurrent
from longlag.layers.checks import check_parts, probability
from longlag.layers.init import as_generator


class Stack(RecurrentModule):
    """Recurrent modules one on another: each reads the output of the one below.

    Args:
        layers: the modules, first the one that reads x.
        dropout: probability in [0, 1) with which a number passed from one module to the next is
            dropped in training, anew at each step, as in torch.nn.

    The state is a tuple with one state per module. To fix the initial parameters, give each module
    a seed of its own: equal modules with equal seeds are equal.

    Raises:
        ValueError: without modules, or where the sizes or replicas do not fit each other.

    Example:
        >>> import torch
        >>> from longlag.layers import Elman, LSTM
        >>> net = Stack(LSTM(3, 8), Elman(8, 5))
        >>> output, (lower, upper) = net(torch.zeros(2, 7, 3))
        >>> output.shape, lower.c.shape
        (torch.Size([2, 7, 5]), torch.Size([2, 8]))
    """

    def __init__(self, *layers: RecurrentModule, dropout: float = 0.0) -> None:
        super().__init__()
        if not layers:
            raise ValueError("layers: got none, expected at least one recurrent module")
        for number, layer in enumerate(layers):
            check_recurrent(f"layers[{number}]", layer)
        for number, (below, above) in enumerate(itertools.pairwise(layers), start=1):
            if above.input_size != below.output_size:
                raise ValueError(
                    f"layers[{number}]: reads {above.input_size} features, but the layer below "
                    f"puts out {below.output_size}; set its input_size to {below.output_size}"
                )
            if above.replicas != below.replicas:
                raise ValueError(
                    f"layers[{number}]: has replicas={above.replicas}, but the layer below has "
                    f"replicas={below.replicas}; give both the same"
                )
        self.layers = nn.ModuleList(layers)
        self.dropout = probability("dropout", dropout)
        self.input_size, self.output_size = layers[0].input_size, layers[-1].output_size
        self.replicas = layers[0].replicas

    @property
    def causal(self) -> bool:  # noqa: D102
        return all(layer.causal for layer in self._modules_in_order())

    def parts(self, state: Any = None) -> Iterator[LayerPart]:  # noqa: D102
        states = check_parts(state, len(self.layers))
        for number, layer in enumerate(self._modules_in_order()):
            yield from (part.inside(f"layers.{number}") for part in layer.parts(states[number]))

    def _modules_in_order(self) -> Iterator[RecurrentModule]:
        for layer in self.layers:
            assert isinstance(layer, RecurrentModule)
            yield layer

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Read sequences; as :meth:`Recurrent.forward`, with one state per module.

        Raises:
            ValueError: for a state with another number of parts than there are modules.
        """
        state = check_parts(state, len(self.layers))
        final = []
        for number, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            if number and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            x, after = layer(x, before, lengths=lengths, resets=resets)
            final.append(after)
        return x, tuple(final)

    def last(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:  # noqa: D102
        *_, top = self._modules_in_order()
        return top.last(output, lengths)

    def rows(self) -> list[list[RecurrentModule]]:  # noqa: D102
        of_each = [(layer, layer.rows()) for layer in self._modules_in_order()]
        return [rows[0] if len(rows) == 1 else [layer] for layer, rows in of_each]

    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:  # noqa: D102
        generator = as_generator(seed, "stack")
        for layer in self._modules_in_order():
            layer.reset_parameters(generator)

    def config(self) -> dict[str, Any]:  # noqa: D102
        layers = [layer.config() for layer in self._modules_in_order()]
        return {"type": "Stack", "layers": layers, "dropout": self.dropout}
