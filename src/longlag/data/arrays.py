"""Arrays of NumPy as sequences: x, y and, for sequences of unequal length, lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy.typing import ArrayLike, NDArray

from longlag.data.cells import FLOAT32_MAX, FOR_MISSING, MISSING
from longlag.data.errors import DataError, and_others
from longlag.data.labels import label_fault
from longlag.data.sequences import Array, SequenceData
from longlag.data.task import Tags, check_tags, check_task
from longlag.messages import Fix

_CUT = Fix("cut short", "cut the series short with lengths")
_SETS = Fix(
    "label arrays",
    "give y (N, L), L from 2, for classification, and (N, T, L) with tags='labels' for tagging",
)


def from_arrays(
    x: ArrayLike,
    y: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    *,
    task: str,
    missing: bool = False,
    tags: Tags = "auto",
    labels: ArrayLike | None = None,
) -> SequenceData:
    """Take N sequences, and what is to be predicted of them, from arrays.

    Args:
        x: numbers (N, T, C), or (N, T) of one feature; beyond a length it is not looked at.
        y: labels (N,), whole numbers or text, for classification; numbers (N,) or (N, D) for
            regression; for tagging labels (N, T), or floats (N, T) or (N, T, D), NaN where none is
            known; None for forecasting, and for data to predict. Where L labels may hold at once,
            1 or 0 for each: (N, L) for classification, L from 2; (N, T, L) for tagging with
            tags="labels", NaN where it is not known.
        lengths: steps of each series (N,), 1 to T; None: T.
        task, missing, tags: see `longlag.data.read`.
        labels: the names of labels that may hold at once (L,); None: y0, y1, ...

    Raises:
        DataError: the arrays are not as above; the message names the index, and counts further
            problems.

    Example:
        >>> walks = [[1.0, 2.0], [3.0, 0.0]]
        >>> data = from_arrays(walks, ["up", "down"], [2, 1], task="classification")
        >>> data.x.shape, data.names, data.target.tolist()
        ((2, 2, 1), ('0', '1'), ['up', 'down'])
        >>> both = [[1, 1], [0, 1]]
        >>> data = from_arrays(walks, both, task="classification", labels=["red", "round"])
        >>> data.label_sets, data.target_names, data.target.tolist()
        (True, ('red', 'round'), [[1.0, 1.0], [0.0, 1.0]])
    """
    check_task(task)
    check_tags(tags)
    values, steps = _inputs(np.asarray(x), lengths, missing)
    names = tuple(f"x{c}" for c in range(values.shape[2])) if task == "forecasting" else ()
    data = SequenceData(values, steps, None, tuple(map(str, range(len(values)))), None, names)
    return data if y is None else with_target(data, y, task=task, tags=tags, labels=labels)


def with_target(
    data: SequenceData,
    y: ArrayLike,
    *,
    task: str,
    tags: Tags = "auto",
    labels: ArrayLike | None = None,
) -> SequenceData:
    """The same sequences with what is to be predicted of them; see `from_arrays`.

    Raises:
        DataError: y is not of these sequences, or not of the task.
    """
    y = np.asarray(y)
    if task == "forecasting":
        raise DataError(
            "there is an array 'y', but forecasting predicts the next values of x; leave y out, or "
            "put its columns into x"
        )
    columns = y.ndim == 2 and y.shape[1] > 1
    sets = tags == "labels" if task == "tagging" else task == "classification" and columns
    if labels is not None and not sets:
        raise DataError(
            f"labels: names of labels that may hold at once, but y of shape {y.shape} has none for "
            f"{task}; leave labels out, or ",
            _SETS,
        )
    if sets:
        target = _label_sets(y, task, data.valid)
    elif task == "tagging" and tags != "classes" and (y.dtype.kind == "f" or tags == "numbers"):
        target = _numbers_at_steps(y, data.valid)
    else:
        target = _target(y, task, data.valid)
    count = target.shape[-1] if target.dtype.kind == "f" else 1
    names = ("y",) if count == 1 else tuple(f"y{d}" for d in range(count))
    if labels is not None:
        names = _names(np.asarray(labels), count)
    return replace(data, target=target, target_names=names, label_sets=sets)


def _inputs(
    x: NDArray[Any], lengths: ArrayLike | None, missing: bool
) -> tuple[Float32[Array, "N T C"], Int64[Array, " N"]]:
    if x.dtype.kind not in "biuf":
        raise DataError(f"x has dtype {x.dtype}, expected numbers; use x.astype('float32')")
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3:
        raise DataError(
            f"x has shape {x.shape}, expected (N, T, C) or (N, T): N series of T steps of C numbers"
        )
    n, t, _ = x.shape
    if 0 in x.shape:
        raise DataError(f"x has shape {x.shape}, expected at least one of each")
    steps = np.full(n, t) if lengths is None else _lengths(np.asarray(lengths), n, t)
    valid = np.arange(t) < steps[:, None]
    if x.dtype.kind == "f":  # every integer is within float32
        limit = min(FLOAT32_MAX, float(np.finfo(x.dtype).max))
        usable = (x >= -limit) & (x <= limit)
        if missing:
            usable |= np.isnan(x)
        _check_finite("x", x, usable | ~valid[:, :, None])
    values = np.zeros(x.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(values, x, casting="unsafe", where=valid[:, :, None])
    return values, steps


def _lengths(lengths: NDArray[Any], n: int, t: int) -> Int64[Array, " N"]:
    if lengths.shape != (n,) or lengths.dtype.kind not in "iu":
        raise DataError(
            f"lengths has shape {lengths.shape} and dtype {lengths.dtype}, expected "
            f"({n},), one integer for each series of x"
        )
    wrong = np.flatnonzero((lengths < 1) | (lengths > t))
    if len(wrong):
        raise DataError(
            f"lengths[{wrong[0]}] is {lengths[wrong[0]]}, expected 1 to {t}, the steps of "
            f"x{and_others(len(wrong))}"
        )
    return lengths.astype(np.int64)


def _target(y: NDArray[Any], task: str, valid: Bool[Array, "N T"]) -> NDArray[Any]:
    n, t = valid.shape
    if task == "regression":
        if y.dtype.kind not in "biuf":
            raise DataError(f"y has dtype {y.dtype}, regression expects numbers")
        if y.ndim not in (1, 2) or len(y) != n or y.size == 0:
            raise DataError(
                f"y has shape {y.shape}, expected ({n},) or ({n}, D), for x has {n} series"
            )
        y = y.reshape(n, -1).astype(np.float64)
        _check_finite("y", y, np.isfinite(y))
        return y
    expected = (n, t) if task == "tagging" else (n,)
    if y.shape != expected:
        raise DataError(
            f"y has shape {y.shape}, {task} expects {expected}, for x has {n} series of {t} steps"
        )
    if y.dtype.kind not in "biuU":
        raise DataError(
            f"y has dtype {y.dtype}, {task} expects labels, integers or text; use "
            "y.astype(int) or y.astype(str)"
        )
    if y.dtype.kind != "U":
        largest = np.iinfo(np.int64).max
        inside = valid if task == "tagging" else np.ones(n, bool)
        wrong = np.argwhere((y > largest) & inside) if y.dtype == np.uint64 else []
        if len(wrong):
            raise DataError(
                f"y{wrong[0].tolist()} is {y[tuple(wrong[0])]}, expected a label up to "
                f"{largest}; use y.astype(str){and_others(len(wrong))}"
            )
        y = y.astype(np.int64)
    if task == "tagging":
        y = np.where(valid, y, np.zeros((), y.dtype))
    if y.dtype.kind == "U":
        empty = np.argwhere((y == "") & (valid if task == "tagging" else True))
        if len(empty):
            raise DataError(
                f"y{empty[0].tolist()} is empty text, expected a label{and_others(len(empty))}"
            )
        missing = np.argwhere(np.isin(y, MISSING))
        if len(missing):
            fault = label_fault(y[tuple(missing[0])].item())
            raise DataError(f"y{missing[0].tolist()}: {fault}{and_others(len(missing))}")
    return y


def _numbers_at_steps(y: NDArray[Any], valid: Bool[Array, "N T"]) -> NDArray[Any]:
    """Numbers at each step, (N, T, D); NaN where none is known."""
    n, t = valid.shape
    if y.dtype.kind not in "biuf" or y.shape[:2] != (n, t) or y.ndim not in (2, 3) or not y.size:
        raise DataError(
            f"y has shape {y.shape} of {y.dtype}, tagging with numbers expects ({n}, {t}) "
            f"or ({n}, {t}, D), for x has {n} series of {t} steps"
        )
    y = np.where(valid[:, :, None], y.reshape(n, t, -1), 0.0)
    _check_finite("y", y, ~np.isinf(y))
    return y


def _label_sets(y: NDArray[Any], task: str, valid: Bool[Array, "N T"]) -> NDArray[Any]:
    """1 or 0 for each of L labels, (N, L), or (N, T, L) for tagging: NaN where it is not known."""
    n, t = valid.shape
    at_steps = task == "tagging"
    shape, inside = ((n, t), valid[:, :, None]) if at_steps else ((n,), np.ones((n, 1), bool))
    if y.dtype.kind not in "biuf" or y.shape[:-1] != shape or not y.size:
        letters = f"({', '.join(map(str, shape))}, L)"
        raise DataError(
            f"y has shape {y.shape} of {y.dtype}, {task} with labels that may hold at once expects "
            f"{letters} of 0 and 1, for x has {n} series of {t} steps"
        )
    known = (y == 0) | (y == 1)
    wrong = np.argwhere(~(known | (np.isnan(y) if at_steps else False)) & inside)
    if len(wrong):
        raise DataError(
            f"y{wrong[0].tolist()} is {y[tuple(wrong[0])]}, expected 0 or 1, whether the label "
            f"holds, for y of shape {y.shape} has a column for each label; for one class of each "
            f"{'step' if at_steps else 'series'} give y of shape {shape}{and_others(len(wrong))}"
        )
    return np.where(inside, y, 0.0).astype(np.float64)


def _names(labels: NDArray[Any], count: int) -> tuple[str, ...]:
    """The names of so many labels."""
    if labels.shape != (count,) or labels.dtype.kind not in "Uiu":
        raise DataError(
            f"labels has shape {labels.shape} of {labels.dtype}, expected ({count},) of text, a "
            "name for each column of y"
        )
    names = tuple(map(str, labels.tolist()))
    for at, name in enumerate(names):
        fault = "is empty text, expected a name" if not name else label_fault(name)
        if fault or name in names[:at]:
            raise DataError(f"labels[{at}]: {fault or f'{name!r} is there twice; rename one'}")
    return names


def _check_finite(key: str, array: NDArray[Any], usable: NDArray[np.bool_]) -> None:
    wrong = np.argwhere(~usable)
    if len(wrong):
        axes = "[n, t, c]" if array.ndim == 3 else "[n, d]"
        came = array[tuple(wrong[0])]
        may_be = (", or ", FOR_MISSING) if key == "x" and np.isnan(came) else ()
        raise DataError(
            f"{key}{wrong[0].tolist()} is {came}, expected a finite number of float32 at "
            f"each {axes}; fill it in, or ",
            _CUT,
            *may_be,
            and_others(len(wrong)),
        )
