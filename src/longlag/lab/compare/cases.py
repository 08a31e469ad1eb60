"""A case of the comparison, a family on a task at a lag, and how it is run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from longlag.lab.compare.families import Family
from longlag.lab.compare.problems import Problem
from longlag.lab.compare.reservoirs import fit_reservoirs
from longlag.lab.compare.setup import Setup
from longlag.lab.reproduce.experiment import Outcome, Progress
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.recipes import adam
from longlag.lab.reproduce.trials import predictor, train
from longlag.layers import SequenceModel
from longlag.memory import memory_report
from longlag.tasks import Task

BATCH = 16
"""Sequences to an update."""

TESTED = 1000
"""Sequences on which the criterion is tested, where the task has so many."""

LOOKED_AT = 8
"""Sequences on which the horizon is measured."""


@dataclass(frozen=True)
class Case:
    """A family on a task at a lag."""

    family: Family
    problem: Problem
    lag: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Task, family and lag by name."""
        return self.problem.name, self.family.name, self.lag

    def __str__(self) -> str:
        return f"{self.problem.name}, lag {self.lag}: {self.family.name}"

    def run(self, setup: Setup, progress: Progress | None = None) -> Outcome:
        """Train the networks, and measure how far back they remember.

        The notes of the outcome have, by seed: "horizons", the memory horizon in steps, or all
        steps of the sequences where the horizon is beyond them; "errors", the mean squared error,
        of classes the share of wrong answers. And "steps" of a sequence, and "batch".
        """
        task = self.problem.make(self.lag)
        tested = min(TESTED, task.rule.sequences)
        if self.family.reservoir:
            outcome, models = fit_reservoirs(
                task, self.network, setup, sequences=tested, progress=progress
            )
        else:
            recipe = Recipe(
                lambda task, replicas, seed: self.network(task, setup.hidden, replicas, seed),
                adam(self.family.rate), batch_size=BATCH, clip_norm=1.0, check_every=25,
            )  # fmt: skip
            budget = 10**12 if setup.sequences is None else setup.sequences
            outcome, models = train(
                task, recipe, setup.seeds, budget, seed=setup.seed, sequences=tested,
                seconds=setup.seconds, progress=progress,
            )  # fmt: skip
        errors = [
            task.success(predictor(model), setup.seed, min(200, tested)).mean_squared_error
            for model in models
        ]
        notes = {
            "steps": task.steps,
            "batch": 1 if self.family.reservoir else BATCH,
            "horizons": [horizon(task, model, setup.seed) for model in models],
            "errors": [round(error, 5) if np.isfinite(error) else None for error in errors],
        }
        return replace(outcome, curve=(), notes=notes)

    def network(self, task: Task, hidden: int, replicas: int | None, seed: int) -> SequenceModel:
        """As many networks as replicas; None for a single one."""
        layer = self.family.make(
            task.input_size, hidden, self.lag, replicas=replicas, seed=seed + 1
        )
        return SequenceModel(layer, task.output_size, reduce=task.reduce, seed=seed + 2)


def horizon(task: Task, model: SequenceModel, seed: int) -> int | None:
    """How far back a network remembers, on test sequences: as many steps as there are, where it is
    farther; None where its weights or states are not finite."""
    batch = task.test_batch(LOOKED_AT, seed, 0).map(torch.from_numpy)
    report = memory_report(
        model, batch.x, batch.target, lengths=batch.lengths, sample=1, exponents=0, seed=seed
    )
    if report.verdict.kind == "not finite":
        return None
    return task.steps if report.horizon is None else report.horizon


def middle(values: Sequence[float | None]) -> float | None:
    """The median of those that are there; None without any.

    >>> middle([3, None, 1, 2])
    2
    """
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def cases(
    families: Sequence[Family], problems: Sequence[Problem], lags: Sequence[int]
) -> list[Case]:
    """All of them, the shortest lags first."""
    wanted = {(problem.fixed or lag, problem) for problem in problems for lag in lags}
    return [
        Case(family, problem, lag)
        for lag, problem in sorted(wanted, key=lambda pair: (pair[0], problems.index(pair[1])))
        for family in families
    ]
