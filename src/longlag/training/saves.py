"""The checkpoint of many runs side by side: all of them, after whole epochs, in one file."""

import time
from typing import Any

from longlag.training.checkpoints import CheckpointFile, check_fingerprint
from longlag.training.errors import TrainingInterrupted
from longlag.training.options import Checkpoint
from longlag.training.runs import Runs
from longlag.training.signals import Signals


class Saves:
    """The saves of `Runs`; where there is one already, they go on from it.

    Args:
        runs: before their first epoch.
        checkpoint: where, and how often.
        resume: as for `fit`.
        signals: of which one ends the run.

    Raises:
        FileNotFoundError: ``resume`` is "always", and there is none.
        CheckpointMismatchError: it belongs to other settings.
        ArchiveError: it is damaged, and so is the one before it.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, runs: Runs, checkpoint: Checkpoint, resume: str, signals: Signals) -> None:
        self.runs, self.checkpoint, self._signals = runs, checkpoint, signals
        self.file = CheckpointFile(checkpoint.path)
        self._fingerprint = runs.describe()
        goes_on = self.file.goes_on(resume, self.file.exists())
        self.file.prepare()
        if goes_on:
            state = self.file.load()
            with self.file.taking():
                check_fingerprint(self.file.path, state["fingerprint"], self._fingerprint)
                runs.load_state(state["runs"])
        self._note()

    def after_epoch(self, last: bool) -> None:
        """Save if it is time, or the last chance.

        Raises:
            TrainingInterrupted: a signal has come, and there would be a further epoch.
        """
        received = self._signals.received
        self._save(whatever=last or received is not None)
        if received is not None and not last:
            raise TrainingInterrupted(received, step=self.runs.made, checkpoint=self.file.path)

    def _save(self, *, whatever: bool) -> None:
        every, seconds = self.checkpoint.every_steps, self.checkpoint.every_seconds
        due = every is not None and self.runs.made - self._made >= every
        late = seconds is not None and time.perf_counter() - self._at >= seconds
        if not (whatever or due or late):
            return
        state: dict[str, Any] = {"fingerprint": self._fingerprint, "runs": self.runs.state()}
        self.file.save(state)
        self._note()

    def _note(self) -> None:
        self._made, self._at = self.runs.made, time.perf_counter()
