"""Train a network on a file of sequences, and save it with all that prediction needs.

DATA is a .csv or .parquet with one row per step (columns series, time, features, target), a .npz
with arrays x, y and lengths, or a .ts file. A part is held out; the weights that do best on it are
saved.
"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

from longlag.cells import CELLS
from longlag.cli.files import FIGURES, PAGES, check_folder, check_outputs
from longlag.cli.options import (
    SHARE,
    THREADS,
    UsageError,
    above,
    at_least,
    between,
    declared,
    names_in,
    option,
)
from longlag.pipeline.settings import (
    AUTO,
    BATCH,
    CARRIED,
    ECHO,
    ENOUGH,
    EPOCHS,
    HIDDEN,
    LONG,
    RESERVOIR,
    UPDATES,
    WINDOW,
    Settings,
)
from longlag.pipeline.threads import threads

if TYPE_CHECKING:
    from longlag.data import Columns
    from longlag.pipeline.dataset import Parts

USAGE = "DATA --task TASK [options]"


@dataclass(frozen=True)
class ColumnNames:
    """Which column of a .csv or .parquet is what."""

    series: str | None = option(
        "series", group="columns of a table", metavar="NAME",
        help="the id of the series a row belongs to; null: the file is one series",
    )  # fmt: skip
    time: str | None = option(
        "time", group="columns of a table", metavar="NAME",
        help="what orders the rows of a series, numbers or ISO 8601 timestamps; null: the rows are "
        "in order",
    )  # fmt: skip
    target: str | tuple[str, ...] | None = option(
        None, group="columns of a table", metavar="NAMES",
        help="what to predict; several, with commas: for labels of which each may hold columns of "
        "0 and 1", shown_default="target; every feature in forecasting",
    )  # fmt: skip
    label_separator: str | None = option(
        None, group="columns of a table", metavar="TEXT",
        help="what stands between the labels in a cell of the target that lists all that hold, as "
        "';' in red;round", shown_default="a cell is one label",
    )  # fmt: skip
    features: str | tuple[str, ...] | None = option(
        None, group="columns of a table", metavar="NAMES",
        help="the inputs, with commas between them", shown_default="all other columns",
    )  # fmt: skip
    categories: str | tuple[str, ...] | None = option(
        None, group="columns of a table", metavar="NAMES",
        help="the inputs whose cells are names, though they may look like numbers",
        shown_default="those without any number, date, true or false",
    )  # fmt: skip
    dates: str | tuple[str, ...] | None = option(
        None, group="columns of a table", metavar="NAMES",
        help="the inputs whose cells are dates or timestamps, taken as days since 1970",
        shown_default="those of which each cell is one",
    )  # fmt: skip
    known: str | tuple[str, ...] | None = option(
        None, group="columns of a table", metavar="NAMES",
        help="the inputs that are known ahead, such as a holiday or a price; they stand in rows "
        "after the last target too; forecasting only", shown_default="none",
    )  # fmt: skip
    static: str | tuple[str, ...] | None = option(
        None, group="columns of a table", metavar="NAMES",
        help="the inputs that are the same in all rows of a series; one of its rows may alone "
        "have them", shown_default="none",
    )  # fmt: skip
    weight: str | None = option(
        None, group="columns of a table", metavar="NAME",
        help="what the answers of a series count for, in training and its scores: a number, 0 or "
        "more, the same in its rows; no input, and nothing to predict; not for forecasting",
        shown_default="none: all count the same",
    )  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What is said of data, network and training, here and in a sweep."""

    data: str | None = option(
        group="data", positional=True, required=True, metavar="DATA",
        help="the file to train on: .csv, .parquet, .npz or .ts",
    )  # fmt: skip
    task: Literal["classification", "regression", "tagging", "forecasting"] | None = option(
        group="data", required=True,
        help="what to predict: a class of each series, numbers of each series, a class or numbers "
        "at each step, or the next steps",
    )  # fmt: skip
    tags: Literal["auto", "classes", "numbers", "labels"] = option(
        "auto", group="data",
        help="what the target of tagging is; auto: numbers where all are and more than 20 differ, "
        "or one has a fraction; labels: several that may hold at once",
    )  # fmt: skip
    horizon: int | None = option(
        group="data", range=at_least(1), metavar="STEPS", shown_default="1",
        help="how many steps to forecast; forecasting only",
    )  # fmt: skip
    window: int | None = option(
        group="data", range=at_least(2), metavar="STEPS",
        shown_default=f"{WINDOW}; in tagging {CARRIED} where series have more than {LONG} steps",
        help="the network is trained on stretches of this many steps; in tagging its state goes on "
        "from one to the next; these tasks only",
    )  # fmt: skip
    season: int | None = option(
        group="data", range=at_least(1), metavar="STEPS", shown_default="found in the data",
        help="after how many steps the series repeat themselves, 1 for never; forecasting only",
    )  # fmt: skip
    relative: bool = option(
        Settings.relative, group="data",
        help="forecast what goes beyond the season before, each series in units of its own; false: "
        "the values themselves; forecasting only",
    )  # fmt: skip
    quantiles: str | None = option(
        group="data", metavar="LEVELS", shown_default="none",
        help="forecast quantiles of these levels, such as 0.1,0.5,0.9, in place of the value; "
        "forecasting only",
    )  # fmt: skip
    gaussian: bool = option(
        Settings.gaussian, group="data",
        help="forecast mean and standard deviation in place of the value; forecasting only",
    )  # fmt: skip
    validation: float = option(
        0.2, group="data", range=between(0, 1), metavar="SHARE",
        help="share held out to judge by: of each class, of the series, or in forecasting, and of "
        "a single series, the last steps",
    )  # fmt: skip
    validation_data: str | None = option(
        group="data", metavar="FILE", help="judge by this file instead, and hold nothing out",
    )  # fmt: skip
    standardise: bool = option(
        Settings.standardise, group="data",
        help="bring features and numeric targets to mean 0 and deviation 1 of the training part; "
        "answers are in the units of the file all the same",
    )  # fmt: skip
    missing: Literal["error", "previous", "mean", "indicator"] = option(
        Settings.missing, group="data",
        help="what to do where an input is missing: refuse it, take the last one of the series, "
        "the mean of the training part, or the mean beside an input that tells it",
    )  # fmt: skip
    time_delta: bool = option(
        Settings.time_delta, group="data",
        help="the time since the step before is an input too, for steps that are not evenly spaced",
    )  # fmt: skip
    embed: str | tuple[str, ...] | None = option(
        group="data", metavar="NAMES",
        help="the inputs of which each category is a learned vector, not an input of its own; all: "
        "all that hold categories; not for echo", shown_default="none",
    )  # fmt: skip
    columns: ColumnNames = ColumnNames()

    cell: str | None = option(
        group="network", words=(*CELLS, ECHO, AUTO),
        help="the recurrent cell; echo: a reservoir, of which only the readout is fitted, in one "
        "step; auto: echo or gru, whichever has the better Brier score on folds of the training "
        "part, for classification",
        shown_default="auto for classification where nothing is said of network and training, "
        "else gru",
    )  # fmt: skip
    hidden: int | None = option(
        group="network", range=at_least(1, 2**31 - 1), metavar="UNITS",
        help="units of each layer and direction",
        shown_default=f"{HIDDEN}; {RESERVOIR} of echo for classification",
    )  # fmt: skip
    layers: int = option(
        Settings.layers, group="network", range=at_least(1), metavar="COUNT",
        help="recurrent layers on one another",
    )  # fmt: skip
    dilated: bool = option(
        Settings.dilated, group="network",
        help="each layer reads its past twice as many steps back as the one below: 1, 2, 4, ...; "
        "needs 2 layers",
    )  # fmt: skip
    orthogonal: bool = option(
        Settings.orthogonal, group="network",
        help="training keeps the recurrent matrix of elman orthogonal",
    )  # fmt: skip
    bidirectional: bool = option(
        Settings.bidirectional, group="network",
        help="read each series in both directions; not for forecasting",
    )  # fmt: skip
    dropout: float = option(
        Settings.dropout, group="network", range=between(0, 1, low_is_in=True), metavar="SHARE",
        help="share of the numbers between layers dropped in training; needs 2 layers",
    )  # fmt: skip
    input_dropout: float = option(
        Settings.input_dropout, group="network", range=between(0, 1, low_is_in=True),
        metavar="SHARE",
        help="share of the features dropped for a whole series in training",
    )  # fmt: skip
    recurrent_dropout: float = option(
        Settings.recurrent_dropout, group="network", range=between(0, 1, low_is_in=True),
        metavar="SHARE",
        help="share of the state dropped for a whole series in training; not for indrnn",
    )  # fmt: skip
    chrono: float | None = option(
        group="network", range=above(2), metavar="LAG",
        help="a memory that lasts up to this many steps before training: by the biases of gru, "
        "lstm and mingru, the leaks of leaky, the weights of indrnn",
    )  # fmt: skip

    reduce: Literal["last", "mean", "attention", "share", "share_max"] | None = option(
        group="network",
        help="what is read of a series with one answer: the state after its last step; the mean "
        "over its steps; with attention, one in which the weight of each step is learned; or, of "
        "echo, the share of them at which a unit is above 0, or that of half of the units and the "
        "greatest value of the others; classification and regression only",
        shown_default="last; share_max of echo for classification",
    )  # fmt: skip

    places: bool = option(
        Settings.places, group="echo state network",
        help="read where in the series each step is, beside its values; where shares are read only",
    )  # fmt: skip
    spectral_radius: float | None = option(
        group="echo state network", range=at_least(0.0), metavar="RADIUS", shown_default="0.9",
        help="of the recurrent weights; below 1 old inputs fade, near 1 it remembers longest",
    )  # fmt: skip
    leak: float | None = option(
        group="echo state network", range=SHARE, metavar="LEAK",
        shown_default="1; where shares are read, spread from 1 to 4 / T",
        help="share by which a unit moves at each step; about 1/leak steps are remembered",
    )  # fmt: skip
    density: float | None = option(
        group="echo state network", range=SHARE, metavar="SHARE",
        shown_default="0.1; ten units where shares are read",
        help="share of the units that each unit reads",
    )  # fmt: skip
    input_scaling: float | None = option(
        group="echo state network", range=at_least(0.0), metavar="NUMBER", shown_default="1",
        help="size of the input weights",
    )  # fmt: skip
    bias_scaling: float | None = option(
        group="echo state network", range=at_least(0.0), metavar="NUMBER",
        shown_default="0; 0.5 where shares are read", help="size of the biases",
    )  # fmt: skip
    alpha: float | None = option(
        group="echo state network", range=at_least(0.0), metavar="NUMBER",
        shown_default="by generalised cross-validation",
        help="the penalty of ridge regression on large weights of the readout",
    )  # fmt: skip
    washout: int | None = option(
        group="echo state network", range=at_least(0), metavar="STEPS", shown_default="0",
        help="steps at the beginning of each series that the readout is not fitted on; tagging and "
        "forecasting only",
    )  # fmt: skip
    state_noise: float | None = option(
        group="echo state network", range=at_least(0.0), metavar="SIZE", shown_default="0",
        help="standard deviation of noise on what drives the units while the readout is fitted; it "
        "keeps the readout's weights small, as --alpha does",
    )  # fmt: skip

    metric: Literal["loss", "accuracy", "balanced_accuracy", "macro_f1", "auc"] = option(
        Settings.metric, group="training",
        help="what the best weights are chosen by, on the validation part; all but the loss for "
        "classes, and labels of which each may hold, only",
    )  # fmt: skip
    class_weights: str = option(
        "none", group="training", metavar="WEIGHTS",
        help="balanced: errors of a class weigh the more the rarer it is; or the weights of some "
        "by their names, the others 1: fault=10,ok=1; of labels of which each may hold, those of "
        "errors where they hold; classes only",
    )  # fmt: skip
    epochs: int | None = option(
        group="training", range=at_least(1), metavar="COUNT",
        help="passes over the training part at most",
        shown_default=f"{EPOCHS}, and at least {ENOUGH} updates",
    )  # fmt: skip
    patience: int | None = option(
        Settings.patience, group="training", range=at_least(1), metavar="EPOCHS",
        help="stop after so many epochs without a better validation loss, and where --epochs is "
        f"not given after {ENOUGH} updates; null: never",
    )  # fmt: skip
    batch_size: int | None = option(
        group="training", range=at_least(1), metavar="COUNT",
        help="sequences in each update",
        shown_default=f"{BATCH}, or fewer so that an epoch has {UPDATES} updates",
    )  # fmt: skip
    learning_rate: float = option(
        Settings.learning_rate, group="training", range=above(0), metavar="RATE",
        help="size of the updates",
    )  # fmt: skip
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = option(
        Settings.optimizer, group="training", help="the rule of the updates",
    )  # fmt: skip
    scheduler: Literal["none", "one_cycle", "cosine", "plateau"] = option(
        Settings.scheduler, group="training",
        help="how the learning rate changes: one_cycle and cosine run over all epochs, plateau "
        "halves it where the validation loss stays",
    )  # fmt: skip
    clip_norm: float | None = option(
        Settings.clip_norm, group="training", range=above(0), metavar="NORM",
        help="scale a gradient with a larger norm down to this; null: never",
    )  # fmt: skip
    seed: int = option(
        Settings.seed, group="training", range=at_least(0), metavar="NUMBER",
        help="of the split, the first weights and the order; the same seed gives the same bits",
    )  # fmt: skip
    threads: int = option(
        1, group="training", range=THREADS, metavar="COUNT",
        help="processor threads; more help large networks only, and change the last bits",
    )  # fmt: skip


@dataclass(frozen=True)
class Options(Trained):
    """Everything that `longlag train` can be told."""

    refit: bool | None = option(
        group="training",
        help="after the score, train anew on all data, the part held out included, for as many "
        "updates; the saved network is that one", shown_default="true for --cell auto",
    )  # fmt: skip

    backtest: int | None = option(
        group="training", range=at_least(1), metavar="ORIGINS", shown_default="none",
        help="also train up to so many times in the past, a horizon apart, the last one a horizon "
        "before the end, and print how good the forecasts from each were; forecasting only",
    )  # fmt: skip
    backtest_refit: bool = option(
        True, group="training",
        help="train anew for each origin of --backtest; false: once, up to the first",
    )  # fmt: skip

    output: str = option(
        "model.longlag", group="files", metavar="FILE",
        help="the file for network and preparation",
    )  # fmt: skip
    licence: str | None = option(
        group="files", metavar="NAME",
        help="the licence of the weights, such as CC-BY-4.0, for the card that `longlag show` "
        "prints", shown_default="not stated",
    )  # fmt: skip
    overwrite: bool = option(
        False, group="files", help="replace output and history if they are there",
    )  # fmt: skip
    checkpoint: str | None = option(
        group="files", metavar="FOLDER",
        help="save the run in this folder every 30 seconds; if it holds one, go on from it",
    )  # fmt: skip
    history: str | None = option(
        group="files", metavar="FIGURE",
        help=f"draw the learning curves to this file: {', '.join(FIGURES)}",
    )  # fmt: skip
    logger: Literal["auto", "tensorboard", "csv", "wandb", "mlflow", "none"] = option(
        "auto", group="files",
        help="where the numbers of each epoch go; auto: to TensorBoard where it is installed",
    )  # fmt: skip
    logs: str = option(
        "logs", group="files", metavar="FOLDER",
        help="the folder for them, with a folder for each output and run",
    )  # fmt: skip
    report: str | None = option(
        group="files", metavar="PAGE",
        help="write a page on how far back the network remembers, a .html; see `longlag report`",
    )  # fmt: skip


def run(options: Options) -> None:
    """Train, print the result, and save.

    Raises:
        UsageError, SettingsError, DataError: the options or the data do not fit; nothing was
            written.
        NonFiniteLossError, TrainingInterrupted: see `longlag.training.fit`.
    """
    settings = _settings(options)
    suffixes = {"output": (), "history": FIGURES, "report": PAGES}
    files = check_outputs(options, suffixes, inputs=(options.data, options.validation_data))
    if options.checkpoint is not None:
        check_folder("--checkpoint", options.checkpoint)
    check_folder("--logs", options.logs)

    with threads(options.threads):
        _train(options, settings, files)


def settings_of(options: Trained) -> Settings:
    """The settings among the options."""
    values: dict[str, Any] = {own.name: getattr(options, own.name) for own in fields(Settings)}
    values["cell"] = options.cell or Settings.cell
    values["embed"] = names_in(options.embed)
    if options.quantiles is not None:
        try:
            values["quantiles"] = tuple(map(float, options.quantiles.split(",")))
        except ValueError:
            raise UsageError(
                f"--quantiles: got {options.quantiles!r}, expected numbers between 0 and 1 with "
                "commas between them, such as 0.1,0.5,0.9"
            ) from None
    if "=" in options.class_weights:
        values["class_weights"] = _weights_in(options.class_weights)
    return Settings(**values)


def _weights_in(text: str) -> dict[str, float]:
    """The weights of classes, by name."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = None
        name = name.strip()
        if not name or weight is None or name in weights:
            twice = f"; {name!r} comes twice" if name in weights else ""
            raise UsageError(
                f"--class_weights: got {text!r}, expected names of classes with numbers, with "
                f"commas between them, such as fault=10,ok=1{twice}"
            )
        weights[name] = weight
    return weights


def _settings(options: Options) -> Settings:
    """What can be known of the options before anything is read."""
    settings = settings_of(options)
    # Curves and checkpoints are of a training by updates.
    by_updates = options.checkpoint is not None or options.history is not None
    if options.cell is None and settings.is_open and not by_updates:
        settings = replace(settings, cell=AUTO)
    for flag, value in (("--checkpoint", options.checkpoint), ("--history", options.history)):
        if settings.cell in (ECHO, AUTO) and value is not None:
            raise UsageError(
                f"{flag}: got {value}, but an echo state network has its readout fitted in one "
                "step, of which there is nothing to keep or draw; leave it out"
            )
    if options.backtest is not None:
        if not settings.forecasting or not settings.relative:
            raise UsageError(
                "--backtest: it is for forecasts relative to simple ones; give --task forecasting, "
                "without --no_relative, or leave it out"
            )
        if options.validation_data is not None:
            raise UsageError(
                f"--backtest: its origins lie in DATA, and {options.validation_data} goes on from "
                "there; put all steps into DATA, and leave --validation_data out"
            )
    return settings


def columns_of(options: Trained) -> "Columns | None":
    """Which column is what.

    Raises:
        UsageError: the file has no columns.
    """
    from longlag.data import Columns

    names = options.columns
    for flag, file in (("DATA", options.data), ("--validation_data", options.validation_data)):
        table = file is None or file.lower().endswith((".csv", ".parquet"))
        if not table and names != ColumnNames():
            raise UsageError(f"--columns: {flag} {file} has no columns; leave these options out")
    target = names_in(names.target)
    return Columns(
        series=names.series,
        time=names.time,
        features=names_in(names.features),
        target=target[0] if target is not None and len(target) == 1 else target,
        categories=names_in(names.categories),
        dates=names_in(names.dates),
        label_separator=names.label_separator,
        known=names_in(names.known),
        static=names_in(names.static),
        weight=names.weight,
    )


def _kept(options: Options) -> dict[str, Any]:
    """What a run that is taken up again must agree in."""
    free = {"data", "validation_data", "threads"}
    free |= {option.key for option in declared(Options) if option.group == "files"}
    if options.scheduler in ("none", "plateau"):
        free.add("epochs")  # the others spread over all epochs
    return {key: value for key, value in asdict(options).items() if key not in free}


def read_parts(options: Trained, settings: Settings, columns: "Columns | None") -> "Parts":
    """The data, with a part held out.

    Raises:
        DataError: they cannot be read or split.
    """
    from longlag.pipeline import dataset

    assert options.data is not None
    return dataset.read_parts(
        Path(options.data),
        settings.task,
        columns,
        share=options.validation,
        other=None if options.validation_data is None else Path(options.validation_data),
        seed=settings.seed,
        horizon=settings.steps_ahead,
        missing=settings.missing != "error",
        tags=options.tags,
    )


def _train(options: Options, settings: Settings, files: dict[str, Path]) -> None:
    from rich.console import Console

    from longlag.cli import report, reporting
    from longlag.pipeline.backtest import backtest, known_first
    from longlag.pipeline.choosing import choose
    from longlag.pipeline.fitting import Pipeline, TrainingFailed
    from longlag.pipeline.memory import measure
    from longlag.pipeline.resuming import agree
    from longlag.pipeline.tracking import make_logger
    from longlag.training.ranks import launched, rank

    assert options.data is not None
    if settings.cell in (ECHO, AUTO) and launched() > 1:
        raise UsageError(
            f"--cell {settings.cell}: its readout is fitted in one step, and torchrun started "
            f"{launched()} processes; give the command without torchrun"
        )
    first = rank() == 0  # of several processes it alone speaks and writes
    console = Console(quiet=not first)
    output = files["output"]
    logger = None
    if first and not settings.echo:
        logger = make_logger(options.logger, Path(options.logs), output.stem)
    columns = columns_of(options)
    parts = read_parts(options, settings, columns)
    if options.backtest is not None and parts.whole is not None:
        known_first(parts.whole, settings, options.backtest, parts.train_path)
    refit = settings.fits_anew if options.refit is None else options.refit
    settings, tried = choose(parts, settings)
    pipeline = Pipeline.of(parts, settings, columns)
    reporting.understood(console, pipeline)
    reporting.chosen(console, tried, settings)
    if options.checkpoint is not None and first:
        automatic = [option.key for option in declared(Options) if option.default is None]
        agree(Path(options.checkpoint), _kept(options), automatic)
    try:
        fitted = pipeline.fit(
            checkpoint=options.checkpoint, logger=logger, licence=options.licence, refit=refit
        )
    except TrainingFailed as failed:
        if first:
            failed.fitted.save(output)
            reporting.line(
                console, f"saved: {output}, with the best weights so far, of epoch {failed.epoch}"
            )
        raise failed.__cause__ or failed from None
    if not first:
        return
    saved = f"{output} (network and preparation)"
    fitted.save(output)
    where = getattr(logger, "log_dir", None)
    if where is not None:
        saved += f", {where} (records)"
    if "history" in files and fitted.history is not None:
        reporting.draw(fitted.history, files["history"])
        saved += f", {files['history']} (curves)"
    reporting.ended(console, fitted, parts)
    if options.backtest is not None and parts.whole is not None:
        found = backtest(
            parts.whole, settings, options.backtest, share=options.validation,
            every=options.backtest_refit, columns=columns, path=parts.train_path,
        )  # fmt: skip
        reporting.backtested(console, found)
    if "report" in files:
        memory = report.in_options(
            measure(fitted.model, fitted.preparation, pipeline.held_out, lag=None, name=output.stem)
        )
        memory.to_html(files["report"])
        report.show(console, memory)
        saved += f", {files['report']} (memory)"
    reporting.line(console, f"saved: {saved}")
    new = f"new{Path(options.data).suffix}"
    reporting.line(console, f"next: longlag predict {quote(str(output))} {new}")
