"""Results as a run might give them."""

import math

from longlag.lab.bench.check import Difference
from longlag.lab.bench.results import Peaks, Result, Timing
from longlag.lab.bench.rows import PASSES, Row
from longlag.lab.bench.timing import Quartiles


def timing(milliseconds, ratio, memory=None):
    seconds = Quartiles(1e-3 * milliseconds, 0.9e-3 * milliseconds, 1.2e-3 * milliseconds)
    return Timing(seconds, 9, 1.0, Quartiles(ratio, 0.9 * ratio, 1.2 * ratio), memory)


def results(threads=(1,)):
    """An Elman row, an own row with a refused peer, a row that longlag has wrong."""
    for count in threads:
        for pass_name in PASSES:
            peak = 0.81 if pass_name == "forward" else None
            yield Result(
                Row("elman", 32, 784, 1, 128), pass_name, count, "cpu",
                {
                    "longlag": timing(20, 1.0, 90_000_000),
                    "jax": timing(124, 6.2, 400_000),
                    "torch.nn": timing(60, 3.0),
                },
                limit=0.012, scan_of_peak=peak,
            )  # fmt: skip
            yield Result(
                Row("own", 1, 1000, 16, 16), pass_name, count, "cpu",
                {"longlag": timing(0.25, 1.0), "elman": timing(0.24, 0.96),
                 "loop": timing(60, 240.0)},
                skipped={"compile": "left out beyond T = 200"},
                differs={"jax": Difference("output", 0.3)},
                limit=0.0001, scan_of_peak=peak,
            )  # fmt: skip
            yield Result(
                Row("gru", 2, 3, 4, 5), pass_name, count, "cpu",
                differs={"longlag": Difference("weight_hh", math.nan)},
            )  # fmt: skip


def peaks(threads=(1,)):
    return [Peaks(count, 7.3e10 * count, {"16384": 2e11, "4194304": 4e10}) for count in threads]
