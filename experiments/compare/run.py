"""Which architecture bridges which lag: all families on adding and copying, lags of 50 to 400.

About half an hour on one quiet core. What is done is kept after every case: started again, it goes
on. In the end, or when it is interrupted, the tables of docs/which-memory.md are written anew.

    python experiments/compare/run.py
    python experiments/compare/run.py --lags 50,100     some of it, by options of `longlag compare`
"""

import json
import sys
from pathlib import Path

from longlag.cli import main
from longlag.lab.bench.document import write_tables

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "which-memory.md"
COMMAND = (
    "compare", "--tasks", "adding,copy", "--lags", "50,100,200,400", "--seeds", "5",
    "--budget", "10000", "--hidden", "32",
)  # fmt: skip


def tables(document: dict) -> str:
    """A table for each task: by lag how many seeds solved it and after how many sequences, and the
    horizon."""
    lines = []
    for task in dict.fromkeys(case["task"] for case in document["cases"]):
        own = [case for case in document["cases"] if case["task"] == task]
        lags = sorted({case["lag"] for case in own})
        columns = [f"{task} {lag} | horizon" for lag in lags]
        lines += ["", f"| family | weights | {' | '.join(columns)} |"]
        lines += ["|---|" + "---:|" * (1 + 2 * len(lags))]
        for family in dict.fromkeys(case["family"] for case in own):
            by_lag = {case["lag"]: case for case in own if case["family"] == family}
            cells = [cell(by_lag[lag]) if lag in by_lag else "not run |" for lag in lags]
            weights = f"{next(iter(by_lag.values()))['weights']:,}"
            lines.append(f"| {family} | {weights} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(case: dict) -> str:
    """Two cells of a table."""
    solved = case["solved"].split(" of ")[0]
    after = "" if case["sequences"] is None else f": {case['sequences']:,.0f}"
    beyond = "+" if case["horizon"] == case["steps"] else ""
    horizon = "-" if case["horizon"] is None else f"{case['horizon']:.0f}{beyond}"
    return f"{solved}{after} | {horizon}"


if __name__ == "__main__":
    status = main([*COMMAND, *sys.argv[1:], "--folder", str(FOLDER)])
    write_tables(PAGE, tables(json.loads((FOLDER / "table.json").read_text())))
    sys.exit(status)
