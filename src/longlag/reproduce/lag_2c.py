"""Long lag 2c: very long lags of unknown length, until a trigger comes."""

from longlag.reproduce import nets
from longlag.reproduce.experiment import Experiment, Published, Row
from longlag.reproduce.recipes import adam, trained
from longlag.reproduce.trials import Recipe
from longlag.tasks import LongLagTrigger

__all__ = ["EXPERIMENT"]

DIFFERS = (
    "Adam, rate 0.01, in place of gradient descent; gates and cells read the cells, not the gates"
)
# q, p, sequences as published; budgets of the full and the quick run
ROWS = (
    (50, 50, 30_000, 60_000, 12_000),
    (100, 100, 31_000, 60_000, 12_000),
    (200, 200, 33_000, 60_000, 0),
    (500, 500, 38_000, 60_000, 0),
    (1000, 1000, 49_000, 60_000, 0),
    (1000, 500, 49_000, 60_000, 0),
    (1000, 200, 75_000, 90_000, 0),
    (1000, 100, 135_000, 150_000, 0),
    (1000, 50, 203_000, 203_000, 0),
)


EXPERIMENT = Experiment(
    name="long-lag-2c",
    title="Long lag 2c: a lag of q steps and more, ended by a trigger",
    about="The second symbol, x or y, has to be said when the trigger comes, after q and more of p "
    "different distractors. Two memory cells with input and output gates, no biases.",
    source="Hochreiter & Schmidhuber 1997, section 5.2, task 2c, table 3",
    criterion="both outputs wrong by less than 0.2, over 10,000 sequences",
    rows=tuple(
        Row(
            f"LSTM, q = {q}, p = {p}", trained(
                LongLagTrigger(q=q, p=p), Recipe(nets.cells_1997(2, 0.2), adam(0.01)),
            ),
            budget, quick, trials=20, quick_trials=6, published=Published(None, published),
            differs=DIFFERS,
        )
        for q, p, published, budget, quick in ROWS
    ),
)  # fmt: skip
