"""Measure how far back a trained network remembers, and say what to do about it.

MODEL is a file that `longlag train` saved, DATA a file with the same features. Prints the verdict,
and writes a page with all figures that opens in any browser.

  longlag report model.longlag data.csv --lag 100
  longlag report elman.longlag data.csv --beside lstm.longlag
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longlag.cli.files import PAGES, check_model, check_outputs
from longlag.cli.options import THREADS, UsageError, at_least, option
from longlag.pipeline.settings import LOOKED_AT
from longlag.pipeline.threads import threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from longlag.memory import MemoryReport

USAGE = "MODEL DATA [options]"


@dataclass(frozen=True)
class Options:
    """Everything that `longlag report` can be told."""

    model: str | None = option(
        group="data", positional=True, required=True, metavar="MODEL",
        help="the file that `longlag train` saved",
    )  # fmt: skip
    data: str | None = option(
        group="data", positional=True, required=True, metavar="DATA",
        help="sequences to look at: .csv, .parquet, .npz or .ts; the target may be absent",
    )  # fmt: skip
    beside: str | None = option(
        group="data", metavar="MODEL", help="another trained network, to stand beside the first",
    )  # fmt: skip
    lag: int | None = option(
        group="what", range=at_least(1), metavar="STEPS",
        shown_default="found, where the network has learnt it, else the whole sequence",
        help="how far back the task needs to see; the verdict compares with it",
    )  # fmt: skip
    sequences: int = option(
        LOOKED_AT[0], group="what", range=at_least(1), metavar="COUNT",
        help="at the most so many series, evenly spread over the file, or so many stretches of one",
    )  # fmt: skip
    steps: int = option(
        LOOKED_AT[1], group="what", range=at_least(2), metavar="COUNT",
        help="at the most so many last steps of each",
    )  # fmt: skip
    seed: int = option(0, group="what", range=at_least(0), help="of what is drawn at random")
    output: str = option(
        "report.html", group="files", metavar="FILE", help="the page, a .html",
    )  # fmt: skip
    json: str | None = option(
        group="files", metavar="FILE", help="all numbers, a .json",
    )  # fmt: skip
    overwrite: bool = option(False, group="files", help="replace these files if they are there")
    threads: int = option(
        1, group="running", range=THREADS, metavar="COUNT", help="processor threads",
    )  # fmt: skip


def run(options: Options) -> None:
    """Measure, print the verdict, write the page.

    Raises:
        UsageError, DataError, ArchiveError: the options or a file do not fit; nothing was written.
    """
    assert options.model is not None
    assert options.data is not None
    inputs = (options.model, options.beside, options.data)
    files = check_outputs(options, {"output": PAGES, "json": (".json",)}, inputs)
    models = (("MODEL", options.model), ("--beside", options.beside))
    paths = [check_model(flag, file) for flag, file in models if file is not None]
    if len(paths) == 2 and paths[0].resolve() == paths[1].resolve():
        raise UsageError(f"--beside {paths[1]}: it is MODEL itself; give another file")

    with threads(options.threads):
        _report(options, paths, files["output"], files.get("json"))


def _report(options: Options, paths: list[Path], output: Path, numbers: Path | None) -> None:
    import json

    from rich.console import Console

    from longlag.memory.report import html
    from longlag.pipeline.fitted import Fitted
    from longlag.pipeline.memory import measure
    from longlag.storage import atomic_write_text

    assert options.data is not None
    data = Path(options.data)
    reports = {}
    for path, name in zip(paths, _names(paths), strict=True):
        fitted = Fitted.load(path)
        model, preparation = fitted.model, fitted.preparation
        series = preparation.read(data)
        prepared = fitted.prepare(series, data)
        reports[name] = in_options(
            measure(
                model, preparation, prepared, lag=options.lag, sequences=options.sequences,
                steps=options.steps, seed=options.seed, name=name,
            )
        )  # fmt: skip
    html.write(reports, output)
    if numbers is not None:
        document = {name: report.to_dict() for name, report in reports.items()}
        atomic_write_text(numbers, json.dumps(document, indent=1) + "\n")
    console = Console(highlight=False)
    for report in reports.values():
        show(console, report)
    written = f"{output}" + ("" if numbers is None else f", {numbers} (numbers)")
    console.print(f"written: {written}", markup=False, soft_wrap=True)


def _names(paths: list[Path]) -> list[str]:
    """What the page calls the networks: their files, with the folders where these are alike."""
    names = [path.stem for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def in_options(report: "MemoryReport") -> "MemoryReport":
    """The report with advice that `longlag train` can follow, in its options."""
    from dataclasses import replace

    advice = tuple(
        replace(one, code="longlag train ... " + options_of(one.settings))
        for one in report.verdict.advice
        if one.settings is not None
    )
    return replace(report, verdict=replace(report.verdict, advice=advice))


def options_of(settings: "Mapping[str, object]") -> str:
    """Settings as they are typed.

    >>> options_of({"cell": "lstm", "chrono": 100, "clip_norm": 1.0})
    '--cell lstm --chrono 100 --clip_norm 1'
    """
    return " ".join(
        f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"
        for name, value in settings.items()
    )


def show(console: "Console", report: "MemoryReport") -> None:
    """Print the verdict."""
    from rich.markup import escape

    colour = "green" if report.verdict.kind in ("remembers", "holds") else "red"
    console.print(
        f"[bold]{escape(report.name)}[/bold]: {escape(report.description)}", soft_wrap=True
    )
    headline, _, rest = str(report.verdict).partition("\n")
    console.print(f"[{colour}]{escape(headline)}[/{colour}]", soft_wrap=True)
    if rest:
        console.print(rest, markup=False, soft_wrap=True)
