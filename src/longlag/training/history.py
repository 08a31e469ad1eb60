"""What happened in a run: each step compactly, each record in full."""

import io
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from longlag.training.record import Record

if TYPE_CHECKING:
    import matplotlib.figure


class History:
    """The steps and records of a run, as `fit` returns them.

    Attributes:
        records: one `Record` for each epoch, or for each `validate_every` steps.
        stopped: why the run ended: "epochs", "steps", "early stopping", "callback" or, with
            ``nonfinite="skip"``, "not finite"; "" before.
        best_step: the step of the weights that early stopping kept, or None.
        skipped: updates that were not made because loss or gradient were not finite.
        step: "compiled" or "eager": how `fit` made the updates.
        reason: why they were not compiled; "" where they were. These two are in no file.

    >>> history = History()
    >>> history.append(0.5, 1.0)
    >>> history.losses, len(history)
    (array([0.5]), 1)
    """

    def __init__(self) -> None:
        self._losses = array("d")
        self._gradient_norms = array("d")
        self.records: list[Record] = []
        self.stopped: str = ""
        self.best_step: int | None = None
        self.skipped: int = 0
        self.step: str = "eager"
        self.reason: str = ""

    @property
    def losses(self) -> Float[np.ndarray, " steps"]:
        """The training loss of each step, before its update."""
        return np.array(self._losses)

    @property
    def gradient_norms(self) -> Float[np.ndarray, " steps"]:
        """The Euclidean norm of the gradient of each step, before clipping."""
        return np.array(self._gradient_norms)

    def append(self, loss: float, gradient_norm: float) -> None:
        """Append one step."""
        self._losses.append(loss)
        self._gradient_norms.append(gradient_norm)

    def extend(self, losses: Sequence[float], gradient_norms: Sequence[float]) -> None:
        """Append several steps."""
        self._losses.extend(losses)
        self._gradient_norms.extend(gradient_norms)

    def __len__(self) -> int:
        """The number of steps."""
        return len(self._losses)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and _comparable(self) == _comparable(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType] - it grows

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists, numbers and two arrays; `from_dict` is the inverse."""
        return {
            "losses": self.losses,
            "gradient_norms": self.gradient_norms,
            "records": [
                {**asdict(record), "metrics": dict(record.metrics)} for record in self.records
            ],
            "stopped": self.stopped,
            "best_step": self.best_step,
            "skipped": self.skipped,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "History":
        """Make a history from what `to_dict` gave.

        >>> History.from_dict(History().to_dict()) == History()
        True
        """
        history = cls()
        history._losses = array("d", np.asarray(state["losses"], dtype=np.float64).tolist())
        history._gradient_norms = array("d", np.asarray(state["gradient_norms"]).tolist())
        history.records = [Record(**record) for record in state["records"]]
        history.stopped = state["stopped"]
        history.best_step = state["best_step"]
        history.skipped = state.get("skipped", 0)  # version 0.1 wrote none
        return history

    def plot(self) -> "matplotlib.figure.Figure":
        """Draw losses, metrics and gradient norms over the steps.

        Returns:
            A matplotlib figure; `figure.savefig(path)` writes it.
        """
        from longlag.training.plots import plot_history  # here: matplotlib is slow to import

        return plot_history(self.losses, self.gradient_norms, self.records, self.best_step)

    def table(self, last: int = 20) -> Table:
        """The last records as a table of rich."""
        names = list(self.records[-1].metrics) if self.records else []
        validated = any(record.validation_loss is not None for record in self.records)
        head = ["epoch", "step", "seconds", "learning rate", "loss"]
        table = Table(*head, *(["validation loss"] if validated else []), *names)
        for column in table.columns:
            column.justify = "right"
        for record in self.records[-last:]:
            cells = [str(record.epoch), str(record.step), f"{record.seconds:.1f}"]
            cells += [f"{record.learning_rate:.3g}", f"{record.loss:.5g}"]
            if validated:
                value = record.validation_loss
                cells.append("" if value is None else f"{value:.5g}")
            table.add_row(*cells, *(f"{record.metrics[name]:.5g}" for name in names))
        return table

    def __str__(self) -> str:
        buffer = io.StringIO()
        Console(file=buffer, width=120, force_terminal=False).print(self.table())
        best = f", best weights from step {self.best_step}" if self.best_step is not None else ""
        ended = f", stopped by {self.stopped}" if self.stopped else ""
        return f"{buffer.getvalue()}{len(self)} steps{ended}{best}"

    def __repr__(self) -> str:
        return f"History({len(self)} steps, {len(self.records)} records, stopped={self.stopped!r})"


def _comparable(history: History) -> tuple[Any, ...]:
    """Everything but the times, in a form in which NaN equals NaN."""
    records = [repr({**asdict(record), "seconds": 0}) for record in history.records]
    steps = (history._losses.tobytes(), history._gradient_norms.tobytes())
    return (*steps, records, history.stopped, history.best_step, history.skipped)
