"""Reservoirs in the comparison: no updates, so how many sequences a readout is fitted on."""

import time
from collections.abc import Callable

import torch

from longlag.lab.compare.setup import Setup
from longlag.lab.reproduce.experiment import Outcome, Progress
from longlag.lab.reproduce.trials import count_weights, predictor
from longlag.layers import SequenceModel
from longlag.reservoirs import Ridge
from longlag.tasks import Task
from longlag.training import fit

FIRST, MOST = 125, 2000
"""Sequences of the first fit and of the last; each takes twice those of the one before."""

STEPS = 100_000
"""Steps with a target that a readout is fitted on, at most."""


def fit_reservoirs(
    task: Task,
    network: Callable[[Task, int, int | None, int], SequenceModel],
    setup: Setup,
    *,
    sequences: int,
    progress: Progress | None = None,
) -> tuple[Outcome, list[SequenceModel]]:
    """Fit the readout of each network on more and more sequences, until it meets the criterion.

    Args:
        task: gives sequences and criterion.
        network: makes one.
        setup: seeds, units, budget.
        sequences: on which the criterion is tested.
        progress: is told how far it has come.

    Returns:
        What came of it, and the networks.
    """
    began = time.perf_counter()
    most = min(MOST, setup.sequences or MOST)
    if task.reduce is None:
        most = min(most, max(1, STEPS // task.steps))
    models: list[SequenceModel] = []
    done: list[int | None] = []
    for number in range(setup.seeds):
        seed = setup.seed + 1000 * number
        model, solved, count = network(task, setup.hidden, None, seed), None, min(FIRST, most)
        while True:
            batch = task.batch(count, seed, 0).map(torch.from_numpy)
            fit(model, batch, method=Ridge(1e-4))
            if task.success(predictor(model), seed, sequences).success:
                solved = count
            spent = time.perf_counter() - began
            late = setup.seconds is not None and spent > setup.seconds
            if solved is not None or count == most or late:
                break
            count = min(2 * count, most)
        models.append(model)
        done.append(solved)
        if progress is not None:
            progress(count, sum(one is not None for one in done))
    seconds = round(time.perf_counter() - began, 1)
    return Outcome(count_weights(models[0]), tuple(done), most, seconds), models
