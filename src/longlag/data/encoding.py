"""From the features of a step to the inputs of a network: categories, gaps in the data, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Float64

from longlag.arguments import is_whole
from longlag.data.errors import DataError, and_others, listing
from longlag.data.labels import find_classes
from longlag.data.records import closed, numbers, plain, texts
from longlag.data.room import check_room
from longlag.data.sequences import Array, SequenceData
from longlag.data.timestamps import duration, is_date
from longlag.messages import Setting

Missing = Literal["error", "previous", "mean", "indicator"]
MISSING_WAYS: tuple[str, ...] = get_args(Missing)

TIME_DELTA = "time_delta"
"""What the time since the step before is called among the features."""

_NO_CATEGORY = -1.0
ALL = "all"
"""In place of names: every feature that holds categories."""

_KEYS = ("categories", "missing", "fill", "indicated", "time_delta")
_LATER_KEYS = ("embedded",)


@dataclass(frozen=True)
class Encoding:
    """What becomes of C features that are not all plain numbers.

    In the order of the features a number is one input, and a feature of K categories is K inputs:
    1 for the category of the step, 0 for the others; all 0 where it is missing, or was not in the
    training data. One that is embedded is one input, the position of the category or -1 for none,
    of which a network reads a learned vector, see `longlag.Embedded`. Inputs that tell 1 where a
    value is missing stand at the end. The time since the step before, where it is used, is the
    last feature.

    Args:
        categories: of each feature that has them, its position and their names, in order.
        missing: what is done where a value is missing. "error": refuse it. "previous": take the
            last one of the series; before there is one, the mean. "mean": take the mean of the
            training data. "indicator": the mean, and an input that is 1 there.
        fill: these means, one a feature, in its units; () where `missing` is "error".
        indicated: the positions of the features that have such an input: those with missing
            values in the training data.
        time_delta: whether the time since the step before is a feature.
        embedded: the positions of the features whose categories stay one input each.

    Raises:
        DataError: the parts do not belong together.

    Source: zeros and indicators: Z. C. Lipton, D. Kale, R. Wetzel (2016), "Directly modeling
    missing data in sequences with RNNs", MLHC.

    Example:
        >>> Encoding(categories=((1, ("lathe", "mill")),)).count(3)
        4
    """

    categories: tuple[tuple[int, tuple[str, ...]], ...] = ()
    missing: str = "error"
    fill: tuple[float, ...] = ()
    indicated: tuple[int, ...] = ()
    time_delta: bool = False
    embedded: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_missing(self.missing)
        if self.indicated and self.missing != "indicator":
            raise DataError(f"encoding: indicated={self.indicated} without missing='indicator'")
        for at, names in self.categories:
            if not names or len(set(names)) != len(names) or at < 0:
                raise DataError(
                    f"encoding: feature {at} has the categories {listing(names)}, expected "
                    "distinct names"
                )
        for at in self.embedded:
            if at not in dict(self.categories):
                raise DataError(f"encoding: feature {at} is embedded, and has no categories")

    @property
    def is_plain(self) -> bool:
        """Whether features are inputs as they are."""
        return not (self.categories or self.time_delta or self.missing != "error")

    def count(self, features: int) -> int:
        """The inputs of the network for so many features, the time among them."""
        return self.place(features) + len(self.indicated)

    def place(self, feature: int) -> int:
        """The first input of the feature at this position."""
        spread = [len(names) - 1 for at, names in self.spread.items() if at < feature]
        return feature + sum(spread)

    @property
    def spread(self) -> dict[int, tuple[str, ...]]:
        """The categories that are an input each, by the position of the feature."""
        return {at: names for at, names in self.categories if at not in self.embedded}

    @property
    def vectors(self) -> dict[int, int]:
        """How many categories an input stands for, by its position, of those that are embedded."""
        return {self.place(at): len(names) for at, names in self.categories if at in self.embedded}

    def names(self, features: Sequence[str]) -> tuple[str, ...]:
        """What each input is, from the names of the features, the time among them.

        >>> Encoding(((0, ("a", "b")),), "indicator", (0.0, 0.0), (1,)).names(["kind", "heat"])
        ('kind = a', 'kind = b', 'heat', 'heat is missing')
        """
        kinds = self.spread
        named: list[str] = []
        for at, feature in enumerate(features):
            named += [f"{feature} = {name}" for name in kinds[at]] if at in kinds else [feature]
        return (*named, *(f"{features[at]} is missing" for at in self.indicated))

    @classmethod
    def fit(
        cls, data: SequenceData, missing: str, time_delta: bool, embed: Sequence[str] = ()
    ) -> Encoding:
        """The encoding of training data; `embed` names features to be embedded, or is ("all",).

        Raises:
            DataError: a value is missing, or a feature has none at all; or there are no times; or
                what is to be embedded holds no categories.
        """
        check_missing(missing)
        count = data.x.shape[2]
        absent = np.isnan(data.x) & data.valid[:, :, None]
        holes = absent.any(axis=(0, 1))
        if missing == "error":
            _refuse_missing(absent, data)
        fill: list[float] = []
        features = data.feature_names or tuple(f"x{c}" for c in range(count))
        kinds = []
        for c, name in enumerate(features):
            values = data.x[:, :, c][data.valid]
            values = values[~np.isnan(values)]
            if not len(values):
                raise DataError(
                    f"feature {name!r}: all its values are missing in the training data; leave it "
                    "out"
                )
            if name in data.categories:
                known = data.categories[name]
                there = [known[int(code)] for code in np.unique(values)]
                kinds.append((c, tuple(str(text) for text in find_classes(np.array(there)))))
                fill.append(_NO_CATEGORY)
            else:
                fill.append(float(values.mean(dtype=np.float64)))
        if time_delta:
            fill.append(float(_gaps(data)[data.valid].mean(dtype=np.float64)))
        return cls(
            categories=tuple(kinds),
            missing=missing,
            fill=() if missing == "error" else tuple(fill),
            indicated=tuple(np.flatnonzero(holes).tolist()) if missing == "indicator" else (),
            time_delta=time_delta,
            embedded=_embedded(embed, features, [features[at] for at, _ in kinds]),
        )

    def take(
        self, data: SequenceData, order: list[int], names: Sequence[str] | None
    ) -> tuple[Float64[Array, "N T C"], Bool[Array, "N T C"]]:
        """The features in this order, filled in, with the time; and where they were missing.

        A category is its position among those of the training, or -1.

        Raises:
            DataError: a value is missing, a feature is of another kind than in training, or there
                are no times.
        """
        raw = data.x[:, :, order].astype(np.float64)
        if self.time_delta:
            raw = np.concatenate([raw, _gaps(data)[:, :, None]], axis=2)
        self._check_kinds(data, names)
        for at, known in self.categories:
            assert names is not None
            raw[:, :, at] = _recoded(raw[:, :, at], data.categories[names[at]], known)
        absent = np.isnan(raw) & data.valid[:, :, None]
        if self.missing == "error":
            _refuse_missing(absent, data)
            return raw, absent
        if self.missing == "previous":
            raw = _previous(raw, absent)
        return np.where(np.isnan(raw), np.array(self.fill), raw), absent

    def expand(
        self,
        values: Float32[Array, "N T C"],
        absent: Bool[Array, "N T C"],
        valid: Bool[Array, "N T"],
    ) -> Float32[Array, "N T I"]:
        """The inputs of the network, from the standardised features."""
        if not self.spread and not self.indicated:
            return values
        n, t, features = values.shape
        inputs = self.count(features)
        check_room(
            "apply",
            f"{n} series of {t} steps of {inputs} inputs",
            4 * n * t * inputs,
            values.nbytes,
            "name coarser categories, give fewer series at a time, or train with vectors of "
            "categories (embed)",
        )
        kinds = self.spread
        x = np.zeros((n, t, inputs), np.float32)
        for c in range(features):
            first = self.place(c)
            if c not in kinds:
                x[:, :, first] = values[:, :, c]
                continue
            for code in range(len(kinds[c])):
                x[:, :, first + code] = (values[:, :, c] == code) & valid
        for number, c in enumerate(self.indicated, start=inputs - len(self.indicated)):
            x[:, :, number] = absent[:, :, c]
        return x

    def unknown(self, data: SequenceData, names: Sequence[str] | None) -> dict[str, list[str]]:
        """The categories of the data that were not in training, by feature."""
        found = {}
        for at, known in self.categories:
            assert names is not None
            present = data.categories.get(names[at], ())
            there = data.x[:, :, (data.feature_names or ()).index(names[at])][data.valid]
            codes = np.unique(there[~np.isnan(there)]).astype(int)
            new = [present[code] for code in codes if present[code] not in known]
            if new:
                found[names[at]] = new
        return found

    def _check_kinds(self, data: SequenceData, names: Sequence[str] | None) -> None:
        trained = {(names or ())[at] for at, _ in self.categories}
        for name in (*(names or ()), *data.categories):
            if (name in data.categories) != (name in trained):
                came, was = "numbers", "categories"
                if name in data.categories:
                    came, was = was, came
                raise DataError(
                    f"the feature {name!r} holds {came}, and {was} in the training data; read the "
                    "file with columns=preparation.columns"
                )

    def to_dict(self) -> dict[str, Any]:
        """The encoding as JSON-able values."""
        return plain(self)

    @classmethod
    def from_dict(cls, record: object) -> Encoding:
        """The encoding of `to_dict`. Raises `DataError` for anything else."""
        where = "preparation: encoding"
        record = closed(record, _KEYS, where, _LATER_KEYS)
        pairs = record["categories"]
        if not isinstance(pairs, list | tuple) or not all(
            isinstance(pair, list | tuple) and len(pair) == 2 and is_whole(pair[0], 0)
            for pair in pairs
        ):
            raise DataError(f"{where}: categories: expected pairs, got {pairs!r}")
        time_delta = record["time_delta"]
        places = {name: record.get(name, ()) for name in ("indicated", "embedded")}
        for name, found in places.items():
            if not isinstance(found, list | tuple) or not all(is_whole(at, 0) for at in found):
                raise DataError(f"{where}: {name}: expected positions, got {found!r}")
        if not isinstance(time_delta, bool):
            raise DataError(f"{where}: time_delta: expected true or false, got {time_delta!r}")
        return cls(
            tuple((at, texts(names, f"{where}: categories")) for at, names in pairs),
            record["missing"],
            numbers(record["fill"], f"{where}: fill"),
            tuple(places["indicated"]),
            time_delta,
            tuple(places["embedded"]),
        )


def _embedded(
    embed: Sequence[str], features: Sequence[str], kinds: Sequence[str]
) -> tuple[int, ...]:
    """The positions of the features to be embedded, of which `kinds` hold categories."""
    names = kinds if tuple(embed) == (ALL,) and kinds else embed
    for name in names:
        if name not in kinds:
            why = ", which is no feature"
            if name in features:
                why = ", which holds numbers (named among the categories, they are names)"
            known = f"'all', or some of {listing(kinds)}"
            if not kinds:
                why, known = "", "none, as no feature holds categories"
            raise DataError(Setting("embed"), f": got {name!r}{why}; expected {known}")
    return tuple(at for at, name in enumerate(features) if name in names)


def check_missing(missing: object) -> None:
    """Raise `DataError` unless it is one of `MISSING_WAYS`."""
    if missing not in MISSING_WAYS:
        raise DataError(f"missing={missing!r}: expected one of {listing(MISSING_WAYS)}")


def constant(data: SequenceData) -> list[str]:
    """The features that have the same value at each step, none of them missing."""
    names = data.feature_names or [f"x{c}" for c in range(data.x.shape[2])]
    first, valid = data.x[0, 0], data.valid[:, :, None]
    same = ((data.x == first) | ~valid).all(axis=(0, 1))
    return [name for name, alike in zip(names, same.tolist(), strict=True) if alike]


def uneven(data: SequenceData) -> str:
    """What to say of steps that do not follow each other evenly, or nothing.

    They do not where more than one gap in twenty is not within a quarter of the median: months are
    even, days without weekends are not.
    """
    gaps = _between(data)
    if not len(gaps):
        return ""
    median = float(np.median(gaps))
    if np.mean(np.abs(gaps - median) > 0.25 * median) <= 0.05:
        return ""
    least, most, middle = (_told(gap, data) for gap in (gaps.min(), gaps.max(), median))
    return f"from {least} to {most}, the median {middle}"


def left_out(data: SequenceData) -> tuple[int, str]:
    """About how many steps even series lack, and the time between two of most series.

    A gap of n times the median of its series, to the nearest n, lacks n - 1. Where the time is not
    even they lack none. Later steps of a season come as many places early.
    """
    gaps = _between(data)
    if not len(gaps) or uneven(data):
        return 0, ""
    assert data.gaps is not None
    lacking, usual = 0, list[float]()
    for row, length in zip(data.gaps, data.lengths, strict=True):
        median = float(np.median(row[1:length])) if length > 1 else 0.0
        if median:
            lacking += int((np.round(row[1:length] / median) - 1).clip(min=0).sum())
            usual.append(median)
    return (lacking, _told(float(np.median(usual)), data)) if usual else (0, "")


def _between(data: SequenceData) -> Float32[Array, " G"]:
    """The time between each step and the one before; none where there are no times."""
    if data.gaps is None:
        return np.zeros(0, np.float32)
    inside = data.valid.copy()
    inside[:, 0] = False
    return data.gaps[inside]


def _told(gap: float, data: SequenceData) -> str:
    dated = data.times is not None and is_date(str(data.times[0, 0]))
    return duration(gap) if dated else f"{gap:.4g}"


def _gaps(data: SequenceData) -> Float32[Array, "N T"]:
    if data.gaps is None:
        raise DataError(
            "time_delta: the data have no times; name the time column, or leave time_delta out"
        )
    return data.gaps


def _recoded(
    codes: Float64[Array, "N T"], present: Sequence[str], known: Sequence[str]
) -> Float64[Array, "N T"]:
    position = {name: at for at, name in enumerate(known)}
    table = np.array([position.get(name, _NO_CATEGORY) for name in present], np.float64)
    there = ~np.isnan(codes)
    recoded = np.full(codes.shape, np.nan)
    recoded[there] = table[codes[there].astype(np.int64)]
    return recoded


def _previous(
    raw: Float64[Array, "N T C"], absent: Bool[Array, "N T C"]
) -> Float64[Array, "N T C"]:
    """The last value before each that is missing; NaN where there is none."""
    steps = np.arange(raw.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(absent, 0, steps), axis=1)
    return np.take_along_axis(raw, last, axis=1)


def _refuse_missing(absent: Bool[Array, "N T C"], data: SequenceData) -> None:
    places = np.argwhere(absent)
    if len(places):
        n, t, c = places[0].tolist()
        names = data.feature_names
        raise DataError(
            f"series {data.names[n]!r}, step {t}, feature {c if names is None else repr(names[c])}"
            ": the value is missing; fill it in, or give ",
            Setting("missing", "previous"),
            f", mean or indicator{and_others(len(places))}",
        )
