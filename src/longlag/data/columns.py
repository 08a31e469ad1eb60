"""Which column of a table is what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from longlag.data.errors import DataError
from longlag.data.records import closed, plain, texts
from longlag.data.task import check_task


@dataclass(frozen=True)
class Columns:
    """The columns of a table in long form: one row per step of a series.

    Args:
        series: the column with the id of the series, any text; None: the file is one series.
        time: the column that orders the rows of a series, numbers or ISO 8601 timestamps;
            None: the rows are in order. It is never a feature.
        features: the C input columns, in this order; None: all columns not named otherwise.
        target: the target column or columns; None: the column "target", and for forecasting
            every feature. Several in classification are labels of which each may hold, in cells of
            0 and 1; in tagging they must be numbers, or such labels. What forecasting predicts must
            be among the features; what another task predicts must not be.
        categories: the features whose cells are names, such as a kind of machine, though they may
            look like numbers; None: those of which no cell is a number, a date, true or false.
        dates: the features whose cells are dates or ISO 8601 timestamps, taken as days since
            1970-01-01; None: those of which each cell is one.
        label_separator: what stands between the labels in a cell of the target, which names all
            that hold, as ";" in "red;round"; an empty cell names none. None: a cell is one label.
        known: of forecasting, the features that are known ahead, such as a holiday or a price. They
            stand in rows after the last target too, whose cells of other features may be empty.
        static: the features that are the same in all rows of a series, and may stand in one alone.
        weight: the column with what the answers of a series count for, in training and in scores, a
            number, 0 or more, the same in all rows of a series that have one; only ratios matter.
            Not for forecasting. It is never a feature, and is not looked at in prediction. None:
            all count the same.

    Raises:
        DataError: one column is given two roles or named twice.

    Example:
        >>> Columns(series="patient", time="hour", target="sepsis").targets("classification")
        ('sepsis',)
    """

    series: str | None = "series"
    time: str | None = "time"
    features: tuple[str, ...] | None = None
    target: tuple[str, ...] | str | None = None
    categories: tuple[str, ...] | None = None
    dates: tuple[str, ...] | None = None
    label_separator: str | None = None
    known: tuple[str, ...] | None = None
    static: tuple[str, ...] | None = None
    weight: str | None = None

    def __post_init__(self) -> None:
        targets = (self.target,) if isinstance(self.target, str) else self.target
        for role, names in (
            ("features", self.features),
            ("target", targets),
            ("categories", self.categories),
            ("dates", self.dates),
            ("known", self.known),
            ("static", self.static),
        ):
            if names is None:
                continue
            if isinstance(names, str):
                raise DataError(f"columns: {role}={names!r} is text, expected a tuple of names")
            if not names and role in ("features", "target"):
                raise DataError(f"columns: {role} is empty; name a column, or None for the default")
            if len(set(names)) != len(names):
                raise DataError(f"columns: {role}={names!r} names a column twice")
            for key in ("series", "time", "weight"):
                name = getattr(self, key)
                if name in names:
                    raise DataError(
                        f"columns: {name!r} is both {key} and among {role}; name it once"
                    )
        for role, other in (("series", "time"), ("series", "weight"), ("time", "weight")):
            name = getattr(self, role)
            if name is not None and name == getattr(self, other):
                raise DataError(f"columns: {name!r} is both {role} and {other}; name it once")
        if self.label_separator is not None and not self.label_separator.strip():
            raise DataError(
                f"columns: label_separator={self.label_separator!r}: expected a text such as ';'"
            )
        for role, other in (("categories", "dates"), ("known", "static")):
            both = [n for n in getattr(self, role) or () if n in (getattr(self, other) or ())]
            if both:
                raise DataError(f"columns: {both[0]!r} is among {role} and {other}; name it once")

    def targets(self, task: str) -> tuple[str, ...] | None:
        """The target columns of a task; None stands for every feature.

        Raises:
            DataError: several targets where one label is expected, a task that is not known,
                or a target that is also a feature.

        Example:
            >>> Columns().targets("regression"), Columns().targets("forecasting")
            (('target',), None)
        """
        check_task(task)
        if self.target is None:
            targets = None if task == "forecasting" else ("target",)
        else:
            targets = (self.target,) if isinstance(self.target, str) else tuple(self.target)
        if targets is None or task == "forecasting":
            return targets
        if self.label_separator is not None and task == "regression":
            raise DataError(
                f"columns: label_separator={self.label_separator!r}, but {task} has no labels; "
                "leave it out, or use classification or tagging"
            )
        if self.label_separator is not None and len(targets) > 1:
            raise DataError(
                f"columns: label_separator={self.label_separator!r} is for one target column, got "
                f"target={targets!r}"
            )
        inputs = set(self.features or ())
        both = [name for name in targets if name in inputs]
        if both:
            raise DataError(
                f"columns: {both[0]!r} is the target of {task} and also a feature, so the answer "
                "would be an input; take it out of features"
            )
        return targets

    def to_dict(self) -> dict[str, Any]:
        """The columns as JSON-able values.

        Example:
            >>> Columns(target="y").to_dict()["time"]
            'time'
        """
        return plain(self)

    @classmethod
    def from_dict(cls, record: object) -> Columns:
        """The columns of `to_dict`.

        Raises:
            DataError: a key is unknown or missing, or a value has the wrong type.

        Example:
            >>> Columns.from_dict(Columns(features=("a", "b")).to_dict()).features
            ('a', 'b')
        """
        record = closed(
            record, ("series", "time", "features", "target"), "columns",
            ("categories", "dates", "label_separator", "known", "static", "weight"),
        )  # fmt: skip
        for key in ("series", "time", "label_separator", "weight"):
            if not isinstance(record.get(key), str | None):
                raise DataError(f"columns: {key} must be text or null, got {record[key]!r}")

        def names(key: str) -> tuple[str, ...] | None:
            value = record.get(key)
            return None if value is None else texts(value, f"columns: {key}")

        target = record["target"]
        return cls(
            series=record["series"],
            time=record["time"],
            features=names("features"),
            target=target if isinstance(target, str | None) else names("target"),
            categories=names("categories"),
            dates=names("dates"),
            label_separator=record.get("label_separator"),
            known=names("known"),
            static=names("static"),
            weight=record.get("weight"),
        )
