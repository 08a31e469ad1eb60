"""Loss and metrics over a whole validation set."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from longlag import randomness
from longlag.batch import Batch
from longlag.gradients import Loss, forward
from longlag.gradients.runs.piecewise_run import PiecewiseRun
from longlag.gradients.weighted import loss_of, weights_due
from longlag.layers.inputs import Inputs
from longlag.training.metrics import Meter, check_weights
from longlag.training.ranks import Ranks
from longlag.training.sources import Source


@dataclass
class Evaluator:
    """Runs a model over a validation set, in eval mode and without touching the random state.

    Args:
        network: what is run: the model, or what Fabric wrapped around it.
        source: the validation set; it must have an end.
        loss: a mean over the places where an error is due, each with its weight.
        meters: the metrics by name; they follow the weights of sequences.
        compiled: gives the outputs of this process's part of all batches, where it can; else None.
        ranks: the processes that share the work.

    Raises:
        ValueError: sequences have weights, which a metric does not follow.
    """

    network: nn.Module
    source: Source | None
    loss: Loss
    meters: dict[str, Meter]
    ranks: Ranks = field(default_factory=Ranks)
    compiled: Callable[[], Iterator[Tensor] | None] = lambda: None

    def __post_init__(self) -> None:
        """Refuse, before anything is trained, metrics that do not follow weights that there are."""
        whole = None if self.source is None else self.source.whole
        if whole is not None and whole.weights is not None:
            check_weights(self.meters)

    def run(
        self, device: torch.device, interrupted: Callable[[], bool]
    ) -> tuple[float | None, dict[str, float]] | None:
        """The loss, averaged over all places where an error is due, and the metrics.

        Args:
            device: the device of the model.
            interrupted: asked between batches; if it says True, the answer is None.
        """
        if self.source is None:
            return None, {}
        for meter in self.meters.values():
            meter.reset()
        total, places = 0.0, 0.0
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad(), randomness.isolated(device), self.source.undisturbed():
                for batch, output in self._outputs(self.source):
                    if interrupted():
                        return None
                    loss = loss_of(self.loss, batch)
                    count = float(weights_due(loss, batch.target).sum())
                    if count:
                        total += float(loss(output, batch.target)) * count
                        places += count
                    for meter in self.meters.values():
                        meter.update(output, batch.target, batch.weights)
        finally:
            self.network.train(was_training)
        mean = total / places if places else math.nan
        return mean, {name: meter.compute() for name, meter in self.meters.items()}

    def _outputs(self, source: Source) -> Iterator[tuple[Batch[Tensor], Tensor]]:
        """The batches, each with the output of the model."""
        outputs = self.compiled()
        if outputs is not None:
            for batch, output in zip(source.batches(0, 0), outputs, strict=True):
                yield batch, self.ranks.whole(output, len(batch.x))
            return
        state = None
        for batch in self.ranks.batches(source, 0, 0):
            part, _ = self.ranks.part(batch, self.loss)
            if source.continues:
                inputs = Inputs(part.x, part.lengths, part.resets)
                run = PiecewiseRun.of(self.network, inputs, "validation")
                h, state = run.run(state, 0, run.steps)
                output = run.read(h, 0, run.steps)
            else:
                options = {"lengths": part.lengths, "resets": part.resets}
                output = forward(self.network, part.x, **options)
            yield batch, self.ranks.whole(output, len(batch.x))
