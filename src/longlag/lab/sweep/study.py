"""The sweep: Optuna proposes some trials at a time, a runner trains them, a journal keeps all."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from longlag.lab.sweep import runners
from longlag.lab.sweep.space import Space
from longlag.lab.sweep.trial import Result
from longlag.messages import GuidedError, Setting
from longlag.pipeline.dataset import Parts
from longlag.pipeline.settings import Settings, SettingsError

if TYPE_CHECKING:
    import optuna

Runner: TypeAlias = Callable[
    [Parts, Sequence[Settings], int, str | None], Iterator[tuple[int, Result]]
]
RUNNERS: dict[str, Runner] = {
    "replicas": runners.side_by_side,
    "processes": runners.processes,
    "ray": runners.ray,
}
JOURNAL = "journal.log"
"""The file of a sweep in its folder."""


@dataclass(frozen=True)
class Sweep:
    """A search for the settings with the least validation loss.

    Args:
        parts: the data, as for a training.
        base: the settings that are not searched.
        space: those that are.
        folder: keeps the journal, from which the same sweep goes on.
        trials: how many in all, >= 1.
        runner: a key of `RUNNERS`.
        at_once: how many are proposed before the first of them is known, >= 1.
        workers: threads, processes, or processors of Ray on this machine.
        address: of a Ray cluster; None: one on this machine.
    """

    parts: Parts
    base: Settings
    space: Space
    folder: Path
    trials: int
    runner: str = "replicas"
    at_once: int = 64
    workers: int = 1
    address: str | None = None

    def run(self, told: Callable[["optuna.Study", int], None] | None = None) -> "optuna.Study":
        """Train what is still to be trained.

        Args:
            told: called with the study and the number of finished trials after each.

        Raises:
            GuidedError: Optuna is not there, or the folder holds another sweep.
        """
        study = self._open()
        from optuna.trial import TrialState

        for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Its process has ended: the trial is made anew, under another number.
            study.tell(left.number, state=TrialState.FAIL)
            study.enqueue_trial(left.params)
        finished = (TrialState.COMPLETE, TrialState.PRUNED)
        done = len(study.get_trials(deepcopy=False, states=finished))
        run = RUNNERS[self.runner]
        while done < self.trials:
            asked, settings = [], []
            for _ in range(min(self.at_once, self.trials - done)):
                trial = study.ask()
                try:
                    proposed = replace(self.base, **self.space.suggest(trial))
                except SettingsError as error:  # some values do not go together
                    trial.set_user_attr("refused", str(error))
                    study.tell(trial, state=TrialState.PRUNED)
                    done += 1
                    continue
                asked.append(trial)
                settings.append(proposed)
            if not asked:
                continue
            for number, result in run(self.parts, settings, self.workers, self.address):
                trial = asked[number]
                trial.set_user_attr("epoch", result.epoch)
                trial.set_user_attr("seconds", round(result.seconds, 3))
                study.tell(trial, result.value)
                done += 1
                if told is not None:
                    told(study, done)
        return study

    def _open(self) -> "optuna.Study":
        """The study in the folder, new or taken up again."""
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise GuidedError('a sweep needs optuna: pip install "longlag[sweep]"') from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = self.folder / JOURNAL
        _cut_short_line(journal)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
        sampler = optuna.samplers.TPESampler(seed=self.base.seed, constant_liar=True)
        study = optuna.create_study(
            storage=storage, sampler=sampler, study_name="sweep", load_if_exists=True
        )
        setup: dict[str, Any] = {
            "space": self.space.to_dict(),
            "settings": _plain(asdict(self.base)),
            "series": [len(self.parts.train), len(self.parts.held_out)],
        }
        before = study.user_attrs.get("setup")
        if before is not None and before != setup:
            changed = [name for name in setup if before.get(name) != setup[name]]
            raise GuidedError(
                Setting("folder"), f" {self.folder}: it holds a sweep with another "
                f"{' and another '.join(changed)}; give the same to go on, or another folder",
            )  # fmt: skip
        if before is None:
            study.set_user_attr("setup", setup)
        return study


def _cut_short_line(journal: Path) -> None:
    """Take off the last line if a kill cut it short: what would follow it could not be read."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def best_of(study: "optuna.Study") -> "optuna.trial.FrozenTrial | None":
    """The trial with the least validation loss; None where all diverged."""
    finite = [t for t in study.get_trials(deepcopy=False) if t.value is not None]
    finite = [t for t in finite if math.isfinite(t.value)]  # pyright: ignore[reportArgumentType]
    return min(finite, key=lambda trial: float(trial.value or 0.0), default=None)
