"""Which network for a classification: a few are tried on folds of the training part."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from longlag.data import SequenceData
from longlag.data.predictions import ClassPredictions
from longlag.messages import Setting
from longlag.pipeline.dataset import Parts
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import AUTO, ECHO, Settings, SettingsError
from longlag.training import NonFiniteLossError

FOLDS = 5

MOST = 2e11
"""Multiplications that the updates of one candidate on one fold may take: about 10 s of a core."""

SURE = 0.98
"""With such an accuracy nothing more is tried."""


@dataclass(frozen=True)
class Tried:
    """A candidate, and what it reached.

    Attributes:
        name: in words.
        settings: all of them.
        accuracy: the share of the series of all folds that were told right by networks that had
            not seen them; None where it was not tried.
        error: the Brier score of their answers, the mean of sum_k (p_k - y_k)^2 over the series, in
            0..2; less is better.
        seconds: that it took.
        why_not: why it was not tried.
    """

    name: str
    settings: Settings
    accuracy: float | None
    error: float = np.inf
    seconds: float = 0.0
    why_not: str = ""


def candidates(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """The networks to try, the first to be preferred, with the seed and alike of some settings.

    >>> [name for name, _ in candidates(Settings("classification", cell="auto"))]
    ['echo, 1,000 units', 'echo, 1,000 units, with places', 'gru, both ways, mean over the steps']
    """
    echo = replace(settings, cell=ECHO)
    name = f"echo, {echo.units:,} units"
    yield name, echo
    yield f"{name}, with places", replace(echo, places=True)
    trained = replace(
        settings, cell="gru", bidirectional=True, reduce="mean", scheduler="one_cycle",
        learning_rate=0.01, patience=None,
    )  # fmt: skip
    yield "gru, both ways, mean over the steps", trained


def choose(
    parts: Parts, settings: Settings, tell: Callable[[Tried], None] | None = None
) -> tuple[Settings, list[Tried]]:
    """The settings of the network whose probabilities are best on folds of the training part.

    Each candidate is trained five times, each time without a fifth of the series of each class,
    on which it is then judged; the part held out is not looked at, and no fold says when a
    training ends. What is fitted in one step comes first. Others are tried where none before is
    nearly always right and, of what needs updates, where these take less than about 10 s a fold.
    The Brier score decides: of some tens of series one more that is right by a hair says little.

    Args:
        parts: the data.
        settings: those with the cell "auto"; others come back as they are.
        tell: called with each candidate when it has been tried.

    Returns:
        The settings to train with, and what was tried.

    Source: M. Stone (1974), "Cross-validatory choice and assessment of statistical predictions";
    G. W. Brier (1950), "Verification of forecasts expressed in terms of probability".
    """
    if settings.cell != AUTO:
        return settings, []
    if parts.train.label_sets:
        raise SettingsError(
            Setting("cell"), ": got 'auto', which is for one class a series, and here are several "
            "labels; use ", Setting("cell", "gru"), " or another",
        )  # fmt: skip
    folds = _folds(parts.train, settings.seed)
    tried: list[Tried] = []
    for name, candidate in candidates(settings):
        done = _try(parts.train, folds, name, candidate, tried)
        tried.append(done)
        if tell is not None:
            tell(done)
    return min(tried, key=lambda one: one.error).settings, tried


def _try(
    train: SequenceData, folds: np.ndarray, name: str, settings: Settings, before: list[Tried]
) -> Tried:
    if before:
        if any(one.accuracy is not None and one.accuracy >= SURE for one in before):
            return Tried(name, settings, None, why_not="nearly all are told right without it")
        if not settings.echo and _work(train, settings) > MOST:
            return Tried(
                name, settings, None, why_not="it would take minutes; ask for it by --cell"
            )
    if folds.max() < 0:
        return Tried(name, settings, None, why_not="each class has a single series")
    began = time.perf_counter()
    try:
        accuracy, error = _validated(train, folds, settings)
    except NonFiniteLossError:
        return Tried(name, settings, None, why_not="it diverged")
    return Tried(name, settings, accuracy, error, time.perf_counter() - began)


def cross_validate(train: SequenceData, settings: Settings) -> tuple[float, float]:
    """Of networks that had not seen the series, on five folds, accuracy and error as of `Tried`.

    Each class with several series is spread over the folds; a class with one is in none.
    """
    return _validated(train, _folds(train, settings.seed), settings)


def _validated(train: SequenceData, folds: np.ndarray, settings: Settings) -> tuple[float, float]:
    right, errors = [], []
    for fold in range(int(folds.max()) + 1):
        parts = Parts(train.select(folds != fold), train.select(folds == fold))
        told = Pipeline.of(parts, settings).fit_blind().predict(parts.held_out).predictions
        assert isinstance(told, ClassPredictions)
        assert parts.held_out.target is not None
        labels = parts.held_out.target
        right.append(told.labels == labels)
        truth = np.array(told.classes) == labels[:, None]
        errors.append(np.square(told.probabilities - truth).sum(1))
    return float(np.concatenate(right).mean()), float(np.concatenate(errors).mean())


def _folds(train: SequenceData, seed: int) -> np.ndarray:
    """The fold of each series: those of a class in turn; -1 for a class with one series."""
    assert train.target is not None
    random = np.random.default_rng(seed)
    folds, next_one = np.full(len(train), -1), 0
    for label in np.unique(train.target):
        places = random.permutation(np.flatnonzero(train.target == label))
        if len(places) > 1:
            folds[places] = (next_one + np.arange(len(places))) % FOLDS
            next_one += len(places)
    return folds


def _work(train: SequenceData, settings: Settings) -> float:
    """Multiplications of the updates on one fold, about."""
    count, units = len(train), settings.units
    batch = settings.batch_for(count)
    each = -(-count // batch)
    updates = settings.epochs_for(each) * each
    steps = updates * batch * float(train.lengths.mean())
    directions = 2 if settings.bidirectional else 1
    return 3.0 * steps * directions * 3 * units * (units + train.x.shape[2])
