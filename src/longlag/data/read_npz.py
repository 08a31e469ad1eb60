"""Arrays in a NumPy archive: x, y, lengths of unequal sequences, names of labels."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.data.arrays import from_arrays
from longlag.data.errors import DataError, listing
from longlag.data.room import check_room
from longlag.data.sequences import SequenceData
from longlag.data.task import Tags
from longlag.messages import near_match, on_one_line

_KEYS = ("x", "y", "lengths", "labels")
_UNPACKED = "save it with numpy.savez, which packs nothing, or split it"


def read_npz(
    path: Path, task: str, require_target: bool | None, missing: bool = False, tags: Tags = "auto"
) -> SequenceData:
    """The sequences of an archive. See `read`."""
    arrays = _load(path)
    x, y = arrays["x"], arrays.get("y")
    if y is None and require_target and task != "forecasting":
        raise DataError(
            f"{path}: there is no array 'y', which {task} needs; the arrays are {listing(arrays)}"
        )
    # float32, a name for each series, and what may be labels in int64.
    needed = 4 * x.size + 64 * (len(x) if x.ndim else 0) + (0 if y is None else 8 * y.size)
    check_room(path, f"x of shape {x.shape}", needed, path.stat().st_size, _UNPACKED)
    if require_target is None and task != "forecasting":
        y = None
    lengths, labels = arrays.get("lengths"), arrays.get("labels")
    try:
        return from_arrays(x, y, lengths, task=task, missing=missing, tags=tags, labels=labels)
    except DataError as error:
        raise error.within(f"{path}: ") from error


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
