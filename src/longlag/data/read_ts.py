"""The .ts files of the UEA and UCR archives, read by aeon (the extra `longlag[ts]`).

Known imperfections: aeon turns labels to lower case and ? within them to NaN, so they are taken
from the file again; it drops signs where a file has timestamps, so such files are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.data.cells import FLOAT32_MAX, FOR_MISSING, MISSING
from longlag.data.errors import DataError, and_others, listing, not_utf8
from longlag.data.labels import label_fault
from longlag.data.room import check_room
from longlag.data.sequences import SequenceData
from longlag.messages import near_match, on_one_line


def read_ts(
    path: Path, task: str, require_target: bool | None, missing: bool = False
) -> SequenceData:
    """The sequences of a .ts file. See `read`.

    Raises:
        ImportError: aeon is not installed.
    """
    if task == "tagging":
        raise DataError(
            f"{path}: a .ts file has one target per series, tagging needs one per step; use .csv "
            "or .npz"
        )
    try:
        from aeon.datasets import load_from_ts_file
    except ImportError as error:
        raise ImportError(
            f'{path}: reading .ts files needs aeon: pip install "longlag[ts]"'
        ) from error
    header = _Header.read(path)
    try:
        series, target = load_from_ts_file(str(path))[:2]
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (OSError, ValueError, IndexError, MemoryError) as error:
        raise DataError(_diagnose(path, header, error)) from error
    ends = _ends(path, header)
    if len(series) == 0:
        raise DataError(f"{path}: no series below @data; expected one line per series")
    _check_finite(path, header, series, missing)
    lengths = np.array([case.shape[1] for case in series], np.int64)
    check_room(
        path,
        f"{len(series)} series padded to the {lengths.max()} steps of series {lengths.argmax()}",
        4 * len(series) * int(lengths.max()) * series[0].shape[0],
        path.stat().st_size,
        "cut the longest series, or put series of like length into a file of their own",
    )
    x = np.zeros((len(series), lengths.max(), series[0].shape[0]), np.float32)
    for row, case, length in zip(x, series, lengths, strict=True):
        row[:length] = case.T  # aeon has (C, T)
    answers = None
    if task != "forecasting" and require_target is not None:
        answers = _target(path, header, target, ends, task, require_target)
    names = tuple(f"x{c}" for c in range(x.shape[2])) if task == "forecasting" else ("target",)
    return SequenceData(
        x=x,
        lengths=lengths,
        target=answers,
        names=tuple(map(str, range(len(x)))),
        target_names=names,
    )


@dataclass(frozen=True)
class _Header:
    line: int  # that of @data
    classes: tuple[str, ...]  # as written
    labels: bool  # each series ends with a class
    values: bool  # each series ends with a number to predict

    def row(self, case: int) -> int:
        """The line of the series with this number."""
        return self.line + 1 + case

    @classmethod
    def read(cls, path: Path) -> _Header:
        tags: dict[str, list[str]] = {}
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                words = line.split()
                if words and words[0].startswith("@"):
                    tags[words[0].lower()] = words[1:]
                if "@data" in tags:
                    line_of_data = number
                    break
            else:
                raise DataError(f"{path}: there is no line @data; expected a .ts file")
        if [word.lower() for word in tags.get("@timestamps", [])] == ["true"]:
            raise DataError(
                f"{path}: @timeStamps true is not supported; write the values alone, or use .csv"
            )
        is_label, is_value = (
            [word.lower() for word in tags.get(tag, [])[:1]] == ["true"]
            for tag in ("@classlabel", "@targetlabel")
        )
        if "@classlabel" not in tags and not is_value:
            raise DataError(
                f"{path}: the header does not say whether each series ends with a class; expected "
                "a line @classLabel false, @classLabel true with the classes, or @targetLabel true "
                "above @data"
            )
        classes = tuple(tags.get("@classlabel", [])[1:])
        return cls(line_of_data, classes, is_label and not is_value, is_value)


def _ends(path: Path, header: _Header) -> list[str]:
    """What each series has after its last colon, as written."""
    ends: list[str] = []
    with open(path, encoding="utf-8") as file:
        for line in islice(file, header.line, None):
            body, _, end = line.rpartition(":")
            if "_" in (body if header.labels else line):  # Python reads 1_0 as ten
                raise DataError(_diagnose(path, header, ValueError("'_' in a number")))
            ends.append(end.strip())
    return ends


def _target(
    path: Path,
    header: _Header,
    target: NDArray[Any],
    ends: list[str],
    task: str,
    require_target: bool | None,
) -> NDArray[Any] | None:
    tag, there = (
        ("@targetLabel", header.values) if task == "regression" else ("@classLabel", header.labels)
    )
    if not there:
        if require_target:
            raise DataError(f"{path}: the header has no {tag} true, which {task} needs")
        return None
    if task == "regression":
        values = np.asarray(target, np.float64)
        missing = ~np.isfinite(values)
    else:
        as_written = {name.lower(): name for name in header.classes}
        if len(as_written) < len(set(header.classes)):
            raise DataError(
                f"{path}: two classes of @classLabel differ in case only, which aeon does not "
                f"tell apart: {listing(header.classes)}; rename one"
            )
        missing = np.array([text in ("", "?", *MISSING) for text in ends])
        unknown = [
            case
            for case, text in enumerate(ends)
            if text.lower() not in as_written and not missing[case]
        ]
        if unknown:
            text = ends[unknown[0]]
            raise DataError(
                f"{path}, row {header.row(unknown[0])}, target of series {unknown[0]}: unknown "
                f"class {text!r}; the classes of @classLabel are {listing(header.classes)}"
                f"{near_match(text, header.classes)}{and_others(len(unknown))}"
            )
        for name in header.classes:
            if name not in MISSING and label_fault(name):
                raise DataError(f"{path}: @classLabel: {label_fault(name)}")
        values = np.array([as_written.get(text.lower(), "") for text in ends])
    if missing.all() and not require_target:
        return None
    if missing.any():
        case = int(np.flatnonzero(missing)[0])
        raise DataError(
            f"{path}, row {header.row(case)}, target of series {case}: it is missing, expected a "
            f"{'number' if task == 'regression' else 'class'}{and_others(int(missing.sum()))}"
        )
    return values[:, None] if task == "regression" else values


def _check_finite(
    path: Path,
    header: _Header,
    series: Sequence[NDArray[np.float64]] | NDArray[np.float64],
    may_miss: bool,
) -> None:
    first, count = None, 0
    for number, case in enumerate(series):
        if case.shape[1] == 0:
            raise DataError(f"{path}, row {header.row(number)}: series {number} has no steps")
        usable = np.abs(case) <= FLOAT32_MAX
        wrong = np.argwhere(~(usable | np.isnan(case) if may_miss else usable))
        count += len(wrong)
        if len(wrong) and first is None:
            first = (number, *wrong[0])
    if first is not None:
        number, c, t = first
        value = series[number][c, t]
        absent = np.isnan(value)
        raise DataError(
            f"{path}, row {header.row(number)}, channel {c}, step {t}: "
            f"{'a missing value (? or NaN)' if absent else value}, expected a finite "
            "number of float32; fill it in, or drop the series",
            *((", or ", FOR_MISSING) if absent else ()),
            and_others(count),
        )


def _diagnose(path: Path, header: _Header, error: Exception) -> str:
    """Find the line that aeon stumbled over."""
    extra = 1 if header.labels or header.values else 0
    channels = None
    with open(path, encoding="utf-8", errors="replace") as file:
        for row, line in enumerate(islice(file, header.line, None), start=header.line + 1):
            if not line.strip():
                return f"{path}, row {row}: a blank line, expected a series; delete it"
            parts = line.strip().split(":")
            cells = [part.split(",") for part in parts[: len(parts) - extra]]
            channels = channels or len(cells)
            if len(cells) != channels:
                return (
                    f"{path}, row {row}: {len(cells)} channels, expected {channels} as in the "
                    f"first series, and {extra} target after the last colon"
                )
            for c, channel in enumerate(cells):
                if len(channel) != len(cells[0]):
                    return (
                        f"{path}, row {row}, channel {c}: {len(channel)} steps, expected "
                        f"{len(cells[0])} as in channel 0"
                    )
                for t, cell in enumerate(channel):
                    if not _is_number(cell):
                        return (
                            f"{path}, row {row}, channel {c}, step {t}: {cell.strip()!r}, "
                            "expected a number"
                        )
            if header.values and not _is_number(parts[-1]):
                return f"{path}, row {row}, target: {parts[-1].strip()!r}, expected a number"
    return (
        f"{path}: not a valid .ts file ({on_one_line(error)}); if the series differ in length, the "
        "header must say @equalLength false"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace("?", "nan"))
    except ValueError:
        return False
    return "_" not in cell
