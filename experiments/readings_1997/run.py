"""Readings of the paper of 1997: under which do its rows of plain gradient descent come out?

Hochreiter and Schmidhuber (1997, section 5.2) leave open what their programs did at each step. Two
rows of the table for long lag 2a depend on that: the LSTM at p = 100 (published: 100 % after 5,040
sequences at rate 1), and RTRL with one unit at p = 4 (78, 56 and 22 % after 1,043,000, 892,000 and
254,000 sequences at rates 1, 4 and 10). Here both are run under every combination of some readings.

    python experiments/readings_1997/run.py            both maps: at most half an hour
    python experiments/readings_1997/run.py --only lstm

A reading is a row of numbers; `loops.py` says what each is. Every trial has its seed, 0 and up.
Writes results.json, and the tables of README.md to the terminal.
"""

import argparse
import itertools
import json
import platform
import time
from datetime import date
from pathlib import Path

import loops
import numpy as np

FILE = Path(__file__).with_name("results.json")

LSTM = {
    "rate": (1,), "slope": (0, 1), "online": (1, 0), "g": (0, 1, 2), "h": (0, 1),
    "alone": (0, 2000), "v_zero": (0, 1), "gate": (0, -2),
}  # fmt: skip
UNIT = {
    "rate": (1, 4, 10), "slope": (1, 0), "unit": (0, 1), "late": (0, 1), "goes_on": (0, 1),
    "online": (1, 0), "alone": (0, 1000),
}  # fmt: skip
MAPS = {
    # name: readings, names in the order of the loops, the loops, p, budget, trials
    "lstm": (LSTM, loops.NAMES, loops.trials, 100, 8_000, 3),
    "unit": (UNIT, loops.UNIT_NAMES, loops.unit_trials, 4, 1_200_000, 3),
}


def run(name: str) -> dict[str, object]:
    """One map: by reading, after how many sequences each trial succeeded, -1 for never."""
    readings, names, trials, p, budget, count = MAPS[name]
    every = [dict(zip(readings, one, strict=True)) for one in itertools.product(*readings.values())]
    rows = np.array([[one[n] for n in names] for one in every], float)
    began = time.perf_counter()
    found = trials(rows, p, budget, np.arange(count))
    return {
        "p": p,
        "budget": budget,
        "seconds": round(time.perf_counter() - began),
        "rows": [[one, some] for one, some in zip(every, found.tolist(), strict=True)],
    }


def table(result: dict) -> None:
    """The readings under which a trial succeeded, the best first."""
    names = list(result["rows"][0][0])
    print("|", " | ".join([*names, "trials", "sequences"]), "|")
    print("|" + "---|" * (len(names) + 2))

    def rank(row: list) -> tuple[int, float]:
        solved = [n for n in row[1] if n > 0]
        return -len(solved), float(np.mean(solved or [0]))

    for reading, found in sorted(result["rows"], key=rank):
        solved = [n for n in found if n > 0]
        if solved:
            cells = [*reading.values(), f"{len(solved)} of {len(found)}", f"{np.mean(solved):,.0f}"]
            print("|", " | ".join(map(str, cells)), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=MAPS, help="one of the two maps")
    chosen = parser.parse_args().only
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in MAPS if chosen is None else [chosen]:
        kept[name] = {
            "date": date.today().isoformat(),
            "machine": platform.machine(),
            "command": f"python experiments/readings_1997/run.py --only {name}",
            **run(name),
        }
        FILE.write_text(json.dumps(kept) + "\n")
        table(kept[name])


if __name__ == "__main__":
    main()
