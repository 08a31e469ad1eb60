"""The networks of the trials that are still training: compiled updates of each, or replicas."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from longlag.batch import IGNORED_CLASS
from longlag.gradients import BPTT, Omega
from longlag.layers import SequenceModel
from longlag.tasks import Batch, Task
from longlag.tasks.criteria import measure
from longlag.training.compiled.network import Unfit
from longlag.training.compiled.networks import Networks

Network: TypeAlias = Callable[[Task, int | None, int], SequenceModel]
"""`network(task, replicas, seed)`: as many networks as trials; None for a single one."""


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


class Group(ABC):
    """The networks of the trials that are still training.

    Attributes:
        trials: their numbers.
    """

    def __init__(self, task: Task, recipe: Recipe, seed: int, trials: list[int]) -> None:
        self.task, self.recipe, self.seed, self.trials = task, recipe, seed, trials

    @classmethod
    def begin(cls, task: Task, recipe: Recipe, trials: int, seed: int) -> "Group":
        """All trials, untrained."""
        model = recipe.network(task, trials, seed)
        # The layer is left out by weights of zero from it to the outputs; what they are to be.
        weight = model.linear_readout.weight.detach()
        added = weight.clone()
        if recipe.alone:
            weight.zero_()
        try:
            return Compiled(task, recipe, seed, list(range(trials)), model, added)
        except Unfit:
            return Replicas(task, recipe, seed, list(range(trials)), model, added)

    @abstractmethod
    def advance(self, first: int, stop: int) -> None:
        """The updates with the numbers first .. stop - 1, counted from 1, of each."""

    @abstractmethod
    def outputs(self, batch: Batch) -> Iterator[np.ndarray]:
        """What each puts out for the same sequences."""

    @abstractmethod
    def weights_of(self, place: int) -> Mapping[str, Tensor]:
        """The weights of one."""

    @abstractmethod
    def only(self, places: list[int]) -> "Group":
        """The group of some of the trials, with their weights and their optimizer's state."""

    def look(self, batch: Batch) -> list[Any]:
        """What each reaches on the same sequences, held against the task's rule."""
        rule, errors = self.task.rule, self.task.errors
        return [measure([errors(own, batch.target)], rule) for own in self.outputs(batch)]

    def single(self, place: int) -> SequenceModel:
        """One of the networks on its own."""
        model = self.recipe.network(self.task, None, self.seed)
        model.load_state_dict({n: part.clone() for n, part in self.weights_of(place).items()})
        return model

    def draw(self, number: int) -> Batch:
        """The sequences of an update: so many for each trial, one after the other."""
        batch = self.task.batch(len(self.trials) * self.recipe.batch_size, self.seed, number)
        return batch if self.recipe.curriculum is None else self.recipe.curriculum(batch, number)


class Replicas(Group):
    """Trial k is replica k of one network, whose updates are PyTorch's."""

    def __init__(
        self, task: Task, recipe: Recipe, seed: int, trials: list[int], model: SequenceModel,
        added_weight: Tensor,
    ) -> None:  # fmt: skip
        super().__init__(task, recipe, seed, trials)
        self.model, self.added_weight = model, added_weight
        self.optimizer = recipe.optimizer(model.parameters())

    def advance(self, first: int, stop: int) -> None:  # noqa: D102
        for number in range(first, stop):
            self.update(number)

    def update(self, number: int) -> None:
        """One update of each."""
        recipe, count = self.recipe, len(self.trials)
        if recipe.alone and number == recipe.alone + 1:
            self.model.linear_readout.weight.detach().copy_(self.added_weight)
        batch = self.draw(number).map(
            lambda part: torch.from_numpy(part).view(count, recipe.batch_size, *part.shape[1:])
        )
        self.optimizer.zero_grad()
        method: Any = recipe.omega or BPTT()
        extra = {} if recipe.omega is None else {"update": number}
        method.accumulate(
            self.model, batch.x, batch.target, error_of, torch.Tensor.backward,
            lengths=batch.lengths, **extra,
        )  # fmt: skip
        if number <= recipe.alone:
            for weight in (*self.model.layer.parameters(), self.model.linear_readout.weight):
                weight.grad = None
        if recipe.clip_norm is not None:
            clip_each(self.model.parameters(), recipe.clip_norm)
        self.optimizer.step()

    @torch.no_grad()
    def outputs(self, batch: Batch) -> Iterator[np.ndarray]:  # noqa: D102
        count = len(self.trials)
        same = batch.map(lambda part: torch.from_numpy(part).expand(count, *part.shape))
        return iter(self.model(same.x, lengths=same.lengths).numpy())

    def weights_of(self, place: int) -> Mapping[str, Tensor]:  # noqa: D102
        return {name: part[place] for name, part in self.model.state_dict().items()}

    def only(self, places: list[int]) -> "Replicas":  # noqa: D102
        model = self.recipe.network(self.task, len(places), self.seed)
        model.load_state_dict({n: part[places] for n, part in self.model.state_dict().items()})
        trials = [self.trials[place] for place in places]
        added = self.added_weight[places]
        group = Replicas(self.task, self.recipe, self.seed, trials, model, added)
        for old, new in zip(self.model.parameters(), model.parameters(), strict=True):
            state = self.optimizer.state.get(old, {})
            group.optimizer.state[new] = {
                name: value[places] if value.shape == old.shape else value.clone()
                for name, value in state.items()
                if isinstance(value, Tensor)  # all that SGD, RMSprop and Adam keep
            }
        return group


class Compiled(Group):
    """Each trial takes the updates between two looks in one compiled call, on all cores.

    The bits of a trial do not depend on how many cores there are. Where a gradient is not finite
    there is no update: there is nothing to be learned from it.
    """

    def __init__(
        self, task: Task, recipe: Recipe, seed: int, trials: list[int], model: SequenceModel,
        added_weight: Tensor,
    ) -> None:  # fmt: skip
        super().__init__(task, recipe, seed, trials)
        if recipe.omega is not None:
            raise Unfit("the gradient has a regulariser")
        self.added_weight, self.pattern = added_weight, recipe.network(task, None, seed)
        states = model.state_dict()
        buffers = [(name, states[name]) for name, _ in self.pattern.named_buffers()]
        if any(not torch.equal(part[k], part[0]) for _, part in buffers for k in trials):
            raise Unfit("the networks have different buffers")
        self.pattern.load_state_dict({name: part[0] for name, part in states.items()})
        # Those that learn later have an optimizer's state that is younger.
        late = [*self.pattern.layer.parameters(), self.pattern.linear_readout.weight]
        early = [p for p in self.pattern.parameters() if all(p is not part for part in late)]
        self._late = {n for n, p in self.pattern.named_parameters() if any(p is q for q in late)}
        groups: Any = [{"params": part} for part in (late, early) if part]
        optimizer = recipe.optimizer(groups)
        starts = [{name: part[k] for name, part in states.items()} for k in trials]
        loss = "class_sum" if task.kind == "classification" else "half_squares"
        cores = os.cpu_count() or 1
        seeds = [seed + trial for trial in trials]
        self.networks = Networks(
            self.pattern, loss, [optimizer] * len(trials), starts, seeds, cores
        )
        self._places = list(trials)  # of the networks that are still trained
        self._room: dict[Any, Batch[Tensor]] = {}
        self._seen: tuple[Batch, Batch[Tensor]] | None = None
        self.networks.freeze(self._late if recipe.alone else ())

    def advance(self, first: int, stop: int) -> None:  # noqa: D102
        alone = self.recipe.alone
        if first <= alone < stop - 1:
            self.advance(first, alone + 1)
            first = alone + 1
        if alone and first == alone + 1:
            for place in self._places:
                own = self.networks.parameters_of(place)
                own["readout.weight"].copy_(self.added_weight[place])
            self.networks.freeze(())
        drawn = (self.draw(number) for number in range(first, stop))
        for _, some in groupby(drawn, key=lambda batch: batch.x.shape):
            self._updates(list(some))

    def _updates(self, batches: list[Batch]) -> None:
        """Updates on batches of one shape."""
        places, size = self._places, self.recipe.batch_size
        rows = len(places) * size
        data = self._written(batches)
        starts = np.arange(len(batches))[:, None] * rows
        orders = [starts + np.arange(n * size, (n + 1) * size) for n in range(len(places))]
        clip_norm = float("inf") if self.recipe.clip_norm is None else self.recipe.clip_norm
        left = dict(zip(places, orders, strict=True))
        while left:
            most = max(map(len, left.values()))  # those that were stopped have fewer to make
            some = [place for place, order in left.items() if len(order) == most]
            parts = [left.pop(place) for place in some]
            table = [self.networks.coefficients_of(place, most) for place in some]
            losses, norms = self.networks.run(data, some, parts, table, [clip_norm] * len(some))
            finite = np.isfinite(losses) & np.isfinite(norms)
            for place, order, good in zip(some, parts, finite, strict=True):
                after = most if good.all() else int(good.argmin()) + 1
                if after < most:
                    left[place] = order[after:]

    def _written(self, batches: list[Batch]) -> Batch[Tensor]:
        """The sequences of all updates, where those of the updates before were."""
        first, count = batches[0], sum(len(batch.x) for batch in batches)
        key = first.x.shape[1:]
        room = self._room.get(key)
        if room is None or len(room.x) < count:
            room = first.map(
                lambda part: torch.from_numpy(np.zeros((count, *part.shape[1:]), part.dtype))
            )
            self._room[key] = room
        for number, place in enumerate(room):
            if place is not None:
                parts: list[Any] = [batch[number] for batch in batches]
                np.concatenate(parts, out=place.numpy()[:count])
        return room

    @torch.no_grad()
    def outputs(self, batch: Batch) -> Iterator[np.ndarray]:  # noqa: D102
        if self._seen is None or self._seen[0] is not batch:
            self._seen = batch, batch.map(torch.from_numpy)
        found = dict(self.networks.evaluate(self._seen[1], self._places, len(batch.x)))
        return iter([found[place].numpy() for place in self._places])

    def weights_of(self, place: int) -> Mapping[str, Tensor]:  # noqa: D102
        weights = dict(self.pattern.state_dict())
        return weights | self.networks.parameters_of(self._places[place])

    def only(self, places: list[int]) -> "Compiled":  # noqa: D102
        self._places = [self._places[place] for place in places]
        self.trials = [self.trials[place] for place in places]
        return self


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
