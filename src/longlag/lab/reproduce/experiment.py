"""An experiment as data: what was published, how each row is run again, and what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""`progress(presented, solved)`: sequences that each trial has had, trials that have succeeded."""


@dataclass(frozen=True)
class Outcome:
    """The trials of one row.

    Attributes:
        weights: of the network of one trial.
        sequences: for each trial how many sequences it had until it met the criterion; None where
            it did not within the budget.
        budget: how many sequences a trial could have.
        seconds: the whole row took.
        curve: points (sequences presented, least, median and largest value over the trials) of
            what `measure` names.
        measure: of the curve.
        notes: further facts, of JSON's kinds, by name.
    """

    weights: int
    sequences: tuple[int | None, ...]
    budget: int
    seconds: float
    curve: tuple[tuple[float, ...], ...] = ()
    measure: str = "largest error"
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        """How many there were."""
        return len(self.sequences)

    @property
    def solved(self) -> list[int]:
        """Sequences until success, of the trials that had it, least first."""
        return sorted(count for count in self.sequences if count is not None)

    @property
    def percent(self) -> float:
        """Of the trials that succeeded."""
        return 100 * len(self.solved) / self.trials

    @property
    def mean(self) -> float | None:
        """Sequences until success on average, over the trials that had it."""
        solved = self.solved
        return sum(solved) / len(solved) if solved else None

    @property
    def stopped(self) -> bool:
        """Whether the budget ended a trial that had not succeeded."""
        return len(self.solved) < self.trials


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, median and largest, to four digits behind the point.

    >>> spread([3.0, 1.0, 2.0])
    (1.0, 2.0, 3.0)
    """
    ordered = sorted(values)
    return round(ordered[0], 4), round(median(ordered), 4), round(ordered[-1], 4)


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
