"""From the names of a table's columns to what each is used for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from longlag.data.columns import Columns
from longlag.data.errors import DataError, listing
from longlag.messages import Fix, near_match

_ROLES = Fix(
    "roles", "or say which column is what with Columns(series=, time=, features=, target=)"
)


@dataclass(frozen=True)
class Roles:
    """The columns of one table that are used, all of which are there.

    `answers` are the target columns to read, none for forecasting; `target_names` is what is
    predicted, whether it is there or not. Where not `require_target`, all answers may be empty.
    `categories`, `dates`, `known` and `static` are as of `Columns`; `missing` says whether cells of
    features may be, `tags` what the target of tagging is. `weight` is there where the target is
    required, that is in training.
    """

    task: str
    require_target: bool | None
    series: str | None
    time: str | None
    features: tuple[str, ...]
    answers: tuple[str, ...]
    target_names: tuple[str, ...]
    categories: tuple[str, ...] | None = None
    dates: tuple[str, ...] | None = None
    missing: bool = False
    tags: str = "auto"
    label_separator: str | None = None
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    weight: str | None = None

    @property
    def has_label_sets(self) -> bool:
        """Whether several labels of a series, or a step, may hold at once."""
        if self.task == "classification":
            return self.label_separator is not None or len(self.target_names) > 1
        return self.task == "tagging" and self.tags == "labels"

    @property
    def used(self) -> list[str]:
        """The columns to read."""
        ids = [name for name in (self.series, self.time) if name is not None]
        weight = [] if self.weight is None else [self.weight]
        return [*ids, *self.features, *self.answers, *weight]


def find_roles(
    source: str | Path,
    header: str,
    names: Sequence[str],
    columns: Columns,
    task: str,
    require_target: bool | None,
    missing: bool = False,
    tags: str = "auto",
) -> Roles:
    """The roles of the columns with these names.

    Args:
        source: the table, for messages.
        header: where its names stand, for messages.
        names: the columns that there are.
        columns, task, require_target, missing, tags: see `read`.

    Raises:
        DataError: a name is missing, empty or twice there, or no column is left for the features.
    """
    targets = columns.targets(task)
    if columns.known and task != "forecasting":
        raise DataError(
            f"{header}: known={listing(columns.known)}: what is known ahead is for forecasting, "
            f"and the task is {task}; leave it out"
        )
    if columns.weight is not None and task == "forecasting":
        raise DataError(
            f"{header}: weight={columns.weight!r}: what a series counts for is for classification, "
            "regression and tagging, and the task is forecasting; leave it out"
        )
    _check_names(header, names)
    there = set(names)
    columns = _as_one_series(columns, task, there)
    weight = columns.weight if require_target else None
    named = [name for name in (columns.series, columns.time, weight) if name is not None]
    answers = () if task == "forecasting" or targets is None else targets
    present = [name for name in answers if name in there] if require_target is not None else []
    if require_target or (answers and len(present) == len(answers)):
        named += answers
    else:
        answers = ()
    features = columns.features
    if features is None:
        taken = {
            *named,
            columns.weight,
            *(() if targets is None or task == "forecasting" else targets),
        }
        features = tuple(name for name in names if name not in taken)
        if not features:
            raise DataError(
                f"{header}: no column is left for the features; the columns are "
                f"{listing(names)}, of which {listing(named)} have another role"
            )
    predicted = targets if task == "forecasting" and targets is not None else ()
    for name in (*named, *features, *predicted):
        if name not in there:
            raise DataError(
                f"{header}: there is no column {name!r}; the columns are "
                f"{listing(names)}. Rename it, ",
                _ROLES,
                near_match(name, names),
            )
    inputs = set(features)
    for role in ("categories", "dates", "known", "static"):
        given = getattr(columns, role)
        for name in given or ():
            if name in predicted and role in ("known", "static"):
                raise DataError(f"{header}: {name!r} is to be forecast, so it is not {role}")
            if name not in inputs:
                raise DataError(
                    f"{header}: {name!r}, named in {role}, is not among the features "
                    f"{listing(features)}{near_match(name, features)}"
                )
    for name in predicted:
        if name not in inputs:
            raise DataError(
                f"{source}, column {name!r}: forecasting predicts features only; add it "
                f"to features={listing(features)}"
            )
    return Roles(
        task=task,
        require_target=require_target,
        series=columns.series,
        time=columns.time,
        features=features,
        answers=answers if len(present) == len(answers) else (),
        target_names=features if targets is None else targets,
        categories=columns.categories,
        dates=columns.dates,
        missing=missing or bool(columns.known or columns.static),
        tags=tags if columns.label_separator is None else "labels",
        label_separator=columns.label_separator,
        known=columns.known or (),
        static=columns.static or (),
        weight=weight,
    )


def _as_one_series(columns: Columns, task: str, there: set[str]) -> Columns:
    """The columns without those that a recording of one series lacks, unless they were named.

    Where each step has an answer one long series is enough, and its rows may be in order.
    """
    if task not in ("tagging", "forecasting"):
        return columns
    default = Columns()
    ids = {}
    for role in ("series", "time"):
        name = getattr(columns, role)
        if name == getattr(default, role) and name not in there and not near_match(name, there):
            ids[role] = None
    return replace(columns, **ids)


def _check_names(header: str, names: Sequence[str]) -> None:
    if not any(names):
        raise DataError(f"{header}: expected the names of the columns, got nothing")
    if len(names) == 1:
        for separator in (";", "\t", "|"):
            if separator in names[0]:
                raise DataError(
                    f"{header}: one column named {names[0]!r}; the cells seem to be "
                    f"separated by {separator!r}, expected commas. Save the table with commas; "
                    f"pandas.read_csv(..., sep={separator!r}).to_csv(..., index=False) does it, "
                    "with decimal=',' in the first where numbers have one"
                )
    first: dict[str, int] = {}
    for at, name in enumerate(names, start=1):
        if not name:
            raise DataError(
                f"{header}: column {at} has no name; name it or drop it "
                "(pandas writes such an index: use to_csv(..., index=False))"
            )
        if first.setdefault(name, at) != at:
            raise DataError(
                f"{header}: columns {first[name]} and {at} are both named {name!r}; rename one"
            )
