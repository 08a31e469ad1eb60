"""How the rows are trained: optimizers, and the runs made of them."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from longlag.lab.reproduce.experiment import Effort, Outcome, Progress, Run
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.trials import train
from longlag.layers import SequenceModel
from longlag.tasks import Task

After = Callable[[Sequence[SequenceModel], Outcome, Effort], Outcome]


def adam(
    rate: float, betas: tuple[float, float] = (0.9, 0.999)
) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """Adam with a learning rate."""
    return functools.partial(torch.optim.Adam, lr=rate, betas=betas)


def descent(rate: float) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """Plain gradient descent with a learning rate."""
    return functools.partial(torch.optim.SGD, lr=rate)


def trained(task: Task, recipe: Recipe, after: After | None = None) -> Run:
    """Train the trials of a row side by side.

    Args:
        task: the task.
        recipe: network and training.
        after: what is done with the trained networks, and added to the outcome.
    """

    def run(trials: int, budget: int, effort: Effort, progress: Progress | None) -> Outcome:
        outcome, models = train(task, recipe, trials, budget, seed=effort.seed, progress=progress)
        return outcome if after is None else after(models, outcome, effort)

    return run


def one_unit_run(method: str, p: int, rate: float, **choices: Any) -> Run:
    """The compiled loops of the one-unit nets; needs Numba. Choices: see `one_unit.run`."""

    def run(trials: int, budget: int, effort: Effort, progress: Progress | None) -> Outcome:
        from longlag.lab.reproduce import one_unit

        return one_unit.run(
            method, p, rate, budget, trials, effort.seed, progress=progress, **choices
        )  # fmt: skip

    return run
