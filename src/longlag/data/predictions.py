"""Answers in the user's units, and the table they are written to."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from longlag.data.errors import DataError
from longlag.data.labels import Label
from longlag.data.sequences import Array, SequenceData
from longlag.storage.atomic import atomic_write


@dataclass(frozen=True, eq=False)
class ClassPredictions:
    """A label per series, or per step, with the probability of every class.

    Args:
        labels: (N,), or (N, T) with "" or 0 beyond the end.
        probabilities: (N, K) or (N, T, K), zero beyond the end, otherwise of sum 1.
        classes: the K classes, in the order of the probabilities.

    Example:
        >>> import numpy as np
        >>> ClassPredictions(np.array(["up"]), np.array([[0.2, 0.8]]), ("down", "up")).labels
        array(['up'], dtype='<U2')
    """

    labels: NDArray[Any]
    probabilities: Float64[Array, "*N K"]
    classes: tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class ValuePredictions:
    """The values of a series, or its next steps.

    Args:
        values: (N, D) for regression; (N, horizon, D) for forecasting, one step ahead first;
            (N, T, D) at each step, 0 beyond the end.
        target_names: the names of the D columns.
        at_steps: whether they are numbers at each step.
        low, high: the ends of an interval around each value, or None.
        beside: further numbers of each value, by the end of their columns' names.

    Example:
        >>> import numpy as np
        >>> ValuePredictions(np.array([[19.5]]), ("temperature",)).values
        array([[19.5]])
    """

    values: Float64[Array, "*N D"]
    target_names: tuple[str, ...]
    at_steps: bool = False
    low: Float64[Array, "*N D"] | None = None
    high: Float64[Array, "*N D"] | None = None
    beside: Mapping[str, Float64[Array, "*N D"]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LabelPredictions:
    """How probable each of several labels is, of a series or of each step.

    Args:
        probabilities: (N, D), or (N, T, D) with 0 beyond the end; each in [0, 1] for itself.
        target_names: the D labels.

    Example:
        >>> import numpy as np
        >>> LabelPredictions(np.array([[0.2, 0.8]]), ("red", "round")).holds.tolist()
        [[False, True]]
    """

    probabilities: Float64[Array, "*N D"]
    target_names: tuple[str, ...]

    @property
    def holds(self) -> NDArray[np.bool_]:
        """The labels whose probability is 1/2 or more, in the shape of these."""
        return self.probabilities >= 0.5


Predictions = ClassPredictions | ValuePredictions | LabelPredictions


def write_predictions(path: str | Path, data: SequenceData, predictions: Predictions) -> None:
    """Write predictions as a csv; the file is whole or untouched, whatever happens.

    The columns, by task:

    - classification, a row per series: series, prediction, ``probability_<class>`` of each class;
    - regression, a row per series: series, prediction, or ``prediction_<target>`` of each of
      several;
    - tagging, a row per step: series, time (or step, from 0), prediction, and of a label its
      probability;
    - labels of which each may hold, a row per series or step: series, time or step, 1 or 0 for each
      label, and ``probability_<label>`` of each;
    - forecasting, a row per series and step ahead: series, step_ahead (from 1), each target, and
      where there are intervals ``<target>_low`` and ``<target>_high`` of each, and what stands
      beside them, such as ``<target>_q0.1`` or ``<target>_sd``.

    Numbers are written so that reading them returns the same float64.

    Args:
        path: the file, replaced if it is there; its folder must exist.
        data: the sequences that were predicted: their names, lengths and times.
        predictions: what `Preparation.restore` gave for them.

    Raises:
        DataError: the predictions are not of these sequences.
        OSError: the file cannot be written; the old one stands.

    Example:
        >>> import numpy as np
        >>> import tempfile
        >>> data = SequenceData(np.ones((1, 1, 1), np.float32), np.array([1]), None, ("a",))
        >>> path = Path(tempfile.mkdtemp()) / "predictions.csv"
        >>> write_predictions(path, data, ValuePredictions(np.array([[0.5]]), ("y",)))
        >>> path.read_text().split()
        ['series,prediction', 'a,0.5']
    """
    array, at_steps = _array(predictions)
    if len(array) != len(data):
        raise DataError(f"predictions of {len(array)} series for {len(data)} series of data")
    if at_steps:
        longest = int(data.lengths.max(initial=0))
        if array.shape[1] < longest:
            raise DataError(
                f"predictions of {array.shape[1]} steps for a series of {longest} steps"
            )

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        csv.writer(text, lineterminator="\n").writerows(_rows(data, predictions))
        text.detach()  # flushes, and leaves the file open for fsync

    atomic_write(Path(path), write)


def rows_after(
    data: SequenceData, predictions: Predictions, when: object, *, timed: bool
) -> tuple[list[str], list[list[object]]]:
    """The table of what is predicted after one step of one series, with the step in each row.

    Args:
        data: that step.
        predictions: of it.
        when: its time, or which one it is.
        timed: whether that is a time.

    Returns:
        The names of the columns, as `write_predictions` has them, with time or step the second,
        and the rows.

    Example:
        >>> import numpy as np
        >>> data = SequenceData(np.ones((1, 1, 1), np.float32), np.array([1]), None, ("a",))
        >>> rows_after(data, ValuePredictions(np.array([[0.5]]), ("y",)), 7, timed=False)
        (['series', 'step', 'prediction'], [['a', 7, 0.5]])
    """
    (_, *heads), *rows = _rows(data, predictions)
    first = 2 if _array(predictions)[1] else 1  # where there is an answer at each step, it is told
    names = ["series", "time" if timed else "step", *map(str, heads[first - 1 :])]
    return names, [[row[0], when, *row[first:]] for row in rows]


def _array(predictions: Predictions) -> tuple[NDArray[Any], bool]:
    """What is predicted, and whether at each step."""
    if isinstance(predictions, ValuePredictions):
        return predictions.values, predictions.at_steps
    if isinstance(predictions, LabelPredictions):
        return predictions.probabilities, predictions.probabilities.ndim == 3
    return predictions.labels, predictions.labels.ndim == 2


def _rows(data: SequenceData, predictions: Predictions) -> Iterator[list[object]]:
    if isinstance(predictions, LabelPredictions):
        return _label_sets(data, predictions)
    if isinstance(predictions, ValuePredictions):
        if predictions.at_steps:
            return _numbers_at_steps(data, predictions)
        if predictions.values.ndim == 2:
            return _regression(data, predictions)
        return _forecasting(data, predictions)
    if predictions.labels.ndim == 1:
        return _classification(data, predictions)
    return _tagging(data, predictions)


def _classification(data: SequenceData, predictions: ClassPredictions) -> Iterator[list[object]]:
    yield ["series", "prediction", *(f"probability_{label}" for label in predictions.classes)]
    for name, label, probabilities in zip(
        data.names, predictions.labels.tolist(), predictions.probabilities.tolist(), strict=True
    ):
        yield [name, label, *probabilities]


def _regression(data: SequenceData, predictions: ValuePredictions) -> Iterator[list[object]]:
    yield ["series", *_columns(predictions)]
    for name, values in zip(data.names, predictions.values.tolist(), strict=True):
        yield [name, *values]


def _label_sets(data: SequenceData, predictions: LabelPredictions) -> Iterator[list[object]]:
    names = predictions.target_names
    holds, shares = predictions.holds.astype(int), predictions.probabilities
    heads = [*names, *(f"probability_{name}" for name in names)]
    if shares.ndim == 2:
        yield ["series", *heads]
        for name, *parts in zip(data.names, holds.tolist(), shares.tolist(), strict=True):
            yield [name, *parts[0], *parts[1]]
        return
    yield ["series", "step" if data.times is None else "time", *heads]
    for n, t, name, when in _steps(data):
        yield [name, when, *holds[n, t].tolist(), *shares[n, t].tolist()]


def _columns(predictions: ValuePredictions) -> list[str]:
    names = predictions.target_names
    return ["prediction"] if len(names) == 1 else [f"prediction_{name}" for name in names]


def _steps(data: SequenceData) -> Iterator[tuple[int, int, str, object]]:
    """The valid steps: n, t, the series and the time."""
    for n, name in enumerate(data.names):
        for t in range(data.lengths[n]):
            yield n, t, name, t if data.times is None else data.times[n, t]


def _numbers_at_steps(data: SequenceData, predictions: ValuePredictions) -> Iterator[list[object]]:
    yield ["series", "step" if data.times is None else "time", *_columns(predictions)]
    for n, t, name, when in _steps(data):
        yield [name, when, *predictions.values[n, t].tolist()]


def _tagging(data: SequenceData, predictions: ClassPredictions) -> Iterator[list[object]]:
    yield ["series", "step" if data.times is None else "time", "prediction", "probability"]
    best = predictions.probabilities.max(axis=2)
    for n, t, name, when in _steps(data):
        yield [name, when, predictions.labels[n, t], float(best[n, t])]


def _forecasting(data: SequenceData, predictions: ValuePredictions) -> Iterator[list[object]]:
    ends = {"low": predictions.low, "high": predictions.high}
    there = {end: values for end, values in ends.items() if values is not None}
    there |= predictions.beside
    names = [f"{name}_{end}" for end in there for name in predictions.target_names]
    yield ["series", "step_ahead", *predictions.target_names, *names]
    table = np.concatenate([predictions.values, *there.values()], axis=-1)
    for name, steps in zip(data.names, table.tolist(), strict=True):
        for ahead, values in enumerate(steps, start=1):
            yield [name, ahead, *values]
