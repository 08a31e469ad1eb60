"""What solves these tasks now: the same tasks, with the best recipe of each family."""

from longlag.gradients import Omega
from longlag.reproduce import nets
from longlag.reproduce.experiment import Experiment, Row
from longlag.reproduce.recipes import adam, trained
from longlag.reproduce.trials import Recipe
from longlag.tasks import (
    Adding1997,
    EmbeddedReber,
    LongLag,
    LongLagRandom,
    LongLagTrigger,
    Task,
    TemporalOrder1997,
)

__all__ = ["EXPERIMENT"]

HIDDEN = 32
# name, task, sequences to an update, budget, quick budget
TASKS: tuple[tuple[str, Task, int, int, int], ...] = (
    ("2a, p = 100", LongLag(100), 4, 40_000, 4_000),
    ("2b, p = 100", LongLagRandom(100, at_end=True), 8, 80_000, 8_000),
    ("2c, q = p = 100", LongLagTrigger(100, 100), 8, 80_000, 8_000),
    ("adding, T = 100", Adding1997(100), 16, 320_000, 0),
    ("temporal order 6a", TemporalOrder1997(2), 8, 160_000, 16_000),
    ("Reber grammar", EmbeddedReber(), 8, 160_000, 24_000),
)
# name, family, rate, Omega
FAMILIES = (
    ("Elman", "Elman", 0.002, None),
    ("Elman + Omega", "Elman", 0.002, Omega(1.0)),
    ("IndRNN", "IndRNN", 0.002, None),
    ("Leaky", "Leaky", 0.005, None),
    ("LSTM", "LSTM", 0.01, None),
    ("GRU", "GRU", 0.01, None),
)


def _row(
    task_name: str, task: Task, batch: int, budget: int, quick: int, name: str, family: str,
    rate: float, omega: Omega | None,
) -> Row:  # fmt: skip
    recipe = Recipe(
        nets.family(family, HIDDEN), adam(rate), batch_size=batch, clip_norm=1.0, omega=omega,
        check_every=25,
    )  # fmt: skip
    return Row(
        f"{task_name}: {name}", trained(task, recipe), budget, quick, trials=5, quick_trials=3,
        differs=f"{HIDDEN} units, Adam, rate {rate:g}, {batch} sequences to an update",
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="solved-now",
    title="What solves it now",
    about="The tasks above by families of networks as one would take them today: Elman with an "
    "orthogonal W, the same with the Omega regulariser, IndRNN with weights near 1, leaky units "
    "with time constants from 2 to T steps, LSTM and GRU with biases for lags to T. All are "
    "clipped to a norm of 1.",
    source="tasks of Hochreiter & Schmidhuber 1997",
    criterion="that of each task",
    rows=tuple(_row(*task, *family) for task in TASKS for family in FAMILIES),
)
