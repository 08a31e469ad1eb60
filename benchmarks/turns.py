"""What benchmarks share that call layers in turns: times, ratios, memory, the JSON."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

from longlag.lab.bench.machine import describe
from longlag.lab.bench.memory import peak_bytes

TURN = 0.01
"""Seconds of a turn, at least: a short call is repeated."""


def compare(calls: Mapping[Any, Callable[[], object]], turns: int) -> dict[str, Any]:
    """Two calls in turns: seconds, the second over the first, and by how much memory rises.

    As in `longlag bench` a turn repeats a short call, and does not count the first, which finds the
    caches full of what the other left. Seconds are those of the processor; on several threads,
    those on the clock.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[Any, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):  # the first compiles
        for name, call in calls.items():
            call()
            started, count = clock(), 0
            while not count or clock() - started < TURN:
                call()
                count += 1
            if turn:
                seconds[name].append((clock() - started) / count)
    ratios = [second / first for first, second in zip(*seconds.values(), strict=True)]
    return {
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "ratio": statistics.median(ratios),
        "quartiles": statistics.quantiles(ratios)[::2],
        "MB": {name: round((peak_bytes(call) or 0) / 1e6, 1) for name, call in calls.items()},
    }


def main(description: str | None, rows: Callable[[int], list[dict[str, Any]]]) -> None:
    """The command line: ``rows`` makes the rows for so many turns."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "torch": torch.__version__,
        "threads": arguments.threads,
        "turns": arguments.turns,
        "rows": rows(arguments.turns),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")
