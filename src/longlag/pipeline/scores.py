"""How good the answers are, beside what a guess without a network gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from longlag.batch import Batch
from longlag.data import Preparation, SequenceData
from longlag.data.labels import softmax
from longlag.pipeline import classes

LEAST_SHARE = 1e-6
"""Of a class, as a reservoir's readout is fitted to put it out; less is taken for it."""


@dataclass(frozen=True)
class Measure:
    """One measure, of the network and of the baseline; a share or a number with its unit.

    Attributes:
        share: whether it is a share, to be shown in per cent.
        more_is_better: whether more is better.
        decides: whether to be better than the baseline by it says that something was learnt.
    """

    name: str
    model: float
    baseline: float
    share: bool = False
    more_is_better: bool = False
    decides: bool = True

    @property
    def is_better(self) -> bool:
        """Whether the network does better than the baseline."""
        return self.model > self.baseline if self.more_is_better else self.model < self.baseline


@dataclass(frozen=True)
class Score:
    """The measures of some data, and what the baseline is."""

    measures: tuple[Measure, ...]
    baseline: str
    places: int
    """How many answers were compared."""
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
        return np.nanmean(steps, axis=0).tolist()
    labels = train.target[train.valid] if train.tagged else train.target
    classes, counts = np.unique(labels, return_counts=True)
    return classes[counts.argmax()].item()


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
    *,
    shares: bool = False,
) -> Score | None:
    """Compare outputs with targets, in the units of the user; None if no target is known.

    The baseline of the logarithmic loss is that of the shares of the classes that there are.

    Args:
        preparation: of the model.
        baseline: what `find_baseline` gave.
        prepared: the data, with their target.
        outputs: of the network, for all of them.
        shares: whether they are no logits of classes but, as a fitted readout's, shares.
    """
    target = prepared.target
    if target is None:
        return None
    if preparation.classes is not None:
        known = target >= 0
        if not known.any():
            return None
        outputs = np.log(np.maximum(outputs, LEAST_SHARE)) if shares else outputs
        guess = preparation.classes.index(baseline)
        return _of_classes(softmax(outputs[known]), target[known], guess, baseline)
    assert preparation.targets is not None
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
    measures = []
    for d, target_name in enumerate(names):
        known = np.isfinite(errors[..., d])
        mine, other = errors[..., d][known], others[..., d][known]
        measures += [
            Measure(f"root mean square error of {target_name}", _rms(mine), _rms(other)),
            Measure(f"mean absolute error of {target_name}", _mean(mine), _mean(other)),
        ]
    return Score(tuple(measures), name, int(np.isfinite(errors).sum()))


def _of_classes(
    probabilities: np.ndarray, truth: np.ndarray, guess: int, baseline: object
) -> Score:
    count = probabilities.shape[1]
    always = np.broadcast_to(np.eye(count)[guess], probabilities.shape)
    shares = np.bincount(truth, minlength=count) / len(truth)
    constant = np.broadcast_to(shares, probabilities.shape)

    def both(function: Callable[..., float], other: np.ndarray = always) -> tuple[float, float]:
        return function(probabilities, truth), function(other, truth)

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
    return Score(measures, f"always the most frequent class, {baseline!r}", len(truth), matrix)


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.square(errors).mean()))


def _mean(errors: np.ndarray) -> float:
    return float(np.abs(errors).mean())
