"""Which network for a classification: a few are tried on folds of the training part."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from longlag.data import DataError, SequenceData
from longlag.data.predictions import ClassPredictions, LabelPredictions
from longlag.messages import Setting, count
from longlag.pipeline.dataset import Parts, told_once
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import AUTO, ECHO, Settings, SettingsError
from longlag.pipeline.weights import of_each
from longlag.training import NonFiniteLossError

FOLDS = 5

MOST = 2e11
"""Multiplications that the updates of one candidate on one fold may take: about 10 s of a core."""

FEW = 200
"""Of fewer series one draw of the folds says little, and a network that is trained by updates was
in no trial the best."""

SURE = 0.98
"""With such an accuracy no network is trained by updates."""

CLOSE, DRAWS = 1.2, 5
"""Of few series reservoirs whose error is at most so many times the least are judged on so many
draws of the folds."""


@dataclass(frozen=True)
class Tried:
    """A candidate, and what it reached.

    Attributes:
        name: in words.
        settings: all of them.
        accuracy: the share of the series of all folds that were told right, in all their labels
            where several may hold, by networks that had not seen them; None where it was not tried.
        error: the Brier score of their answers, the mean of sum_k (p_k - y_k)^2 over the series, k
            the classes or labels, with the weights of series and classes; less is better.
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
    ['echo, 2,000 units', 'echo, 2,000 units, with places', 'gru, both ways, mean over the steps']
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


def choose(parts: Parts, settings: Settings) -> tuple[Settings, list[Tried]]:
    """The settings of the network whose probabilities are best on folds of the training part.

    Each candidate is trained five times, each time without a fifth of the series of each class, or
    of each set of labels that hold, on which it is then judged; the part held out is not looked at,
    and no fold says when a training ends. What is fitted in one step comes first. Others are tried
    where none before is always right and, of what needs updates, where none is nearly always right,
    there are `FEW` series or more, and they take less than about 10 s a fold. The Brier score
    decides: of some tens of series one more that is right by a hair says little. A candidate is
    given up on the fold on which its errors add up to `CLOSE` times those of the best one over all
    folds. Of few series the reservoirs that are that close are judged on `DRAWS` draws of the
    folds.

    Args:
        parts: the data.
        settings: those with the cell "auto"; others come back as they are.

    Returns:
        The settings to train with, and what was tried.

    Source: M. Stone (1974), "Cross-validatory choice and assessment of statistical predictions";
    G. W. Brier (1950), "Verification of forecasts expressed in terms of probability".
    """
    if settings.cell != AUTO:
        return settings, []
    folds = _folds(parts.train, settings.seed)
    tried: list[Tried] = []
    for name, candidate in candidates(settings):
        tried.append(_try(parts.train, folds, name, candidate, tried))
    most = CLOSE * min(one.error for one in tried)
    close = [one for one in tried if one.settings.echo and one.error <= most < np.inf]
    if len(close) > 1 and len(parts.train) < FEW:
        tried = [_drawn_again(parts.train, one) if one in close else one for one in tried]
    return min(tried, key=lambda one: one.error).settings, tried


def _drawn_again(train: SequenceData, once: Tried) -> Tried:
    """The same candidate, judged on further draws of the folds too."""
    began, own = time.perf_counter(), once.settings.seed
    draws = [(once.accuracy, once.error)]
    for number in range(1, DRAWS):
        seed = np.random.SeedSequence((own, number)).generate_state(1)[0]
        draws.append(_validated(train, _folds(train, int(seed)), once.settings))
    accuracy, error = np.array(draws, float).mean(0).tolist()
    seconds = once.seconds + time.perf_counter() - began
    return replace(once, accuracy=accuracy, error=error, seconds=seconds)


def _try(
    train: SequenceData, folds: np.ndarray, name: str, settings: Settings, before: list[Tried]
) -> Tried:
    if before:
        sure = 1.0 if settings.echo else SURE
        if any(one.accuracy is not None and one.accuracy >= sure for one in before):
            return Tried(name, settings, None, why_not="nearly all are told right without it")
        if not settings.echo and len(train) < FEW:
            return Tried(
                name, settings, None, why_not=f"it is from {FEW} series on that a "
                "trained network may be better; ask for it by --cell",
            )  # fmt: skip
        if not settings.echo and _work(train, settings) > MOST:
            return Tried(
                name, settings, None, why_not="it would take minutes; ask for it by --cell"
            )
    if folds.max() < 0:
        return Tried(name, settings, None, why_not="each class has a single series")
    began = time.perf_counter()
    try:
        accuracy, error = _validated(
            train, folds, settings, CLOSE * min((one.error for one in before), default=np.inf)
        )
    except NonFiniteLossError:
        return Tried(name, settings, None, why_not="it diverged")
    seconds = time.perf_counter() - began
    if accuracy is None:
        return Tried(
            name, settings, None, seconds=seconds, why_not="it is far behind on the first folds"
        )
    return Tried(name, settings, accuracy, error, seconds)


def cross_validate(train: SequenceData, settings: Settings) -> tuple[float, float]:
    """Of networks that had not seen the series, on five folds, accuracy and error as of `Tried`.

    Each class with several series is spread over the folds; a class with one is in none.

    Args:
        train: series of classes, or of labels of which several may hold.
        settings: of a classification.

    Raises:
        SettingsError: the task is another one.
        DataError: no class has two series with a weight above 0, so that there is no fold.
    """
    if settings.task != "classification":
        raise SettingsError(
            Setting("task"), f": got {settings.task!r}, but folds are of the series of each class; "
            "expected 'classification'",
        )  # fmt: skip
    folds = _folds(train, settings.seed)
    if folds.max(initial=-1) < 0:
        what = "set of labels" if train.label_sets else "class"
        raise DataError(
            f"train: got {count(len(train), 'series')}, no two of them of one {what} and with a "
            f"weight above 0, so that there is no fold; expected two or more of a {what}"
        )
    accuracy, error = _validated(train, folds, settings)
    assert accuracy is not None
    return accuracy, error


def _validated(
    train: SequenceData, folds: np.ndarray, settings: Settings, most: float = np.inf
) -> tuple[float | None, float]:
    """Accuracy and error; without the former where the error cannot but be above the most."""
    weights = np.ones(len(train)) if train.weights is None else train.weights
    costs = weights
    if settings.class_weights != "none" and not train.label_sets:
        assert train.target is not None
        costs = of_each(settings, train.target, train.weights)
    judged, costing = weights[folds >= 0].sum(), costs[folds >= 0].sum()
    right = errors = 0.0
    for fold in range(int(folds.max()) + 1):
        parts = Parts(train.select(folds != fold), train.select(folds == fold))
        with told_once():
            told = Pipeline.of(parts, settings).fit_blind().predict(parts.held_out).predictions
        labels = parts.held_out.target
        assert labels is not None
        if isinstance(told, LabelPredictions):
            hits = (np.isnan(labels) | (told.holds == (labels > 0.5))).all(axis=1)
            truth = np.where(np.isnan(labels), told.probabilities, labels)
        else:
            assert isinstance(told, ClassPredictions)
            hits = told.labels == labels
            truth = np.array(told.classes) == labels[:, None]
        right += float(weights[folds == fold] @ hits)
        errors += float(costs[folds == fold] @ np.square(told.probabilities - truth).sum(1))
        if errors > most * costing:
            return None, np.inf
    return right / judged, errors / costing


def _folds(train: SequenceData, seed: int) -> np.ndarray:
    """The fold of each series: those of a class in turn; -1 for a class with one series.

    Sets of labels are spread as classes are. Those that occur once are together one, and a series
    is in no fold that alone holds a label, or alone does not. Nor is one of weight 0, which would
    judge nothing.
    """
    assert train.target is not None
    random = np.random.default_rng(seed)
    folds, next_one = np.full(len(train), -1), 0
    classes = train.target
    alone = np.zeros(len(train), bool) if train.weights is None else train.weights == 0
    if train.label_sets:
        holds = np.nan_to_num(train.target) > 0.5
        for side in (holds, ~holds):
            alone |= side[:, side.sum(0) == 1].any(axis=1)
        _, classes, counts = np.unique(holds, axis=0, return_inverse=True, return_counts=True)
        classes = np.where(counts[classes.reshape(-1)] > 1, classes.reshape(-1), -1)
    for label in np.unique(classes):
        places = random.permutation(np.flatnonzero((classes == label) & ~alone))
        if len(places) > 1:
            folds[places] = (next_one + np.arange(len(places))) % FOLDS
            next_one += len(places)
    return folds


def _work(train: SequenceData, settings: Settings) -> float:
    """Multiplications of the updates on one fold, about."""
    units, batch = settings.units, settings.batch_for(len(train))
    each = -(-len(train) // batch)
    updates = settings.epochs_for(each) * each
    steps = updates * batch * float(train.lengths.mean())
    directions = 2 if settings.bidirectional else 1
    return 3.0 * steps * directions * 3 * units * (units + train.x.shape[2])
