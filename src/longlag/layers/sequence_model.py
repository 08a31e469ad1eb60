"""A recurrent module with a readout: many-to-many and many-to-one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from longlag.layers.base import RecurrentModule, take_last
from longlag.layers.checks import positive
from longlag.layers.init import Initializer
from longlag.layers.readout import Readout
from longlag.layers.stack import Stack
from longlag.layers.summary import Row, Summary

__all__ = ["REDUCTIONS", "SequenceModel"]

REDUCTIONS = (None, "last", "mean")
"""What ``reduce`` can be."""


class SequenceModel(nn.Module):
    r"""A recurrent module and a readout.

    .. math:: y_t = \phi(V h_t + D x_t + b)

    for every step (many-to-many, ``reduce=None``), or once for the sequence (many-to-one).

    Args:
        layer: the recurrent module.
        output_size: K, outputs: numbers, or logits of classes.
        reduce: ``"last"`` reads out after each sequence's own last step (of a bidirectional
            module: after the last forward and after the first backward), ``"mean"`` reads the
            mean of h over the steps, None reads out at every step.
        direct: whether the readout also sees the input x, by the weights D.
        bias: whether the readout has a bias.
        output_activation: phi: ``"identity"``, ``"sigmoid"`` or ``"tanh"``.
        readout_init: how V and D are drawn, as ``weight_ih_init`` of a layer; by default as
            torch.nn.Linear.
        seed: for the readout's initial parameters.

    Raises:
        ValueError, TypeError: for an argument out of range.

    Example:
        >>> import longlag as ll
        >>> model = ll.SequenceModel(ll.Elman(15, 16), 8, reduce="last")
        >>> print(model.summary())
        Layer                 Output     Parameters
        -------------------------------------------
        layer (Elman)         (N, 16)           512
        readout (Readout)     (N, 8)            136
        -------------------------------------------
        512 + 136 = 648 parameters, 648 of them trained
    """

    def __init__(
        self,
        layer: RecurrentModule,
        output_size: int,
        *,
        reduce: str | None = "last",
        direct: bool = False,
        bias: bool = True,
        output_activation: str = "identity",
        readout_init: str | Initializer | None = None,
        seed: int | torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(layer, RecurrentModule):
            raise TypeError(
                f"layer: got {type(layer).__name__}, expected a recurrent module of longlag such "
                "as ll.LSTM(...); ll.from_torch(...) converts one of torch.nn"
            )
        if reduce not in REDUCTIONS:
            known = ", ".join(repr(name) for name in REDUCTIONS)
            raise ValueError(f"reduce: got {reduce!r}, expected one of {known}")
        like = next(layer.parameters())
        self.layer = layer
        self.reduce = reduce
        self.input_size = layer.input_size
        self.output_size = positive("output_size", output_size)
        self.direct = direct
        self.readout = Readout(
            layer.output_size,
            output_size,
            direct_size=layer.input_size if direct else None,
            bias=bias,
            activation=output_activation,
            init=readout_init,
            replicas=layer.replicas,
            seed=seed,
            device=like.device,
            dtype=like.dtype,
        )

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> Tensor:
        """Outputs: x (N, T, C) to (N, T, K), or (N, K) for many-to-one.

        Args:
            x: (N, T, C).
            state, lengths, resets: as for :meth:`Recurrent.forward`. In the padding the output of
                a many-to-many model is what the readout says of h = 0; the losses of longlag do
                not count it.
        """
        return self.run(x, state, lengths, resets)[0]

    def run(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Outputs and the final state, to go on from: for streams and one-step prediction."""
        h, final = self.layer(x, state, lengths=lengths, resets=resets)
        if lengths is not None:
            lengths = torch.as_tensor(lengths, device=x.device).long()
        read = x if self.direct else None
        if read is not None and lengths is not None:
            steps = torch.arange(x.shape[-2], device=x.device)
            read = read.masked_fill((steps >= lengths.unsqueeze(-1)).unsqueeze(-1), 0.0)
        if self.reduce is None:
            return self.readout.by_step(h, read), final
        read = None if read is None else self._reduce(read, lengths, take_last)
        return self.readout(self._reduce(h, lengths, self.layer.last), read), final

    def _reduce(
        self, sequence: Tensor, lengths: Tensor | None, last: Callable[..., Tensor]
    ) -> Tensor:
        if self.reduce == "last":
            return last(sequence, lengths)
        count = sequence.shape[-2] if lengths is None else lengths.unsqueeze(-1)
        count = torch.as_tensor(count, device=sequence.device).clamp(min=1)
        return self.readout.sum_over_steps(sequence) / count.to(sequence.dtype)

    def summary(self) -> Summary:
        """The table of layers, output shapes and parameters, as Keras prints one."""
        parts = self.layer.layers if isinstance(self.layer, Stack) else [self.layer]
        front = ("N",) if self.layer.replicas is None else (str(self.layer.replicas), "N")
        rows = []
        for number, part in enumerate(parts):
            assert isinstance(part, RecurrentModule)
            top = part is parts[-1]
            steps = () if top and self.reduce is not None else ("T",)
            name = "layer" if part is self.layer else f"layer.{number}"
            rows.append(Row.of(name, part, (*front, *steps, part.output_size)))
        steps = () if self.reduce is not None else ("T",)
        rows.append(Row.of("readout", self.readout, (*front, *steps, self.output_size)))
        return Summary(tuple(rows))

    def config(self) -> dict[str, Any]:
        """What :func:`longlag.load` needs to build the model again, as plain data."""
        return {
            "type": "SequenceModel",
            "layer": self.layer.config(),
            "output_size": self.output_size,
            "reduce": self.reduce,
            "direct": self.direct,
            "bias": self.readout.bias is not None,
            "output_activation": self.readout.activation,
        }
