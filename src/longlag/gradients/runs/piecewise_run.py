"""The error of a whole sequence, found without its graph, and handed out piece by piece in time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.gradients.losses import as_scalar
from longlag.gradients.method import Accumulated, Loss
from longlag.layers.base import RecurrentModule
from longlag.layers.checks import check_input
from longlag.layers.composition import Composition, composition_of
from longlag.layers.inputs import Inputs
from longlag.layers.sequence_model import SHARES, above, peaks, with_peaks


class PiecewiseRun(NamedTuple):
    """A model over sequences, of which some steps at a time are run.

    Attributes:
        model: what it is made of.
        inputs: the whole sequences.
    """

    model: Composition
    inputs: Inputs

    @classmethod
    def of(cls, model: nn.Module, inputs: Inputs, method: str) -> "PiecewiseRun":
        """Take the model apart; ``method`` is who asks, for errors.

        Raises:
            TypeError, ValueError: the model cannot be run piece by piece; x does not fit it, or
                lengths or resets do not fit x.
        """
        composition = composition_of(model, method)
        if isinstance(composition.recurrent, RecurrentModule):
            reader = composition.recurrent
            layer = next(reader.parts()).layer
            weight = next(layer.parameters(), None)  # not one that would be computed
            if weight is not None:
                x = check_input(inputs.x, reader.input_size, reader.replicas, weight)
                inputs = inputs._replace(x=x)
        return cls(composition, inputs.checked())

    @property
    def steps(self) -> int:
        """T."""
        return self.inputs.steps

    def run(self, state: Any, first: int, stop: int) -> tuple[Tensor, Any]:
        """h (N, stop - first, H) of the steps first .. stop - 1, and the state after them."""
        return self.model.run(self.inputs.between(first, stop, state))

    def read(self, h: Tensor, first: int, stop: int) -> Tensor:
        """The outputs for h of some steps, of a model with one output a step."""
        return self.model.read(h, self.inputs.between(first, stop))


class PiecewiseReadout:
    """What the readout says of a sequence that is run piece by piece, first piece first.

    Of a model with one output a step the outputs are collected; of one with one output a sequence
    only what is read out, so that h of all steps is never there at once; but with attention, whose
    weights are known after the last step.

    Args:
        sequences: the model over them.
    """

    def __init__(self, sequences: PiecewiseRun) -> None:
        self.sequences = sequences
        self._outputs: Tensor | None = None
        self._h: Tensor | None = None
        self._peaks: Tensor | None = None
        self._seen: Tensor | None = None

    def add(self, h: Tensor, first: int, stop: int) -> None:
        """Take in h of the steps first .. stop - 1."""
        model = self.sequences.model
        if model.reduce is None or model.attention is not None:
            outputs = h if model.attention is not None else self.sequences.read(h, first, stop)
            if self._outputs is None:
                # At once, and not piece by piece: what stays between large pieces of memory that
                # come and go keeps these from being used again.
                shape = (*outputs.shape[:-2], self.sequences.steps, outputs.shape[-1])
                self._outputs = outputs.new_empty(shape)
            self._outputs[..., first:stop, :] = outputs
            return
        counts = self.counts(first, stop)
        self._h = self._sum(self._h, above(h, model.reduce).masked_fill(~counts, 0.0))
        if model.reduce == "share_max":
            some = peaks(h, counts)
            self._peaks = some if self._peaks is None else torch.maximum(self._peaks, some)
        if model.direct:  # padding may hold anything, even NaN
            x = self.sequences.inputs.x[..., first:stop, :].to(h.dtype)
            self._seen = self._sum(self._seen, x.masked_fill(~counts, 0.0))

    def _sum(self, total: Tensor | None, sequence: Tensor) -> Tensor:
        """In the order in which one sum over all steps is made."""
        for part in sequence.split(self.sequences.model.stretch(sequence), -2):
            some = part.sum(-2)
            total = some if total is None else total + some
        assert total is not None
        return total

    def counts(self, first: int, stop: int) -> Tensor:
        """Which steps the readout sees, (N, stop - first, 1): of a model with one output."""
        inputs = self.sequences.inputs
        at, ends = torch.arange(first, stop, device=inputs.x.device), inputs.ends.unsqueeze(-1)
        last = self.sequences.model.reduce == "last"
        return (at == ends - 1 if last else at < ends).unsqueeze(-1)

    def _mean(self, total: Tensor | None) -> Tensor | None:
        inputs = self.sequences.inputs
        if total is None or self.sequences.model.reduce == "last":
            return total
        count = inputs.steps if inputs.lengths is None else inputs.ends.unsqueeze(-1)
        return total / torch.as_tensor(count, device=total.device).clamp(min=1).to(total.dtype)

    def reduced(self) -> tuple[Tensor, Tensor | None]:
        """What is read out of each sequence, of a model with one output: h, and x where seen."""
        if self.sequences.model.attention is not None:
            assert self._outputs is not None
            return self._attend(self._outputs)
        assert self._h is not None
        return self._read(self._h), self._mean(self._seen)

    def _attend(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is read out of h of all steps, and of x."""
        model, inputs = self.sequences.model, self.sequences.inputs
        assert model.attention is not None
        weights, seen = model.attention(h, inputs.lengths), None
        if model.direct:  # padding may hold anything, even NaN
            x = inputs.x.to(h.dtype).masked_fill(~self.counts(0, inputs.steps), 0.0)
            seen = (weights * x).sum(-2)
        return (weights * h).sum(-2), seen

    def _read(self, total: Tensor) -> Tensor:
        """What is read out of what was added up of h."""
        h = self._mean(total)
        assert h is not None
        return h if self._peaks is None else with_peaks(h, self._peaks)

    def error(self, loss: Loss, target: Tensor) -> "OutputError":
        """The loss of the whole output, and its error.

        Raises:
            ValueError: the loss is not a scalar.
        """
        model = self.sequences.model
        with torch.enable_grad():
            if model.reduce is None:
                assert self._outputs is not None
                leaf = self._outputs.detach().requires_grad_()
                output = leaf
            elif model.attention is not None:
                assert self._outputs is not None
                assert model.readout is not None
                leaf = self._outputs.detach().requires_grad_()
                output = model.readout(*self._attend(leaf))
            else:
                assert self._h is not None
                assert model.readout is not None
                leaf = self._h.detach().requires_grad_()
                output = model.readout(self._read(leaf), self._mean(self._seen))
            value = as_scalar(loss(output, target))
        return OutputError(self, leaf, output, value)


@dataclass
class OutputError:
    """The loss of a sequence, and what of its error belongs to each piece.

    Attributes:
        readout: where it came from.
        leaf: what the error is had by: the outputs, what was reduced of h, or h of all steps.
        output, loss: of the model, in a graph that begins at ``leaf``.
    """

    readout: PiecewiseReadout
    leaf: Tensor
    output: Tensor
    loss: Tensor

    def __post_init__(self) -> None:
        self._by_leaf: Tensor | None = None

    def start(self, named: Mapping[str, nn.Parameter]) -> "GradientSums":
        """Send the error to the readout's result, once, before any :meth:`of_piece`.

        Returns:
            The gradients so far: those of a readout that is applied once a sequence. Of one that
            is applied step by step they come with the pieces.
        """
        total = GradientSums(named)
        if self.loss.requires_grad:
            asked = [self.leaf, *named.values()]
            self._by_leaf, *gradients = torch.autograd.grad(self.loss, asked, allow_unused=True)
            total.add(gradients)
        return total

    def accumulated(self, carry: Any = None) -> Accumulated:
        """Loss and output, cut off from the graph, with what the next window goes on from."""
        return Accumulated(self.loss.detach(), self.output.detach(), carry)

    def touches(self, first: int, stop: int) -> bool:
        """Whether error arises in the steps first .. stop - 1."""
        if self._by_leaf is None or self.readout.sequences.model.reduce in SHARES:
            return False
        if self.readout.sequences.model.reduce != "last":
            return True
        return bool(self.readout.counts(first, stop).any())

    def of_piece(self, h: Tensor, first: int, stop: int, total: "GradientSums") -> Tensor:
        """The error of h of the steps first .. stop - 1, for pieces that error :meth:`touches`.

        Args:
            h: (N, stop - first, H).
            first, stop: where the piece begins and ends.
            total: what the gradients of a readout that is applied step by step are added to, one
                stretch after the other, the last first, as one backward pass adds them.
        """
        assert self._by_leaf is not None
        model = self.readout.sequences.model
        if model.attention is not None:
            return self._by_leaf[..., first:stop, :]
        if model.reduce is not None:
            counts = self.readout.counts(first, stop)
            return torch.where(counts, self._by_leaf.unsqueeze(-2), 0.0)
        error = self._by_leaf[..., first:stop, :]
        if model.readout is None:
            return error
        size, weights, errors = model.stretch(h), [*total.named.values()], []
        for begin in reversed(range(0, stop - first, size)):
            end = min(begin + size, stop - first)
            with torch.enable_grad():
                some = h[..., begin:end, :].detach().requires_grad_()
                output = self.readout.sequences.read(some, first + begin, first + end)
            slope = error[..., begin:end, :]
            by_h, *rest = torch.autograd.grad(output, [some, *weights], slope, allow_unused=True)
            total.add(rest)
            errors.append(by_h)
        return errors[0] if len(errors) == 1 else torch.cat(errors[::-1], -2)


class GradientSums:
    """Gradients that are summed, in the order in which they come.

    Args:
        named: the parameters by name.
    """

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        self.named = named
        self.sums: list[Tensor | None] = [None] * len(named)

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Add one gradient a parameter, in their order; None for nothing."""
        for number, gradient in enumerate(gradients):
            if gradient is not None:
                self.sums[number] = _add(self.sums[number], gradient)

    def by_name(self) -> dict[str, Tensor]:
        """The sums; zeros where nothing came."""
        pairs = zip(self.named.items(), self.sums, strict=True)
        return {n: torch.zeros_like(p) if total is None else total for (n, p), total in pairs}


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part
