"""The entries to a user's data: files by suffix, and frames."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from longlag.data.columns import Columns
from longlag.data.errors import DataError, listing
from longlag.data.read_csv import read_csv
from longlag.data.read_npz import read_npz
from longlag.data.read_ts import read_ts
from longlag.data.sequences import SequenceData
from longlag.data.task import Tags, check_tags, check_task
from longlag.messages import near_match

SUFFIXES = (".csv", ".parquet", ".npz", ".ts")


def read(
    path: str | Path,
    *,
    task: str,
    columns: Columns | None = None,
    require_target: bool | None = True,
    missing: bool = False,
    tags: Tags = "auto",
) -> SequenceData:
    """Read N sequences, and what is to be predicted of them, from a file.

    - `.csv`: long form, one row per step: series, time, features and target, as `columns` says.
      The rows of a series may lie apart and are sorted by time; a repeated time is an error. A
      target of a series stands in each of its rows or in its last only. UTF-8, commas; blanks
      around a cell do not count. In tagging and forecasting a table without the columns "series" or
      "time" is one series, or in order. The extra `longlag[tables]` makes it ten times as fast.
    - `.parquet`: a table as in `.csv`, with the types of `from_frame`:
      `pip install "longlag[tables]"`.
    - `.npz`: x (N, T, C) or (N, T); y (N,) labels, (N,) or (N, D) numbers, (N, T) labels, or
      (N, T) or (N, T, D) floats for tagging, or 0 and 1 of labels that may hold at once, as of
      `from_arrays`; optionally lengths (N,) and the names of such labels, labels (L,). Nothing is
      unpickled. What lies beyond a length is not looked at.
    - `.ts` of the UEA archive, read by aeon: `pip install "longlag[ts]"`.

    Features of a table are numbers; `true` and `false`, as 1 and 0; categories, which are names;
    or dates and timestamps, as days since 1970. Which column is what is found where `columns` does
    not say it: a column without any number is one of dates where each cell is one, else one of
    categories where there are at most 100 and they repeat.

    Series stay in order of first appearance. Values are kept in the units of the file. A label or
    an id that is nan, NaN, <NA> or NaT stands for a missing value, and is refused. So are arrays
    that would take more than 1 GiB and 64 times the file, as where one series is far longer than
    the others; they are never allocated.

    Args:
        path: the file.
        task: "classification", "regression", "tagging" or "forecasting".
        columns: the roles of the columns of a `.csv` or `.parquet`; the others have none.
        require_target: False for files to predict: the target may be absent or wholly empty. None:
            it is not looked at.
        missing: whether features may be missing: an empty cell or NaN (for a number also NA, N/A,
            null and None) becomes NaN; else it is an error.
        tags: what the target of tagging is. "classes": a label at each step. "numbers": a number at
            each step, and none where the cell is empty. "auto": numbers where all are and more
            than 20 differ, or one has a fraction.

    Raises:
        DataError: the file is missing or not as above; the message names the file, the row
            and the column, or the index, and counts further problems.
        ImportError: a `.ts` file and aeon, or a `.parquet` file and pyarrow is not installed.

    Cost: linear in the size of the file, but for the sort of the rows of a table.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "walks.csv"
        >>> rows = "a,1,0.5,up", "b,1,2,down", "a,2,0.7,up"
        >>> _ = path.write_text("\\n".join(["series,time,speed,target", *rows]))
        >>> data = read(path, task="classification")
        >>> data.names, data.lengths.tolist(), data.target.tolist()
        (('a', 'b'), [2, 1], ['up', 'down'])
    """
    check_task(task)
    check_tags(tags)
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path}: the suffix {path.suffix!r} is not known; expected one of {listing(SUFFIXES)}"
            f"{near_match(suffix, SUFFIXES)}"
        )
    if not path.is_file():
        if path.exists():
            what = "a folder" if path.is_dir() else "not a file"
            raise DataError(f"{path}: it is {what}; expected a file, {listing(SUFFIXES)}")
        folder = path.parent
        present = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        raise DataError(f"{path}: there is no such file{near_match(path.name, present)}")
    columns = Columns() if columns is None else columns
    if suffix == ".csv":
        return read_csv(path, task, columns, require_target, missing=missing, tags=tags)
    if suffix == ".parquet":
        return _arrow(f"{path}: reading .parquet files").read_parquet(
            path, task, columns, require_target, missing, tags
        )
    if suffix == ".npz":
        return read_npz(path, task, require_target, missing, tags)
    return read_ts(path, task, require_target, missing)


def from_frame(
    frame: object,
    *,
    task: str,
    columns: Columns | None = None,
    require_target: bool | None = True,
    missing: bool = False,
    tags: Tags = "auto",
) -> SequenceData:
    """Take N sequences, and what is to be predicted of them, from a data frame in long form.

    As `read` takes them from a `.csv` with the same cells. Any frame that gives an Arrow stream
    will do: pandas, polars (not lazy), pyarrow, DuckDB. A named index of pandas is a column.

    - Features: as in a `.csv`, and booleans as 0 and 1, dates, timestamps, and categories as
      theirs, which are numbers where each is one. Targets of regression: integers, floats,
      booleans; text, categories and decimals where each cell is a number.
    - Series ids and labels: any type, as its text; categories as theirs.
    - Time: numbers, dates, timestamps to the nanosecond, ISO 8601 text. With a time zone they are
      kept, and written, in UTC.
    - Null, and NaN of pandas, is an empty cell.

    Args:
        frame: the rows, one per step of a series; not changed.
        task: "classification", "regression", "tagging" or "forecasting".
        columns: the roles of the columns. Without `series` the one series is called "frame".
        require_target: False for rows to predict: the target may be absent or wholly empty.
        missing, tags: see `read`.

    Raises:
        DataError: the rows are not as above; the message names the row, from 0, and the column,
            and counts further problems.
        ImportError: pyarrow is not installed: `pip install "longlag[tables]"`.

    Cost: that of a copy as float32 and a sort of the rows; text in Python, cell by cell.

    Example:
        >>> import pyarrow
        >>> walks = {"series": [7, 8, 7], "time": [1, 1, 2], "speed": [0.5, 2, 0.7]}
        >>> data = from_frame(pyarrow.table(walks), task="forecasting")
        >>> data.names, data.lengths.tolist(), data.x.shape
        (('7', '8'), [2, 1], (2, 2, 1))
    """
    check_task(task)
    check_tags(tags)
    columns = Columns() if columns is None else columns
    arrow = _arrow("reading a frame")
    return arrow.read_frame(frame, task, columns, require_target, missing, tags)


def _arrow(what: str) -> ModuleType:
    try:
        from longlag.data import arrow
    except ImportError as error:
        raise ImportError(f'{what} needs pyarrow: pip install "longlag[tables]"') from error
    return arrow
