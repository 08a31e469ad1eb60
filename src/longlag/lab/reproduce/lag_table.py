"""The table of 1997: long lag 2a by RTRL, BPTT, the chunker and LSTM."""

from dataclasses import replace

import numpy as np

from longlag.lab.reproduce import nets
from longlag.lab.reproduce.experiment import Experiment, Published, Row
from longlag.lab.reproduce.groups import Network, Recipe
from longlag.lab.reproduce.recipes import adam, one_unit_run, trained
from longlag.tasks import Batch, LongLag

BUDGET = LongLag.BUDGET
NEVER = Published(0, None, f"none in {BUDGET:,}")
ALONE, ENDS = 1_000, 2_000
"""Updates of `ends_first`."""
SYMMETRIC = {"unit": "symmetric", "alone": 1_000}
ADAM = "Adam, rate 0.03, in place of gradient descent; all weights trained from the start"


def _one_unit(
    method: str, p: int, rate: float, quick: int, published: Published | None, differs: str = ""
) -> Row:
    names = {"rtrl": "RTRL", "bptt": "BPTT", "chunker": "CH"}
    return Row(
        f"{names[method]}, p = {p}, rate {rate:g}", one_unit_run(method, p, rate),
        200_000 if method == "chunker" else BUDGET, quick, published=published, differs=differs,
        needs="numba",
    )  # fmt: skip


def _adam(network: Network) -> Recipe:
    return Recipe(network, adam(0.03, (0.9, 0.99)), check_every=10)


def ends_first(batch: Batch, update: int) -> Batch:
    """A curriculum: whole sequences while the direct links learn alone, then their ends only.

    For updates `ALONE + 1` to `ENDS` a sequence is its first and its last step, which lie next to
    each other: the error has one step to go back. What the first step is followed by is then not
    what it is followed by in the task, and counts for nothing.
    """
    if not ALONE < update <= ENDS:
        return batch
    target = batch.target[:, [0, -1]]
    target[:, 0] = np.nan
    return Batch(batch.x[:, [0, -1]], target, batch.lengths)


def _broken(name: str, network: Network, start: str) -> Row:
    recipe = replace(_adam(network), alone=ALONE, curriculum=ends_first)
    return Row(
        f"BPTT, p = 100, {name}", trained(LongLag(100), recipe), 5_040, 5_040,
        differs=f"{start}; Adam, rate 0.03; the direct links alone for {ALONE:,} sequences, then "
        f"the first and the last step only until {ENDS:,}, then whole sequences",
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="long-lag-table",
    title="Long lag 2a: the table of 1997",
    about="Two sequences, x a1 ... x and y a1 ... y: name the last symbol, which is the first, p "
    "steps later. One hidden unit and direct links from input to output; in the LSTM the unit is a "
    "memory cell with an input gate.",
    source="Hochreiter & Schmidhuber 1997, section 5.2, table 2",
    criterion="no output wrong by 0.25 or more at any step, over 10,000 sequences",
    rows=(
        _one_unit("rtrl", 4, 1.0, 2_000_000, Published(78, 1_043_000)),
        _one_unit("rtrl", 4, 4.0, BUDGET, Published(56, 892_000)),
        _one_unit("rtrl", 4, 10.0, BUDGET, Published(22, 254_000)),
        _one_unit("rtrl", 4, 40.0, BUDGET, None),
        *(
            Row(
                f"RTRL, p = 4, rate {rate}, unit in [-1, 1]",
                one_unit_run("rtrl", 4, rate, **SYMMETRIC), BUDGET, 0, published=published,
                differs="what the paper leaves open: a hidden unit in [-1, 1], which takes part "
                f"from sequence {SYMMETRIC['alone'] + 1:,} on", needs="numba",
            )
            for rate, published in (
                (1, Published(78, 1_043_000)), (4, Published(56, 892_000)),
                (10, Published(22, 254_000)),
            )
        ),
        _one_unit("rtrl", 10, 1.0, 500_000, NEVER),
        _one_unit("rtrl", 10, 10.0, 500_000, NEVER),
        _one_unit("rtrl", 100, 1.0, 20_000, NEVER),
        _one_unit("rtrl", 100, 10.0, 20_000, NEVER),
        _one_unit("bptt", 100, 1.0, 20_000, NEVER),
        _one_unit("bptt", 100, 10.0, 20_000, NEVER),
        _one_unit(
            "chunker", 100, 1.0, 60_000, Published(33, 32_400),
            "what the paper leaves open: threshold 0.5, C is never reset, hidden units take part "
            "from sequence 10,001 on",
        ),
        Row(
            "LSTM, p = 100", one_unit_run("lstm", 100, 1.0), 20_000, 20_000,
            published=Published(100, 5_040), needs="numba",
            differs="rate 1, what the paper leaves open: cross-entropy as error, cell and gate "
            "take part from sequence 2,001 on, the gate's initial weights are 1.5 lower",
        ),
        Row(
            "LSTM, p = 100, Adam", trained(LongLag(100), _adam(nets.lstm_2a)), 20_000, 20_000,
            differs=ADAM,
        ),
        Row(
            "BPTT, p = 100, Adam", trained(LongLag(100), _adam(nets.one_unit)), 20_000, 0,
            differs="the LSTM's training, for the net of RTRL and BPTT",
        ),
        _broken("latch", nets.latch(6.0), "own weight 6, 3 less on each input's weight"),
        _broken("latch, tanh", nets.latch_tanh(2.0), "a tanh unit, own weight 2"),
    ),
)  # fmt: skip
