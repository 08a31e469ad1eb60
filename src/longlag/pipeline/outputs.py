"""What a forecaster puts out for each value to come: the value, quantiles of it, or a normal
distribution; its loss, and what intervals are put around."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from longlag.data import DataError
from longlag.data.records import closed, numbers
from longlag.gradients import Loss
from longlag.gradients.losses import due
from longlag.pipeline.settings import are_levels

LEVEL = 0.8
"""The share of the values that intervals are to hold, unless quantiles say it."""

LEAST_DEVIATION = 1e-3
"""Of a normal distribution, in units of the series."""


class Ends(NamedTuple):
    """What the ends of intervals are measured from, each (..., K): low + unit * offset."""

    low: NDArray[np.floating]
    high: NDArray[np.floating]
    unit: NDArray[np.floating]


class Outputs(ABC):
    """What is put out for K values, `width` numbers for each, side by side: (..., K * width).

    Attributes:
        width: numbers for each value.
        tails: the shares of the values that are to lie below the lower and the upper end of an
            interval.
    """

    width: int
    tails: tuple[float, float] = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)

    @property
    @abstractmethod
    def loss(self) -> str | Loss:
        """What the training minimises."""

    @abstractmethod
    def point(self, outputs: NDArray[np.floating]) -> NDArray[np.floating]:
        """One number for each value, (..., K)."""

    @abstractmethod
    def ends(self, outputs: NDArray[np.floating]) -> Ends:
        """What intervals are put around."""

    def beside(self, outputs: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """Further numbers of each value, (..., K), by the end of their columns' names."""
        return {}

    def errors(
        self, target: NDArray[np.floating], outputs: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """How far the values are above what the ends are measured from, in its units."""
        low, high, unit = self.ends(outputs)
        return (target - low) / unit, (target - high) / unit

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""


@dataclass(frozen=True)
class Point(Outputs):
    """The value itself, by the mean absolute error; 80 % intervals around it."""

    width = 1

    @property
    def loss(self) -> str | Loss:
        """What the training minimises."""
        return "mae"

    def point(self, outputs: NDArray[np.floating]) -> NDArray[np.floating]:
        """One number for each value, (..., K)."""
        return outputs

    def ends(self, outputs: NDArray[np.floating]) -> Ends:
        """What intervals are put around."""
        return Ends(outputs, outputs, np.ones_like(outputs))

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {}


@dataclass(frozen=True)
class Quantiles(Outputs):
    r"""Quantiles q of the value at some levels, by the pinball loss.

    .. math:: 2 \max(\tau (y - q), (\tau - 1) (y - q))

    as a mean over levels :math:`\tau` and places, which is |y - q| for the median. They are sorted,
    so that none crosses another. The point is that of the level nearest to 0.5; intervals go from
    the first to the last, moved so that they hold what they are to hold (conformalised quantile
    regression).

    Args:
        levels: in (0, 1), two or more, each larger than the one before.

    Raises:
        DataError: they are not.

    Source: R. Koenker and G. Bassett, Regression quantiles, 1978; Y. Romano et al., Conformalized
    quantile regression, 2019.

    Example:
        >>> three = Quantiles((0.1, 0.5, 0.9))
        >>> outputs = np.array([2.0, 1.0, 4.0, 5.0, 6.0, 7.0])  # of two values
        >>> three.point(outputs).tolist(), three.beside(outputs)["q0.1"].tolist()
        ([2.0, 6.0], [1.0, 5.0])
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        if not are_levels(self.levels):
            raise DataError(
                f"quantiles: got {self.levels}, expected two or more levels between 0 and 1, each "
                "larger than the one before, such as 0.1, 0.5, 0.9"
            )

    @property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As many as levels."""
        return len(self.levels)

    @property
    def tails(self) -> tuple[float, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The first and the last level."""
        return self.levels[0], self.levels[-1]

    @property
    def loss(self) -> str | Loss:
        """What the training minimises."""
        levels = torch.tensor(self.levels)

        def pinball(output: Tensor, target: Tensor) -> Tensor:
            there = due(target).unsqueeze(-1)
            rows = output.reshape(*target.shape, -1)
            above = torch.where(there, target.unsqueeze(-1) - rows, 0.0)
            tau = levels.to(output)
            losses = 2 * torch.maximum(tau * above, (tau - 1) * above)
            return losses.sum() / (there.sum() * len(tau)).clamp(min=1)

        return pinball

    def _sorted(self, outputs: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.sort(outputs.reshape(*outputs.shape[:-1], -1, self.width), axis=-1)

    def point(self, outputs: NDArray[np.floating]) -> NDArray[np.floating]:
        """One number for each value, (..., K)."""
        return self._sorted(outputs)[..., int(np.abs(np.array(self.levels) - 0.5).argmin())]

    def ends(self, outputs: NDArray[np.floating]) -> Ends:
        """What intervals are put around."""
        found = self._sorted(outputs)
        return Ends(found[..., 0], found[..., -1], np.ones_like(found[..., 0]))

    def beside(self, outputs: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """Further numbers of each value, (..., K)."""
        found = self._sorted(outputs)
        return {f"q{level:g}": found[..., at] for at, level in enumerate(self.levels)}

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"quantiles": list(self.levels)}


@dataclass(frozen=True)
class Gaussian(Outputs):
    r"""Mean :math:`\mu` and standard deviation :math:`\sigma`, by the negative log likelihood.

    .. math:: \log \sigma + (y - \mu)^2 / (2 \sigma^2)

    as a mean over places, with :math:`\sigma = \log(1 + e^o) + 0.001` of an output o, in the units
    of the series. 80 % intervals are as many deviations wide as hold what they are to hold.

    Source: D. Nix and A. Weigend, Estimating the mean and variance of the target probability
    distribution, 1994.
    """

    width = 2

    @property
    def loss(self) -> str | Loss:
        """What the training minimises."""

        def likelihood(output: Tensor, target: Tensor) -> Tensor:
            there = due(target)
            rows = output.reshape(*target.shape, 2)
            deviation = softplus(rows[..., 1]) + LEAST_DEVIATION
            off = torch.where(there, target - rows[..., 0], 0.0) / deviation
            losses = torch.where(there, deviation.log() + off.square() / 2, 0.0)
            return losses.sum() / there.sum().clamp(min=1)

        return likelihood

    def point(self, outputs: NDArray[np.floating]) -> NDArray[np.floating]:
        """One number for each value, (..., K)."""
        return outputs[..., 0::2]

    def deviation(self, outputs: NDArray[np.floating]) -> NDArray[np.floating]:
        """Of each value, (..., K), in the units of the outputs."""
        return np.logaddexp(0.0, outputs[..., 1::2]) + LEAST_DEVIATION

    def ends(self, outputs: NDArray[np.floating]) -> Ends:
        """What intervals are put around."""
        mean = self.point(outputs)
        return Ends(mean, mean, self.deviation(outputs))

    def beside(self, outputs: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """Further numbers of each value, (..., K)."""
        return {"sd": self.deviation(outputs)}

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"gaussian": True}


POINT = Point()


def outputs_of(quantiles: tuple[float, ...] | None, gaussian: bool) -> Outputs:
    """Those of some settings."""
    if quantiles is not None:
        return Quantiles(quantiles)
    return Gaussian() if gaussian else POINT


def from_dict(record: object) -> Outputs:
    """Those of `to_dict`; of None the values themselves.

    Raises:
        DataError: it is damaged.
    """
    if record is None:
        return POINT
    known = closed(record, (), "outputs", ("quantiles", "gaussian"))
    levels = known.get("quantiles")
    return outputs_of(
        None if levels is None else numbers(levels, "outputs: quantiles"),
        known.get("gaussian") is True,
    )
