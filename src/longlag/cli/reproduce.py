"""Run the experiments of the papers again, and print the published numbers beside those found.

Each row of a table is trained many times, side by side. A row that its budget stopped says so. With
--folder the results, a table and a figure are written after every row, so that nothing is lost when
the rest is interrupted.

  longlag reproduce long-lag-table --quick
  longlag reproduce adding --folder results
  longlag reproduce --list
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longlag.cli.files import check_folder, make_folder
from longlag.cli.options import THREADS, UsageError, at_least, option, typed
from longlag.cli.trial_bar import with_bar
from longlag.messages import near_match
from longlag.pipeline.threads import threads

if TYPE_CHECKING:
    from longlag.lab.reproduce import Effort, Experiment, Outcome, Row

USAGE = "EXPERIMENT [options]"
_FILES = ("results.json", "table.md", "figure.png")


@dataclass(frozen=True)
class Options:
    """Everything that `longlag reproduce` can be told."""

    experiment: str | None = option(
        None, group="what", positional=True, metavar="EXPERIMENT",
        help="its name; --list prints all",
        shown_default="none, which needs --list",
    )  # fmt: skip
    rows: str | None = option(
        None, group="what", metavar="NAMES", shown_default="all rows",
        help='rows whose name contains one of these, with semicolons between them, such as '
        '"LSTM;p = 4"; --list shows the names',
    )  # fmt: skip
    list: bool = option(False, group="what", help="print experiments and rows, and run none")
    quick: bool = option(
        False, group="how much",
        help="small budgets: minutes; else those of the papers, as far as they are in reach: hours",
    )  # fmt: skip
    trials: int | None = option(
        None, group="how much", range=at_least(1), shown_default="as many as the paper",
        help="trials of each row",
    )  # fmt: skip
    budget: int | None = option(
        None, group="how much", range=at_least(1), metavar="SEQUENCES",
        shown_default="that of each row",
        help="no trial gets more sequences than this",
    )  # fmt: skip
    seed: int = option(
        0, group="how much", range=at_least(0), help="of initial weights and sequences"
    )
    threads: int | None = option(
        None, group="how much", range=THREADS, shown_default="one a core",
        help="processor threads of networks whose updates are PyTorch's; those whose updates are "
        "compiled, and the loops of one unit, take all cores",
    )  # fmt: skip
    folder: str | None = option(
        None, group="files", metavar="FOLDER",
        help="write results.json, table.md and figure.png there, after every row",
    )  # fmt: skip
    resume: bool = option(
        False, group="files",
        help="go on in a folder: the rows that results.json has are not run again",
    )  # fmt: skip
    overwrite: bool = option(False, group="files", help="replace these files if they are there")


def run(options: Options) -> None:
    """Run the rows, print the table, write the files.

    Raises:
        UsageError: the options do not fit; nothing was run.
    """
    if options.list:
        _list(options.experiment)
        return

    from longlag.lab.reproduce import Effort

    experiment = _experiment(options.experiment)
    effort = Effort(options.trials, options.seed, options.quick, most=options.budget)
    rows = _rows(experiment, options.rows, effort)
    folder, outcomes = _folder(options, experiment, effort)

    from rich.console import Console

    from longlag.lab.reproduce import record

    command = typed("reproduce", options)
    console = Console() if sys.stdout.isatty() else Console(width=132)
    console.print(experiment.about, highlight=False)
    try:
        with threads(options.threads or os.cpu_count() or 1):
            for row in rows:
                if row.name in outcomes:
                    continue
                outcomes[row.name] = _run_row(row, effort)
                if folder is not None:
                    _write(folder, experiment, outcomes, effort, command)
    finally:
        if outcomes:
            console.print(record.table(experiment, outcomes))
            for name, text in _remarks(experiment, outcomes):
                console.print(f"{name}: {text}", highlight=False, markup=False)
            if folder is not None:
                print(f"written: {folder}/{', '.join(_FILES)}")


def _run_row(row: "Row", effort: "Effort") -> "Outcome":
    """One row, with a bar on standard error while it lasts."""
    trials, budget = row.extent(effort)
    return with_bar(
        row.name, trials, budget, lambda progress: row.run(trials, budget, effort, progress)
    )


def _write(
    folder: Path, experiment: "Experiment", outcomes: "dict[str, Outcome]", effort: "Effort",
    command: str,
) -> None:  # fmt: skip
    from longlag.lab.reproduce import record
    from longlag.lab.reproduce.figure import draw
    from longlag.storage import atomic_write, atomic_write_text

    document = record.as_document(experiment, outcomes, effort, command)
    results, page, image = (folder / name for name in _FILES)
    atomic_write_text(results, json.dumps(document, indent=1) + "\n")
    atomic_write_text(page, record.markdown(experiment, outcomes))
    figure = draw(experiment, outcomes)
    atomic_write(image, lambda file: figure.savefig(file, format="png", dpi=130))


def _remarks(
    experiment: "Experiment", outcomes: "dict[str, Outcome]"
) -> "Sequence[tuple[str, str]]":
    """What differs from the paper, and what was noted, by row."""
    remarks = []
    for row in experiment.rows:
        if row.name not in outcomes:
            continue
        if row.differs:
            remarks.append((row.name, row.differs))
        notes = outcomes[row.name].notes
        for wrong in notes.get("wrong by length", []):
            if wrong:
                text = ", ".join(f"{n} at {length}" for length, n in wrong.items())
                remarks.append((row.name, f"wrong of {notes['tested on']:,} by length: {text}"))
    return remarks


def _list(name: str | None) -> None:
    from longlag.lab.reproduce import EXPERIMENTS

    for experiment in EXPERIMENTS.values() if name is None else [_experiment(name)]:
        print(f"{experiment.name}: {experiment.title}")
        print(*(f"    {row.name}" for row in experiment.rows), sep="\n")


def _experiment(name: str | None) -> "Experiment":
    from longlag.lab.reproduce import EXPERIMENTS

    known = ", ".join(EXPERIMENTS)
    if name is None:
        raise UsageError(f"EXPERIMENT: missing; expected one of {known}")
    if name not in EXPERIMENTS:
        raise UsageError(
            f"EXPERIMENT: got {name!r}, expected one of {known}{near_match(name, EXPERIMENTS, str)}"
        )
    return EXPERIMENTS[name]


def _rows(experiment: "Experiment", names: str | None, effort: "Effort") -> "list[Row]":
    wanted = None if names is None else [word.strip() for word in names.split(";") if word.strip()]
    rows = [
        row
        for row in experiment.rows
        if (wanted is None or any(name in row.name for name in wanted)) and row.extent(effort)[1]
    ]
    if not rows:
        more = "; some rows are in the full run only, without --quick" if effort.quick else ""
        raise UsageError(
            f"--rows {names}: no row of {experiment.name} has such a name; "
            f"`longlag reproduce {experiment.name} --list` prints them{more}"
        )
    if any(row.needs == "numba" for row in rows):
        try:
            import numba  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "the rows RTRL, BPTT and CH of one unit are loops that Numba compiles, and it is "
                "not installed; install it with `pip install 'longlag[reproduce]'`, or leave them "
                'out, for example with --rows "LSTM"'
            ) from error
    return rows


def _folder(
    options: Options, experiment: "Experiment", effort: "Effort"
) -> "tuple[Path | None, dict[str, Outcome]]":
    """The folder, which is there then, and the outcomes that it has already."""
    if options.folder is None:
        if options.resume:
            raise UsageError("--resume: there is no folder to go on in; give --folder")
        return None, {}
    folder = check_folder("--folder", options.folder)
    there = [name for name in _FILES if (folder / name).exists()]
    if options.resume and there:
        return folder, _outcomes(folder / _FILES[0], experiment, effort)
    if there and not options.overwrite:
        raise UsageError(
            f"--folder {folder}: {', '.join(there)} there already; give --overwrite to replace "
            "them, --resume to go on with the rows that are missing, or another folder"
        )
    make_folder("--folder", folder)
    return folder, {}


def _outcomes(path: Path, experiment: "Experiment", effort: "Effort") -> "dict[str, Outcome]":
    """Those of an earlier run of the same experiment."""
    from longlag.lab.reproduce import record

    try:
        document = json.loads(path.read_text())
        outcomes = record.outcomes_of(document)
        came = (document["experiment"], document["seed"], document["quick"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--resume: {path} is not a result of `longlag reproduce` ({error!r}); give "
            "--overwrite to begin anew"
        ) from error
    expected = (experiment.name, effort.seed, effort.quick)
    if came != expected:
        words = "experiment {}, seed {}, quick {}"
        raise UsageError(
            f"--resume: {path} is of {words.format(*came)}, this run of {words.format(*expected)}; "
            "give the same, or another folder"
        )
    return outcomes
