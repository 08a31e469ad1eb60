"""Forecasts as what goes beyond simple ones, each series in units of its own."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.arguments import is_whole
from longlag.batch import Batch
from longlag.data import DataError, DataWarning, Preparation
from longlag.data.records import closed, numbers
from longlag.data.scaling import Scaling
from longlag.messages import count
from longlag.pipeline import simple
from longlag.pipeline.dataset import lengths_of
from longlag.pipeline.season import find_season

LEAST_GROWTH = 0.25
"""The least share of its mean that a level is taken for."""


@dataclass(frozen=True)
class Relative:
    r"""What the network of a forecaster reads and puts out.

    With :math:`y_t` the targets, m the season, :math:`b_{t,k}` a weighted mean of simple forecasts,
    see `longlag.pipeline.simple`, and s the unit of the series, the network reads at step t

    .. math:: (y_t - y_{t-1}) / s, \quad (y_t - y_{t-m}) / s, \quad (b_{t,k} - y_t) / s

    with k = 1 ... horizon, and the other features standardised, and of those z that are known ahead
    also :math:`z_{t+k}` and what differs from the season before,
    :math:`z_{t+k} - z_{t + k - m \lceil k/m \rceil}`. It is to put out
    :math:`(y_{t+k} - b_{t,k}) / s`. The size of a series does not matter, so that series of any
    size train one network, and a trend leads to no values that it has never seen.

    The unit s is the mean of :math:`|y_t - y_{t-m}|` over the known part of the series. That of a
    target which is never negative in the training part, such as a price or a number sold, grows
    with the level: it is that times :math:`\ell_t / \bar \ell`, with :math:`\ell_t` the mean of the
    last two seasons (or as many steps as are forecast, if these are more) and :math:`\bar \ell` the
    mean of that over the known part, and :math:`\ell_t / \bar \ell` at least 0.25.

    Args:
        season: m, >= 1; 1 for none: then the second is left out.
        horizon: steps ahead.
        targets: where the D targets are among the C features.
        others: where the other features are.
        scaling: of the other features.
        weights: for each target, of the simple forecasts in their mean; empty: the seasonal naive
            one alone.
        levelled: for each target, whether its unit grows with the level; empty: none does.
        ahead: where, among the C features, those are that are known ahead.

    Raises:
        DataError: the weights are not as many, or negative, or their sum is not 1.

    Cost: some float64 copies of the targets for each step ahead.
    """

    season: int
    horizon: int
    targets: tuple[int, ...]
    others: tuple[int, ...]
    scaling: Scaling
    weights: tuple[tuple[float, ...], ...] = ()
    levelled: tuple[bool, ...] = ()
    ahead: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.levelled and len(self.levelled) != len(self.targets):
            raise DataError(f"relative: levelled: expected {len(self.targets)}, one a target")
        shape = (len(self.targets), simple.count(self.season))
        if self.weights and [len(row) for row in self.weights] != [shape[1]] * shape[0]:
            raise DataError(f"relative: weights: expected {shape[0]} rows of {shape[1]} numbers")
        for row in self.weights:
            if min(row) < 0 or abs(sum(row) - 1) > 1e-6:
                raise DataError(f"relative: weights: expected shares of sum 1, got {row}")

    @classmethod
    def fit(
        cls,
        train: Batch[np.ndarray],
        targets: list[int],
        horizon: int,
        season: int | None = None,
        *,
        standardise: bool = True,
        like: "Relative | None" = None,
        ahead: list[int] | None = None,
        coded: Collection[int] = (),
    ) -> "Relative":
        """That of prepared sequences in the units of the data.

        Args:
            train: the training part.
            targets: where the targets are among the features.
            horizon: steps ahead.
            season: None: as `find_season` says.
            standardise: whether the other features are brought to mean 0 and deviation 1.
            like: one whose season and units are taken over.
            ahead: where those features are that are known ahead.
            coded: where those are that hold the number of a category, and stay as they are.

        Warns:
            DataWarning: no series is longer than the season that is given.
        """
        lengths = lengths_of(train)
        longest = int(lengths.max())
        if season is not None and season > 1 and season >= longest:
            warnings.warn(
                f"nothing can be learned of season (--season) {season}: the training part has "
                f"series of at most {count(longest, 'step')}, in which none comes round; give a "
                "shorter one, or leave it out to have it looked for",
                DataWarning,
                stacklevel=2,
            )
        others = [c for c in range(train.x.shape[2]) if c not in targets]
        inside = np.arange(train.x.shape[1]) < lengths[:, None]
        scaling = Scaling.identity(len(others))
        if others and standardise:
            scaling = Scaling.fit(train.x[inside][:, others]).without(
                [others.index(c) for c in coded]
            )
        season = like.season if like else season or find_season(train.x[:, :, targets], lengths)
        plain = cls(
            season, horizon, tuple(targets), tuple(others), scaling, ahead=tuple(ahead or ())
        )
        if train.target is None:
            return plain
        y = train.x[:, :, targets].astype(np.float64)
        target = train.target.reshape(*y.shape[:2], horizon, -1)
        weights = simple.weights(y, target, plain.size(train, None), lengths, season)
        inside = (np.arange(y.shape[1]) < lengths[:, None])[:, :, None]
        positive = np.where(inside, y, 0.0).min(axis=(0, 1)) >= 0
        levelled = like.levelled if like else tuple(positive.tolist())
        return replace(plain, weights=weights, levelled=levelled)

    @property
    def features(self) -> int:
        """How many the network reads."""
        return self._own + len(self.others) + 2 * self.horizon * len(self.ahead)

    @property
    def _own(self) -> int:
        """How many it reads of the targets, which are the first."""
        return len(self.targets) * (1 + (self.season > 1) + self.horizon)

    def place(self, feature: int) -> int:
        """Where the network reads one of the other features."""
        return self._own + self.others.index(feature)

    def apply(
        self,
        prepared: Batch[np.ndarray],
        known: NDArray[np.int64] | None = None,
        future: NDArray[np.floating] | None = None,
    ) -> Batch[np.ndarray]:
        """What the network reads, and is to put out.

        Args:
            prepared: (N, T, C) in the units of the data, and what lies ahead.
            known: steps of each series that its size is taken from; None: all.
            future: the features of the steps after the end of each series, (N, horizon, C), of
                which those that are known ahead are read; None: the last ones go on.
        """
        y = prepared.x[:, :, self.targets].astype(np.float64)
        scale, base = self.units(prepared, known), self.base(prepared)
        parts = [np.diff(y, axis=1, prepend=y[:, :1]) / scale]
        if self.season > 1:
            parts.append(_since(y, self.season) / scale)
        ahead = (base - y[:, :, None]) / scale[:, :, None]
        n, t = y.shape[:2]
        others = self.scaling.apply(prepared.x[:, :, self.others])
        parts += [ahead.reshape(n, t, -1), others]
        if self.ahead:
            places = [self.others.index(at) for at in self.ahead]
            z, after = others[:, :, places], None
            if future is not None:
                after = self.scaling.apply(future[:, :, self.others])[:, :, places]
            parts += self._known_ahead(z, lengths_of(prepared), after)
        x = np.concatenate(parts, axis=2).astype(np.float32)
        x[np.arange(t) >= lengths_of(prepared)[:, None]] = 0.0
        target = prepared.target
        if target is not None:
            beyond = target.reshape(base.shape) - base
            target = (beyond / scale[:, :, None]).reshape(target.shape).astype(np.float32)
        return prepared._replace(x=x, target=target)

    def _known_ahead(
        self,
        z: NDArray[np.float64],
        lengths: NDArray[np.int64],
        future: NDArray[np.float64] | None,
    ) -> list[NDArray[np.float64]]:
        """What is known ahead at each step, and how it differs from the season before."""
        n, t = z.shape[:2]
        if future is None:
            future = np.repeat(z[np.arange(n), lengths - 1][:, None], self.horizon, axis=1)
        longer = np.concatenate([z, np.zeros_like(future)], axis=1)
        after = lengths[:, None] + np.arange(self.horizon)
        longer[np.arange(n)[:, None], after] = future
        to_come = longer[:, np.arange(t)[:, None] + np.arange(1, self.horizon + 1)]
        before = simple.continued(z, self.season, self.horizon)
        return [to_come.reshape(n, t, -1), (to_come - before).reshape(n, t, -1)]

    def restore(
        self,
        outputs: NDArray[np.floating],
        prepared: Batch[np.ndarray],
        known: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float64]:
        """Forecasts in the units of the data, (N, T, horizon * D), of outputs of the network."""
        base, scale = self.base(prepared), self.units(prepared, known)
        return (outputs.reshape(base.shape) * scale[:, :, None] + base).reshape(outputs.shape)

    def base(self, prepared: Batch[np.ndarray]) -> NDArray[np.float64]:
        """The mean b of simple forecasts, (N, T, horizon, D)."""
        if not self.weights:
            return self.naive(prepared)
        y = prepared.x[:, :, self.targets].astype(np.float64)
        simples = simple.simple_forecasts(y, self.season, self.horizon)
        first, *others = zip(simples, np.array(self.weights).T, strict=True)
        total = first[1] * first[0]
        for forecast, share in others:
            total += share * forecast
        return total

    def naive(self, prepared: Batch[np.ndarray], season: int | None = None) -> NDArray[np.float64]:
        """The seasonal naive forecasts, (N, T, horizon, D); of season 1 the last values."""
        y = prepared.x[:, :, self.targets].astype(np.float64)
        return simple.continued(y, season or self.season, self.horizon)

    def drift(self, prepared: Batch[np.ndarray]) -> NDArray[np.float64]:
        """The last value, and from there on the mean slope so far: (N, T, horizon, D)."""
        y = prepared.x[:, :, self.targets].astype(np.float64)
        steps = np.arange(y.shape[1])[:, None]
        slope = (y - y[:, :1]) / np.maximum(steps, 1)
        ahead = np.arange(1, self.horizon + 1)[:, None]
        return y[:, :, None] + ahead * slope[:, :, None]

    def size(
        self, prepared: Batch[np.ndarray], known: NDArray[np.int64] | None, power: int = 1
    ) -> NDArray[np.float64]:
        """The mean of |y_t - y_{t-m}|^power over the known part of each series, (N, D).

        A series with no more than m known steps has the last value in place of the seasonal one; 1
        stands for one that never changes.
        """
        y = prepared.x[:, :, self.targets].astype(np.float64)
        known = lengths_of(prepared) if known is None else known
        sizes = np.ones((len(y), y.shape[2]))
        for row, series, length in zip(sizes, y, known.tolist(), strict=True):
            lag = self.season if length > self.season else 1
            changes = np.abs(series[lag:length] - series[: max(length - lag, 0)]) ** power
            if len(changes):
                mean = changes.mean(axis=0)
                row[:] = np.where(mean > 0, mean, 1.0)
        return sizes

    def to_dict(self) -> dict[str, Any]:
        """What cannot be had from the preparation, as JSON data."""
        return {
            "season": self.season,
            "scaling": self.scaling.to_dict(),
            "weights": [list(row) for row in self.weights],
            "levelled": list(self.levelled),
        }

    @classmethod
    def from_dict(cls, record: object, preparation: Preparation) -> "Relative":
        """That of `to_dict`, for data that are prepared so.

        Raises:
            DataError: it is none, or does not fit them.
        """
        record = closed(record, ("season", "scaling"), "relative", ("weights", "levelled"))
        season = record["season"]
        if not is_whole(season, 1):
            raise DataError(f"relative: season: expected a whole number, 1 or more, got {season!r}")
        targets = preparation.repeated_inputs()[: len(preparation.target_names)]
        others = tuple(c for c in range(preparation.input_size) if c not in targets)
        scaling = Scaling.from_dict(record["scaling"], "relative: scaling")
        if len(scaling.mean) != len(others):
            raise DataError(
                f"relative: {len(scaling.mean)} scales, expected {len(others)}, of the features "
                "that are not forecast"
            )
        rows = record.get("weights") or []
        weights = tuple(numbers(row, "relative: weights") for row in rows)
        levelled = record.get("levelled") or []
        if not isinstance(levelled, list) or not all(isinstance(one, bool) for one in levelled):
            raise DataError(f"relative: levelled: expected true or false, got {levelled!r}")
        return cls(
            season, preparation.horizon or 1, tuple(targets), others, scaling, weights,
            tuple(levelled), tuple(preparation.known_inputs()),
        )  # fmt: skip

    def units(
        self, prepared: Batch[np.ndarray], known: NDArray[np.int64] | None
    ) -> NDArray[np.float64]:
        """The unit s of each series, (N, T, D), or (N, 1, D) where it stays."""
        units = self.size(prepared, known)[:, None]
        if not any(self.levelled):
            return units
        return units * np.where(self.levelled, self._growth(prepared, known), 1.0)

    def _growth(
        self, prepared: Batch[np.ndarray], known: NDArray[np.int64] | None
    ) -> NDArray[np.float64]:
        """The level of now over its mean in the known part, at least 0.25, (N, T, D)."""
        y = np.abs(prepared.x[:, :, self.targets].astype(np.float64))
        known = lengths_of(prepared) if known is None else known
        level = simple.trailing(y, max(2 * self.season, self.horizon))
        inside = (np.arange(y.shape[1]) < known[:, None])[:, :, None]
        mean = np.where(inside, level, 0.0).sum(axis=1) / np.maximum(known, 1)[:, None]
        mean = np.where(mean > 0, mean, 1.0)[:, None]
        return np.maximum(level / mean, LEAST_GROWTH)


def _since(y: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    """The change over some steps; 0 where what was before is not known."""
    changes = np.zeros_like(y)
    changes[:, lag:] = y[:, lag:] - y[:, :-lag]
    return changes
