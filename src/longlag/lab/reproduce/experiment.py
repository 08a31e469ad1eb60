"""An experiment as data: what was published, and how each row is run again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from longlag.lab.reproduce.outcome import Outcome, Progress

__all__ = ["Effort", "Experiment", "Published", "Row", "Run"]


@dataclass(frozen=True)
class Published:
    """What the source reports of a row; None where it does not say.

    Attributes:
        percent: of the trials that succeeded.
        sequences: until success, on average.
        text: in words, where it is no number.
    """

    percent: float | None = None
    sequences: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Effort:
    """How much of it is done.

    Attributes:
        trials: of each row; None: as many as the row says.
        seed: of weights and sequences.
        quick: the small budgets, which take minutes; else the full ones.
        most: no row gets more sequences than this; None: as many as the row says.
    """

    trials: int | None = None
    seed: int = 0
    quick: bool = False
    most: int | None = None


Run: TypeAlias = Callable[[int, int, Effort, Progress | None], Outcome]
"""`run(trials, budget, effort, progress)`."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: such as ``"LSTM, p = 100"``; its own within the experiment.
        run: runs the trials.
        budget: sequences for each trial; 0: the row is not part of the full run.
        quick: sequences for each trial of the quick run; 0: the row is not part of it.
        trials: how many, where it is not said otherwise.
        quick_trials: how many in the quick run.
        published: what the source reports; None: there is no such row in it.
        differs: from the source, in words.
        needs: a package beyond those of longlag.
    """

    name: str
    run: Run
    budget: int
    quick: int
    trials: int = 18
    quick_trials: int = 18
    published: Published | None = None
    differs: str = ""
    needs: str | None = None

    def extent(self, effort: Effort) -> tuple[int, int]:
        """Trials and budget; a budget of 0 where the row is left out."""
        trials = effort.trials or (self.quick_trials if effort.quick else self.trials)
        budget = self.quick if effort.quick else self.budget
        return trials, budget if effort.most is None else min(budget, effort.most)


@dataclass(frozen=True)
class Experiment:
    """A table of a paper.

    Attributes:
        name: as the command takes it.
        title: of table and figure.
        about: what is asked, in a few sentences.
        source: the paper.
        criterion: when a trial has succeeded.
        rows: of the table.
        crossed: whether rows are named ``"TASK: NETWORK"``, each network on each task; the figure
            is a table of these then.
    """

    name: str
    title: str
    about: str
    source: str
    criterion: str
    rows: tuple[Row, ...]
    crossed: bool = False
