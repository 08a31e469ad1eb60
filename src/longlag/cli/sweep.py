"""Search for the settings of a network: Optuna proposes, networks of one shape train side by side.

DATA and the options of data, network and training are those of `longlag train`. The folder keeps
every trial; the same command goes on where it was stopped, and more --trials add to them.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from longlag.cli.files import check_folder
from longlag.cli.options import UsageError, at_least, option
from longlag.cli.train import ColumnNames, Trained, columns_of, read_parts, settings_of
from longlag.pipeline.settings import AUTO, Settings
from longlag.pipeline.threads import threads

USAGE = "DATA --task TASK [options]"
_SPACE = "learning_rate=0.0003..0.03 hidden=8,16,32"


@dataclass(frozen=True)
class Options(Trained):
    """Everything that `longlag sweep` can be told."""

    space: str = option(
        _SPACE, group="sweep", metavar="SPACE",
        help="what is searched: name=a,b,c or name=low..high for any setting above, with blanks "
        "between them",
    )  # fmt: skip
    trials: int = option(
        64, group="sweep", range=at_least(1), metavar="COUNT",
        help="trials in all, those of before included",
    )  # fmt: skip
    runner: Literal["replicas", "processes", "ray"] = option(
        "replicas", group="sweep",
        help="replicas: networks of one shape side by side in this process; processes: each in one "
        "of --workers processes; ray: each on a Ray cluster",
    )  # fmt: skip
    at_once: int = option(
        64, group="sweep", range=at_least(1), metavar="COUNT",
        help="trials that are proposed before the first of them is known",
    )  # fmt: skip
    workers: int = option(
        2, group="sweep", range=at_least(1, 1024), metavar="COUNT",
        help="threads, processes, or processors of Ray on this machine",
    )  # fmt: skip
    address: str | None = option(
        group="sweep", metavar="ADDRESS", help="of a Ray cluster; auto finds one",
        shown_default="a cluster of this machine alone",
    )  # fmt: skip
    folder: str = option(
        "sweep", group="files", metavar="FOLDER",
        help="for journal.log, table.csv, figure.png and best.yaml",
    )  # fmt: skip


def run(options: Options) -> None:
    """Search, print the table, write figure and best settings.

    Raises:
        UsageError, SettingsError, DataError, GuidedError: the options or the data do not fit.
    """
    folder = check_folder("--folder", options.folder)
    if options.address is not None and options.runner != "ray":
        raise UsageError("--address: it is for --runner ray; leave it out")
    settings = settings_of(options)
    if settings.cell == AUTO:
        raise UsageError("--cell: got auto, which searches by itself; give a cell such as gru")
    with threads(options.threads):
        _sweep(options, settings, folder)


def _sweep(options: Options, settings: Settings, folder: Path) -> None:
    import yaml
    from rich.console import Console

    from longlag.cli.reporting import line
    from longlag.lab.sweep import Space, Sweep, record
    from longlag.storage import atomic_write, atomic_write_text

    space = Space.parse(options.space)
    space.check(settings)
    parts = read_parts(options, settings, columns_of(options))
    console = Console()

    def told(study: object, done: int) -> None:
        if done % max(1, options.trials // 10) == 0:
            line(console, f"{done} of {options.trials} trials")

    study = Sweep(
        parts, settings, space, folder, options.trials, options.runner, options.at_once,
        options.workers, options.address,
    ).run(told)  # fmt: skip
    atomic_write_text(folder / "table.csv", record.as_csv(study))
    figure = record.draw(study, space.names)
    atomic_write(folder / "figure.png", lambda file: figure.savefig(file, format="png", dpi=150))
    console.print(record.table(study))
    best = record.best_settings(study)
    if not best:
        line(console, "Every trial diverged: give smaller learning rates in --space.")
        return
    config = {"cell": settings.cell} | _changed(
        {own.name: getattr(options, own.name) for own in fields(Trained)} | best
    )
    del config["data"]
    atomic_write_text(folder / "best.yaml", yaml.safe_dump(config, sort_keys=False))
    line(console, f"saved: {folder}/table.csv, figure.png, best.yaml")
    line(console, f"next: longlag train --config {folder}/best.yaml {options.data}")


def _changed(said: dict[str, Any]) -> dict[str, Any]:
    """Those options that are not the defaults, as a config file has them."""
    columns = asdict(said.pop("columns"))
    config = {name: value for name, value in said.items() if value != getattr(Trained(), name)}
    own = {name: value for name, value in columns.items() if value != getattr(ColumnNames(), name)}
    return config | ({"columns": own} if own else {})
