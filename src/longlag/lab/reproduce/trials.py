"""Trials of a network on a task, side by side, until each meets the criterion."""

import time

import numpy as np
import torch
from torch import nn

from longlag.lab.reproduce.experiment import Outcome, Progress, spread
from longlag.lab.reproduce.groups import Group, Recipe
from longlag.layers import SequenceModel
from longlag.tasks import EmbeddedReber, Predict, Task

FEWEST, MOST, AT_ONCE = 8, 200, 1 << 21
"""Test sequences on which all trials are looked at before one is held against the criterion: no
more than make `AT_ONCE` numbers for all trials."""

PART = 500
"""Test sequences that a trial is held against before all those of the criterion."""


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

    Cost: the sum of the updates of all, divided by the cores where they are compiled.
    """
    group = Group.begin(task, recipe, trials, seed)
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
    last = update = 0
    while update < updates:
        first, every = update + 1, recipe.check_every
        update = min(update // every * every + every, updates)
        group.advance(first, update + 1)
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


def count_weights(model: nn.Module) -> int:
    """How many numbers of a single network are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


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
    if count >= 10 * PART and not task.meets(predict, seed + 1, PART):
        return False
    return task.meets(predict, seed, sequences)
