"""The rows that were run: as a table, as a JSON document, as a figure."""

import datetime
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table

from longlag.lab.bench.document import versions
from longlag.lab.bench.machine import describe
from longlag.lab.reproduce.experiment import Effort, Experiment, Outcome, Published, Row

_HEAD = ("row", "weights", "published", "here", "sequences", "budget", "time")
_PACKAGES = ("longlag", "torch", "numpy", "numba")


def _cells(row: Row, outcome: Outcome | None) -> tuple[str, ...]:
    published = _published(row.published)
    if outcome is None:
        return row.name, "", published, "not run", "", "", ""
    here = f"{len(outcome.solved)} of {outcome.trials} ({outcome.percent:.0f} %)"
    mean = "-" if outcome.mean is None else f"{outcome.mean:,.0f}"
    budget = f"{outcome.budget:,}" + (", stopped by it" if outcome.stopped else "")
    return (
        row.name, f"{outcome.weights:,}", published, here, mean, budget, _time(outcome.seconds),
    )  # fmt: skip


def _published(published: Published | None) -> str:
    if published is None:
        return "-"
    percent = "" if published.percent is None else f"{published.percent:g} %"
    sequences = "" if published.sequences is None else f"{published.sequences:,.0f}"
    return ", ".join(filter(None, (percent, sequences, published.text)))


def _time(seconds: float) -> str:
    """Seconds, as one would say them.

    >>> _time(3.21), _time(75), _time(4000)
    ('3.2 s', '1 min 15 s', '1 h 6 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def table(experiment: Experiment, outcomes: Mapping[str, Outcome]) -> Table:
    """The published numbers beside those found, row by row.

    Args:
        experiment: whose rows.
        outcomes: by name of the row; rows without one are left out.
    """
    printed = Table(title=experiment.title, caption=f"solved: {experiment.criterion}")
    for name in _HEAD:
        printed.add_column(
            name, justify="left" if name in ("row", "published", "here") else "right"
        )
    for row in experiment.rows:
        if row.name in outcomes:
            printed.add_row(*_cells(row, outcomes[row.name]))
    return printed


def markdown(experiment: Experiment, outcomes: Mapping[str, Outcome]) -> str:
    """The same table for a page."""
    lines = ["| " + " | ".join(_HEAD) + " |", "|---|---:|---|---|---:|---:|---:|"]
    for row in experiment.rows:
        if row.name in outcomes:
            lines.append("| " + " | ".join(_cells(row, outcomes[row.name])) + " |")
    return "\n".join(lines) + "\n"


def as_document(
    experiment: Experiment, outcomes: Mapping[str, Outcome], effort: Effort, command: str
) -> dict[str, Any]:
    """All of a run, as JSON has it.

    Args:
        experiment: what was run.
        outcomes: by name of the row.
        effort: how much of it.
        command: what was typed.
    """
    return {
        "format": 1,
        "experiment": experiment.name,
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "source": experiment.source,
        "criterion": experiment.criterion,
        "seed": effort.seed,
        "quick": effort.quick,
        "machine": describe(),
        "versions": versions(_PACKAGES),
        "rows": [
            {
                "name": row.name,
                "published": None if row.published is None else asdict(row.published),
                "differs": row.differs,
                **asdict(outcomes[row.name]),
                "solved": len(outcomes[row.name].solved),
                "mean_sequences": outcomes[row.name].mean,
                "stopped_by_budget": outcomes[row.name].stopped,
            }
            for row in experiment.rows
            if row.name in outcomes
        ],
    }


def outcomes_of(document: Mapping[str, Any]) -> dict[str, Outcome]:
    """The outcomes of a document of `as_document`, by name of the row.

    Raises:
        KeyError, TypeError: it is no such document.
    """
    return {
        row["name"]: Outcome(
            sequences=tuple(row["sequences"]), curve=tuple(map(tuple, row["curve"])),
            **{name: row[name] for name in ("weights", "budget", "seconds", "measure", "notes")},
        )
        for row in document["rows"]
    }  # fmt: skip
