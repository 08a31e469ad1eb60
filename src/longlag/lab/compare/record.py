"""The cases that were run: as a table, as CSV, Markdown and JSON."""

import csv
import datetime
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table

from longlag.lab.bench.document import versions
from longlag.lab.bench.machine import describe
from longlag.lab.compare.cases import Case, middle
from longlag.lab.compare.families import FAMILIES
from longlag.lab.compare.problems import PROBLEMS
from longlag.lab.compare.setup import Setup
from longlag.lab.reproduce.experiment import Outcome

HEAD = (
    "task", "lag", "family", "weights", "solved", "success", "sequences", "updates", "error",
    "horizon", "seconds",
)  # fmt: skip
_TEXT = ("task", "family", "solved")

Outcomes = Mapping[Case, Outcome]


def now() -> str:
    """The time, as the files have it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def row(case: Case, outcome: Outcome) -> dict[str, Any]:
    """One line of the table; None where there is nothing to say.

    Medians over the seeds: "sequences" and "updates" of those that solved it; "error" and "horizon"
    of all.
    """
    notes, solved = outcome.notes, outcome.solved
    sequences, error = middle(solved), middle(notes["errors"])
    return {
        "task": case.problem.name, "lag": case.lag, "family": case.family.name,
        "weights": outcome.weights, "solved": f"{len(solved)} of {outcome.trials}",
        "success": len(solved) / outcome.trials, "sequences": sequences,
        "updates": None if sequences is None or case.family.reservoir
        else round(sequences / notes["batch"]),
        "error": None if error is None else round(error, 5), "horizon": middle(notes["horizons"]),
        "steps": notes["steps"], "seconds": outcome.seconds,
    }  # fmt: skip


def _words(case: Case, outcome: Outcome) -> tuple[str, ...]:
    """The same, as one reads it."""
    values = row(case, outcome)
    sequences, horizon, error = (values[name] for name in ("sequences", "horizon", "error"))
    beyond = horizon is not None and horizon >= values["steps"]
    return (
        values["task"], str(values["lag"]), values["family"], f"{values['weights']:,}",
        values["solved"], f"{100 * values['success']:.0f} %",
        f"over {outcome.budget:,}" if sequences is None else f"{sequences:,.0f}",
        "-" if values["updates"] is None else f"{values['updates']:,}",
        "-" if error is None else f"{error:.3g}",
        "-" if horizon is None else f"{horizon:.0f}{'+' if beyond else ''}",
        f"{values['seconds']:.0f}",
    )  # fmt: skip


def table(outcomes: Outcomes) -> Table:
    """For a terminal."""
    printed = Table(caption=legend(outcomes), caption_justify="left")
    for name in HEAD:
        printed.add_column(name, justify="left" if name in _TEXT else "right")
    for case, outcome in outcomes.items():
        printed.add_row(*_words(case, outcome))
    return printed


def legend(outcomes: Outcomes) -> str:
    """What the columns are, and when each task is solved."""
    criteria = {case.problem.name: case.problem.criterion for case in outcomes}
    return (
        "medians over the seeds; sequences and updates until solved; error: mean square, of "
        "classes the share of wrong answers; horizon: steps back, + for beyond all that are read; "
        f"solved: {'; '.join(f'{name}, {text}' for name, text in criteria.items())}"
    )


def markdown(outcomes: Outcomes, command: str, date: str) -> str:
    """For a page."""
    marks = "|".join("---" if name in _TEXT else "---:" for name in HEAD)
    lines = ["| " + " | ".join(HEAD) + " |", f"|{marks}|"]
    lines += [f"| {' | '.join(_words(case, outcome))} |" for case, outcome in outcomes.items()]
    return "\n".join([f"`{command}`, {date}", "", *lines, "", legend(outcomes)]) + "\n"


def as_csv(outcomes: Outcomes, command: str, date: str) -> str:
    """One line a case, under a line, behind `#`, with command and date."""
    file = io.StringIO()
    file.write(f"# {command}, {date}\n")
    writer = csv.DictWriter(file, [*HEAD, "steps"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row(case, outcome) for case, outcome in outcomes.items())
    return file.getvalue()


def as_document(outcomes: Outcomes, setup: Setup, command: str, date: str) -> dict[str, Any]:
    """All of it, as JSON has it."""
    return {
        "format": 1,
        "comparison": asdict(setup),
        "command": command,
        "date": date,
        "machine": describe(),
        "versions": versions(("longlag", "torch", "numpy")),
        "cases": [
            {**row(case, outcome), "rate": case.family.rate, "outcome": asdict(outcome)}
            for case, outcome in outcomes.items()
        ],
    }


def outcomes_of(document: Mapping[str, Any]) -> dict[Case, Outcome]:
    """The outcomes of a document of `as_document`.

    Raises:
        KeyError, TypeError, ValueError: it is no such document.
    """
    if document["format"] != 1:
        raise ValueError(f"format {document['format']!r}")
    outcomes = {}
    for line in document["cases"]:
        case = Case(FAMILIES[line["family"]], PROBLEMS[line["task"]], line["lag"])
        told = {**line["outcome"], "curve": ()}
        outcomes[case] = Outcome(**{**told, "sequences": tuple(told["sequences"])})
        row(case, outcomes[case])  # which says now whether something is missing
    return outcomes


def in_order(outcomes: Outcomes) -> dict[Case, Outcome]:
    """By task, lag and family, in the order of the tables of tasks and families."""
    places = (list(PROBLEMS), list(FAMILIES))

    def place(case: Case) -> tuple[int, int, int]:
        return places[0].index(case.problem.name), case.lag, places[1].index(case.family.name)

    return {case: outcomes[case] for case in sorted(outcomes, key=place)}
