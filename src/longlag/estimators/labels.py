"""Labels as users of scikit-learn hold them: one a series, or several that may hold at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from longlag.data import DataError, SequenceData
from longlag.estimators.inputs import Array, at_steps, padded

ONE, MANY, SETS = "one", "many", "sets"
"""One label; 0 or 1 for each of several; a set of them."""


def form_of(y: Any, *, per_step: bool) -> str:
    """`ONE`, `MANY` or `SETS`.

    Args:
        y: labels, of series or of their steps.
        per_step: whether each step has some.

    >>> form_of(["a", "b"], per_step=False), form_of([{"a"}, {"a", "b"}], per_step=False)
    ('one', 'sets')
    >>> form_of([[0, 1], [1, 1]], per_step=False), form_of([[0, 1], [1, 1]], per_step=True)
    ('many', 'one')
    """
    if not isinstance(y, list | tuple):
        y = np.asarray(y)
        if y.dtype != object or y.ndim != 1:
            return MANY if y.ndim == 2 + per_step and (per_step or y.shape[1] > 1) else ONE
    if not len(y):
        return ONE
    first = y[0]
    if per_step and isinstance(first, Sequence) and len(first):
        first = first[0]
    if isinstance(first, set | frozenset):
        return SETS
    shape = np.shape(y[0])
    return MANY if len(shape) == 1 + per_step and (per_step or shape[0] > 1) else ONE


def as_many(
    y: Any, form: str, lengths: Int64[Array, " N"] | None, known: NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """0 or 1 for each label, (N, L), or (N, T, L) at each step; and the labels, (L,).

    Args:
        y: labels of this form.
        form: `MANY` or `SETS`.
        lengths: of the series, where each step has labels; else None.
        known: all labels; None: those of y, or 0 to L - 1.

    Raises:
        DataError: a label is none of those, or not 0 or 1.

    Example:
        >>> many, labels = as_many([{"a"}, {"b", "a"}, set()], SETS, None, None)
        >>> many.tolist(), labels.tolist()
        ([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], ['a', 'b'])
    """
    if form == SETS:
        rows = y if lengths is None else [one for series in y for one in series]
        if not all(isinstance(row, set | frozenset) for row in rows):
            raise DataError("y: got a set of labels, and something else; expected a set each")
        labels = [label for row in rows for label in row]
        if known is None:
            if not labels:
                raise DataError("y: all sets are empty; expected labels in some")
            known = np.unique(np.array(labels))
            labels_of(known)
        place = {label: at for at, label in enumerate(known.tolist())}
        for label in labels:
            if label not in place:
                raise DataError(
                    f"y: the label {label!r} is none of those in fit: {', '.join(map(repr, place))}"
                )
        flat = np.zeros((len(rows), len(place)))
        for row, held in zip(flat, rows, strict=True):
            row[[place[label] for label in held]] = 1.0
        if lengths is None:
            return flat, known
        if [len(series) for series in y] != lengths.tolist():
            raise DataError("y: expected a list for each series, with a set for each of its steps")
        return padded(np.split(flat, np.cumsum(lengths)[:-1])), known
    values = at_steps(y, lengths) if lengths is not None else np.asarray(y)
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"y: got {values.dtype} of shape {values.shape}, expected 0 and 1 of labels"
        )
    values = values.astype(np.float64)
    if not (np.isnan(values) | np.isin(values, (0, 1))).all():
        raise DataError(
            f"y: got shape {values.shape} with other numbers than 0 and 1; expected 0 or 1 for "
            "each label, or one label (N,) for each series"
        )
    count = values.shape[-1]
    if known is not None and len(known) != count:
        raise DataError(f"y: has {count} labels, expected {len(known)} as in fit")
    return values, np.arange(count) if known is None else known


def with_label_sets(
    data: SequenceData, many: NDArray[np.float64], names: tuple[str, ...]
) -> SequenceData:
    """The series with what holds of each, or of each of its steps.

    Raises:
        DataError: they are not as many.
    """
    if many.ndim == 3:
        if many.shape[:2] != data.valid.shape:
            raise DataError(
                f"y: got shape {many.shape}, expected {(*data.valid.shape, many.shape[2])}, one a "
                "step of X"
            )
        many = np.where(data.valid[:, :, None], many, 0.0)
    return replace(data, target=many, target_names=names, label_sets=True)


def sets_of(
    holds: NDArray[np.bool_], labels: NDArray[Any], lengths: Int64[Array, " N"] | None
) -> list[Any]:
    """A set of labels for each series, or a list of them, one for each step.

    >>> sets_of(np.array([[True, False], [True, True]]), np.array(["a", "b"]), None)[0]
    {'a'}
    """
    if lengths is None:
        return [set(labels[row].tolist()) for row in holds]
    return [
        sets_of(rows[:length], labels, None)
        for rows, length in zip(holds, lengths.tolist(), strict=True)
    ]


def labels_of(classes: NDArray[Any]) -> NDArray[Any]:
    """Labels as a file may hold them, text or whole numbers.

    Raises:
        DataError: they are neither.

    >>> labels_of(np.array([False, True])).tolist(), labels_of(np.array([1.0, 2.0])).tolist()
    ([0, 1], [1, 2])
    """
    if classes.dtype.kind in "iub":
        return classes.astype(np.int64)
    if classes.dtype.kind == "f" and (classes == np.rint(classes)).all():
        return classes.astype(np.int64)
    if classes.dtype.kind == "O" and all(isinstance(label, str) for label in classes):
        return classes.astype(str)
    if classes.dtype.kind == "O" and all(isinstance(label, int) for label in classes):
        return classes.astype(np.int64)
    if classes.dtype.kind != "U":
        raise DataError(f"y: labels of {classes.dtype}, expected text or whole numbers")
    return classes
