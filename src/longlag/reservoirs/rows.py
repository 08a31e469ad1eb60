"""What a readout is fitted on: features and targets of many steps, some at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.batch import Batch
from longlag.gradients.losses import WeightedCrossEntropy, due
from longlag.gradients.method import Loss
from longlag.gradients.runs.piecewise_run import PiecewiseReadout, PiecewiseRun
from longlag.gradients.weighted import loss_of, weights_due
from longlag.layers.composition import reduction_of
from longlag.layers.inputs import Inputs
from longlag.layers.readout import Readout
from longlag.layers.state_noise import StateNoise

NUMBERS = 1 << 22
"""Numbers of features that are there at once: 32 MB in float64."""

NO_WEIGHT = "weights: all rows that have a target have weight 0; expected some"
"""What is said where nothing counts."""


class Piece(NamedTuple):
    """Some rows: steps of sequences, or whole sequences.

    Attributes:
        h: (n, H), what the readout reads.
        x: (n, C), or None where it sees none.
        target: (n, K), in float64: values, or 1 for the class and 0 for the others.
        together: how many rows each step has, of the sequences of a batch, the first step first;
            None where each row is a step.
        classes: whether the targets are classes.
        weights: (n,), in float64, what each row counts for; None: all the same.
    """

    h: Tensor
    x: Tensor | None
    target: Tensor
    together: list[int] | None = None
    classes: bool = False
    weights: Tensor | None = None


class Sample(NamedTuple):
    """Some rows as a method reads them, in float64.

    Attributes:
        features: (n, D), what the weights of the readout are multiplied by.
        target, together, classes, weights: as of :class:`Piece`.
    """

    features: Tensor
    target: Tensor
    together: list[int]
    classes: bool
    weights: Tensor | None = None


class Rows:
    """The rows of a data set for a model, as often as they are asked for.

    Args:
        model: a model with a linear readout.
        batches: gives the data set, each time from its beginning.
        continues: whether each batch is the next window of the sequences of the batch before.
        washout: steps at the beginning of each sequence that do not count.
        method: who asks, for errors.
        state_noise: the standard deviation of normal noise on what drives the units, in
            :meth:`samples`; rows themselves are without it.
        seed: of the noise, which is the same each time.
        loss: whose weights of places the rows have, where it, or the sequences, have some.

    Raises:
        TypeError, ValueError: the model has no linear readout, or cannot be run piece by piece; it
            has no units for noise.
    """

    def __init__(
        self,
        model: Any,
        batches: Callable[[], Iterable[Batch[Tensor]]],
        continues: bool,
        washout: int,
        method: str,
        state_noise: float = 0.0,
        seed: int = 0,
        loss: Loss | None = None,
    ) -> None:
        self.model, self.batches, self.method, self.loss = model, batches, method, loss
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
        if model.reduce is not None and washout:
            raise ValueError(
                f"washout: got {washout}, but the model has one output a sequence "
                f"(reduce={model.reduce!r}); expected 0"
            )
        self.readout = readout
        self.state_noise, self.seed = state_noise, seed
        self._noise(state_noise)
        self._whole: list[Piece] | None = None

    def __iter__(self) -> Iterator[Piece]:
        if reduction_of(self.model) is None:
            return self._pieces(None, self._noise(0.0))
        if self._whole is None:  # one row a sequence: they fit where the sequences do
            self._whole = list(self._pieces(None, self._noise(0.0)))
        return iter(self._whole)

    def mean_weight(self) -> float:
        """The mean weight of the rows that count for anything; 1 where rows have no weights.

        The data are read once, and the model is not run.

        Raises:
            ValueError: there are rows, and all have weight 0.
        """
        total, count, rows, ages = 0.0, 0, 0, None
        for batch in self.batches():
            weights = self._weights(batch)
            if weights is None:
                return 1.0
            shape = batch.x.shape[:1]
            if self.model.reduce is not None:
                chosen = self._chosen(shape, batch._replace(lengths=None))
            else:
                if ages is None or not self.continues:
                    ages = torch.zeros(shape, dtype=torch.long, device=batch.x.device)
                age, ages = _ages(batch, ages)
                chosen = self._chosen(age.shape, batch, age >= self.washout)
            own = weights[chosen].double()
            rows += len(own)
            count += int((own > 0).sum())
            total += float(own.sum())
        if rows and not count:
            raise ValueError(NO_WEIGHT)
        return total / count if count else 1.0

    def _noise(self, size: float) -> StateNoise:
        return StateNoise(self.model, size, self.seed)

    def samples(self, output: Callable[[Tensor], Tensor] | None = None) -> Iterator[Sample]:
        """The rows as features and targets; where no step of a piece counts, there is none.

        Args:
            output: None: the model reads the data as they are. Else it goes on step by step, and
                behind the washout of each sequence the last K features of x are its own outputs of
                the step before: what this makes, when a step comes, of features (n, D).

        Raises:
            ValueError: there is no row, or a feature is not finite.
        """
        any_row = False
        again = output is None and not self.state_noise  # the rows as they are
        for piece in self if again else self._pieces(output, self._noise(self.state_noise)):
            any_row = any_row or len(piece.h) > 0
            features = self.readout.features(piece.h, piece.x).double()
            if not bool(features.isfinite().all()):
                raise ValueError(
                    f"model: {self.method} found a state or an input that is not finite; expected "
                    "finite ones. A spectral radius above 1, or an activation without bounds, lets "
                    "states grow"
                )
            together = [1] * len(features) if piece.together is None else piece.together
            yield Sample(features, piece.target, together, piece.classes, piece.weights)
        if not any_row:
            raise ValueError(
                f"data: {self.method} found no step with a target behind the washout of "
                f"{self.washout}; expected some"
            )

    def _pieces(
        self, output: Callable[[Tensor], Tensor] | None, noise: StateNoise
    ) -> Iterator[Piece]:
        state = ages = fed = None
        for batch in self.batches():
            if not self.model.layer.causal:
                if output is not None:
                    raise ValueError(
                        f"model: {self.method} feeds the output of a step to the next, and the "
                        "model reads in both directions; expected layers that read forward"
                    )
                yield self._at_once(batch, noise)
                continue
            inputs = Inputs(batch.x, batch.lengths, batch.resets)
            run = PiecewiseRun.of(self.model, inputs, self.method)
            if run.model.reduce is None:
                if not self.continues:
                    state = ages = fed = None
                if ages is None:
                    ages = torch.zeros(len(batch.x), dtype=torch.long, device=batch.x.device)
                for first, stop in self._spans(run, None if output is None else 1):
                    part = batch.steps(first, stop)
                    age, ages = _ages(part, ages)
                    some = run.inputs.between(first, stop, state)
                    if fed is not None:
                        own = torch.cat([part.x[..., : -fed.shape[-1]], fed], -1)
                        x = torch.where((age > self.washout).unsqueeze(-1), own, part.x)
                        part, some = part._replace(x=x), some._replace(x=x)
                    with torch.no_grad():
                        with noise:
                            h, state = run.model.run(some)
                        if output is not None:
                            features = self.readout.features(h, part.x).double()
                            fed = output(features.flatten(0, 1)).unsqueeze(1).to(part.x.dtype)
                    yield self._rows(h, part, age >= self.washout)
            elif output is not None:
                raise ValueError(
                    f"model: {self.method} feeds the output of a step to the next, and the model "
                    f"has one output a sequence (reduce={run.model.reduce!r}); expected reduce=None"
                )
            else:
                yield self._of_sequences(run, batch, noise)

    def _at_once(self, batch: Batch[Tensor], noise: StateNoise) -> Piece:
        """The rows of a model that reads in both directions: all steps of a batch are there."""
        if self.continues:
            raise ValueError(
                "model: it reads in both directions, and a window of recordings is not all; "
                "expected layers that read forward"
            )
        with torch.no_grad(), noise:
            h, x, _ = self.model.what_is_read(batch.x, None, batch.lengths, batch.resets)
        counts = torch.ones(h.shape[:-1], dtype=torch.bool, device=h.device)
        if self.model.reduce is not None:
            return self._rows(h, batch._replace(x=x, lengths=None), counts)
        age, _ = _ages(batch, torch.zeros(len(h), dtype=torch.long, device=h.device))
        return self._rows(h, batch, age >= self.washout)

    def _spans(self, run: PiecewiseRun, size: int | None = None) -> Iterator[tuple[int, int]]:
        if size is None:
            size = max(1, NUMBERS // max(1, len(run.inputs.x) * self.readout.input_size))
        for first in range(0, run.steps, size):
            yield first, min(first + size, run.steps)

    def _of_sequences(self, run: PiecewiseRun, batch: Batch[Tensor], noise: StateNoise) -> Piece:
        """One row for each sequence of a model that reads them as a whole."""
        state, read = None, PiecewiseReadout(run)
        with torch.no_grad():
            for first, stop in self._spans(run):
                with noise:
                    h, state = run.run(state, first, stop)
                read.add(h, first, stop)
            h, x = read.reduced()
        every = torch.ones(len(h), dtype=torch.bool, device=h.device)
        return self._rows(h, batch._replace(x=x, lengths=None), every)

    def _rows(self, h: Tensor, batch: Batch[Any], counts: Tensor) -> Piece:
        """The rows (..., H) that count and have a target."""
        chosen = self._chosen(h.shape[:-1], batch, counts)
        x, target, outputs = batch.x, batch.target, self.readout.output_size
        together, weights = None, self._weights(batch)
        if chosen.dim() == 2:  # (N, T): one step after the other
            chosen, h, x, target = (part.transpose(0, 1) for part in (chosen, h, x, target))
            weights = None if weights is None else weights.transpose(0, 1)
            together = chosen.sum(1).tolist()
        target = target[chosen]
        classes = not target.is_floating_point()
        if classes:
            target = nn.functional.one_hot(target, outputs)
        x = None if self.readout.direct_size is None else x[chosen]
        weights = None if weights is None else weights[chosen].double()
        return Piece(h[chosen], x, target.double(), together, classes, weights)

    def _chosen(
        self, shape: Sequence[int], batch: Batch[Any], counts: Tensor | None = None
    ) -> Tensor:
        """Which places, (N,) or (N, T) as of the shape, are rows: they count and have a target."""
        target, outputs = batch.target, self.readout.output_size
        shape, wanted = tuple(shape), due(target)
        if target.is_floating_point():
            if target.shape != (*shape, outputs):
                raise ValueError(
                    f"target: got {tuple(target.shape)}, expected {(*shape, outputs)}, as of the "
                    "model's output"
                )
            wanted, every = wanted.any(-1), wanted.all(-1)
        else:
            every = wanted
            if target.shape != shape:
                raise ValueError(
                    f"target: got {tuple(target.shape)}, expected {shape}, a class each"
                )
        chosen = wanted if counts is None else wanted & counts
        if batch.lengths is not None:
            steps = torch.arange(shape[-1], device=chosen.device)
            chosen = chosen & (steps < batch.lengths.unsqueeze(-1))
        if bool((chosen & ~every).any()):
            raise ValueError(
                f"target: has NaN among the {outputs} outputs of a step, and numbers beside; "
                f"{self.method} expects all of them or none"
            )
        return chosen

    def _weights(self, batch: Batch[Any]) -> Tensor | None:
        """What each row counts for, (N,) or (N, T); None: all the same."""
        weighted = isinstance(self.loss, WeightedCrossEntropy)
        if self.loss is None or (batch.weights is None and not weighted):
            return None
        weights = weights_due(loss_of(self.loss, batch), batch.target)
        return weights.mean(-1) if batch.target.is_floating_point() else weights


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
