"""Measure how fast longlag is on this machine, beside its peers.

Every row is one network on one size of data. longlag, torch.nn, JAX where it is installed, a plain
PyTorch loop, torch.compile and PackedSequence take turns. First each result is compared with the
reference in float64: one that differs gets no time, and the exit status is 1.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from longlag.cli.files import FIGURES, check_outputs
from longlag.cli.options import UsageError, above, known_names, names_in, option, typed

if TYPE_CHECKING:
    from longlag.lab.bench.processes import Work

USAGE = "[options]"


@dataclass(frozen=True)
class Options:
    """Everything that `longlag bench` can be told."""

    rows: str | tuple[str, ...] | None = option(
        None, group="what", metavar="NAMES", shown_default="all rows",
        help="rows whose name contains one of these, with commas between them, such as "
        "elman-32x784,ragged; --list shows the names",
    )  # fmt: skip
    cells: str | tuple[str, ...] | None = option(
        None, group="what", metavar="NAMES", shown_default="all cells",
        help="cells, with commas between them: elman, lstm, gru, leaky, own; own is a leaky cell "
        "that the benchmark declares as a user would",
    )  # fmt: skip
    peers: str | tuple[str, ...] | None = option(
        None, group="what", metavar="NAMES", shown_default="all peers",
        help="whom to measure beside, with commas between them: torch.nn, packed, padded, elman, "
        "loop, compile, jax; none for longlag alone",
    )  # fmt: skip
    passes: str | tuple[str, ...] = option(
        "forward,forward+backward", group="what", metavar="NAMES",
        help="forward, without gradients; forward+backward, with those of all parameters",
    )  # fmt: skip
    list: bool = option(False, group="what", help="print the names of the rows, and measure none")
    threads: str = option(
        "1,2", group="how", metavar="COUNTS",
        help="processor threads, one run for each count; counts that the machine has no cores for "
        "are left out",
    )  # fmt: skip
    seconds: float = option(
        4.0, group="how", range=above(0), metavar="SECONDS",
        help="how long a row's turns go on, beyond the least number of them",
    )  # fmt: skip
    quick: bool = option(
        False, group="how",
        help="the same rows on very little data, a few turns of each, one thread: shows that all "
        "works, its times mean nothing",
    )  # fmt: skip
    json: str | None = option(
        None, group="files", metavar="FILE",
        help="write machine, versions and all medians and quartiles to this .json",
    )  # fmt: skip
    markdown: str | None = option(
        None, group="files", metavar="FILE",
        help="write the tables to this .md; where it has a line <!-- results --> and a line "
        "<!-- end of results -->, what stands between them is replaced",
    )  # fmt: skip
    figure: str | None = option(
        None, group="files", metavar="FILE", help="draw the ratios: a .png, .pdf or .svg",
    )  # fmt: skip
    overwrite: bool = option(False, group="files", help="replace these files if they are there")


def run(options: Options) -> None:
    """Measure, print, and write the files.

    Raises:
        UsageError: the options do not fit; nothing was measured.
        SystemExit: with status 1 where a result differs from the reference.
    """
    from longlag.lab.bench.rows import ROWS

    if options.list:
        print(*(row.name for row in ROWS), sep="\n")
        return
    works = _works(options)
    suffixes = {"json": (".json",), "markdown": (".md",), "figure": FIGURES}
    files = check_outputs(options, suffixes)

    from rich.console import Console

    from longlag.lab.bench import document
    from longlag.lab.bench.table import table
    from longlag.storage import atomic_write_text

    console = Console(width=100)
    results, peaks = _measure(works)
    for work in works:
        for pass_name in work.passes:
            shown = [r for r in results if (r.threads, r.pass_name) == (work.threads, pass_name)]
            console.print(table(shown))
    done = document.document(results, peaks, typed("bench", options), options.quick)
    for reason in sorted({f"{n}: {why}" for one in results for n, why in one.skipped.items()}):
        console.print(f"not measured everywhere: {reason}", highlight=False, markup=False)
    if "json" in files:
        atomic_write_text(files["json"], document.as_json(done))
    if "markdown" in files:
        document.write_tables(files["markdown"], document.markdown(done))
    if "figure" in files:
        from longlag.lab.bench.figure import write_figure

        write_figure(files["figure"], results)
    differing = [f"{result.row.name} ({name})" for result in results for name in result.differs]
    if differing:
        console.print(f"[bold red]differs from the reference:[/] {', '.join(differing)}")
        raise SystemExit(1)


def _measure(works: "Sequence[Work]") -> tuple[Any, Any]:
    """All results and peaks, with a bar on standard error while it lasts."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from longlag.lab.bench import processes
    from longlag.lab.bench.results import Result

    results, peaks = [], []
    names = [
        f"{row.name}, {pass_name}, {work.threads} thread(s)"
        for work in works
        for row in work.rows
        for pass_name in work.passes
    ]
    columns = (
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(names[0], total=len(names))
        for measured in chain.from_iterable(map(processes.measured, works)):
            if not isinstance(measured, Result):
                peaks.append(measured)
                continue
            results.append(measured)
            done = len(results)
            if not console.is_terminal:  # no bar there: a line for each
                print(names[done - 1], file=sys.stderr)
            bar.update(task, completed=done, description=names[min(done, len(names) - 1)])
    return results, peaks


def _works(options: Options) -> "list[Work]":
    """What each process measures.

    Raises:
        UsageError: a name is not known, or nothing is left.
    """
    from longlag.lab.bench.peers import PEERS
    from longlag.lab.bench.processes import Work
    from longlag.lab.bench.rows import CELLS, PASSES, ROWS, quick, select
    from longlag.lab.bench.timing import Effort

    cells = known_names("cells", options.cells, CELLS)
    names = names_in(options.rows)
    rows = select(ROWS, cells, names)
    if not rows:
        raise UsageError(
            f"--rows {','.join(names or ())}: no row has such a name; `longlag bench --list` "
            "prints them"
        )
    peers = () if options.peers == "none" else known_names("peers", options.peers, tuple(PEERS))
    passes = known_names("passes", options.passes, PASSES)
    effort = Effort(seconds=options.seconds)
    counts = _counts(options.threads)
    if options.quick:
        rows = tuple(dict.fromkeys(map(quick, rows)))
        effort, counts = Effort(seconds=0.0, rounds=(3, 3), turn=0.0), counts[:1]
    return [Work(rows, passes or PASSES, count, peers, effort) for count in counts]


def _counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(
            f"--threads: got {text!r}, expected whole numbers, 1 or more, with commas between them"
        )
    cores = os.cpu_count() or 1
    counts = [int(word) for word in dict.fromkeys(words)]
    fitting = [count for count in counts if count <= cores]
    if not fitting:
        raise UsageError(f"--threads: got {text!r}, but this machine has {cores} core(s)")
    return fitting
