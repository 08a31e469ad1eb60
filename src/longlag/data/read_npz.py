"""Arrays in a NumPy archive: x, y and, for sequences of unequal length, lengths."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy.typing import NDArray

from longlag.data.cells import FLOAT32_MAX, FOR_MISSING, MISSING
from longlag.data.errors import DataError, and_others, listing
from longlag.data.labels import label_fault
from longlag.data.room import check_room
from longlag.data.sequences import Array, SequenceData
from longlag.messages import near_match, on_one_line

_KEYS = ("x", "y", "lengths")
_UNPACKED = "save it with numpy.savez, which packs nothing, or split it"


def read_npz(
    path: Path, task: str, require_target: bool | None, missing: bool = False, tags: str = "auto"
) -> SequenceData:
    """The sequences of an archive. See `read`."""
    arrays = _load(path)
    x, lengths = _inputs(path, arrays, missing)
    valid = np.arange(x.shape[1]) < lengths[:, None]
    target, target_names = None, ()
    if task == "forecasting":
        target_names = tuple(f"x{c}" for c in range(x.shape[2]))
        if "y" in arrays:
            raise DataError(
                f"{path}: there is an array 'y', but forecasting predicts the next values of x; "
                "leave y out, or put its columns into x"
            )
    elif "y" in arrays and require_target is not None:
        y = arrays["y"]
        if task == "tagging" and tags != "classes" and (y.dtype.kind == "f" or tags == "numbers"):
            target = _numbers_at_steps(path, y, valid)
        else:
            target = _target(path, y, task, valid)
        count = target.shape[-1] if target.dtype.kind == "f" else 1
        target_names = ("y",) if count == 1 else tuple(f"y{d}" for d in range(count))
    elif require_target:
        raise DataError(
            f"{path}: there is no array 'y', which {task} needs; the arrays are {listing(arrays)}"
        )
    return SequenceData(
        x=x,
        lengths=lengths,
        target=target,
        names=tuple(map(str, range(len(x)))),
        target_names=target_names,
    )


def _load(path: Path) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: not a NumPy archive; write it with numpy.savez(path, x=..., y=...)"
        )
    arrays: dict[str, NDArray[Any]] = {}
    key = ""
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
        check_room(path, "the arrays, unpacked,", declared, path.stat().st_size, _UNPACKED)
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                if key not in _KEYS:
                    raise DataError(
                        f"{path}: unknown array {key!r}; expected {listing(_KEYS)}"
                        f"{near_match(key, _KEYS)}"
                    )
                arrays[key] = archive[key]
    except DataError:
        raise
    except Exception as error:  # NumPy and zlib raise many kinds on broken or pickled members
        raise DataError(
            f"{path}: the array {key!r} cannot be read ({on_one_line(error)}). Arrays of objects "
            "are refused, for they can run code: save x.astype(numpy.float32), and labels with "
            ".astype(str)"
        ) from error
    if "x" not in arrays:
        raise DataError(f"{path}: there is no array 'x'; the arrays are {listing(arrays)}")
    return arrays


def _inputs(
    path: Path, arrays: dict[str, NDArray[Any]], missing: bool
) -> tuple[Float32[Array, "N T C"], Int64[Array, " N"]]:
    x = arrays["x"]
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: x has dtype {x.dtype}, expected numbers; use x.astype('float32')")
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3:
        raise DataError(
            f"{path}: x has shape {x.shape}, expected (N, T, C) or (N, T): N series of T steps "
            "of C numbers"
        )
    n, t, _ = x.shape
    if 0 in x.shape:
        raise DataError(f"{path}: x has shape {x.shape}, expected at least one of each")
    # float32, a name for each series, and what may be labels in int64.
    needed = 4 * x.size + 64 * n + (8 * arrays["y"].size if "y" in arrays else 0)
    check_room(path, f"x of shape {x.shape}", needed, path.stat().st_size, _UNPACKED)
    lengths = _lengths(path, arrays["lengths"], n, t) if "lengths" in arrays else np.full(n, t)
    valid = np.arange(t) < lengths[:, None]
    if x.dtype.kind == "f":  # every integer is within float32
        limit = min(FLOAT32_MAX, float(np.finfo(x.dtype).max))
        usable = (x >= -limit) & (x <= limit)
        if missing:
            usable |= np.isnan(x)
        _check_finite(path, "x", x, usable | ~valid[:, :, None])
    values = np.zeros(x.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(values, x, casting="unsafe", where=valid[:, :, None])
    return values, lengths


def _lengths(path: Path, lengths: NDArray[Any], n: int, t: int) -> Int64[Array, " N"]:
    if lengths.shape != (n,) or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{path}: lengths has shape {lengths.shape} and dtype {lengths.dtype}, expected "
            f"({n},), one integer for each series of x"
        )
    wrong = np.flatnonzero((lengths < 1) | (lengths > t))
    if len(wrong):
        raise DataError(
            f"{path}: lengths[{wrong[0]}] is {lengths[wrong[0]]}, expected 1 to {t}, the steps of "
            f"x{and_others(len(wrong))}"
        )
    return lengths.astype(np.int64)


def _target(path: Path, y: NDArray[Any], task: str, valid: Bool[Array, "N T"]) -> NDArray[Any]:
    n, t = valid.shape
    if task == "regression":
        if y.dtype.kind not in "biuf":
            raise DataError(f"{path}: y has dtype {y.dtype}, regression expects numbers")
        if y.ndim not in (1, 2) or len(y) != n or y.size == 0:
            raise DataError(
                f"{path}: y has shape {y.shape}, expected ({n},) or ({n}, D), for x has {n} series"
            )
        y = y.reshape(n, -1).astype(np.float64)
        _check_finite(path, "y", y, np.isfinite(y))
        return y
    expected = (n, t) if task == "tagging" else (n,)
    if y.shape != expected:
        raise DataError(
            f"{path}: y has shape {y.shape}, {task} expects {expected}, for x has {n} series of "
            f"{t} steps"
        )
    if y.dtype.kind not in "biuU":
        raise DataError(
            f"{path}: y has dtype {y.dtype}, {task} expects labels, integers or text; use "
            "y.astype(int) or y.astype(str)"
        )
    if y.dtype.kind != "U":
        largest = np.iinfo(np.int64).max
        inside = valid if task == "tagging" else np.ones(n, bool)
        wrong = np.argwhere((y > largest) & inside) if y.dtype == np.uint64 else []
        if len(wrong):
            raise DataError(
                f"{path}: y{wrong[0].tolist()} is {y[tuple(wrong[0])]}, expected a label up to "
                f"{largest}; use y.astype(str){and_others(len(wrong))}"
            )
        y = y.astype(np.int64)
    if task == "tagging":
        y = np.where(valid, y, np.zeros((), y.dtype))
    if y.dtype.kind == "U":
        empty = np.argwhere((y == "") & (valid if task == "tagging" else True))
        if len(empty):
            raise DataError(
                f"{path}: y{empty[0].tolist()} is empty text, expected a label"
                f"{and_others(len(empty))}"
            )
        missing = np.argwhere(np.isin(y, MISSING))
        if len(missing):
            fault = label_fault(y[tuple(missing[0])].item())
            raise DataError(f"{path}: y{missing[0].tolist()}: {fault}{and_others(len(missing))}")
    return y


def _numbers_at_steps(path: Path, y: NDArray[Any], valid: Bool[Array, "N T"]) -> NDArray[Any]:
    """Numbers at each step, (N, T, D); NaN where none is known."""
    n, t = valid.shape
    if y.dtype.kind not in "biuf" or y.shape[:2] != (n, t) or y.ndim not in (2, 3) or not y.size:
        raise DataError(
            f"{path}: y has shape {y.shape} of {y.dtype}, tagging with numbers expects ({n}, {t}) "
            f"or ({n}, {t}, D), for x has {n} series of {t} steps"
        )
    y = np.where(valid[:, :, None], y.reshape(n, t, -1), 0.0)
    _check_finite(path, "y", y, ~np.isinf(y))
    return y


def _check_finite(path: Path, key: str, array: NDArray[Any], usable: NDArray[np.bool_]) -> None:
    wrong = np.argwhere(~usable)
    if len(wrong):
        axes = "[n, t, c]" if array.ndim == 3 else "[n, d]"
        came = array[tuple(wrong[0])]
        may_be = (", or ", FOR_MISSING) if key == "x" and np.isnan(came) else ()
        raise DataError(
            f"{path}: {key}{wrong[0].tolist()} is {came}, expected a finite number of float32 at "
            f"each {axes}; fill it in, or cut the series short with lengths",
            *may_be,
            and_others(len(wrong)),
        )
