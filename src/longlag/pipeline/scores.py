"""How good the answers are, beside what a guess without a network gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.data import Preparation, SequenceData
from longlag.data.labels import expit, softmax
from longlag.pipeline import classes
from longlag.pipeline.outputs import LEVEL
from longlag.pipeline.relative import Relative
from longlag.pipeline.weights import weights_of

LEAST_SHARE = 1e-6
"""Of a class, as a reservoir's readout is fitted to put it out; less is taken for it."""


@dataclass(frozen=True)
class Measure:
    """One measure, of the network and of the baseline; a share or a number with its unit.

    Attributes:
        share: whether it is a share, to be shown in per cent.
        more_is_better: whether more is better.
        decides: whether to be better than the baseline by it says that something was learnt.
        others: of further guesses.
    """

    name: str
    model: float
    baseline: float
    share: bool = False
    more_is_better: bool = False
    decides: bool = True
    others: tuple[float, ...] = ()

    @property
    def is_better(self) -> bool:
        """Whether the network does better than the baseline."""
        return self.model > self.baseline if self.more_is_better else self.model < self.baseline


@dataclass(frozen=True)
class Score:
    """The measures of some data, and what the baseline is.

    Attributes:
        measures: one or several of each target.
        baseline: in words.
        places: how many answers were compared.
        others: what the further guesses are, in a word or two each.
        coverage: the share of the values that intervals around forecasts held, which were made
            from other data; None where there are none.
    """

    measures: tuple[Measure, ...]
    baseline: str
    places: int
    others: tuple[str, ...] = ()
    coverage: float | None = None
    level: float = LEVEL
    """What the intervals were to hold."""
    confusion: np.ndarray | None = None
    """How often each class (rows) was taken for each (columns), (K, K)."""

    @property
    def is_better(self) -> bool:
        """Whether the network does better than the baseline by any measure that decides it."""
        return any(measure.is_better for measure in self.measures if measure.decides)


def find_baseline(preparation: Preparation, train: SequenceData) -> Any:
    """What to guess without a network, from the training part; JSON data.

    The most frequent class; or the mean of each target; or, in forecasting, None: the last value
    of each series.
    """
    if preparation.task == "forecasting" or train.target is None:
        return None
    if preparation.classes is None:
        steps = train.target[train.valid] if train.tagged else train.target.reshape(len(train), -1)
        own = _weights_of_answers(train)
        if own is None:
            return np.nanmean(steps, axis=0).tolist()
        weights = np.where(np.isnan(steps), 0.0, own[:, None])
        return (np.nansum(steps * weights, axis=0) / weights.sum(axis=0)).tolist()
    labels = train.target[train.valid] if train.tagged else train.target
    classes, places = np.unique(labels, return_inverse=True)
    counts = np.bincount(places.reshape(-1), _weights_of_answers(train))
    return classes[counts.argmax()].item()


def _weights_of_answers(train: SequenceData) -> NDArray[np.float64] | None:
    """What each series counts for, or each of its steps."""
    if train.weights is None or not train.tagged:
        return train.weights
    return np.repeat(train.weights, train.lengths)


def fits_baseline(preparation: Preparation, baseline: Any) -> bool:
    """Whether `find_baseline` could give this for such data."""
    if preparation.classes is not None:
        return baseline in preparation.classes
    if preparation.task == "forecasting":
        return baseline is None
    count = preparation.output_size
    return (
        isinstance(baseline, list)
        and len(baseline) == count
        and all(isinstance(number, float | int) for number in baseline)
    )


def score(
    preparation: Preparation,
    baseline: Any,
    prepared: Batch[np.ndarray],
    outputs: np.ndarray,
    relative: Relative | None = None,
    known: NDArray[np.int64] | None = None,
    *,
    shares: bool = False,
) -> Score | None:
    """Compare outputs with targets, in the units of the user; None if no target is known.

    Where the series have weights, means are weighted; `confusion` counts answers.
    The baseline of the logarithmic loss is that of the shares of the classes that there are.
    Of a relative forecaster the errors are also given in units of the seasonal naive forecast: MASE
    is the mean of |error| / mean |y_t - y_{t-m}|, RMSSE the root of the mean of error² / mean
    (y_t - y_{t-m})², each with the means over the known part of the same series.

    Args:
        preparation: of the model.
        baseline: what `find_baseline` gave.
        prepared: the data, with their target.
        outputs: in the units of the preparation, for all of them.
        relative: of a relative forecaster.
        known: steps of each series that the means are taken over; None: all.
        shares: whether they are no logits of classes but, as a fitted readout's, shares.

    Source: R. Hyndman and A. Koehler, Another look at measures of forecast accuracy, 2006; S.
    Makridakis et al., The M5 accuracy competition, 2022 (RMSSE).
    """
    target = prepared.target
    if target is None:
        return None
    if preparation.classes is not None:
        labelled = target >= 0
        if not labelled.any():
            return None
        outputs = logits_of(outputs) if shares else outputs
        guess = preparation.classes.index(baseline)
        weights = weights_of(prepared, labelled)
        return _of_classes(softmax(outputs[labelled]), target[labelled], guess, baseline, weights)
    if preparation.label_sets:
        outputs = logits_of(outputs, sets=True) if shares else outputs
        every = np.ones(target.shape[:-1], bool)
        weights = weights_of(prepared, every)
        return _of_label_sets(preparation, expit(outputs), target, np.array(baseline), weights)
    assert preparation.targets is not None
    if relative is not None:
        return _of_forecasts(preparation, prepared, outputs, relative, known)
    names, horizon = preparation.target_names, preparation.horizon or 1
    shape = (-1, horizon, len(names))
    if preparation.task == "forecasting":
        name = "the last value of the series"
        guesses = prepared.x[..., preparation.repeated_inputs()]
    else:
        name = "always the mean of the training data"
        guesses = preparation.targets.apply(np.broadcast_to(np.array(baseline), target.shape))
    scale = np.array(preparation.targets.scale)
    errors = scale * (outputs.astype(np.float64) - target).reshape(shape)
    others = scale * (guesses.astype(np.float64) - target).reshape(shape)
    if not np.isfinite(errors).any():
        return None
    measures, weights = [], weights_of(prepared, np.ones(target.shape[:-1], bool))
    if weights is not None:
        weights = np.repeat(weights[:, None], horizon, axis=1)
    for d, target_name in enumerate(names):
        measures += _errors(target_name, errors[..., d], others[..., d], weights=weights)
    return Score(tuple(measures), name, int(np.isfinite(errors).sum()))


def logits_of(shares: np.ndarray, *, sets: bool = False) -> np.ndarray:
    """Logits of the shares that a fitted readout puts out: of classes, or of each of some labels.

    >>> logits_of(np.array([0.5, 1.2]), sets=True).round(2).tolist()
    [0.0, 13.82]
    """
    if not sets:
        return np.log(np.maximum(shares, LEAST_SHARE))
    held = np.clip(shares, LEAST_SHARE, 1 - LEAST_SHARE)
    return np.log(held / (1 - held))


def _of_label_sets(
    preparation: Preparation,
    probabilities: np.ndarray,
    target: np.ndarray,
    often: np.ndarray,
    weights: np.ndarray | None,
) -> Score | None:
    """The score of labels of which each may hold; `often` is how often each does in training."""
    count = len(preparation.target_names)
    shown, truth = probabilities.reshape(-1, count), target.reshape(-1, count)
    known = ~np.isnan(truth)
    if not known.any():
        return None
    each_counts = np.ones(len(truth)) if weights is None else weights
    counts = np.broadcast_to(each_counts[:, None], truth.shape)
    always = np.broadcast_to((often >= 0.5).astype(float), shown.shape)
    constant = np.broadcast_to(often, shown.shape)
    both = np.stack([1 - shown, shown], -1), np.stack([1 - always, always], -1)

    def each(function: Callable[..., float], d: int) -> tuple[float, float]:
        rows = known[:, d]
        held, own = truth[rows, d].astype(int), None if weights is None else weights[rows]
        model, other = (function(one[rows, d], held, own) for one in both)
        return model, other

    def mean(values: np.ndarray, places: np.ndarray, of: np.ndarray = counts) -> float:
        return float(np.average(values[places], weights=of[places]))

    right = [(guess >= 0.5) == (truth > 0.5) for guess in (shown, always)]
    whole = np.logical_and.reduce(known, axis=1)
    measures = [
        Measure(
            "labels right", *(mean(one, known) for one in right), share=True, more_is_better=True,
        )
    ]  # fmt: skip
    if whole.any():
        measures.append(
            Measure(
                "all labels right",
                *(mean(one.all(axis=1), whole, each_counts) for one in right),
                share=True, more_is_better=True,
            )
        )  # fmt: skip
    there = [d for d in range(count) if known[:, d].any()]
    f1 = {d: each(classes.f1_of_label, d) for d in there}
    macro = np.array(list(f1.values())).mean(axis=0).tolist()
    measures.append(Measure("macro F1", *macro, more_is_better=True, decides=False))
    model, other = (mean(_log_losses(one, truth), known) for one in (shown, constant))
    measures.append(Measure("logarithmic loss of a label", model, other, decides=False))
    for d in there:
        name = preparation.target_names[d]
        measures += [
            Measure(f"F1 of {name}", *f1[d], more_is_better=True, decides=False),
            Measure(f"AUC of {name}", *each(classes.auc, d), more_is_better=True, decides=False),
        ]
    return Score(tuple(measures), "of each label what holds more often", int(known.sum()))


def _log_losses(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    held = np.clip(probabilities, 1e-15, 1 - 1e-15)
    return -np.where(truth > 0.5, np.log(held), np.log(1 - held))


def _of_classes(
    probabilities: np.ndarray,
    truth: np.ndarray,
    guess: int,
    baseline: object,
    weights: np.ndarray | None,
) -> Score:
    count = probabilities.shape[1]
    always = np.broadcast_to(np.eye(count)[guess], probabilities.shape)
    shares = np.bincount(truth, weights, minlength=count)
    shares = shares / shares.sum()
    constant = np.broadcast_to(shares, probabilities.shape)

    def both(function: Callable[..., float], other: np.ndarray = always) -> tuple[float, float]:
        return function(probabilities, truth, weights), function(other, truth, weights)

    measures = (
        Measure("accuracy", *both(classes.accuracy), share=True, more_is_better=True),
        Measure(
            "balanced accuracy", *both(classes.balanced_accuracy), share=True, more_is_better=True
        ),
        Measure("macro F1", *both(classes.macro_f1), more_is_better=True, decides=False),
        Measure("AUC", *both(classes.auc), more_is_better=True, decides=False),
        Measure("logarithmic loss", *both(classes.log_loss, constant), decides=False),
        Measure("calibration error", *both(classes.calibration_error), decides=False),
    )
    matrix = classes.confusion(truth, probabilities.argmax(axis=1), count)
    name = f"always the most frequent class, {baseline!r}"
    return Score(measures, name, len(truth), confusion=matrix)


def _of_forecasts(
    preparation: Preparation,
    prepared: Batch[np.ndarray],
    outputs: np.ndarray,
    relative: Relative,
    known: NDArray[np.int64] | None,
) -> Score | None:
    """The score of a relative forecaster, beside ways to go on without a network."""
    ways = guesses(relative, prepared)
    (first, naive), *others = ways.items()
    target = np.asarray(prepared.target, np.float64).reshape(naive.shape)  # (N, T, horizon, D)
    if not np.isfinite(target).any():
        return None
    name = "the last value of the series"
    if relative.season > 1:
        name = f"the value of the season before ({first}, {relative.season} steps)"
    forecasts = (outputs.reshape(naive.shape), *ways.values())
    errors = [forecast - target for forecast in forecasts]
    size, square = (relative.size(prepared, known, power)[:, None, None] for power in (1, 2))
    measures = []
    for d, target_name in enumerate(preparation.target_names):
        own = [error[..., d] for error in errors]
        mase = [_mean(_known(e / size[..., d])) for e in own]
        rmsse = [_rms(_known(e / np.sqrt(square[..., d]))) for e in own]
        measures += [
            _measure(f"MASE of {target_name}", mase),
            _measure(f"RMSSE of {target_name}", rmsse),
            *_errors(target_name, *own),
        ]
    places = int(np.isfinite(errors[0]).sum())
    return Score(tuple(measures), name, places, tuple(name for name, _ in others))


def guesses(relative: Relative, prepared: Batch[np.ndarray]) -> dict[str, np.ndarray]:
    """Ways to go on without a network, by name, each (N, T, horizon, D); the baseline first.

    "simple" is the mean of simple forecasts that the network starts from.
    """
    ways = {} if relative.season == 1 else {"seasonal naive": relative.naive(prepared)}
    ways["last value"] = relative.naive(prepared, season=1)
    return ways | {"drift": relative.drift(prepared), "simple": relative.base(prepared)}


def _errors(name: str, *errors: np.ndarray, weights: np.ndarray | None = None) -> list[Measure]:
    """Two measures of errors: of the network, of the baseline, of further guesses."""
    rms, mean = (
        [of(_known(one), None if weights is None else weights[np.isfinite(one)]) for one in errors]
        for of in (_rms, _mean)
    )
    return [
        _measure(f"root mean square error of {name}", rms),
        _measure(f"mean absolute error of {name}", mean),
    ]


def _measure(name: str, values: list[float]) -> Measure:
    model, baseline, *others = values
    return Measure(name, model, baseline, others=tuple(others))


def _known(errors: np.ndarray) -> np.ndarray:
    return errors[np.isfinite(errors)]


def _rms(errors: np.ndarray, weights: np.ndarray | None = None) -> float:
    return float(np.sqrt(np.average(np.square(errors), weights=weights)))


def _mean(errors: np.ndarray, weights: np.ndarray | None = None) -> float:
    return float(np.average(np.abs(errors), weights=weights))
