"""What a run shows while it runs: a bar on a terminal, lines elsewhere, or nothing."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from longlag.training.record import Record

_REFRESH_SECONDS = 0.1
_LINE_SECONDS = 1.0


class Reporter:
    """Shows steps and records as they come; this one shows nothing."""

    def start(self, total_steps: int | None, step: int) -> None:
        """The run begins, or goes on, after `step` steps."""

    def step(self, epoch: int, step: int, loss: float) -> None:
        """A step was made."""

    def record(self, record: Record) -> None:
        """A record was made."""

    def message(self, text: str) -> None:
        """Something the user should read."""

    def stop(self) -> None:
        """The run is over, in whatever way."""


def make_reporter(progress: bool, epochs: int | None) -> Reporter:
    """A bar on standard error if it is a terminal; else a line a record, at most one a second.

    Args:
        progress: False: show nothing at all.
        epochs: how many there will be, if that is known.
    """
    if not progress:
        return Reporter()
    console = Console(stderr=True)
    return _Bar(console, epochs) if console.is_terminal else _Lines(console, epochs)


class _Lines(Reporter):
    def __init__(self, console: Console, epochs: int | None):
        self.console = console
        self.epochs = epochs
        self.printed = -_LINE_SECONDS
        self.waiting: Record | None = None

    def record(self, record: Record) -> None:
        self.waiting = record
        if time.monotonic() - self.printed >= _LINE_SECONDS:
            self._print()

    def message(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        self._print()

    def _print(self) -> None:
        if self.waiting is not None:
            self.message(f"{_epoch(self.waiting.epoch, self.epochs)}  {_numbers(self.waiting)}")
            self.printed = time.monotonic()
            self.waiting = None


class _Bar(Reporter):
    def __init__(self, console: Console, epochs: int | None):
        self.epochs = epochs
        self.last_record = ""
        self.drawn = 0.0
        # No thread of its own: a thread would take the interpreter from the training loop, and a
        # process with threads must not fork.
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )

    def start(self, total_steps: int | None, step: int) -> None:
        self.task = self.bar.add_task("", total=total_steps, completed=step, numbers="")
        self.bar.start()

    def step(self, epoch: int, step: int, loss: float) -> None:
        now = time.monotonic()
        if now - self.drawn < _REFRESH_SECONDS:
            return
        self.drawn = now
        self._draw(epoch, step, f"loss {loss:.4g}{self.last_record}")

    def record(self, record: Record) -> None:
        parts = [] if record.validation_loss is None else [("validation", record.validation_loss)]
        parts += record.metrics.items()
        self.last_record = "".join(f"  {name} {value:.4g}" for name, value in parts)
        self.drawn = time.monotonic()
        self._draw(record.epoch, record.step, f"loss {record.loss:.4g}{self.last_record}")

    def message(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        self.bar.refresh()
        self.bar.stop()

    def _draw(self, epoch: int, step: int, numbers: str) -> None:
        description = _epoch(epoch, self.epochs)
        self.bar.update(self.task, completed=step, description=description, numbers=numbers)
        self.bar.refresh()


def _epoch(epoch: int, epochs: int | None) -> str:
    return f"epoch {epoch}/{epochs}" if epochs else f"epoch {epoch}"


def _numbers(record: Record) -> str:
    parts = [f"step {record.step}", f"{record.seconds:.1f} s", f"loss {record.loss:.5g}"]
    if record.validation_loss is not None:
        parts.append(f"validation loss {record.validation_loss:.5g}")
    parts += [f"{name} {value:.5g}" for name, value in record.metrics.items()]
    return "  ".join(parts)
