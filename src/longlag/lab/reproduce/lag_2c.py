"""Long lag 2c: very long lags of unknown length, until a trigger comes."""

from longlag.lab.reproduce import nets
from longlag.lab.reproduce.experiment import Experiment, Published, Row
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.recipes import adam, trained
from longlag.tasks import LongLagTrigger

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
NOW = ((50, 50), (100, 100), (1000, 1000), (1000, 50))


def _now(q: int, p: int) -> Row:
    published = {(q, p): sequences for q, p, sequences, _, _ in ROWS}[q, p]
    recipe = Recipe(
        nets.family("LSTM", 16), adam(0.01), batch_size=8, clip_norm=1.0, check_every=25
    )
    return Row(
        f"LSTM with forget gates, q = {q}, p = {p}", trained(LongLagTrigger(q=q, p=p), recipe),
        60_000, 12_000, trials=20, quick_trials=6, published=Published(None, published),
        differs="16 cells with forget gates and biases for lags to q, Adam, rate 0.01, clipped to "
        "1, 8 sequences to an update",
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="long-lag-2c",
    title="Long lag 2c: a lag of q steps and more, ended by a trigger",
    about="The second symbol, x or y, has to be said when the trigger comes, after q and more of p "
    "different distractors. Two memory cells with input and output gates, no biases; then an LSTM "
    "as one would take it now.",
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
    )
    + tuple(_now(q, p) for q, p in NOW),
)  # fmt: skip
