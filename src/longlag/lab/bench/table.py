"""The results in the terminal: a table for each pass and number of threads."""

from collections.abc import Sequence
from itertools import zip_longest

from rich.table import Table

from longlag.lab.bench.peers import OURS
from longlag.lab.bench.results import Result, Timing


def title(pass_name: str, threads: int) -> str:
    """What a table shows.

    >>> title("forward", 1)
    'forward, float32, 1 thread'
    """
    return f"{pass_name}, float32, {threads} thread{'s' if threads > 1 else ''}"


def table(results: Sequence[Result]) -> Table:
    """The results of one pass and number of threads; one line a peer, the fastest first.

    The ratio is the peer's time over longlag's: more than 1 where longlag is faster.
    """
    first = results[0]
    scan = first.pass_name == "forward"
    columns = Table(title=title(first.pass_name, first.threads))
    for name in ("cell", "N, T, C, H"):
        columns.add_column(name, no_wrap=True)
    for name in ("longlag\nms", "of\nlimit", "scan\nof peak" if scan else "MB"):
        columns.add_column(name, justify="right")
    columns.add_column("peer", no_wrap=True)
    for name in ("ms", "ratio", "quartiles"):
        columns.add_column(name, justify="right", no_wrap=True)
    for result in results:
        _add(columns, result, scan)
    return columns


def _add(columns: Table, result: Result, scan: bool) -> None:
    """The lines of a result: longlag's numbers in the first, beside them one line a peer."""
    ours = result.timings.get(OURS)
    sizes, _, note = result.row.sizes.partition(" (")
    numbers = ["-", "-", "-"]
    if ours is not None:
        share = percent(result.scan_of_peak) if scan else megabytes(ours)
        numbers = [milliseconds(ours), percent(result.of_limit), share]
    left = [[result.row.cell, sizes, *numbers]]
    if note:
        left.append(["", f"({note}"])
    right = [
        [name, milliseconds(timing), ratio_only(timing), ratio(timing)]
        for name, timing in result.peers.items()
    ]
    right += [
        [name, "[bold red]differs[/]", f"by {worst.value:.0e}", f"in {worst.tensor}"]
        for name, worst in result.differs.items()
    ]
    for mine, theirs in zip_longest(left, right, fillvalue=[]):
        columns.add_row(*mine, *[""] * (5 - len(mine)), *theirs)
    columns.add_section()


def milliseconds(timing: Timing) -> str:
    """The median in milliseconds, three digits."""
    return _digits(1e3 * timing.seconds.median)


def ratio_only(timing: Timing) -> str:
    """The median ratio to longlag's time."""
    return f"{_digits(timing.ratio.median)}x"


def ratio(timing: Timing) -> str:
    """The quartiles of the ratio."""
    return f"{_digits(timing.ratio.low)} - {_digits(timing.ratio.high)}"


def megabytes(timing: Timing) -> str:
    """The memory of a call, in steps of what can be measured."""
    if timing.memory is None:
        return "-"
    return "< 1" if timing.memory < 1e6 else f"{timing.memory / 1e6:.0f}"


def percent(share: float | None) -> str:
    """A share in percent.

    >>> percent(0.824), percent(0.0132), percent(None)
    ('82 %', '1.3 %', '-')
    """
    if share is None:
        return "-"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _digits(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
