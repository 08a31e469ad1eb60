"""From files to what a network takes: reading, splitting, preparing; errors name the file."""

import csv
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from longlag.batch import IGNORED_CLASS, Batch
from longlag.data import Columns, DataError, DataWarning, Preparation, SequenceData, read
from longlag.data.encoding import Missing, constant, left_out, uneven
from longlag.data.errors import listing
from longlag.data.labels import Label
from longlag.data.task import Tags
from longlag.messages import Fix, Setting, count

WARM = 1000
"""Steps before the part held out of a single series that a network reads first, or as many as are
held out where these are more: its state is what it would be there."""


@dataclass(frozen=True)
class Parts:
    """The training and the validation part, with the files that they come from, if any.

    Attributes:
        classes: labels that there are beside those of the training part.
        whole: what both were made of, in its order; None where each is a file of its own.
        known: of what is split in time, the steps of each series held out that come before the part
            to be judged (N,): the network reads them, and what it says from there on counts; None
            where a series is judged from its beginning.
    """

    train: SequenceData
    held_out: SequenceData
    train_path: Path | None = None
    held_out_path: Path | None = None
    whole: SequenceData | None = None
    known: NDArray[np.int64] | None = None
    classes: Sequence[Label] | None = None

    @property
    def judged(self) -> NDArray[np.int64]:
        """The steps of each series held out that are judged, (N,)."""
        return self.held_out.lengths - (0 if self.known is None else self.known)

    def together(self) -> "Parts":
        """All that there is as the training part; the part held out is in it.

        A validation file of its own stays what it is.
        """
        return self if self.whole is None else replace(self, train=self.whole)


def read_parts(
    path: Path,
    task: str,
    columns: Columns | None,
    *,
    share: float,
    other: Path | None,
    seed: int,
    horizon: int | None,
    missing: bool = False,
    tags: Tags = "auto",
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
        missing, tags: see `longlag.data.read`.

    Raises:
        DataError: the data cannot be read or split, or hold too few steps to forecast.
    """
    data = read(path, task=task, columns=columns, missing=missing, tags=tags)
    if other is not None:
        if data.feature_names is not None:  # the same columns, and what each was found to hold
            columns = replace(
                columns or Columns(), features=data.feature_names,
                categories=tuple(data.categories), dates=data.dates,
            )  # fmt: skip
        if task == "tagging" and data.target is not None and not data.label_sets:
            tags = "numbers" if data.target.dtype.kind == "f" else "classes"
        held_out = read(other, task=task, columns=columns, missing=missing, tags=tags)
        parts = Parts(data, held_out, path, other)
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
        share: how much to hold out: of each class, of the series, or of the time: in
            forecasting, and in tagging where there is one series.
        seed: for the draw.
        horizon: steps to forecast.
        path: the file that the data come from, for messages.

    Raises:
        DataError: the data cannot be split, or hold too few steps to forecast.
    """
    known = None
    if not 0 < share < 1:
        raise DataError(Setting("validation"), f": got {share!r}, expected a share in (0, 1)")
    with _naming(path):
        if task == "forecasting":
            train, held_out = data.split_time(share)[0], data
            known = train.lengths
        elif task == "tagging" and len(data) == 1:
            train, held_out = data.split_time(share)
            warm = np.minimum(train.lengths, np.maximum(WARM, held_out.lengths))
            known, held_out = warm, data.last(int(warm[0] + held_out.lengths[0]))
        else:
            train, held_out = data.split(
                share, seed, stratify=task == "classification" and not data.label_sets
            )
    parts = Parts(train, held_out, path, path, data, known)
    _check_horizon(parts, horizon)
    return parts


def earlier(
    whole: SequenceData,
    held: NDArray[np.int64],
    step: NDArray[np.int64] | int,
    count: int,
    least: int,
    path: Path | None = None,
) -> list[Parts]:
    """Parts as of `hold_out` in forecasting, of origins before the last one; the first comes first.

    Args:
        whole: the series.
        held: steps at the end of each that are judged from the last origin, (N,); from each other
            one as many are.
        step: from one origin to the next.
        count: origins at most.
        least: the fewest steps to train on; origins that leave fewer of any series are left out.
        path: the file that the series come from, for messages.
    """
    parts = []
    for number in range(count, 0, -1):
        ends = whole.lengths - number * step
        known = ends - held
        if known.min() >= least:
            train, judged_part = whole.first(known), whole.first(ends)
            parts.append(Parts(train, judged_part, path, path, None, known))
    return parts


@contextmanager
def told_once() -> Iterator[None]:
    """Of further networks on the same data, or on parts: what the data are warned of was said for
    the first, and is not for each of the others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


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
    before = 0 if parts.known is None else 1  # the last step of the training part forecasts too
    for name, lengths, least, path in (
        ("training", parts.train.lengths, horizon + 1, parts.train_path),
        ("validation", parts.judged, horizon + 1 - before, parts.held_out_path),
    ):
        longest = int(lengths.max())
        if longest < least:
            with _naming(path):
                raise DataError(
                    f"the {name} part of the longest series has {count(longest, 'step')}, too few "
                    f"to forecast {horizon} ahead; expected at least {least}. Use a smaller ",
                    Setting("horizon"), ", another ", Setting("validation"), ", or longer series",
                )  # fmt: skip


def fit_preparation(
    parts: Parts,
    task: str,
    *,
    horizon: int | None,
    standardise: bool,
    columns: Columns | None,
    missing: str = "error",
    time_delta: bool = False,
    embed: Sequence[str] = (),
) -> Preparation:
    """The preparation of the training part; the arguments are those of `Preparation.fit`.

    Warns:
        DataWarning: the steps are not evenly spaced, and the time between them is not used; or
            series to be forecast lack some; or a feature has one value throughout.

    Raises:
        DataError: see `Preparation.fit`; or a label occurs in the part held out alone.
    """
    with _naming(parts.train_path):
        preparation = Preparation.fit(
            parts.train, task=task, horizon=horizon, standardise=standardise, columns=columns,
            missing=cast("Missing", missing), time_delta=time_delta, classes=parts.classes,
            embed=embed,
        )  # fmt: skip
    where = "" if parts.train_path is None else f"{parts.train_path}: "
    if alike := constant(parts.train):
        warnings.warn(
            f"{where}no network can learn from features that have one value in the whole training "
            f"part: {listing(alike)}; leave them out with columns (--columns.features)",
            DataWarning,
            stacklevel=3,
        )
    gaps = "" if time_delta else uneven(parts.train)
    if gaps:
        warnings.warn(
            f"{where}the steps are not evenly spaced in time, their gaps go {gaps}; the network "
            "sees their order alone; with time_delta (--time_delta) the gap is an input too",
            DataWarning,
            stacklevel=3,
        )
    forecasts = task == "forecasting"
    lacking, usual = (
        left_out(parts.train if parts.whole is None else parts.whole) if forecasts else (0, "")
    )
    if lacking:
        warnings.warn(
            f"{where}{count(lacking, 'step')} left out, it seems: times go on "
            f"by {usual}, and by more there. A season and the steps ahead are counted in rows, and "
            "shift with each that is not there: put the rows in with empty cells, and have them "
            "filled by missing (--missing previous)",
            DataWarning,
            stacklevel=3,
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

    Warns:
        DataWarning: a category was not in the training data; it is taken as none of them.

    Raises:
        DataError: they do not fit the training data; the message names the file, and for an
            unknown class the row and the column.
    """
    check_classes(preparation, data, path)
    with _naming(path):
        prepared = preparation.apply(data)
    for name, categories in preparation.encoding.unknown(data, preparation.feature_names).items():
        warnings.warn(
            f"{'' if path is None else f'{path}, '}column {name!r}: {listing(categories, 5)} "
            "not in the training data; taken as none of the categories there",
            DataWarning,
            stacklevel=3,
        )
    return prepared


def known_ahead(
    preparation: Preparation, data: SequenceData, path: Path | None = None
) -> NDArray[np.float32] | None:
    """The inputs of the steps to forecast, of which some are known ahead; None: none is.

    Raises:
        DataError: they are not in the data; the message names the file.
    """
    if not preparation.known:
        return None
    with _naming(path):
        return preparation.ahead(data)


def check_classes(preparation: Preparation, data: SequenceData, path: Path | None) -> None:
    """Refuse a label that was not in the training data.

    Raises:
        DataError: there is one; the message names the file, the row and the column.
    """
    if preparation.classes is None or data.target is None or data.target.dtype.kind == "f":
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
        f"{where}: the class {first!r} was not in the training data, which had {known}{others}. "
        "Mend the cell, ",
        Fix("no score", "leave the target out to predict without a score"),
        ", or train on such data too",
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


def judged(
    prepared: Batch[NDArray[Any]], known: NDArray[np.int64] | None, *, ahead: bool = True
) -> Batch[NDArray[Any]]:
    """The same data, of which only what comes after the known steps counts.

    Args:
        prepared: the data.
        known: (N,), how many there are; None: all data count.
        ahead: whether a target lies ahead of its step, so that that of the last known step counts.

    >>> ahead = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1)
    >>> judged(Batch(ahead - 1, ahead), np.array([3])).target.ravel().tolist()
    [nan, nan, 3.0, 4.0]
    """
    if known is None:
        return prepared
    target = prepared.target
    before = np.arange(prepared.x.shape[1]) < known[:, None] - ahead
    nothing = np.nan if target.dtype.kind == "f" else IGNORED_CLASS
    before = before.reshape(*before.shape, *[1] * (target.ndim - 2))
    return prepared._replace(target=np.where(before, nothing, target).astype(target.dtype))


def lengths_of(batch: Batch[NDArray[Any]]) -> NDArray[np.int64]:
    """The steps of each sequence, (N,)."""
    if batch.lengths is None:
        return np.full(len(batch.x), batch.x.shape[1], np.int64)
    return batch.lengths


def pieces(prepared: Batch[NDArray[Any]], least: int, rows: int = 16) -> Batch[NDArray[Any]]:
    """The same data in pieces of one length that follow each other, about so many rows in all.

    A single long series fills a batch so. A piece has `least` steps or more but at the end of its
    series; each begins with a state of zero.

    >>> import numpy as np
    >>> x = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    >>> pieces(Batch(x, x), 2, rows=2).x[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 0.0]]
    """
    ends = lengths_of(prepared)
    steps = max(least, -(-int(ends.sum()) // rows))
    if prepared.x.shape[1] <= steps:
        return prepared
    places = [
        (n, start, min(steps, length - start))
        for n, length in enumerate(ends.tolist())
        for start in range(0, length, steps)
    ]
    return _cut(prepared, places, steps)


def _cut(
    prepared: Batch[NDArray[Any]], places: list[tuple[int, int, int]], steps: int
) -> Batch[NDArray[Any]]:
    """The steps start .. start + length - 1 of series n, for each (n, start, length)."""
    target = prepared.target
    x = np.zeros((len(places), steps, prepared.x.shape[2]), prepared.x.dtype)
    nothing = np.nan if target.dtype.kind == "f" else IGNORED_CLASS
    due = np.full((len(places), steps, *target.shape[2:]), nothing, target.dtype)
    for row, (n, start, length) in enumerate(places):
        x[row, :length] = prepared.x[n, start : start + length]
        due[row, :length] = target[n, start : start + length]
    lengths = np.array([length for _, _, length in places], np.int64)
    weights = None if prepared.weights is None else prepared.weights[[n for n, *_ in places]]
    return Batch(x, due, lengths, weights=weights)


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
    return _cut(prepared, places, steps)
