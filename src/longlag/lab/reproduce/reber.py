"""The embedded Reber grammar."""

from longlag.lab.reproduce import nets
from longlag.lab.reproduce.experiment import Experiment, Published, Row
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.recipes import adam, descent, trained
from longlag.tasks import EmbeddedReber

CELLS = nets.cells_1997(4, 0.2, output_bias=(-1.0, -2.0, -3.0, -4.0))
DIFFERS = "gates and cells read the cells, not the gates; one pair of data sets"

EXPERIMENT = Experiment(
    name="reber",
    title="The embedded Reber grammar",
    about="Say every symbol that may come next; the last but one is the second again.",
    source="Hochreiter & Schmidhuber 1997, section 5.1, table 1",
    criterion="on all 512 strings the legal symbols are the most active outputs, at every step",
    rows=(
        Row(
            "LSTM 4 x 1, rate 0.1", trained(EmbeddedReber(), Recipe(CELLS, descent(0.1))),
            80_000, 40_000, trials=10, quick_trials=10, published=Published(100, 39_740),
            differs=DIFFERS,
        ),
        Row(
            "LSTM 4 x 1, rate 0.5", trained(EmbeddedReber(), Recipe(CELLS, descent(0.5))),
            80_000, 20_000, trials=10, quick_trials=10, published=Published(97, 9_500),
            differs=DIFFERS,
        ),
        Row(
            "Elman, 15 units, Adam", trained(
                EmbeddedReber(),
                Recipe(nets.family("Elman", 15), adam(0.01), batch_size=8, clip_norm=1.0),
            ),
            200_000, 60_000, trials=10, quick_trials=6,
            published=Published(0, None, "none in 200,000"),
            differs="Adam, rate 0.01, clipped to 1, orthogonal W, 8 sequences to an update",
        ),
        Row(
            "LSTM, 12 units, Adam", trained(
                EmbeddedReber(), Recipe(nets.family("LSTM", 12), adam(0.01), batch_size=8),
            ),
            100_000, 30_000, trials=10, quick_trials=6,
            differs="with forget gates; Adam, rate 0.01, 8 sequences to an update",
        ),
    ),
)  # fmt: skip
