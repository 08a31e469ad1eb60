"""Run a Turing machine by a recurrent network that does what it does.

MACHINE is the one-line form of a machine, such as 1RB1LB_1LA1RH, or a file with that or with a
table, one rule a line. In float64 the network ends before a step that might be rounded; with
--exact it goes on as long as memory lasts.

  longlag turing 1RB1LB_1LA0LC_1RH1LD_1RD0RA --picture beaver.png
  longlag turing increment.txt --input 1101 --trace 10
  longlag turing 1RB1LC_1RC1RB_1RD0LE_1LA1LD_1RH0LA --exact --checkpoint beaver.json
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from longlag.cli.files import FIGURES, check_outputs
from longlag.cli.options import UsageError, at_least, option
from longlag.messages import count

if TYPE_CHECKING:
    from longlag.turing import Configuration, Run, Trace, TuringMachine, TuringNetwork

USAGE = "MACHINE [options]"

_EVERY = 30.0
"""Seconds between two checkpoints."""


@dataclass(frozen=True)
class Options:
    """Everything that `longlag turing` can be told."""

    machine: str | None = option(
        group="what", positional=True, required=True, metavar="MACHINE",
        help="a machine in one line, or a file with a machine",
    )  # fmt: skip
    input: str = option(
        "", group="what", metavar="WORD", shown_default="an empty tape",
        help="what stands on the tape, from the head to the right",
    )  # fmt: skip
    form: Literal["auto", "compact", "real-time", "four-layer"] = option(
        "auto", group="what",
        help="how it is built: compact, two updates a step and few units; real-time, one; "
        "four-layer, as in the paper; auto is compact for one tape, else real-time",
    )  # fmt: skip
    exact: bool = option(
        False, group="how", help="integers of any length in place of float64",
    )  # fmt: skip
    max_steps: int | None = option(
        None, group="how", range=at_least(0), metavar="COUNT", shown_default="until it halts",
        help="stop after so many steps of the machine",
    )  # fmt: skip
    trace: int = option(
        0, group="what is shown", range=at_least(0), metavar="COUNT",
        help="print so many first steps: state, and tape with the head in brackets",
    )  # fmt: skip
    picture_steps: int = option(
        300, group="what is shown", range=at_least(1), metavar="COUNT",
        help="the picture shows at the most so many first steps",
    )  # fmt: skip
    picture: str | None = option(
        None, group="files", metavar="FILE",
        help="draw the tape over time beside the activity of the units: a .png, .pdf or .svg",
    )  # fmt: skip
    output: str | None = option(
        None, group="files", metavar="FILE",
        help="save the network as a layer, with the machine beside it: a .longlag",
    )  # fmt: skip
    checkpoint: str | None = option(
        None, group="files", metavar="FILE",
        help="with --exact, save every 30 seconds where the run is; the same command goes on from "
        "there",
    )  # fmt: skip
    overwrite: bool = option(
        False, group="files", help="replace the picture and the output if they are there"
    )


def run(options: Options) -> None:
    """Compile, run, print what came of it, and write the files.

    Raises:
        UsageError, MachineError, PrecisionError: the options or the machine do not fit, or float64
            is not enough; what was asked for of the steps before has been written.
    """
    files = check_outputs(options, {"picture": FIGURES, "output": (".longlag",)})
    if options.checkpoint is not None and not options.exact:
        raise UsageError("--checkpoint: float64 runs take a moment; give --exact with it")
    from longlag.storage import atomic_write
    from longlag.turing import PrecisionError, compile

    machine = _machine(options.machine or "")
    start = machine.begin(options.input)
    net = compile(machine, None if options.form == "auto" else options.form)
    updates = net.construction.updates
    print(
        f"{count(len(machine.states), 'state')}, {len(machine.symbols)} symbols, "
        f"{count(machine.tapes, 'tape')}; network ({net.form}): {len(net.units)} units, "
        f"{count(updates, 'update')} a step",
        flush=True,
    )

    def shown(steps: int) -> "Trace":
        most = steps if options.max_steps is None else min(steps, options.max_steps)
        return net.trace(start, most, exact=True)

    if options.trace:
        print(shown(options.trace))
    if "output" in files:
        net.save(files["output"])
    if "picture" in files:
        path, figure = files["picture"], shown(options.picture_steps).plot()
        atomic_write(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=110))
    try:
        result = _run(net, start, options)
    except PrecisionError as error:
        _show(error.run)
        raise
    _show(result)


def _run(net: "TuringNetwork", start: "Configuration", options: Options) -> "Run":
    if not options.exact:
        with _progress() as show:
            return net.run(start, options.max_steps, progress=show)

    from longlag.turing.checkpoint import load_run, save_run

    path = None if options.checkpoint is None else Path(options.checkpoint)
    if path is None or not path.exists():
        if path is not None and not path.parent.is_dir():
            raise UsageError(
                f"--checkpoint {path}: there is no folder {path.parent}; make it first"
            )
        exact = net.begin_exactly(start)
    else:
        exact = load_run(path, net, options.input)
        print(f"goes on after {_steps(exact.updates // net.construction.updates)}", file=sys.stderr)
    saved = time.monotonic()

    def save() -> None:
        if path is not None:
            save_run(path, net, options.input, exact)

    with _progress() as show:

        def progress(steps: int) -> None:
            nonlocal saved
            show(steps)
            if time.monotonic() - saved > _EVERY:
                save()
                saved = time.monotonic()

        try:
            return net.continue_exactly(exact, options.max_steps, progress)
        finally:
            save()


def _machine(word: str) -> "TuringMachine":
    from longlag.turing import MachineError, TuringMachine

    path = Path(word)
    if len(word) < 200 and path.is_file():
        return TuringMachine.read(path)
    if "/" in word or "." in word:
        raise UsageError(f"MACHINE {word}: there is no such file")
    try:
        return TuringMachine.parse(word)
    except MachineError as error:
        raise MachineError(
            f"MACHINE {word!r:.60} is no file; read as a machine in one line: {error}"
        ) from error


def _show(result: "Run") -> None:
    what = "halted" if result.halted else "not halted"
    print(f"{what} after {_steps(result.steps)} in state {result.state}, {result.ones:,} ones")
    for tape in result.configuration.tapes:
        text = str(tape)
        print("tape " + (text if len(text) <= 240 else f"{text[:120]} ... {text[-120:]}"))


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """The number of steps on standard error while it lasts, if a person looks on."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.completed:,.0f} steps"), TimeElapsedColumn()
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)
        yield lambda steps: bar.update(task, completed=steps)


def _steps(number: int) -> str:
    return count(number, "step")
