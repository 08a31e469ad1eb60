"""The adding problem of 1997."""

from longlag.lab.reproduce import nets
from longlag.lab.reproduce.experiment import Experiment, Published, Row
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.recipes import adam, trained
from longlag.tasks import Adding1997

NETWORK = nets.cells_1997(
    4, 0.1, input_bias=(-3.0, -3.0, -6.0, -6.0), output_bias=(0.0, 0.0, 0.0, 0.0)
)
DIFFERS = (
    "Adam, rate 0.03, 4 sequences to an update, in place of gradient descent; four blocks of one "
    "cell, not two of two; criterion on 2,000 fresh sequences"
)

EXPERIMENT = Experiment(
    name="adding",
    title="The adding problem of 1997",
    about="Add the two marked numbers of a sequence of T to 1.1 T steps.",
    source="Hochreiter & Schmidhuber 1997, section 5.4, table 7",
    criterion="2,000 sequences wrong by less than 0.04, mean error below 0.01",
    rows=tuple(
        Row(
            f"LSTM, T = {length}",
            trained(Adding1997(length), Recipe(NETWORK, adam(0.03), batch_size=4)),
            budget, quick, trials=10, quick_trials=6, published=Published(100, published),
            differs=DIFFERS,
        )
        for length, published, budget, quick in (
            (100, 74_000, 200_000, 74_000),
            (500, 209_000, 400_000, 0),
            (1000, 853_000, 853_000, 0),
        )
    ),
)  # fmt: skip
