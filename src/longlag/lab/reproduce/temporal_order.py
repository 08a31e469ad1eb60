"""Temporal order, 2013: clipping and the Omega regulariser; lengths never trained on."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from longlag.gradients import Omega
from longlag.lab.reproduce import nets
from longlag.lab.reproduce.experiment import Effort, Experiment, Outcome, Published, Row
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.recipes import descent, trained
from longlag.layers import SequenceModel
from longlag.tasks import TemporalOrder

TASK = TemporalOrder(50, longest=200)
LENGTHS = (50, 100, 150, 200, 250, 500, 1000, 2000, 3000, 5000)
BATCH = 20


@torch.no_grad()
def wrong_by_length(model: SequenceModel, sequences: int, seed: int = 0) -> dict[str, int]:
    """How many of some sequences of each of `LENGTHS` are given a wrong class.

    Args:
        model: a single network.
        sequences: of each length.
        seed: of the test stream.
    """
    by_length = {}
    for length in LENGTHS:
        task, wrong, at_once = TemporalOrder(length), 0, max(1, min(500, 500_000 // length))
        for index, first in enumerate(range(0, sequences, at_once)):
            batch = task.test_batch(min(at_once, sequences - first), seed, index)
            output = model(torch.from_numpy(batch.x)).numpy()
            wrong += int(np.sum(~task.correct(output, batch.target)))
        by_length[str(length)] = wrong
    return by_length


def _tested(models: Sequence[SequenceModel], outcome: Outcome, effort: Effort) -> Outcome:
    """With the sequences wrong at each length, of the trials that succeeded."""
    sequences = 1000 if effort.quick else 10_000
    wrong = [
        None if solved is None else wrong_by_length(model, sequences, effort.seed)
        for model, solved in zip(models, outcome.sequences, strict=True)
    ]
    notes = {"tested on": sequences, "wrong by length": wrong}
    return dataclasses.replace(outcome, notes={**outcome.notes, **notes})


def _row(name: str, clip: float | None, omega: Omega | None, published: Published | None) -> Row:
    recipe = Recipe(
        nets.elman_2013(), descent(0.01), batch_size=BATCH, clip_norm=clip,
        omega=omega, check_every=500,
    )  # fmt: skip
    return Row(
        name, trained(TASK, recipe, _tested), 100_000 * BATCH, 3_000 * BATCH, trials=5,
        quick_trials=2, published=published,
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="temporal-order",
    title="Temporal order, trained on 50 to 200 steps",
    about="Which two keys came, in which order, among distractors. An Elman network of 50 tanh "
    "units, gradient descent with rate 0.01 and 20 sequences to an update; then tested on lengths "
    "to 5000.",
    source="Pascanu, Mikolov & Bengio 2013, section 4.1",
    criterion="less than 1 % of 10,000 sequences wrong",
    rows=(
        _row("SGD", None, None, None),
        _row("SGD, clipped", 1.0, None, None),
        _row("SGD, clipped, Omega", 1.0, Omega(4.0), Published(
            100, None, "5 of 5 seeds, none wrong of 10,000 at every length to 5000, in 5,000,000 "
            "updates at the most"
        )),
    ),
)  # fmt: skip
