"""What a readout is fitted on: features and targets of many steps, some at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.batch import Batch
from longlag.gradients.losses import due
from longlag.gradients.runs.piecewise_run import PiecewiseReadout, PiecewiseRun
from longlag.layers.inputs import Inputs
from longlag.layers.readout import Readout

NUMBERS = 1 << 22
"""Numbers of features that are there at once: 32 MB in float64."""


class Piece(NamedTuple):
    """Some rows: steps of sequences, or whole sequences.

    Attributes:
        h: (n, H), what the readout reads.
        x: (n, C), or None where it sees none.
        target: (n, K), in float64: values, or 1 for the class and 0 for the others.
    """

    h: Tensor
    x: Tensor | None
    target: Tensor


class Rows:
    """The rows of a data set for a model, as often as they are asked for.

    Args:
        model: a model with a linear readout.
        batches: gives the data set, each time from its beginning.
        continues: whether each batch is the next window of the sequences of the batch before.
        washout: steps at the beginning of each sequence that do not count.
        method: who asks, for errors.

    Raises:
        TypeError, ValueError: the model has no linear readout, or cannot be run piece by piece.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[], Iterable[Batch[Tensor]]],
        continues: bool,
        washout: int,
        method: str,
    ) -> None:
        self.model, self.batches, self.method = model, batches, method
        self.continues, self.washout = continues, washout
        readout = getattr(model, "readout", None)
        if not isinstance(readout, Readout):
            raise TypeError(
                f"model: {method} fits the linear readout of ll.SequenceModel(layer, output_size), "
                f"and got a {type(model).__name__} without one"
            )
        if readout.activation != "identity":
            raise ValueError(
                f"model: {method} fits the readout in one step, which output_activation="
                f"{readout.activation!r} does not allow; expected 'identity'"
            )
        if readout.replicas is not None:
            raise ValueError(
                f"model: {method} fits one network, got replicas={readout.replicas}; fit each alone"
            )
        self.readout = readout

    def __iter__(self) -> Iterator[Piece]:
        state = ages = None
        for batch in self.batches():
            inputs = Inputs(batch.x, batch.lengths, batch.resets)
            run = PiecewiseRun.of(self.model, inputs, self.method)
            if run.model.reduce is None:
                if not self.continues:
                    state = ages = None
                if ages is None:
                    ages = torch.zeros(len(batch.x), dtype=torch.long, device=batch.x.device)
                for first, stop in self._pieces(run):
                    with torch.no_grad():
                        h, state = run.run(state, first, stop)
                    part = batch.steps(first, stop)
                    age, ages = _ages(part, ages)
                    yield self._rows(h, part, age >= self.washout)
            elif self.washout:
                raise ValueError(
                    f"washout: got {self.washout}, but the model has one output a sequence "
                    f"(reduce={run.model.reduce!r}); expected 0"
                )
            else:
                yield self._of_sequences(run, batch)

    def _pieces(self, run: PiecewiseRun) -> Iterator[tuple[int, int]]:
        size = max(1, NUMBERS // max(1, len(run.inputs.x) * self.readout.input_size))
        for first in range(0, run.steps, size):
            yield first, min(first + size, run.steps)

    def _of_sequences(self, run: PiecewiseRun, batch: Batch[Tensor]) -> Piece:
        """One row for each sequence of a model that reads them as a whole."""
        state, read = None, PiecewiseReadout(run)
        with torch.no_grad():
            for first, stop in self._pieces(run):
                h, state = run.run(state, first, stop)
                read.add(h, first, stop)
            h, x = read.reduced()
        every = torch.ones(len(h), dtype=torch.bool, device=h.device)
        return self._rows(h, batch._replace(x=x, lengths=None), every)

    def _rows(self, h: Tensor, batch: Batch[Any], counts: Tensor) -> Piece:
        """The rows (..., H) that count and have a target."""
        target, outputs = batch.target, self.readout.output_size
        if batch.lengths is not None:
            steps = torch.arange(h.shape[-2], device=h.device)
            counts = counts & (steps < batch.lengths.unsqueeze(-1))
        wanted = due(target)
        if target.is_floating_point():
            if target.shape != (*h.shape[:-1], outputs):
                raise ValueError(
                    f"target: got {tuple(target.shape)}, expected {(*h.shape[:-1], outputs)}, as "
                    "of the model's output"
                )
            wanted, every = wanted.any(-1), wanted.all(-1)
            if bool((counts & wanted & ~every).any()):
                raise ValueError(
                    f"target: has NaN among the {outputs} outputs of a step, and numbers beside; "
                    f"{self.method} expects all of them or none"
                )
        elif target.shape != h.shape[:-1]:
            raise ValueError(
                f"target: got {tuple(target.shape)}, expected {tuple(h.shape[:-1])}, a class each"
            )
        chosen = counts & wanted
        target = target[chosen]
        if not target.is_floating_point():
            target = nn.functional.one_hot(target, outputs)
        x = None if self.readout.direct_size is None else batch.x[chosen]
        return Piece(h[chosen], x, target.double())


def _ages(batch: Batch[Tensor], before: Tensor) -> tuple[Tensor, Tensor]:
    """How many steps of its sequence lie before each step, (N, T), and before the next one.

    Args:
        batch: some steps.
        before: (N,), how many lie before the first.
    """
    steps = torch.arange(batch.x.shape[1], device=before.device)
    age = before.unsqueeze(-1) + steps
    if batch.resets is not None:
        last = torch.where(batch.resets, steps, -1).cummax(-1).values
        age = torch.where(last >= 0, steps - last, age)
    return age, age[:, -1] + 1
