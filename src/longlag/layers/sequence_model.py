"""A recurrent module with a readout: many-to-many and many-to-one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.layers.attention import Attention, counted
from longlag.layers.base import RecurrentModule, take_last
from longlag.layers.closed_loop import ClosedLoop
from longlag.layers.embedded import embeds
from longlag.layers.init import Initializer
from longlag.layers.readout import Readout, ReadoutModule
from longlag.layers.stack import Stack
from longlag.layers.state_noise import StateNoise
from longlag.layers.summary import Row, Summary

REDUCTIONS = (None, "last", "mean", "attention", "share", "share_max")
"""What ``reduce`` can be."""

SHARES = ("share", "share_max")
"""Those that pass no error back to h."""

PEAKS = slice(1, None, 2)
"""The units of "share_max" of which the greatest value is read."""


class SequenceModel(nn.Module):
    r"""A recurrent module and a readout.

    .. math:: y_t = \phi(V h_t + S h_t^2 + D x_t + b)

    for every step (many-to-many, ``reduce=None``), or once for the sequence (many-to-one).

    Args:
        layer: the recurrent module.
        output_size: K, outputs: numbers, or logits of classes.
        readout: a readout of another kind, in place of ``output_size`` and the arguments that
            describe the one above: any :class:`~longlag.layers.ReadoutModule` of the layer's
            sizes.
        reduce: ``"last"`` reads out after each sequence's own last step (of a bidirectional
            module: after the last forward and after the first backward), ``"mean"`` reads the
            mean of h over the steps, ``"attention"`` one in which each step weighs what
            :class:`~longlag.layers.Attention` learns, ``"share"`` the share of the steps at which
            each unit is above 0, ``"share_max"`` that of every other unit, the first to begin
            with, and of those between them the greatest value; None reads out at every step. Of
            shares and greatest values no error goes back to h: they are for layers that stay as
            they are, such as :class:`~longlag.EchoState`, and a readout fitted by
            :class:`~longlag.Ridge`.
        direct: whether the readout also sees the input x, by the weights D.
        squares: whether it also sees the squares of h, by the weights S.
        bias: whether the readout has a bias.
        output_activation: phi: ``"identity"``, ``"sigmoid"`` or ``"tanh"``.
        readout_init: how V, S and D are drawn, as ``weight_ih_init`` of a layer; by default as
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
        output_size: int | None = None,
        *,
        readout: ReadoutModule | None = None,
        reduce: str | None = "last",
        direct: bool = False,
        squares: bool = False,
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
        linear = (direct, squares, bias, output_activation, readout_init, seed)
        if readout is None:
            like = layer.like
            readout = Readout(
                layer.output_size,
                check_whole("output_size", output_size, 1),
                direct_size=layer.input_size if direct else None,
                squares=squares,
                bias=bias,
                activation=output_activation,
                init=readout_init,
                replicas=layer.replicas,
                seed=seed,
                device=like.device,
                dtype=like.dtype,
            )
        elif output_size is not None or linear != (False, False, True, "identity", None, None):
            raise ValueError(
                "readout: got one together with output_size, direct, squares, bias, "
                "output_activation, readout_init or seed, which describe another; give either"
            )
        else:
            _check_readout(readout, layer)
        if readout.direct_size is not None and embeds(layer):
            raise ValueError(
                "direct: got True, expected False, as x holds the numbers of categories, of which "
                "the layer reads vectors, and a readout would read the numbers"
            )
        self.layer = layer
        self.reduce = reduce
        self.input_size = layer.input_size
        self.output_size = readout.output_size
        self.direct = readout.direct_size is not None
        self.readout: ReadoutModule = readout
        self.attention: Attention | None = None
        if reduce == "attention":
            like = layer.like
            self.attention = Attention(
                layer.output_size, replicas=layer.replicas, seed=seed, device=like.device,
                dtype=like.dtype,
            )  # fmt: skip

    @property
    def linear_readout(self) -> Readout:
        """The readout, where it is that of the equation above.

        Raises:
            TypeError: it is another one.
        """
        if not isinstance(self.readout, Readout):
            raise TypeError(
                f"readout: got a {type(self.readout).__name__}, expected the linear Readout that "
                "SequenceModel(layer, output_size) makes"
            )
        return self.readout

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
                a many-to-many model is the readout of h = 0; the losses of longlag do
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
        h, read, final = self.what_is_read(x, state, lengths, resets)
        readout = self.readout.by_step if self.reduce is None else self.readout
        return readout(h, read), final

    def what_is_read(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Any]:
        """What the readout is given, h and, where it sees x, x; and the final state."""
        h, final = self.layer(x, state, lengths=lengths, resets=resets)
        if lengths is not None:
            lengths = torch.as_tensor(lengths, device=x.device).long()
        read = x.to(h.dtype) if self.direct else None
        if read is not None and lengths is not None:
            read = read.masked_fill(~counted(x, lengths), 0.0)
        if self.reduce is None:
            return h, read, final
        if self.attention is not None:
            weights = self.attention(h, lengths)
            read = None if read is None else (weights * read).sum(-2)
            return (weights * h).sum(-2), read, final
        read = None if read is None else self._reduce(read, lengths, take_last)
        reduced = self._reduce(above(h, self.reduce), lengths, self.layer.last)
        if self.reduce == "share_max":
            counts = None if lengths is None else counted(h, lengths)
            reduced = with_peaks(reduced, peaks(h, counts))
        return reduced, read, final

    def generate(
        self,
        steps: int,
        *,
        warmup: Tensor | None = None,
        lengths: Tensor | None = None,
        x: Tensor | None = None,
        teacher: Tensor | None = None,
        state: Any = None,
        state_noise: float = 0.0,
        seed: int | torch.Generator | None = None,
    ) -> tuple[Tensor, Any]:
        """Go on by itself: what the model puts out is what it reads in the next step.

        The first output is the readout of the state, after a warm-up that of its last step; it is
        read, as the last K of the C features, and so on. For a model that was trained to put out
        the next value of a series, these are the values that follow the warm-up. Gradients flow
        through all steps. Of one layer with a linear readout all steps are one call of the compiled
        kernel, in which the loop is a part of W; other models go step by step.

        Args:
            steps: how many.
            warmup: (N, T, C), read before, as :meth:`forward` does; its last K features are the
                outputs as they were.
            lengths: (N,), the number of steps of each sequence of the warm-up; None where all
                count.
            x: (N, steps, C - K), what is read beside each output; None where all features are fed
                back.
            teacher: (N, S, K), S <= steps: what is read in the place of the outputs, teacher
                forcing; NaN, and the steps behind S, where the model reads its own. So feedback is
                warmed up by a series as it was, from the first step on, each sequence for as long
                as it has one. What the model puts out is returned there too: its predictions.
            state: what to start from, or to read the warmup from; zeros by default.
            state_noise: the standard deviation of normal noise on what drives the units of all
                recurrent layers, within their squashing, in these steps; not in the warm-up.
            seed: of the noise: a whole number, a generator, or None for PyTorch's global one.

        Returns:
            The outputs (N, steps, K), and the state after the last of them was read, to go on
            from.

        Raises:
            ValueError, TypeError: the model reads in both directions, reads less than it puts out,
                or has the mean over the steps as output; an argument does not fit; no layer has
                units for noise.

        Cost: that of as many steps of the layer and the readout. With noise a sparse W is
        multiplied as a dense one. Steps in which some sequences are taught and others not go one by
        one.

        Example:
            >>> import longlag as ll
            >>> series = torch.linspace(0, 60, 1200, dtype=torch.float64).sin().view(1, -1, 1)
            >>> layer = ll.EchoState(1, 100, leak=0.5, seed=1, dtype=torch.float64)
            >>> model = ll.SequenceModel(layer, 1, reduce=None)
            >>> method = ll.Ridge(1e-10, washout=50)
            >>> _ = ll.fit(model, (series[:, :999], series[:, 1:1000]), method=method)
            >>> ahead, _ = model.generate(200, warmup=series[:, :1000])
            >>> bool((ahead - series[:, 1000:]).abs().max() < 0.05)
            True
        """
        if self.reduce not in (None, "last"):
            raise ValueError(
                f"model: reduce={self.reduce!r} puts out one number for all steps, which no next "
                "step can read; expected None or 'last'"
            )
        noise = StateNoise(self.layer, state_noise, seed)
        loop = ClosedLoop(self.layer, self.readout)
        return loop.run(steps, warmup, lengths, x, teacher, state, noise if state_noise else None)

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
        rows, counted = [], set()
        for number, part in enumerate(parts):
            assert isinstance(part, RecurrentModule)
            top = part is parts[-1]
            steps = () if top and self.reduce not in (None, "attention") else ("T",)
            name = "layer" if part is self.layer else f"layer.{number}"
            rows.append(Row.of(name, part, (*front, *steps, part.output_size), counted))
        if self.attention is not None:
            rows.append(
                Row.of("attention", self.attention, (*front, parts[-1].output_size), counted)
            )
        steps = () if self.reduce is not None else ("T",)
        shape = (*front, *steps, self.output_size)
        rows.append(Row.of("readout", self.readout, shape, counted))
        return Summary(tuple(rows))

    def config(self) -> dict[str, Any]:
        """What :func:`longlag.load` needs to build the model again, as plain data."""
        return {
            "type": "SequenceModel",
            "layer": self.layer.config(),
            "readout": self.readout.config(),
            "reduce": self.reduce,
        }


def above(h: Tensor, reduce: str | None) -> Tensor:
    """What is averaged over the steps: of a share 1 where h is above 0, else h itself.

    >>> above(torch.tensor([-0.5, 0.0, 2.0]), "share").tolist()
    [0.0, 0.0, 1.0]
    """
    return (h > 0).to(h.dtype) if reduce in SHARES else h


def peaks(h: Tensor, counts: Tensor | None = None) -> Tensor:
    """The greatest value of each unit over the steps that count: (..., T, H) to (..., H).

    Where no step counts it is minus infinity. No error goes back.

    >>> peaks(torch.tensor([[-0.5, 0.0], [-0.2, -1.0]])).tolist()
    [-0.20000000298023224, 0.0]
    """
    h = h.detach()
    if counts is not None:
        h = h.masked_fill(~counts, -torch.inf)
    if not h.shape[-2]:
        return h.new_full((*h.shape[:-2], h.shape[-1]), -torch.inf)
    return h.amax(-2)


def with_peaks(shares: Tensor, greatest: Tensor) -> Tensor:
    """Shares (..., H), in which every other unit has its greatest value; 0 where it had no step."""
    both = shares.clone()
    greatest = greatest[..., PEAKS]
    both[..., PEAKS] = greatest.masked_fill(greatest == -torch.inf, 0.0)
    return both


def _check_readout(readout: Any, layer: RecurrentModule) -> None:
    """A readout fits the layer that it is to read."""
    if not isinstance(readout, ReadoutModule):
        raise TypeError(
            f"readout: got {type(readout).__name__}, expected a ReadoutModule; derive your module "
            "from longlag.layers.ReadoutModule"
        )
    if readout.input_size != layer.output_size:
        raise ValueError(
            f"readout: it reads {readout.input_size} numbers, expected {layer.output_size}, the "
            f"output_size of the layer; give it input_size={layer.output_size}"
        )
    if readout.direct_size not in (None, layer.input_size):
        raise ValueError(
            f"readout: it sees {readout.direct_size} inputs directly, expected "
            f"{layer.input_size}, the input_size of the layer, or None"
        )
    if readout.replicas != layer.replicas:
        raise ValueError(
            f"readout: got replicas={readout.replicas}, expected {layer.replicas}, as of the layer"
        )
    dtypes = {part.dtype for part in (layer.like, *layer.parameters(), *readout.parameters())}
    if len(dtypes) > 1:
        raise TypeError(
            f"readout: layer and readout have weights of {dtypes}, expected one dtype; use "
            "readout.to(...)"
        )
