"""The error of a whole sequence, found without its graph, and handed out piece by piece in time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.gradients.method import Loss
from longlag.gradients.parts import Parts, as_scalar, clipped_lengths, parts_of

__all__ = ["Error", "Reading", "Steps", "Totals", "check_fit"]


class Steps(NamedTuple):
    """Sequences, of which some steps at a time are run.

    Attributes:
        parts: the model.
        x, lengths, resets: of the whole sequences.
    """

    parts: Parts
    x: Tensor
    lengths: Tensor | None
    resets: Tensor | None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        x: Tensor,
        lengths: Tensor | None,
        resets: Tensor | None,
        method: str,
    ) -> "Steps":
        """Take the model apart; ``method`` is who asks, for errors.

        Raises:
            TypeError, ValueError: the model cannot be run piece by piece; lengths or resets do not
                fit x.
        """
        if lengths is not None:
            lengths = torch.as_tensor(lengths, device=x.device).long()
        parts = parts_of(model, method)
        check_fit(x, lengths, resets)
        return cls(parts, x, lengths, resets)

    @property
    def steps(self) -> int:
        """T."""
        return self.x.shape[-2]

    def run(self, state: Any, first: int, stop: int) -> tuple[Tensor, Any]:
        """h (N, stop - first, H) of the steps first .. stop - 1, and the state after them."""
        x = self.x[..., first:stop, :]
        resets = None if self.resets is None else self.resets[..., first:stop]
        lengths = clipped_lengths(self.lengths, first, stop)
        return self.parts.run(x, state, lengths=lengths, resets=resets)

    def read(self, h: Tensor, first: int, stop: int) -> Tensor:
        """The outputs for h of some steps, of a model with one output a step."""
        x = self.x[..., first:stop, :]
        return self.parts.read(h, x, clipped_lengths(self.lengths, first, stop))


class Reading:
    """What the readout says of a sequence that is run piece by piece, first piece first.

    Of a model with one output a step the outputs are collected; of one with one output a sequence
    only what is read out, so that h of all steps is never there at once.

    Args:
        given: the sequences.
    """

    def __init__(self, given: Steps) -> None:
        self.given = given
        self._outputs: Tensor | None = None
        self._h: Tensor | None = None
        self._seen: Tensor | None = None

    def add(self, h: Tensor, first: int, stop: int) -> None:
        """Take in h of the steps first .. stop - 1."""
        parts = self.given.parts
        if parts.reduce is None:
            outputs = self.given.read(h, first, stop)
            if self._outputs is None:
                # At once, and not piece by piece: what stays between large pieces of memory that
                # come and go keeps these from being used again.
                shape = (*outputs.shape[:-2], self.given.steps, outputs.shape[-1])
                self._outputs = outputs.new_empty(shape)
            self._outputs[..., first:stop, :] = outputs
            return
        counts = self.counts(first, stop)
        self._h = self._sum(self._h, h.masked_fill(~counts, 0.0))
        if parts.direct:  # padding may hold anything, even NaN
            x = self.given.x[..., first:stop, :]
            self._seen = self._sum(self._seen, x.masked_fill(~counts, 0.0))

    def _sum(self, total: Tensor | None, sequence: Tensor) -> Tensor:
        """In the order in which one sum over all steps is made."""
        for part in sequence.split(self.given.parts.stretch(sequence), -2):
            found = part.sum(-2)
            total = found if total is None else total + found
        assert total is not None
        return total

    def counts(self, first: int, stop: int) -> Tensor:
        """Which steps the readout sees, (N, stop - first, 1): of a model with one output."""
        at, ends = torch.arange(first, stop, device=self.given.x.device), self._ends()
        last = self.given.parts.reduce == "last"
        return (at == ends - 1 if last else at < ends).unsqueeze(-1)

    def _ends(self) -> Tensor:
        """(N, 1), the lengths."""
        x, lengths = self.given.x, self.given.lengths
        if lengths is None:
            lengths = torch.full(x.shape[:-2], self.given.steps, device=x.device)
        return lengths.unsqueeze(-1)

    def _mean(self, total: Tensor | None) -> Tensor | None:
        if total is None or self.given.parts.reduce == "last":
            return total
        count = self.given.steps if self.given.lengths is None else self._ends()
        return total / torch.as_tensor(count, device=total.device).clamp(min=1).to(total.dtype)

    def error(self, loss: Loss, target: Tensor) -> "Error":
        """The loss of the whole output, and its error.

        Raises:
            ValueError: the loss is not a scalar.
        """
        parts = self.given.parts
        with torch.enable_grad():
            if parts.reduce is None:
                assert self._outputs is not None
                leaf = self._outputs.detach().requires_grad_()
                output = leaf
            else:
                assert self._h is not None
                assert parts.readout is not None
                leaf = self._h.detach().requires_grad_()
                output = parts.readout(self._mean(leaf), self._mean(self._seen))
            value = as_scalar(loss(output, target))
        return Error(self, leaf, output, value)


@dataclass
class Error:
    """The loss of a sequence, and what of its error belongs to each piece.

    Attributes:
        reading: where it came from.
        leaf: what the error is had by: the outputs, or what was reduced of h.
        output, loss: of the model, in a graph that begins at ``leaf``.
    """

    reading: Reading
    leaf: Tensor
    output: Tensor
    loss: Tensor

    def __post_init__(self) -> None:
        self._by_leaf: Tensor | None = None

    def start(self, named: Mapping[str, nn.Parameter]) -> "Totals":
        """Send the error to the readout's result, once, before any :meth:`of_piece`.

        Returns:
            The gradients so far: those of a readout that is applied once a sequence. Of one that
            is applied step by step they come with the pieces.
        """
        total = Totals(named)
        if self.loss.requires_grad:
            asked = [self.leaf, *named.values()]
            self._by_leaf, *found = torch.autograd.grad(self.loss, asked, allow_unused=True)
            total.add(found)
        return total

    def touches(self, first: int, stop: int) -> bool:
        """Whether error arises in the steps first .. stop - 1."""
        if self._by_leaf is None:
            return False
        if self.reading.given.parts.reduce != "last":
            return True
        return bool(self.reading.counts(first, stop).any())

    def of_piece(self, h: Tensor, first: int, stop: int, total: "Totals") -> Tensor:
        """The error of h of the steps first .. stop - 1, for pieces that error :meth:`touches`.

        Args:
            h: (N, stop - first, H).
            first, stop: where the piece begins and ends.
            total: what the gradients of a readout that is applied step by step are added to, one
                stretch after the other, the last first, as one backward pass adds them.
        """
        assert self._by_leaf is not None
        given = self.reading.given
        parts = given.parts
        if parts.reduce is not None:
            counts = self.reading.counts(first, stop)
            return torch.where(counts, self._by_leaf.unsqueeze(-2), 0.0)
        error = self._by_leaf[..., first:stop, :]
        if parts.readout is None:
            return error
        size, weights, found = parts.stretch(h), [*total.named.values()], []
        for begin in reversed(range(0, stop - first, size)):
            end = min(begin + size, stop - first)
            with torch.enable_grad():
                some = h[..., begin:end, :].detach().requires_grad_()
                output = given.read(some, first + begin, first + end)
            slope = error[..., begin:end, :]
            by_h, *rest = torch.autograd.grad(output, [some, *weights], slope, allow_unused=True)
            total.add(rest)
            found.append(by_h)
        return found[0] if len(found) == 1 else torch.cat(found[::-1], -2)


class Totals:
    """Gradients that are summed, in the order in which they come.

    Args:
        named: the parameters by name.
    """

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        self.named = named
        self.found: list[Tensor | None] = [None] * len(named)

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Add one gradient a parameter, in their order; None for nothing."""
        for number, gradient in enumerate(gradients):
            if gradient is not None:
                self.found[number] = _add(self.found[number], gradient)

    def by_name(self) -> dict[str, Tensor]:
        """The sums; zeros where nothing came."""
        pairs = zip(self.named.items(), self.found, strict=True)
        return {n: torch.zeros_like(p) if total is None else total for (n, p), total in pairs}


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def check_fit(x: Tensor, lengths: Tensor | None, resets: Any) -> None:
    """Lengths and resets are sliced, which would hide a wrong shape."""
    if lengths is not None:
        if lengths.shape != x.shape[:-2]:
            raise ValueError(
                f"lengths: got shape {tuple(lengths.shape)}, expected {tuple(x.shape[:-2])}: one "
                "per sequence of x"
            )
        if lengths.numel() and not 0 <= int(lengths.min()) <= int(lengths.max()) <= x.shape[-2]:
            raise ValueError(
                f"lengths: got values from {int(lengths.min())} to {int(lengths.max())}, expected "
                f"0 to {x.shape[-2]}, the number of steps of x"
            )
    if resets is not None and tuple(resets.shape) != tuple(x.shape[:-1]):
        raise ValueError(
            f"resets: got shape {tuple(resets.shape)}, expected {tuple(x.shape[:-1])}: one truth "
            "value per step of x"
        )
