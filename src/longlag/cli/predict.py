"""Use a trained network on new data.

MODEL is a file that `longlag train` saved, DATA a file with the same features in their own units.
Where DATA has a target, the score is printed too. With --stream, rows come on standard input, and
each is answered before the next.
"""

import csv
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longlag.cli.files import check_model, check_outputs
from longlag.cli.options import THREADS, UsageError, at_least, names_in, option
from longlag.pipeline.threads import threads

if TYPE_CHECKING:
    from longlag.data import Columns, Predictions, Preparation, SequenceData

USAGE = "MODEL [DATA] [options]"


@dataclass(frozen=True)
class ColumnNames:
    """What the columns of the training are called in a .csv or .parquet."""

    series: str | None = option(
        None, group="columns of a table", metavar="NAME", shown_default="as in training",
        help="the id of the series a row belongs to",
    )  # fmt: skip
    time: str | None = option(
        None, group="columns of a table", metavar="NAME", shown_default="as in training",
        help="what orders the rows of a series",
    )  # fmt: skip
    target: str | tuple[str, ...] | None = option(
        None, group="columns of a table", metavar="NAMES", shown_default="as in training",
        help="the targets, in the order of the training",
    )  # fmt: skip
    features: str | tuple[str, ...] | None = option(
        None, group="columns of a table", metavar="NAMES", shown_default="as in training",
        help="the inputs, in the order of the training",
    )  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Everything that `longlag predict` can be told."""

    model: str | None = option(
        group="data", positional=True, required=True, metavar="MODEL",
        help="the file that `longlag train` saved",
    )  # fmt: skip
    data: str | None = option(
        group="data", positional=True, metavar="DATA", shown_default="required without --stream",
        help="the file to predict: .csv, .parquet, .npz or .ts; the target may be absent",
    )  # fmt: skip
    stream: bool = option(
        False, group="data",
        help="rows of a .csv, with its header, come on standard input, and what is predicted after "
        "each goes to standard output at once; for networks that read forward",
    )  # fmt: skip
    score: bool = option(
        True, group="data",
        help="compare with the target, where DATA has one; else it is not looked at",
    )  # fmt: skip
    columns: ColumnNames = ColumnNames()
    output: str = option(
        "predictions.csv", group="files", metavar="FILE",
        help="the table of predictions, a .csv; - is standard output",
    )  # fmt: skip
    overwrite: bool = option(False, group="files", help="replace the output if it is there")
    batch_size: int = option(
        256, group="running", range=at_least(1), metavar="COUNT",
        help="sequences at a time; fewer need less memory",
    )  # fmt: skip
    threads: int = option(
        1, group="running", range=THREADS, metavar="COUNT", help="processor threads",
    )  # fmt: skip


def run(options: Options) -> None:
    """Predict, write the table, and print the score where there is a target.

    Raises:
        UsageError, DataError, ArchiveError: the options or a file do not fit; nothing was written.
    """
    assert options.model is not None
    check_model("MODEL", options.model)
    if options.stream:
        _check_stream(options)
        with threads(options.threads):
            _stream(Path(options.model))
        return
    if options.data is None:
        raise UsageError(
            "DATA is missing: the file to predict, .csv, .parquet, .npz or .ts; for rows on "
            "standard input give --stream"
        )
    files = {}
    if options.output != "-":
        files = check_outputs(options, {"output": (".csv",)}, (options.model, options.data))
    with threads(options.threads):
        _predict(options, Path(options.model), Path(options.data), files.get("output"))


def _check_stream(options: Options) -> None:
    """Raise `UsageError` for what a stream has no use for."""
    given = {
        "DATA": (options.data, None, "rows come on standard input, as in `--stream < rows.csv`"),
        "--output": (options.output, Options.output, "predictions go to standard output"),
        "--columns": (options.columns, ColumnNames(), "columns are called as in training"),
    }
    for flag, (value, default, why) in given.items():
        if value not in (default, "-"):
            shown = f" got {value}, but" if isinstance(value, str) else ""
            raise UsageError(f"{flag}:{shown} with --stream {why}; leave it out")


def _stream(path: Path) -> None:
    from longlag.pipeline.fitted import Fitted
    from longlag.pipeline.streaming import SOURCE, predict_rows

    fitted = Fitted.load(path)
    table = csv.writer(sys.stdout, lineterminator="\n")
    with open(sys.stdin.fileno(), encoding="utf-8-sig", newline="", closefd=False) as lines:
        try:
            for rows in predict_rows(fitted, lines):
                table.writerows(rows)
                sys.stdout.flush()
        except UnicodeDecodeError as error:
            raise UsageError(f"{SOURCE}: not UTF-8 text; give it as UTF-8") from error


def _predict(options: Options, model_path: Path, path: Path, output: Path | None) -> None:
    from rich.console import Console

    from longlag.cli import reporting
    from longlag.data import write_predictions
    from longlag.pipeline.fitted import Fitted

    fitted = Fitted.load(model_path)
    preparation = fitted.preparation
    columns = _columns(options, preparation.columns)
    data = _read(preparation, path, columns, scored=options.score)
    predictions, score = fitted.predict(data, path, options.batch_size)

    console = Console(stderr=output is None)  # standard output is for the table then
    if output is None:
        _print(data, predictions)
    else:
        write_predictions(output, data, predictions)
        reporting.line(console, f"predictions of {len(data)} series: {output}")
    if score is not None:
        what = "answers"
        if preparation.task == "forecasting":
            what = "forecasts within the file, from every step on,"
            if fitted.relative is not None and fitted.relative.season > 1:
                what = "forecasts within the file, from every step after the first season on,"
        title = f"Score of {score.places} {what} in {path}"
        reporting.show(console, title, score, preparation.classes)
    known = fitted.trained_on(data)
    if known:
        reporting.line(
            console,
            f"{known} of the {len(data)} series are among those that the model was trained on: "
            "on these it does better than on new data.",
        )


def _read(
    preparation: "Preparation", path: Path, columns: "Columns | None", *, scored: bool
) -> "SequenceData":
    """The data; where only their target is at fault, the error says how to do without it."""
    from longlag.data import DataError

    try:
        return preparation.read(path, columns=columns, scored=scored)
    except DataError as error:
        if not scored:
            raise
        try:
            preparation.read(path, columns=columns, scored=False)
        except DataError:
            raise error from None
        aside = ". With --no_score the target is left aside"
        raise DataError(*error.parts, aside) from None


def _columns(options: Options, trained: "Columns | None") -> "Columns | None":
    """What the columns are called in the file; None: as in training.

    Raises:
        UsageError: the file has no columns.
    """
    from longlag.data import Columns

    names, trained = options.columns, trained or Columns()
    if names == ColumnNames():
        return None
    if not str(options.data).lower().endswith((".csv", ".parquet")):
        raise UsageError(f"--columns: DATA {options.data} has no columns; leave these options out")
    return Columns(
        series=names.series or trained.series,
        time=names.time or trained.time,
        features=names_in(names.features),
        target=names_in(names.target),
    )


def _print(data: "SequenceData", predictions: "Predictions") -> None:
    from longlag.data import write_predictions

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        write_predictions(path, data, predictions)
        with open(path, encoding="utf-8", newline="") as table:
            shutil.copyfileobj(table, sys.stdout)
