"""What solves these tasks now: the same tasks, with the best recipe of each family."""

from longlag import tasks
from longlag.gradients import Omega
from longlag.lab.reproduce import nets
from longlag.lab.reproduce.experiment import Experiment, Row
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.recipes import adam, trained

HIDDEN = 32
# name, task, sequences to an update, budget, quick budget, that with Omega, whose updates are
# PyTorch's: where it fails, it fails in less time
TASKS: tuple[tuple[str, tasks.Task, int, int, int, int], ...] = (
    ("2a, p = 100", tasks.LongLag(100), 1, 20_000, 6_000, 500),
    ("2b, p = 100", tasks.LongLagRandom(100, at_end=True), 8, 40_000, 8_000, 8_000),
    ("2c, q = p = 100", tasks.LongLagTrigger(100, 100), 8, 40_000, 8_000, 3_000),
    ("adding, T = 100", tasks.Adding1997(100), 16, 320_000, 40_000, 4_000),
    ("temporal order 6a", tasks.TemporalOrder1997(2), 8, 80_000, 16_000, 2_000),
    ("Reber grammar", tasks.EmbeddedReber(), 8, 160_000, 24_000, 24_000),
)
# name, family, rate, rate on task 2a, Omega
FAMILIES: tuple[tuple[str, str, float, float, Omega | None], ...] = (
    ("Elman", "Elman", 0.002, 0.003, None),
    ("Elman + Omega", "Elman", 0.002, 0.003, Omega(1.0)),
    ("IndRNN", "IndRNN", 0.002, 0.003, None),
    ("Leaky", "Leaky", 0.005, 0.01, None),
    ("LSTM", "LSTM", 0.01, 0.03, None),
    ("GRU", "GRU", 0.01, 0.01, None),
)


def _row(
    task_name: str, task: tasks.Task, batch: int, budget: int, quick: int, quick_omega: int,
    name: str, family: str, rate: float, rate_2a: float, omega: Omega | None,
) -> Row:  # fmt: skip
    # In 2a all 100 symbols are predicted, nearly all of them from the one before.
    symbols = isinstance(task, tasks.LongLag)
    rate = rate_2a if symbols else rate
    recipe = Recipe(
        nets.family(family, HIDDEN, symbols=symbols),
        adam(rate, (0.9, 0.99) if symbols else (0.9, 0.999)),
        batch_size=batch,
        clip_norm=None if symbols and omega is None else 1.0,
        omega=omega,
        check_every=25,
    )
    quick = quick if omega is None else quick_omega
    differs = f"{HIDDEN} units, Adam, rate {rate:g}, {batch} to an update"
    if symbols:
        differs += ", direct links and logistic outputs"
    return Row(
        f"{task_name}: {name}", trained(task, recipe), budget, quick, trials=5, quick_trials=3,
        differs=differs,
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="solved-now",
    title="What solves it now",
    about="The tasks above by families of networks as one would take them today: Elman with an "
    "orthogonal W, the same with the Omega regulariser, IndRNN with weights near 1, leaky units "
    "with time constants from 2 to T steps, LSTM and GRU with biases for lags to T. All but those "
    "of 2a are clipped to a norm of 1.",
    source="tasks of Hochreiter & Schmidhuber 1997",
    criterion="that of each task",
    rows=tuple(_row(*task, *family) for task in TASKS for family in FAMILIES),
    crossed=True,
)
