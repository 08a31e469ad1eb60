"""What users of scikit-learn hold, as sequences: arrays, lists of ragged ones, frames."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from longlag.data import DataError

Array = np.ndarray

LAYOUTS = ("NTC", "NCT")
"""The order of the axes: series, steps, features; or as aeon has it, features before steps."""

_NEW = "ensure_all_finite" in signature(check_array).parameters
_NOT_FINITE: dict[str, Any] = {("ensure_all_finite" if _NEW else "force_all_finite"): False}


@runtime_checkable
class Frame(Protocol):
    """A table: of pandas, polars, pyarrow, DuckDB."""

    @property
    def columns(self) -> Any:
        """Its columns, or their names."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


def is_ragged(X: object) -> bool:
    """Whether these are series one by one, a list of arrays, whatever their lengths.

    >>> is_ragged([np.ones(3), np.ones(4)]), is_ragged([[1.0, 2.0], [3.0, 4.0]])
    (True, False)
    """
    if isinstance(X, np.ndarray):
        X = list(X) if X.dtype == object and X.ndim == 1 else ()
    if not isinstance(X, list | tuple) or not len(X):
        return False
    if all(isinstance(one, np.ndarray) and one.ndim for one in X):
        return True
    parts = [one for one in X if isinstance(one, Sequence) and not isinstance(one, str)]
    return len(parts) == len(X) and len({len(one) for one in parts}) > 1


def arrays(
    X: Any, layout: str = "NTC", name: str = "X", estimator: object = None
) -> tuple[NDArray[Any], Int64[Array, " N"] | None]:
    """Series as one array (N, T, C), zero beyond the end of each, and their lengths.

    Args:
        X: (N, T, C), (N, T) of one feature, or a list of series (T, C) or (T,).
        layout: a key of `LAYOUTS`, of what has steps and features.
        name: of the argument, for messages.
        estimator: whose input it is, for messages.

    Returns:
        x and lengths; None where all have T steps.

    Raises:
        DataError, ValueError: it is neither, or the features are not as many in each series.

    Example:
        >>> x, lengths = arrays([np.ones((2, 3)), np.ones((4, 3))])
        >>> x.shape, lengths.tolist()
        ((2, 4, 3), [2, 4])
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: got {layout!r}, expected 'NTC' or 'NCT' (as aeon has it)")
    if not is_ragged(X):
        values = check_array(
            X, allow_nd=True, dtype="numeric", input_name=name, estimator=estimator, **_NOT_FINITE
        )
        return (values.transpose(0, 2, 1) if values.ndim == 3 and layout == "NCT" else values), None
    series = []
    for n, one in enumerate(X):
        values = np.asarray(one)
        if values.ndim == 1:
            values = values[:, None]
        elif layout == "NCT":
            values = values.T
        if values.ndim != 2 or values.dtype.kind not in "biuf" or 0 in values.shape:
            raise DataError(
                f"{name}[{n}] has shape {values.shape} of {values.dtype}, expected numbers (T,) or "
                f"({'C, T' if layout == 'NCT' else 'T, C'}), at least one of each"
            )
        series.append(values)
        if values.shape[1] != series[0].shape[1]:
            raise DataError(
                f"{name}[{n}] has {values.shape[1]} features, expected {series[0].shape[1]} as in "
                f"{name}[0]; series differ in their steps only"
            )
    return padded(series), np.array([len(one) for one in series], np.int64)


def padded(series: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Series (T, ...) as one array (N, T, ...), zero or empty beyond the end of each.

    >>> padded([np.array(["a"]), np.array(["b", "c"])]).tolist()
    [['a', ''], ['b', 'c']]
    """
    steps = max(len(one) for one in series)
    whole = np.zeros((len(series), steps, *series[0].shape[1:]), np.result_type(*series))
    for row, one in zip(whole, series, strict=True):
        row[: len(one)] = one
    return whole


def at_steps(y: Any, lengths: Int64[Array, " N"]) -> NDArray[Any]:
    """Targets at each step as one array (N, T) or (N, T, D).

    Args:
        y: that already, or a list with an array (T,) or (T, D) for each series.
        lengths: of the series.

    Raises:
        DataError: they are not as many as the steps.
    """
    if not is_ragged(y):
        return np.asarray(y)
    series = [np.asarray(one) for one in y]
    if len(series) != len(lengths):
        raise DataError(f"y has {len(series)} series, expected {len(lengths)} as X has; one each")
    for n, (one, length) in enumerate(zip(series, lengths.tolist(), strict=True)):
        if len(one) != length or one.shape[1:] != series[0].shape[1:]:
            expected = (length, *series[0].shape[1:])
            raise DataError(f"y[{n}] has shape {one.shape}, expected {expected}: one a step of X")
    return padded(series)


def one_by_one(values: NDArray[Any], lengths: Int64[Array, " N"]) -> list[NDArray[Any]]:
    """The steps of each series, without what stands beyond its end."""
    return [row[:length] for row, length in zip(values, lengths.tolist(), strict=True)]
