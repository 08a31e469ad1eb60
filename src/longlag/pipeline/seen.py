"""Which series a network was trained on: known again by what they begin with."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from longlag.data import SequenceData

MOST = 10_000
"""Series that are kept in mind, evenly spread over more."""


@dataclass(frozen=True)
class Seen:
    """Of each series of the training part its steps, and a hash of its features.

    A series of new data is one of them if it has the name, and the same features in as many first
    steps; so a series whose end was held out is known again too.
    """

    series: Mapping[str, tuple[int, str]]

    @classmethod
    def of(cls, train: SequenceData, features: Sequence[str] | None) -> "Seen":
        """Those of the training part."""
        chosen = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST)).astype(int))
        order = _order(train, features)
        lengths = train.lengths.tolist()
        return cls(
            {train.names[n]: (lengths[n], _hash(train, n, lengths[n], order)) for n in chosen}
        )

    def count(self, data: SequenceData, features: Sequence[str] | None) -> int:
        """How many of these series are among those that were trained on.

        >>> x = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
        >>> data = SequenceData(x, np.array([2, 2]), None, ("a", "b"))
        >>> Seen.of(data, None).count(data.select([1]), None)
        1
        """
        order, found = _order(data, features), 0
        for n, name in enumerate(data.names):
            steps, digest = self.series.get(name, (0, ""))
            if 0 < steps <= data.lengths[n]:
                found += _hash(data, n, steps, order) == digest
        return found

    def to_dict(self) -> dict[str, list[Any]]:
        """It as JSON-able values."""
        return {name: list(pair) for name, pair in self.series.items()}

    @classmethod
    def from_dict(cls, record: object) -> "Seen":
        """What `to_dict` gave; files of version 0.1 have none.

        Raises:
            ValueError: it is something else.
        """
        if record is None:
            return cls({})
        pairs: Any = record
        try:
            return cls({str(name): (int(n), str(digest)) for name, (n, digest) in pairs.items()})
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError("what it says of the series it was trained on is damaged") from error


def _order(data: SequenceData, features: Sequence[str] | None) -> list[int]:
    """Where the features are in the order of the training."""
    if features is None or data.feature_names is None:
        return list(range(data.x.shape[2]))
    place = {name: at for at, name in enumerate(data.feature_names)}
    return [place[name] for name in features if name in place]


def _hash(data: SequenceData, n: int, steps: int, order: list[int]) -> str:
    values = data.x[n, :steps][:, order]
    names = data.feature_names or ()
    for column, at in enumerate(order):
        categories = data.categories.get(names[at]) if names else None
        if categories is not None:  # their numbers are those of a file
            known = np.array([_number(text) for text in categories], np.float32)
            codes = values[:, column]
            there = ~np.isnan(codes)
            codes[there] = known[codes[there].astype(int)]
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()[:16]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:3], "little")
