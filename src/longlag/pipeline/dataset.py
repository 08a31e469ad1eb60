"""From files to what a network takes: reading, splitting, preparing; errors name the file."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.data import Columns, DataError, Preparation, SequenceData, read
from longlag.messages import Setting


@dataclass(frozen=True)
class Parts:
    """The training and the validation part, with the files that they come from, if any."""

    train: SequenceData
    held_out: SequenceData
    train_path: Path | None = None
    held_out_path: Path | None = None


def read_parts(
    path: Path,
    task: str,
    columns: Columns | None,
    *,
    share: float,
    other: Path | None,
    seed: int,
    horizon: int | None,
) -> Parts:
    """Read the data and hold a part out.

    Args:
        path: the file to train on.
        task: what is to be predicted.
        columns: the roles of the columns of a table.
        share: how much to hold out: of each class, of the series, or of the time.
        other: a file of its own for validation instead.
        seed: for the draw.
        horizon: steps to forecast.

    Raises:
        DataError: the data cannot be read or split, or hold too few steps to forecast.
    """
    data = read(path, task=task, columns=columns)
    if other is not None:
        parts = Parts(data, read(other, task=task, columns=columns), path, other)
        _check_horizon(parts, horizon)
        return parts
    return hold_out(data, task, share=share, seed=seed, horizon=horizon, path=path)


def hold_out(
    data: SequenceData,
    task: str,
    *,
    share: float,
    seed: int,
    horizon: int | None = None,
    path: Path | None = None,
) -> Parts:
    """Hold a part of the data out.

    Args:
        data: all of them.
        task: what is to be predicted.
        share: how much to hold out: of each class, of the series, or of the time.
        seed: for the draw.
        horizon: steps to forecast.
        path: the file that the data come from, for messages.

    Raises:
        DataError: the data cannot be split, or hold too few steps to forecast.
    """
    with _naming(path):
        if task == "forecasting":
            train, held_out = data.split_time(share)
        else:
            train, held_out = data.split(share, seed, stratify=task == "classification")
    parts = Parts(train, held_out, path, path)
    _check_horizon(parts, horizon)
    return parts


@contextmanager
def _naming(path: Path | None) -> Iterator[None]:
    """Errors of the data name their file, where there is one."""
    try:
        yield
    except DataError as error:
        if path is None:
            raise
        raise error.within(f"{path}: ") from error


def _check_horizon(parts: Parts, horizon: int | None) -> None:
    if horizon is None:
        return
    for name, part, path in (
        ("training", parts.train, parts.train_path),
        ("validation", parts.held_out, parts.held_out_path),
    ):
        longest = int(part.lengths.max())
        if longest <= horizon:
            with _naming(path):
                raise DataError(
                    f"the {name} part of the longest series has {longest} steps, too few to "
                    f"forecast {horizon} ahead; expected at least {horizon + 1}. Use a smaller ",
                    Setting("horizon"), ", another ", Setting("validation"), ", or longer series",
                )  # fmt: skip


def fit_preparation(
    parts: Parts, task: str, *, horizon: int | None, standardise: bool, columns: Columns | None
) -> Preparation:
    """The preparation of the training part.

    Raises:
        DataError: see `Preparation.fit`; or a label occurs in the part held out alone.
    """
    with _naming(parts.train_path):
        preparation = Preparation.fit(
            parts.train, task=task, horizon=horizon, standardise=standardise, columns=columns
        )
    if parts.train_path == parts.held_out_path:
        try:
            check_classes(preparation, parts.held_out, parts.held_out_path)
        except DataError as error:
            raise DataError(
                *error.parts, ". It stands in series that were held out only: give another ",
                Setting("seed"), ", a smaller ", Setting("validation"),
                ", or a file of your own with ", Setting("validation_data"),
            ) from error  # fmt: skip
    return preparation


def prepare(
    preparation: Preparation, data: SequenceData, path: Path | None = None
) -> Batch[NDArray[Any]]:
    """The data as the network takes them.

    Raises:
        DataError: they do not fit the training data; the message names the file, and for an
            unknown class the row and the column.
    """
    check_classes(preparation, data, path)
    with _naming(path):
        return preparation.apply(data)


def check_classes(preparation: Preparation, data: SequenceData, path: Path | None) -> None:
    """Refuse a label that was not in the training data.

    Raises:
        DataError: there is one; the message names the file, the row and the column.
    """
    if preparation.classes is None or data.target is None:
        return
    labels = data.target[data.valid] if data.tagged else data.target
    unknown = [label for label in np.unique(labels).tolist() if label not in preparation.classes]
    if not unknown:
        return
    first = labels[np.isin(labels, unknown)][0].item()
    where = "target" if path is None else f"{path}, {_place(path, data, first)}"
    known = ", ".join(map(repr, preparation.classes[:20]))
    others = "" if len(unknown) == 1 else f" ({len(unknown)} such classes)"
    raise DataError(
        f"{where}: the class {first!r} was not in the training data, "
        f"which had {known}{others}. Mend the cell, empty the column to predict without a score, "
        "or train on such data too"
    )


def _place(path: Path, data: SequenceData, label: Any) -> str:
    """Row and column of the first cell with this label."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        column = data.target_names[0]
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            at = [name.strip() for name in next(rows)].index(column)
            line = rows.line_num + 1
            for row in rows:
                if len(row) > at and row[at].strip() == label:
                    break
                line = rows.line_num + 1
        return f"row {line}, column {column!r}"
    assert data.target is not None
    index = np.argwhere(data.target == label)[0].tolist()
    if suffix == ".npz":
        return f"y{index}"
    if suffix == ".parquet":
        step = "" if data.times is None or not index[1:] else f" at {data.times[tuple(index)]}"
        return f"series {data.names[index[0]]!r}{step}, column {data.target_names[0]!r}"
    with open(path, encoding="utf-8", errors="replace") as file:
        head = next(at for at, text in enumerate(file, 1) if text.lower().startswith("@data"))
    return f"row {head + 1 + index[0]}, column 'target'"


def lengths_of(batch: Batch[NDArray[Any]]) -> NDArray[np.int64]:
    """The steps of each sequence, (N,)."""
    if batch.lengths is None:
        return np.full(len(batch.x), batch.x.shape[1], np.int64)
    return batch.lengths


def stretches(prepared: Batch[NDArray[Any]], steps: int) -> Batch[NDArray[Any]]:
    """The same data as stretches of so many steps, each begun half a stretch after the last.

    A long series becomes many sequences, so that a pass over it is many updates. The targets stay
    with their steps: what lies ahead of the end of a stretch is still known.

    >>> import numpy as np
    >>> x = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    >>> cut = stretches(Batch(x, x + 1), 2)
    >>> cut.x[:, :, 0].tolist()
    [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]
    """
    if prepared.x.shape[1] <= steps:
        return prepared
    stride = max(1, steps // 2)
    places = [
        (n, start, min(steps, length - start))
        for n, length in enumerate(lengths_of(prepared).tolist())
        for start in (0, *range(stride, length - steps + stride, stride))
    ]
    target = prepared.target
    x = np.zeros((len(places), steps, prepared.x.shape[2]), prepared.x.dtype)
    ahead = np.full((len(places), steps, target.shape[2]), np.nan, target.dtype)
    for row, (n, start, length) in enumerate(places):
        x[row, :length] = prepared.x[n, start : start + length]
        ahead[row, :length] = target[n, start : start + length]
    lengths = np.array([length for _, _, length in places], np.int64)
    return Batch(x, ahead, lengths)
