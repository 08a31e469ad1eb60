"""What is wrong with a user's data: where, what came, what was expected, and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from longlag.messages import GuidedError, Part


class DataError(GuidedError):
    """Data that cannot be used as they are.

    The message names the file, the row (line of a text from 1, row of a Parquet file or a frame
    from 0) and the column, or the index [n, t, c] (from 0) of an array, then what came, what was
    expected and how to mend it.

    Example:
        >>> raise DataError("speech.csv, row 7, column 'f0': an empty cell")
        Traceback (most recent call last):
        ...
        longlag.data.errors.DataError: speech.csv, row 7, column 'f0': an empty cell
    """


class DataWarning(UserWarning):
    """Data that are used, though not as they stand, or not as they should be.

    Example:
        >>> import warnings
        >>> warnings.filterwarnings("ignore", category=DataWarning)  # of whoever knows
    """


class Problems:
    """Collects the problems of one table; keeps the first by row and the count of all."""

    def __init__(self, source: str | Path) -> None:
        self.source = source
        self._first: tuple[int, tuple[Part, ...]] | None = None
        self._count = 0

    def add(self, row: int, *message: Part) -> None:
        """Record a problem in `row`."""
        self._count += 1
        if self._first is None or row < self._first[0]:
            self._first = (row, message)

    def __bool__(self) -> bool:
        return self._count > 0

    def raise_any(self) -> None:
        """Raise the first problem as a `DataError`, if there is one."""
        if self._first is not None:
            row, message = self._first
            raise DataError(f"{self.source}, row {row}, ", *message, and_others(self._count))


def not_utf8(path: Path) -> DataError:
    """The error of a text file that is not UTF-8; it names the row, as an editor counts."""
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        row = len(re.findall(rb"\r\n?|\n", content[: error.start])) + 1
        byte = content[error.start]
        return DataError(
            f"{path}, row {row}: not UTF-8 text (byte {byte:#04x}); save the file as UTF-8"
        )
    return DataError(f"{path}: not UTF-8 text; save the file as UTF-8")


def and_others(count: int) -> str:
    """What follows the first of `count` problems."""
    if count < 2:
        return ""
    return " (and 1 more problem)" if count == 2 else f" (and {count - 1} more problems)"


def listing(names: Iterable[object], limit: int = 20) -> str:
    """The names, quoted, cut after `limit`."""
    quoted = [repr(name) for name in names]
    rest = f", ... ({len(quoted)} in all)" if len(quoted) > limit else ""
    return ", ".join(quoted[:limit]) + rest
