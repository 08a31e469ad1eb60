"""Sequences of unequal length, as a user's file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import NDArray

from longlag.data.covariates import Future
from longlag.data.errors import DataError, listing
from longlag.messages import Fix

Array = np.ndarray

_STRATIFIED = Fix("stratified split", "split: stratify=True")
_SMALLER = Fix("smaller split", "Use a smaller fraction, or stratify=False")
_NO_ROOM = Fix(
    "no split", "Use stratify=False, or the task regression where the target is a number"
)


@dataclass(frozen=True, eq=False)
class SequenceData:
    """N sequences with what is to be predicted of them, in the units of the user's file.

    Args:
        x: inputs (N, T, C), float32, zero beyond the end of each sequence; NaN where a value is
            missing; of a category its position.
        lengths: steps of each sequence (N,), int64, 1 to T.
        target: labels (N,), text or integers, for classification; floats (N,) or (N, D) for
            regression; for tagging labels (N, T), "" or 0 beyond the end, or floats (N, T, D), 0
            beyond the end and NaN where none is known; None for forecasting (derived from x) and
            where there is none.
        names: the id of each series (N,).
        feature_names: the name of each input (C,), or None where the file names none.
        target_names: the name of each target (D,); for forecasting the features to predict.
        times: the time of each step (N, T) as the file writes it, "" beyond the end, or None;
            objects of type str, where the readers made it.
        gaps: the time since the step before (N, T), float32, in the units of the time column,
            seconds where it has dates; 0 at the first step and beyond the end; or None.
        categories: the names of the categories of some features, by the name of the feature.
        dates: the names of those features that are days since 1970.
        label_sets: whether the target says of each of D labels, 1 or 0, if it holds: (N, D) floats
            for classification, (N, T, D) for tagging, NaN where it is not known.
        future: the rows after the last known targets, where some features are known ahead.
        weights: (N,), >= 0, what the answers of each sequence count for, in training and in scores;
            None: all the same.

    Raises:
        DataError: the parts disagree in size, or a length is out of range.

    Example:
        >>> import numpy as np
        >>> x = np.zeros((2, 5, 3), np.float32)
        >>> data = SequenceData(x, np.array([5, 2]), np.array(["up", "down"]), ("a", "b"))
        >>> len(data), data.select([1]).names
        (2, ('b',))
    """

    x: Float32[Array, "N T C"]
    lengths: Int64[Array, " N"]
    target: NDArray[Any] | None
    names: tuple[str, ...]
    feature_names: tuple[str, ...] | None = None
    target_names: tuple[str, ...] = ()
    times: NDArray[Any] | None = None
    gaps: Float32[Array, "N T"] | None = None
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dates: tuple[str, ...] = ()
    label_sets: bool = False
    future: Future | None = None
    weights: Float64[Array, " N"] | None = None

    def __post_init__(self) -> None:
        for name in ("x", "lengths", "target", "times", "gaps", "weights"):
            part = getattr(self, name)
            if not isinstance(part, np.ndarray) and (name in ("x", "lengths") or part is not None):
                raise DataError(f"{name}: expected an array of NumPy, got {part!r:.80}")
        if self.x.ndim != 3 or self.x.dtype != np.float32:
            raise DataError(
                f"x: expected (N, T, C) of float32, got {self.x.shape} of {self.x.dtype}"
            )
        n, t, c = self.x.shape
        if self.lengths.shape != (n,) or self.lengths.dtype.kind != "i":
            raise DataError(
                f"lengths: expected ({n},) of int64, got {self.lengths.shape} of "
                f"{self.lengths.dtype}"
            )
        if n and (self.lengths.min() < 1 or self.lengths.max() > t):
            raise DataError(
                f"lengths: expected 1 to T = {t}, got {self.lengths.min()} to {self.lengths.max()}"
            )
        if len(self.names) != n:
            raise DataError(f"names: expected {n}, one per series, got {len(self.names)}")
        if self.feature_names is not None and len(self.feature_names) != c:
            raise DataError(f"feature_names: expected {c}, got {len(self.feature_names)}")
        if self.target is not None:
            shape = (n, t) if self.tagged else (n,)
            shape += self.target.shape[len(shape) :][:1] if self.target.dtype.kind == "f" else ()
            if self.target.shape != shape or self.target.dtype.kind not in "fiU":
                raise DataError(
                    f"target: expected {shape} of floats, integers or text, got "
                    f"{self.target.shape} of {self.target.dtype}"
                )
        for name, part in (("times", self.times), ("gaps", self.gaps)):
            if part is not None and part.shape != (n, t):
                raise DataError(f"{name}: expected {(n, t)}, got {part.shape}")
        if self.weights is not None:
            _check_weights(self.weights, n)
        for role, names in (("categories", self.categories), ("dates", self.dates)):
            for name in names:
                if name not in (self.feature_names or ()):
                    raise DataError(f"{role}: {name!r} is not among the features")

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tagged(self) -> bool:
        """Whether the target is one per step: labels (N, T) or numbers (N, T, D)."""
        if self.target is None:
            return False
        return self.target.ndim == (3 if self.target.dtype.kind == "f" else 2)

    @property
    def valid(self) -> Bool[Array, "N T"]:
        """Which steps lie within their sequence (N, T)."""
        return np.arange(self.x.shape[1]) < self.lengths[:, None]

    def select(self, indices: object) -> SequenceData:
        """The sequences with these indices, in the order given; T stays as it is.

        Args:
            indices: integers, or N booleans.

        Example:
            >>> import numpy as np
            >>> x = np.ones((3, 2, 1), np.float32)
            >>> data = SequenceData(x, np.full(3, 2), None, ("a", "b", "c"))
            >>> data.select([2, 0]).names
            ('c', 'a')
        """
        index = np.asarray(indices)
        rows = np.arange(len(self))[index if index.size else index.astype(np.int64)]
        names = tuple(self.names[row] for row in rows)
        weights = None if self.weights is None else self.weights[rows]
        chosen = self._cut(lambda part: part[rows], self.lengths[rows], names, weights)
        if self.future is None:
            return chosen
        return replace(chosen, future=Future(*(part[rows] for part in self.future)))

    def split(
        self, fraction: float, seed: int, stratify: bool = False
    ) -> tuple[SequenceData, SequenceData]:
        """Whole series drawn at random into (train, held out), the same for the same seed.

        Series of weight 0 would judge nothing: none of them is held out or counted here.

        Args:
            fraction: share of the series to hold out, in (0, 1); at least one is held out and
                one is kept. Both parts keep the order of the file.
            seed: any non-negative integer.
            stratify: hold out this share of every class; each class keeps a series to train on.

        Raises:
            DataError: the fraction is not in (0, 1), fewer than two series count, or stratify
                without one label per series.

        Example:
            >>> import numpy as np
            >>> x, labels = np.ones((8, 2, 1), np.float32), np.array(list("aaaabbbb"))
            >>> data = SequenceData(x, np.full(8, 2), labels, tuple("12345678"))
            >>> train, held_out = data.split(0.25, seed=0, stratify=True)
            >>> train.target.tolist(), held_out.target.tolist()
            (['a', 'a', 'a', 'b', 'b', 'b'], ['a', 'b'])
        """
        _check_fraction(fraction)
        drawn = np.arange(len(self)) if self.weights is None else np.flatnonzero(self.weights)
        n = len(drawn)
        if n < 2:
            only = f"{n}{f' ({self.names[drawn[0]]!r})' if n else ''}"
            counting = "" if self.weights is None else " of a weight above 0"
            raise DataError(
                f"split: needs at least 2 series{counting} to hold one out, got {only}; give more, "
                "or ",
                Fix("series column", "name the column that tells series apart"),
            )
        count = min(max(1, round(fraction * n)), n - 1)
        rng = np.random.default_rng(seed)
        if stratify:
            if self.target is None or self.target.ndim != 1 or self.target.dtype.kind == "f":
                raise DataError(
                    "split: stratify=True needs one class label per series; use stratify=False"
                )
            held = _draw_by_class(self.target[drawn], count, rng)
        else:
            held = rng.permutation(n)[:count]
        out = np.zeros(len(self), bool)
        out[drawn[held]] = True
        return self.select(~out), self.select(out)

    def split_time(self, fraction: float) -> tuple[SequenceData, SequenceData]:
        """Every series cut in time into (train, held out): the last share of its steps is held out.

        For forecasting, where the series to predict are those of the training. No step is in
        both parts, and the held-out part starts without the steps before it.

        Args:
            fraction: share of the steps to hold out, in (0, 1); at least one step each side.

        Raises:
            DataError: the fraction is not in (0, 1), a series has one step only, or the target
                is one per series.

        Example:
            >>> import numpy as np
            >>> x = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
            >>> past, future = SequenceData(x, np.array([4]), None, ("a",)).split_time(0.25)
            >>> past.x.ravel().tolist(), future.x.ravel().tolist()
            ([0.0, 1.0, 2.0], [3.0])
        """
        _check_fraction(fraction)
        if self.target is not None and not self.tagged:
            raise DataError("split_time: the target is one per series; use split instead")
        short = np.flatnonzero(self.lengths < 2)
        if len(short):
            raise DataError(
                f"split_time: {len(short)} series have one step only, as "
                f"{self.names[short[0]]!r}, and cannot be cut; drop them"
            )
        held = np.clip(np.rint(fraction * self.lengths).astype(np.int64), 1, self.lengths - 1)
        kept = self.lengths - held
        return self._window(np.zeros_like(kept), kept), self._window(kept, held)

    def last(self, steps: int) -> SequenceData:
        """The last steps of each series, so many or all that it has.

        Example:
            >>> import numpy as np
            >>> x = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
            >>> SequenceData(x, np.array([4]), None, ("a",)).last(3).x.ravel().tolist()
            [1.0, 2.0, 3.0]
        """
        lengths = np.minimum(self.lengths, steps)
        return self._window(self.lengths - lengths, lengths)

    def first(self, lengths: Int64[Array, " N"]) -> SequenceData:
        """Only so many steps of each sequence, from its first on.

        Example:
            >>> import numpy as np
            >>> x = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
            >>> SequenceData(x, np.array([4]), None, ("a",)).first(np.array([2])).x.ravel().tolist()
            [0.0, 1.0]
        """
        return self._window(np.zeros_like(lengths), lengths)

    def up_to_the_targets(self, source: object = "data") -> SequenceData:
        """The same data, of which the rows after the last known target are the future.

        Raises:
            DataError: a series has no target at all.
        """
        features = self.feature_names or ()
        targets = [features.index(name) for name in self.target_names]
        known, future = Future.split(self.x, self.lengths, targets)
        if not known.all():
            raise DataError(
                f"{source}: series {self.names[int(known.argmin())]!r} has no known value of "
                f"{listing(self.target_names)}; expected some before those to forecast"
            )
        return self if future is None else replace(self.first(known), future=future)

    def _window(self, start: Int64[Array, " N"], lengths: Int64[Array, " N"]) -> SequenceData:
        steps = np.arange(lengths.max(initial=0))
        inside = steps < lengths[:, None]  # (N, T')
        source = np.where(inside, start[:, None] + steps, 0)
        rows = np.arange(len(self))[:, None]

        def cut(array: NDArray[Any]) -> NDArray[Any]:
            piece = array[rows, source]
            piece[~inside] = blank(array.dtype)
            return piece

        return self._cut(cut, lengths, self.names, self.weights)

    def _cut(
        self,
        cut: Callable[[NDArray[Any]], NDArray[Any]],
        lengths: Int64[Array, " N"],
        names: tuple[str, ...],
        weights: Float64[Array, " M"] | None,
    ) -> SequenceData:
        """What `cut` leaves of x, target, times and gaps; no future."""
        parts = {name: getattr(self, name) for name in ("x", "target", "times", "gaps")}
        left = {name: None if part is None else cut(part) for name, part in parts.items()}
        return replace(self, lengths=lengths, names=names, weights=weights, future=None, **left)


def blank(dtype: np.dtype[Any]) -> Any:
    """What stands beyond the end of a sequence: zero, or empty text."""
    return "" if dtype.kind == "O" else np.zeros((), dtype)


def _check_weights(weights: NDArray[Any], count: int) -> None:
    if weights.shape != (count,) or weights.dtype.kind != "f":
        raise DataError(
            f"weights: expected ({count},) of floats, one for each series, got {weights.shape} of "
            f"{weights.dtype}"
        )
    wrong = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
    if len(wrong):
        raise DataError(
            f"weights[{wrong[0]}] is {weights[wrong[0]]}, expected a finite number, 0 or more"
        )


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise DataError(f"fraction: expected a share in (0, 1), got {fraction!r}")


def _draw_by_class(labels: NDArray[Any], count: int, rng: np.random.Generator) -> list[np.intp]:
    """`count` indices shared among the classes by largest remainder."""
    classes, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    room = sizes - 1
    if room.sum() < count:
        alone = classes[sizes == 1].tolist()
        raise DataError(
            _STRATIFIED,
            f" would hold out {count} of {len(labels)} series, but only "
            f"{room.sum()} can go if every class keeps one; classes with a single series: "
            f"{listing(alone)}. ",
            _SMALLER if room.any() else _NO_ROOM,
        )
    ideal = sizes * (count / len(labels))
    share = np.minimum(np.floor(ideal).astype(np.int64), room)
    while share.sum() < count:
        share[np.argmax(np.where(share < room, ideal - share, -np.inf))] += 1
    held: list[np.intp] = []
    for code, part in enumerate(share):
        held.extend(rng.permutation(np.flatnonzero(codes == code))[:part])
    return held
