"""A stack of dilated layers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from typing_extensions import Self

from longlag.arguments import is_whole
from longlag.layers.base import RecurrentModule
from longlag.layers.init import as_generator
from longlag.layers.stack import Stack


class Dilated(Stack):
    r"""Layers one on another, each of which reads its past some steps back.

    .. math:: h^{(l)}_t = f\bigl(h^{(l-1)}_t,\, h^{(l)}_{t-s_l}\bigr), \qquad h^{(0)}_t = x_t

    The long link takes the place of the short one. Error goes back s_l steps through one factor, so
    over a lag of k steps it meets some k / s_l where it would meet k; the lower layers, of small
    dilations, see what lies between. A layer of dilation s is s interleaved sequences that never
    meet: steps that follow on each other may be taken at once.

    Args:
        layer: a built-in layer such as ``ll.Elman``, or anything that makes a recurrent module of
            (input_size, hidden_size, dilation=, seed=), and of the options.
        input_size: C, features per step.
        hidden_size: H, units of each layer.
        dilations: the s, one for each layer, the one that reads x first: whole numbers, at least 1.
            The paper's are 1, 2, 4, ..., twice as many steps in each layer.
        dropout: as of :class:`Stack`, between the layers.
        seed: for the initial parameters of all layers, drawn one after the other: a whole number, a
            generator, or None for PyTorch's global generator.
        options: of every layer, such as ``replicas`` and ``dtype``.

    The state is a tuple with one state per layer. A layer's is s steps deep: its states after the
    last step, then, as ``h_1``, ``h_2``, ..., those of up to s - 1 steps before.

    Raises:
        ValueError, TypeError: for an argument out of range, or one that the layers do not take.

    Cost: that of the same layers without dilation, in time and in memory, and of s states of each
    layer that are given out; of one sequence less, as it is a batch.

    Source: S. Chang et al., Dilated recurrent neural networks, NIPS 2017.

    Example:
        >>> import longlag as ll
        >>> net = ll.Dilated(ll.Elman, 3, 10, dilations=(1, 2, 4))
        >>> output, state = net(torch.zeros(2, 50, 3))
        >>> output.shape, state[2]._fields
        (torch.Size([2, 50, 10]), ('h', 'h_1', 'h_2', 'h_3'))
    """

    def __init__(
        self,
        layer: Callable[..., RecurrentModule],
        input_size: int,
        hidden_size: int,
        *,
        dilations: Sequence[int],
        dropout: float = 0.0,
        seed: int | torch.Generator | None = None,
        **options: Any,
    ) -> None:
        steps = tuple(dilations) if isinstance(dilations, (tuple, list)) else ()
        if not steps or not all(is_whole(step, 1) for step in steps):
            raise ValueError(
                f"dilations: got {dilations!r:.80}, expected a whole number of steps for each "
                "layer, at least 1, such as (1, 2, 4)"
            )
        if not callable(layer):
            raise TypeError(
                f"layer: got {layer!r:.80}, expected what makes a layer, such as ll.Elman"
            )
        generator = as_generator(seed, "dilated")
        layers = [
            layer(hidden_size if number else input_size, hidden_size, dilation=step, seed=generator,
                  **options)
            for number, step in enumerate(steps)
        ]  # fmt: skip
        super().__init__(*layers, dropout=dropout)

    @classmethod
    def of(cls, *layers: RecurrentModule, dropout: float = 0.0) -> Self:
        """The dilated stack of layers that are there."""
        made = cls.__new__(cls)
        Stack.__init__(made, *layers, dropout=dropout)
        return made

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {**super().config(), "type": "Dilated"}
