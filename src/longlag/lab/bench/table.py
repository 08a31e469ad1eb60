"""The results in the terminal: a table for each pass and number of threads."""

from collections.abc import Sequence

from rich.table import Table

from longlag.lab.bench.check import Difference
from longlag.lab.bench.peers import OURS
from longlag.lab.bench.results import Result, Timing

__all__ = ["megabytes", "milliseconds", "percent", "ratio", "ratio_only", "table", "title"]


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
    found = Table(title=title(first.pass_name, first.threads))
    for name in ("cell", "N, T, C, H"):
        found.add_column(name, no_wrap=True)
    names = ["longlag\nms", "of\nlimit", *(["scan\nof peak"] if scan else ["MB"])]
    for name in names:
        found.add_column(name, justify="right")
    found.add_column("peer", no_wrap=True)
    for name in ("ms", "ratio", "quartiles"):
        found.add_column(name, justify="right", no_wrap=True)
    for each in results:
        _add(found, each, scan)
    return found


def _add(found: Table, each: Result, scan: bool) -> None:
    ours = each.timings.get(OURS)
    sizes, _, note = each.row.sizes.partition(" (")
    head = [each.row.cell, sizes, "-", "-", "-"]
    lines = [
        (name, milliseconds(timing), ratio_only(timing), ratio(timing))
        for name, timing in each.peers.items()
    ]
    lines += [_differing(name, worst) for name, worst in each.differs.items()]
    if ours is not None:
        share = percent(each.scan_of_peak) if scan else megabytes(ours)
        head[2:] = [milliseconds(ours), percent(each.of_limit), share]
    heads = [head, ["", f"({note}" if note else "", "", "", ""]]
    height = max(len(lines), 2 if note else 1)
    for number in range(height):
        left = heads[min(number, 1)] if number < 2 else [""] * len(head)
        right = lines[number] if number < len(lines) else [""] * 4
        found.add_row(*left, *right, end_section=number == height - 1)


def _differing(name: str, worst: Difference) -> tuple[str, str, str, str]:
    return (name, "[bold red]differs[/]", f"by {worst.value:.0e}", f"in {worst.tensor}")


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
