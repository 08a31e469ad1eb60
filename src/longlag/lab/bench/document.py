"""All of a run in one JSON document, and its table in Markdown."""

import contextlib
import datetime
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longlag.lab.bench.check import TOLERANCE
from longlag.lab.bench.limits import LATENCY
from longlag.lab.bench.machine import describe
from longlag.lab.bench.peers import OURS
from longlag.lab.bench.results import Peaks, Result
from longlag.lab.bench.table import megabytes, milliseconds, percent, ratio, ratio_only, title
from longlag.storage import atomic_write_text

FIRST, LAST = "<!-- results -->", "<!-- end of results -->"
"""The lines of a Markdown file between which the tables go."""

_PACKAGES = ("longlag", "torch", "llvmlite", "numpy", "jax", "jaxlib")


def document(
    results: Sequence[Result], peaks: Sequence[Peaks], command: str, quick: bool
) -> dict[str, Any]:
    """A run as JSON has it.

    Args:
        results: all rows.
        peaks: of the processor, by number of threads.
        command: the command that was typed.
        quick: whether it was only to show that all works.
    """
    return {
        "format": 1,
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": describe(),
        "versions": versions(_PACKAGES),
        "tolerance": TOLERANCE,
        "step_latency_seconds": LATENCY,
        "peaks": [asdict(peak) for peak in peaks],
        "results": [result.to_dict() for result in results],
    }


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """What is installed of some packages; None for one that is not."""
    by_package: dict[str, str | None] = dict.fromkeys(packages)
    for package in by_package:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            by_package[package] = importlib.metadata.version(package)
    return by_package


def markdown(run: dict[str, Any]) -> str:
    """The results as tables for benchmarks/README.md, with machine and versions above them."""
    results = [Result.from_dict(record) for record in run["results"]]
    machine, versions = run["machine"], run["versions"]
    known = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
    lines = [
        f"`{run['command']}`, {run['date'][:10]}, on {machine['processor']} "
        f"({machine['cores']} cores, vectors of {machine['vector_bits']} bits, "
        f"{machine['system']}); Python {machine['python']}, {known}.",
        "",
    ]
    if run["quick"]:
        lines += ["A quick run: it shows that all works, its times mean nothing.", ""]
    for record in run["peaks"]:
        rates = ", ".join(
            f"{rate / 1e9:.0f} GB/s from {int(size) >> 10} KB"
            for size, rate in record["bandwidth"].items()
        )
        flops = "unknown" if record["flops"] is None else f"{record['flops'] / 1e9:.1f} GFLOP/s"
        lines += [f"{record['threads']} thread(s): peak {flops}; one thread reads {rates}.", ""]
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.pass_name, result.threads), []).append(result)
    for group, members in groups.items():
        lines += [f"### {title(*group)}", "", *_table(members), ""]
    return "\n".join(lines)


def _table(results: Sequence[Result]) -> list[str]:
    names = [name for result in results for name in (*result.timings, *result.differs)]
    peers = [name for name in dict.fromkeys(names) if name != OURS]
    head = ["cell", "N, T, C, H", "longlag, ms", "of limit", "scan of peak", "MB", *peers]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    for result in results:
        ours = result.timings.get(OURS)
        differs = {name: f"differs by {d.value:.1e}" for name, d in result.differs.items()}
        cells = [
            result.row.cell,
            result.row.sizes,
            differs.get(OURS, "") if ours is None else milliseconds(ours),
            percent(result.of_limit),
            percent(result.scan_of_peak),
            "" if ours is None else megabytes(ours),
        ]
        for name in peers:
            timing = result.timings.get(name)
            cells.append(
                differs.get(name, "")
                if timing is None
                else f"{milliseconds(timing)}, {ratio_only(timing)} ({ratio(timing)})"
            )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def write_tables(path: Path, tables: str) -> None:
    """Put the tables into a file: between its two marked lines, or as its whole content.

    Raises:
        OSError: it cannot be read or written.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before, first, rest = text.partition(FIRST)
    _, last, after = rest.partition(LAST)
    marked = f"{before}{first}\n{tables}{last}{after}" if first and last else tables
    atomic_write_text(path, marked)


def resumed(path: Path) -> dict[str, Any]:
    """What an experiment that goes on where it was stopped has kept, of today and these versions.

    Args:
        path: its JSON document, whose "sets" has what is done; it need not be there.
    """
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"sets": {}}
    machine = describe()
    return {
        **kept,
        "date": datetime.date.today().isoformat(),
        **versions(("longlag", "torch")),
        **{name: machine[name] for name in ("python", "processor")},
    }


def as_json(run: dict[str, Any]) -> str:
    """The document as text."""
    return json.dumps(run, indent=1) + "\n"
