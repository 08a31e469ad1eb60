"""Long lag 2b: as 2a, with random symbols in between."""

from longlag.lab.reproduce import nets
from longlag.lab.reproduce.experiment import Experiment, Published, Row
from longlag.lab.reproduce.groups import Network, Recipe
from longlag.lab.reproduce.recipes import adam, one_unit_run, trained
from longlag.tasks import LongLagRandom

TASK = LongLagRandom(100, at_end=True)
FAILS = Published(0, None, "fails")
AT_END = "error at the end only"


def _adam(network: Network) -> Recipe:
    return Recipe(network, adam(0.1, (0.9, 0.99)), check_every=20)


EXPERIMENT = Experiment(
    name="long-lag-2b",
    title="Long lag 2b, p = 100: nothing in between can be predicted",
    about="As 2a, but the 99 symbols in between are random, so that they cannot be compressed.",
    source="Hochreiter & Schmidhuber 1997, section 5.2, task 2b",
    criterion="no output wrong by 0.25 or more at the last step, over 10,000 sequences",
    rows=(
        Row(
            "LSTM", trained(TASK, _adam(nets.lstm_2a)), 20_000, 6_000,
            published=Published(100, 5_680),
            differs=f"Adam, rate 0.1, in place of gradient descent; {AT_END}",
        ),
        Row(
            "BPTT, Adam", trained(TASK, _adam(nets.one_unit)), 20_000, 6_000,
            published=FAILS, differs="the LSTM's training",
        ),
        *(
            Row(
                f"{name}, rate 1", one_unit_run(method, 100, 1.0, random_middle=True), budget,
                20_000, published=FAILS, needs="numba",
            )
            for name, method, budget in (
                ("RTRL", "rtrl", 500_000), ("BPTT", "bptt", 500_000), ("CH", "chunker", 200_000),
            )
        ),
    ),
)  # fmt: skip
