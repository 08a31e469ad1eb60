"""Trials of a network on a task, side by side: trial k is replica k of one network."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from longlag.batch import IGNORED_CLASS
from longlag.gradients import BPTT, Omega
from longlag.lab.reproduce.experiment import Outcome, Progress, spread
from longlag.layers import SequenceModel
from longlag.tasks import Batch, EmbeddedReber, Predict, Task
from longlag.tasks.criteria import measure

Network: TypeAlias = Callable[[Task, int | None, int], SequenceModel]
"""`network(task, replicas, seed)`: as many networks as trials; None for a single one."""

FEWEST, MOST, AT_ONCE = 8, 200, 1 << 21
"""Test sequences on which all trials are looked at before one is held against the criterion: no
more than make `AT_ONCE` numbers for all trials."""

PART = 500
"""Test sequences that a trial is held against before all those of the criterion."""


@dataclass(frozen=True)
class Recipe:
    """How the networks of one row are made and trained.

    Args:
        network: makes them.
        optimizer: of their parameters, which have the trials as first axis; it must treat every
            number for itself, as SGD, RMSprop and Adam do.
        batch_size: sequences to an update.
        clip_norm: what the norm of the gradient of one network is cut to; None: it is not.
        omega: the regulariser of Pascanu et al.; None: none.
        check_every: updates between two looks at the test sequences.
        alone: updates for which the direct links from input to output learn alone, before the
            recurrent layer is added, as the LSTM of task 2a was; 0: all learn from the start.
        curriculum: `curriculum(batch, update)`, the batch that is trained on in place of the
            task's; None: no such thing.
    """

    network: Network
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    batch_size: int = 1
    clip_norm: float | None = None
    omega: Omega | None = None
    check_every: int = 50
    alone: int = 0
    curriculum: Callable[[Batch, int], Batch] | None = None


def train(
    task: Task,
    recipe: Recipe,
    trials: int,
    budget: int,
    *,
    seed: int = 0,
    sequences: int | None = None,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> tuple[Outcome, list[SequenceModel]]:
    """Train until each trial meets the criterion of the task or has had its sequences.

    All trials that are still training take one update at a time, each with sequences of its own.
    A trial that gets a few test sequences right is held against the task's criterion; so the
    number of sequences until success is known to `recipe.check_every` updates.

    Args:
        task: gives sequences and criterion.
        recipe: network and training.
        trials: how many.
        budget: training sequences for each trial.
        seed: of weights and sequences.
        sequences: on which the criterion is tested; None: as many as its paper says.
        seconds: after which a look is the last one; None: no limit. The budget of the outcome is
            then what each trial had.
        progress: is told how far it has come, at every look.

    Returns:
        What came of it, and the network of each trial, as it was when it succeeded or at the end.

    Cost: each update is that of one network with a batch of trials x batch_size sequences.
    """
    group = _Group.begin(task, recipe, trials, seed)
    numbers = trials * task.steps * (task.input_size + task.output_size)
    probe = task.test_batch(min(MOST, max(FEWEST, AT_ONCE // numbers)), seed + 1, 0)
    done: list[int | None] = [None] * trials
    kept: list[SequenceModel | None] = [None] * trials
    again = [0] * trials  # sequences before which a trial that just failed is not tested again
    curve, began = [], time.perf_counter()
    # Where an error is right or wrong, the largest one says little.
    classes = task.kind == "classification" or isinstance(task, EmbeddedReber)
    updates = max(1, budget // recipe.batch_size)
    points = {round(updates ** (k / 80)) for k in range(81)}
    last = 0
    for update in range(1, updates + 1):
        group.update(update)
        if update % recipe.check_every and update != updates:
            continue
        presented = update * recipe.batch_size
        criteria = group.look(probe)
        worst = [c.wrong / c.sequences if classes else c.largest_error for c in criteria]
        if any(last < point <= update for point in points):
            curve.append((presented, *spread(np.nan_to_num(worst, nan=1e9).tolist())))
            last = update
        for place, trial in enumerate(group.trials):
            if done[trial] or not criteria[place].success or presented < again[trial]:
                continue
            model = group.single(place)
            if _meets(task, model, seed, sequences):
                done[trial], kept[trial] = presented, model
            else:
                again[trial] = round(1.05 * presented)
        open_trials = [place for place, trial in enumerate(group.trials) if done[trial] is None]
        if progress is not None:
            progress(presented, trials - len(open_trials))
        if not open_trials:
            break
        if seconds is not None and time.perf_counter() - began > seconds:
            updates = update
            break
        if 2 * len(open_trials) <= len(group.trials):
            group = group.only(open_trials)
    for place, trial in enumerate(group.trials):
        kept[trial] = kept[trial] or group.single(place)
    models = [model for model in kept if model is not None]
    outcome = Outcome(
        weights=count_weights(models[0]),
        sequences=tuple(done),
        budget=updates * recipe.batch_size,
        seconds=round(time.perf_counter() - began, 1),
        curve=tuple(curve),
        measure="share of wrong sequences" if classes else "largest error",
    )
    return outcome, models


@dataclass(eq=False)
class _Group:
    """The networks of the trials that are still training, in one model."""

    task: Task
    recipe: Recipe
    seed: int
    trials: list[int]
    model: SequenceModel
    added_weight: Tensor

    def __post_init__(self) -> None:
        self.optimizer = self.recipe.optimizer(self.model.parameters())

    @classmethod
    def begin(cls, task: Task, recipe: Recipe, trials: int, seed: int) -> "_Group":
        """All trials, untrained."""
        model = recipe.network(task, trials, seed)
        # The layer is left out by weights of zero from it to the outputs; what they are to be.
        weight = model.linear_readout.weight.detach()
        added = weight.clone()
        if recipe.alone:
            weight.zero_()
        return cls(task, recipe, seed, list(range(trials)), model, added)

    def update(self, number: int) -> None:
        """One update of each."""
        recipe, count = self.recipe, len(self.trials)
        if recipe.alone and number == recipe.alone + 1:
            self.model.linear_readout.weight.detach().copy_(self.added_weight)
        batch = self.task.batch(count * recipe.batch_size, self.seed, number)
        if recipe.curriculum is not None:
            batch = recipe.curriculum(batch, number)
        x, target, lengths, _ = batch.map(
            lambda part: torch.from_numpy(part).view(count, recipe.batch_size, *part.shape[1:])
        )
        self.optimizer.zero_grad()
        method: Any = recipe.omega or BPTT()
        extra = {} if recipe.omega is None else {"update": number}
        method.accumulate(
            self.model, x, target, error_of, torch.Tensor.backward, lengths=lengths, **extra
        )
        if number <= recipe.alone:
            for weight in (*self.model.layer.parameters(), self.model.linear_readout.weight):
                weight.grad = None
        if recipe.clip_norm is not None:
            clip_each(self.model.parameters(), recipe.clip_norm)
        self.optimizer.step()

    @torch.no_grad()
    def look(self, batch: Batch) -> list[Any]:
        """What each reaches on the same sequences, held against the task's rule."""
        count = len(self.trials)
        same = batch.map(lambda part: torch.from_numpy(part).expand(count, *part.shape))
        output = self.model(same.x, lengths=same.lengths).numpy()
        return [measure([self.task.errors(own, batch.target)], self.task.rule) for own in output]

    def single(self, place: int) -> SequenceModel:
        """One of the networks on its own."""
        model = self.recipe.network(self.task, None, self.seed)
        model.load_state_dict({n: part[place] for n, part in self.model.state_dict().items()})
        return model

    def only(self, places: list[int]) -> "_Group":
        """The group of some of the trials, with their weights and their optimizer's state."""
        model = self.recipe.network(self.task, len(places), self.seed)
        model.load_state_dict({n: part[places] for n, part in self.model.state_dict().items()})
        trials = [self.trials[place] for place in places]
        group = _Group(self.task, self.recipe, self.seed, trials, model, self.added_weight[places])
        for old, new in zip(self.model.parameters(), model.parameters(), strict=True):
            state = self.optimizer.state.get(old, {})
            group.optimizer.state[new] = {
                name: value[places] if value.shape == old.shape else value.clone()
                for name, value in state.items()
                if isinstance(value, Tensor)  # all that SGD, RMSprop and Adam keep
            }
        return group


def count_weights(model: nn.Module) -> int:
    """How many numbers of a single network are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], norm: float | Tensor) -> Tensor:
    r"""Cut the gradient of every replica to a norm: :math:`g \leftarrow g \min(1, c / \|g\|)`.

    The gradient of a replica that is not finite becomes zero: there is nothing to be learned from.

    Args:
        parameters: with gradients, replicas first.
        norm: c, for all or for each (R,).

    Returns:
        Which gradients were finite (R,).

    >>> weight = nn.Parameter(torch.zeros(2, 3))
    >>> weight.grad = torch.tensor([[3.0, 0.0, 4.0], [0.3, 0.0, 0.4]])
    >>> finite = clip_each([weight], 1.0)
    >>> weight.grad.norm(dim=1)
    tensor([1.0000, 0.5000])
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = torch.stack([p.flatten(1).square().sum(1) for p in gradients]).sum(0).sqrt()
    finite = torch.isfinite(total)
    scale = (norm / total.clamp(min=1e-30)).clamp(max=1.0)
    for gradient in gradients:
        shape = (-1, *[1] * (gradient.dim() - 1))
        gradient.mul_(torch.where(finite, scale, 0.0).view(shape))
        if not finite.all():
            gradient.masked_fill_(~finite.view(shape), 0.0)
    return finite


def error_of(output: Tensor, target: Tensor) -> Tensor:
    """The error, summed over outputs, steps and trials, on average over sequences.

    Half the squared error where one is due, as in 1997; of classes the cross-entropy.
    """
    if target.is_floating_point():
        error = (output - target).masked_fill(target.isnan(), 0.0)
        return 0.5 * error.square().sum() / target.shape[1]
    scores = output.reshape(-1, output.shape[-1])
    total = nn.functional.cross_entropy(
        scores, target.reshape(-1), ignore_index=IGNORED_CLASS, reduction="sum"
    )
    return total / target.shape[1]


def predictor(model: SequenceModel) -> Predict:
    """What a task asks for answers: a single network, on arrays and without gradients."""

    @torch.no_grad()
    def predict(x: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
        long = None if lengths is None else torch.from_numpy(lengths)
        return model(torch.from_numpy(x), lengths=long).numpy()

    return predict


def _meets(task: Task, model: SequenceModel, seed: int, sequences: int | None) -> bool:
    """Whether a network meets the criterion; looks at a part first, which most that fail fail."""
    predict = predictor(model)
    count = task.rule.sequences if sequences is None else sequences
    if count >= 10 * PART and not task.success(predict, seed + 1, PART).success:
        return False
    return task.success(predict, seed, sequences).success
