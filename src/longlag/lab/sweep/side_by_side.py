"""Trials whose networks have the same shapes, as replicas of one network.

Trial k is replica k: its weights are those that it would have alone, its loss is a mean of its own,
its gradient is clipped by itself, and its updates have its own learning rate, for the updates of
Adam, AdamW, SGD and RMSprop are in proportion to it. The batches are those of
`longlag.training.fit`. So each trial is what it would be alone, up to rounding and, with dropout,
to the masks drawn.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from longlag import randomness
from longlag.gradients.losses import due
from longlag.lab.reproduce.trials import clip_each
from longlag.lab.sweep.trial import Result, alone
from longlag.layers import SequenceModel
from longlag.pipeline.dataset import Parts
from longlag.pipeline.fitting import Pipeline, untrained, window_of
from longlag.pipeline.settings import Settings
from longlag.pipeline.updates import optimizer, schedule
from longlag.training.sources import Reading, make_source

_OWN = ("learning_rate", "clip_norm", "patience")
"""What each replica may have for itself."""

NUMBERS = 1 << 26
"""States of a batch that a group holds at most, of all its replicas, gates included."""


def key(settings: Settings) -> tuple[Any, ...] | None:
    """What trials must share to run side by side; None: they cannot.

    >>> one, other = (Settings("regression", learning_rate=rate) for rate in (0.1, 0.2))
    >>> key(one) == key(other), key(Settings("regression", cell="echo"))
    (True, None)
    """
    if settings.echo or settings.scheduler == "plateau":
        return None
    return tuple(getattr(settings, own.name) for own in fields(settings) if own.name not in _OWN)


def together(parts: Parts, trials: Sequence[Settings]) -> list[Result]:
    """Train networks of one `key` side by side, or one by one where long series need windows.

    Args:
        parts: the data.
        trials: the settings of each.
    """
    pipeline = Pipeline.of(parts, trials[0])
    if window_of(pipeline.train, trials[0]) is not None:
        return [alone(parts, trial) for trial in trials]
    steps = pipeline.train.x.shape[1] * trials[0].batch_for(len(pipeline.train.x))
    most = max(1, NUMBERS // (4 * steps * trials[0].hidden * trials[0].layers))
    results: list[Result] = []
    for first in range(0, len(trials), most):
        group = _Group(pipeline, trials[first : first + most])
        results += group.train()
    return results


class _Group:
    """Replicas that are trained together, and what each has reached."""

    def __init__(self, pipeline: Pipeline, trials: Sequence[Settings]) -> None:
        self.pipeline, self.settings = pipeline, trials[0]
        count = len(trials)
        self.patience = torch.tensor([float(s.patience or math.inf) for s in trials])
        self.rates = torch.tensor([s.learning_rate for s in trials])
        self.norms = torch.tensor([s.clip_norm or math.inf for s in trials])
        self.best = torch.full((count,), math.inf)
        self.epochs, self.without = torch.zeros(count), torch.zeros(count)
        self.sound = torch.ones(count, dtype=torch.bool)
        self.going = torch.ones(count, dtype=torch.bool)
        self.places = torch.arange(count)  # of the replicas that are still trained
        single = untrained(self.settings, pipeline.preparation).state_dict()
        self._begin({name: part.expand(count, *part.shape) for name, part in single.items()})

    def _begin(self, weights: dict[str, Tensor]) -> None:
        self.model: SequenceModel = untrained(
            self.settings, self.pipeline.preparation, len(self.places)
        )
        self.model.load_state_dict(weights)
        self.optimizer = optimizer(self.settings.optimizer, 1.0)([*self.model.parameters()])

    def train(self) -> list[Result]:
        settings, pipeline = self.settings, self.pipeline
        size = settings.batch_for(len(pipeline.train.x))
        device = torch.device("cpu")
        reading = Reading(torch.float32, device, size, settings.seed, True)
        source = make_source(pipeline.train, "data", reading)
        in_order = Reading(torch.float32, device, size, settings.seed, False)
        held_out = make_source(pipeline.held_out, "validation", in_order)
        updates = settings.epochs * (source.batches_per_epoch or 1)
        plan = schedule(settings.scheduler, 1.0, updates)
        scheduler: Any = None if plan is None else plan.scheduler(self.optimizer)  # pyright: ignore
        began = time.perf_counter()
        with randomness.isolated(device):
            randomness.seed_everything(settings.seed)
            for epoch in range(1, settings.epochs + 1):
                self.model.train()
                for batch in source.batches(epoch - 1, 0):
                    self._update(batch)
                    if scheduler is not None:
                        scheduler.step()
                self._note(epoch, self._validate(held_out))
                if not len(self.places):
                    break
                if scheduler is not None:
                    scheduler.optimizer = self.optimizer
        seconds = (time.perf_counter() - began) / len(self.best)
        values = torch.where(self.sound, self.best, math.inf).tolist()
        return [
            Result(value, int(epoch) if value < math.inf else 0, seconds)
            for value, epoch in zip(values, self.epochs.tolist(), strict=True)
        ]

    def _losses(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The sum of the errors of each replica (R,), and the number of places of each."""
        count = len(self.places)
        same = batch.map(lambda part: part.expand(count, *part.shape))
        output = self.model(same.x, lengths=same.lengths)
        wanted, target = due(same.target), same.target
        if target.is_floating_point():
            errors = torch.where(wanted, output - target, 0.0).square()
        else:
            scores = output.log_softmax(-1)
            chosen = scores.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            errors = torch.where(wanted, -chosen, 0.0)
        return errors.flatten(1).sum(1), wanted[0].sum()

    def _update(self, batch: Any) -> None:
        errors, places = self._losses(batch)
        losses = errors / places.clamp(min=1)
        self.sound[self.places] &= losses.detach().isfinite()
        self.optimizer.zero_grad()
        losses.sum().backward()
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        self.sound[self.places] &= clip_each(parameters, self.norms[self.places])
        with torch.no_grad():
            before = [p.clone() for p in parameters]
            self.optimizer.step()
            rates = self.rates[self.places]
            for parameter, old in zip(parameters, before, strict=True):
                own = rates.view(-1, *[1] * (old.dim() - 1))
                torch.addcmul(old, own, parameter - old, out=parameter)

    @torch.no_grad()
    def _validate(self, source: Any) -> Tensor:
        self.model.eval()
        pairs = [self._losses(batch) for batch in source.batches(0, 0)]
        errors, places = zip(*pairs, strict=True)
        return torch.stack(errors).sum(0) / torch.stack(places).sum().clamp(min=1)

    def _note(self, epoch: int, losses: Tensor) -> None:
        """Keep what is better, and train on without those that have stopped."""
        places = self.places
        better = self.going[places] & (losses < self.best[places])
        self.best[places] = torch.where(better, losses, self.best[places])
        self.epochs[places] = torch.where(better, float(epoch), self.epochs[places])
        self.without[places] = torch.where(better, 0.0, self.without[places] + 1)
        self.going &= self.sound & (self.without < self.patience)
        going = self.going[places]
        if not going.any():
            self.places = places[:0]
        elif 2 * int(going.sum()) <= len(places):
            self._only(going)

    def _only(self, chosen: Tensor) -> None:
        """A smaller network of some of the replicas, with the optimizer's state."""
        old, optimizer = self.model, self.optimizer
        self.places = self.places[chosen]
        self._begin({name: part[chosen] for name, part in old.state_dict().items()})
        for before, after in zip(old.parameters(), self.model.parameters(), strict=True):
            self.optimizer.state[after] = {
                name: value[chosen] if value.shape == before.shape else value.clone()
                for name, value in optimizer.state.get(before, {}).items()
                if isinstance(value, Tensor)
            }
        (group,), (earlier,) = self.optimizer.param_groups, optimizer.param_groups
        group.update({name: value for name, value in earlier.items() if name != "params"})
