"""Compare families of networks on tasks that need memory, at lags of your choice.

Each case, a family on a task at a lag, is trained from several seeds side by side: how many solve
it, after how many sequences, in what time, with how many weights, and how far back the trained
networks remember. Every case is kept in the folder as soon as it is done: the same command goes on
where it was stopped, and with other families, tasks or lags it adds to the table.

  longlag compare --quick
  longlag compare --families gru-chrono,leaky,echo --tasks adding --lags 50,100,200 --budget 60s
  longlag compare --list
"""

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longlag.cli.files import check_folder, make_folder
from longlag.cli.options import THREADS, UsageError, at_least, known_names, option, typed
from longlag.cli.trial_bar import with_bar
from longlag.messages import on_one_line
from longlag.pipeline.threads import threads

if TYPE_CHECKING:
    from longlag.lab.compare import Case, Setup
    from longlag.lab.reproduce import Outcome

USAGE = "[options]"
_FILES = ("table.json", "table.csv", "table.md", "figure.png")

QUICK = {
    "families": "elman,leaky,gru,gru-chrono,echo",
    "tasks": "adding,temporal-order",
    "lags": "20,40",
    "budget": "4000",
    "seeds": 3,
}
"""What `--quick` runs, where nothing else is said."""

FULL = {"families": None, "tasks": "adding,copy", "lags": "50,100,200,400", "budget": "20000",
        "seeds": 5}  # fmt: skip


def _shown(name: str) -> str:
    return f"{FULL[name] or 'all'}; with --quick {QUICK[name]}"


@dataclass(frozen=True)
class Options:
    """Everything that `longlag compare` can be told."""

    families: str | tuple[str, ...] | None = option(
        None, group="what", metavar="NAMES", shown_default=_shown("families"),
        help="kinds of networks, with commas between them; --list prints all",
    )  # fmt: skip
    tasks: str | tuple[str, ...] | None = option(
        None, group="what", metavar="NAMES", shown_default=_shown("tasks"),
        help="tasks, with commas between them; --list prints all",
    )  # fmt: skip
    lags: str | None = option(
        None, group="what", metavar="STEPS", shown_default=_shown("lags"),
        help="lags, with commas between them; what they mean for each task --list says",
    )  # fmt: skip
    list: bool = option(False, group="what", help="print families and tasks, and run none")
    quick: bool = option(
        False, group="how much", help="a small table in about two minutes: shows that all works",
    )  # fmt: skip
    seeds: int | None = option(
        None, group="how much", range=at_least(1, 1000), shown_default=_shown("seeds"),
        help="networks of each case, trained side by side",
    )  # fmt: skip
    budget: str | None = option(
        None, group="how much", metavar="BUDGET", shown_default=_shown("budget"),
        help="sequences that each network gets at most, such as 20000; or, with an s, seconds that "
        "each case takes at most, such as 60s",
    )  # fmt: skip
    hidden: int = option(
        32, group="how much", range=at_least(1, 100_000), metavar="UNITS",
        help="units of each network; reservoirs have ten times as many",
    )  # fmt: skip
    seed: int = option(0, group="how much", range=at_least(0), help="of weights and sequences")
    threads: int = option(1, group="how much", range=THREADS, help="processor threads")
    folder: str = option(
        "comparison", group="files", metavar="FOLDER",
        help=f"keep {_FILES[0]} there, written after every case, and in the end "
        f"{', '.join(_FILES[1:])}; cases that it has are not run again",
    )  # fmt: skip


def run(options: Options) -> None:
    """Run the cases that are missing, write the files, print the table.

    Raises:
        UsageError: the options do not fit, or the folder has a table of another setup; nothing was
            run.
    """
    if options.list:
        _list()
        return
    setup, wanted = _setup(options), _cases(options)
    folder, outcomes = _folder(options.folder, setup)

    from rich.console import Console

    from longlag.lab.compare import record

    command = typed("compare", options)
    missing = [case for case in wanted if case not in outcomes]
    if len(missing) < len(wanted):
        there = len(wanted) - len(missing)
        print(f"{folder}: {there} of {len(wanted)} cases are there already", file=sys.stderr)
    try:
        with threads(options.threads):
            for number, case in enumerate(missing, 1):
                name = f"{number}/{len(missing)} {case}"
                outcomes[case] = with_bar(
                    name,
                    setup.seeds,
                    setup.sequences,
                    lambda told, case=case: case.run(setup, told),
                )
                # Another run may have added to the table meanwhile.
                outcomes = _folder(options.folder, setup)[1] | outcomes
                _keep(folder / _FILES[0], outcomes, setup, command)
    finally:
        mine = record.in_order({case: outcomes[case] for case in wanted if case in outcomes})
        if mine:
            _show(folder, outcomes, command)
            console = Console() if sys.stdout.isatty() else Console(width=132)
            console.print(record.table(mine))
            print(f"written: {folder}/{', '.join(_FILES)}")


def _keep(table: Path, outcomes: "dict[Case, Outcome]", setup: "Setup", command: str) -> None:
    """What the next run goes on from."""
    from longlag.lab.compare import record
    from longlag.storage import atomic_write_text

    outcomes = record.in_order(outcomes)
    document = record.as_document(outcomes, setup, command, record.now())
    atomic_write_text(table, json.dumps(document, indent=1) + "\n")


def _show(folder: Path, outcomes: "dict[Case, Outcome]", command: str) -> None:
    """The same for readers."""
    from longlag.lab.compare import record
    from longlag.lab.compare.figure import draw
    from longlag.storage import atomic_write, atomic_write_text

    outcomes, date = record.in_order(outcomes), record.now()
    _, lines, page, image = (folder / name for name in _FILES)
    atomic_write_text(lines, record.as_csv(outcomes, command, date))
    atomic_write_text(page, record.markdown(outcomes, command, date))
    figure = draw(outcomes, f"{command}, {date}")
    atomic_write(image, lambda file: figure.savefig(file, format="png", dpi=110))


def _list() -> None:
    from longlag.lab.compare import FAMILIES, PROBLEMS

    print("families:")
    for family in FAMILIES.values():
        print(f"    {family.name}: {family.about}")
    print("tasks:")
    for problem in PROBLEMS.values():
        lag = "" if problem.fixed is None else f"; its lag is {problem.fixed}, whatever --lags says"
        print(f"    {problem.name}: {problem.about}{lag}. Solved: {problem.criterion}")


def _wanted(options: Options, name: str) -> str | tuple[str, ...] | None:
    value = getattr(options, name)
    return value if value is not None else (QUICK if options.quick else FULL)[name]


def _cases(options: Options) -> "list[Case]":
    from longlag.lab.compare import FAMILIES, PROBLEMS, cases

    families = known_names("families", _wanted(options, "families"), tuple(FAMILIES))
    problems = known_names("tasks", _wanted(options, "tasks"), tuple(PROBLEMS))
    lags = _lags(str(_wanted(options, "lags")))
    for problem in (PROBLEMS[name] for name in problems):
        short = [lag for lag in lags if lag < problem.least]
        if short and problem.fixed is None:
            raise UsageError(
                f"--lags: got {short[0]}, but {problem.name} needs {problem.least} or more; leave "
                "the lag or the task out"
            )
    return cases(
        [FAMILIES[name] for name in dict.fromkeys(families)],
        [PROBLEMS[name] for name in dict.fromkeys(problems)],
        lags,
    )


def _lags(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 0 < int(word) <= 100_000 for word in words):
        raise UsageError(
            f"--lags: got {text!r}, expected whole numbers of steps from 1 to 100000, with commas "
            "between them"
        )
    return [int(word) for word in dict.fromkeys(words)]


def _setup(options: Options) -> "Setup":
    from longlag.lab.compare import Setup

    seeds = options.seeds or (QUICK if options.quick else FULL)["seeds"]
    assert isinstance(seeds, int)
    sequences, seconds = _budget(str(_wanted(options, "budget")))
    return Setup(seeds, options.seed, options.hidden, sequences, seconds)


def _budget(text: str) -> tuple[int | None, float | None]:
    """Sequences or seconds; the other is None."""
    word = text.strip()
    if word.isdecimal() and 0 < int(word) < 2**63:
        return int(word), None
    try:
        seconds = float(word.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not word.endswith("s") or not 0 < seconds < math.inf:
        raise UsageError(
            f"--budget: got {text!r}, expected a number of sequences such as 20000, or of seconds "
            "such as 60s"
        )
    return None, seconds


def _folder(path: str, setup: "Setup") -> "tuple[Path, dict[Case, Outcome]]":
    """The folder, which is there then, and the outcomes that it has already."""
    from longlag.lab.compare import record

    folder = check_folder("--folder", path)
    table = folder / _FILES[0]
    if not table.exists():
        there = [name for name in _FILES if (folder / name).exists()]
        if there:
            raise UsageError(
                f"--folder {folder}: has {', '.join(there)}, but no {_FILES[0]} to go on from; "
                "give another folder, or delete them"
            )
        make_folder("--folder", folder)
        return folder, {}
    try:
        document = json.loads(table.read_text(encoding="utf-8"))
        outcomes, kept = record.outcomes_of(document), document["comparison"]
        changed = [
            f"--{name} {_said(kept, name)} there, {_said(asdict(setup), name)} here"
            for name in ("seeds", "seed", "hidden", "budget")
            if _said(kept, name) != _said(asdict(setup), name)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--folder {folder}: {table} is not a table of `longlag compare`, or is damaged "
            f"({on_one_line(error)}); give another folder, or delete it to begin anew"
        ) from error
    if changed:
        raise UsageError(
            f"--folder {folder}: its table has another setup: {', '.join(changed)}; give the same, "
            "or another folder"
        )
    return folder, outcomes


def _said(setup: dict, name: str) -> str:
    """A part of a setup as it is typed."""
    if name != "budget":
        return str(setup[name])
    seconds = setup["seconds"]
    return str(setup["sequences"]) if seconds is None else f"{seconds:g}s"
