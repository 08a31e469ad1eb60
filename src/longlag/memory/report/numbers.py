"""The numbers that the verdict and the advice of a report follow from."""

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import nn

from longlag.memory.measures.directions import Directions, by_direction
from longlag.memory.measures.exchange import PastEffects
from longlag.memory.measures.flow import ErrorFlow, LayerFlow, entrances
from longlag.memory.measures.lyapunov import LyapunovSpectrum
from longlag.memory.measures.spectra import SpectralFacts
from longlag.memory.measures.task_lag import TaskLag

Kind = Literal["remembers", "holds", "vanishes", "explodes", "too short", "not finite"]
"""What a verdict can be."""

HELD = 0.1
"""What exchanging the past has to change where it is held, of the distance of two outputs."""


class Numbers(NamedTuple):
    """What a verdict follows from.

    Attributes:
        layer: the recurrent module.
        steps: T, the longest sequence.
        lag: of the task, in steps, as it was given; None where it was not.
        fraction: of the value at lag 0 that the horizon asks for.
        horizon, noise: lags at which the error is below the fraction, and below the rounding, in
            the median over the sequences; None for not within the steps seen.
        by_layer: the horizon of each layer or direction by its name.
        rate: the mean logarithm of the error's factor a step, up to the horizon; NaN without one.
        growth: the logarithm of the error's largest value over that at lag 0.
        facts: of each layer by name.
        half: the lag within which half of the gradient of the recurrent weights arises; None where
            it is not known.
        units, carriers: how many units there are, and the fewest that hold half of the squared
            error that is left at the lag, or after T steps; 0 where none is left.
        held: the greatest lag up to which exchanging the past changes the output by a tenth of the
            distance between two outputs; None for none, or not found.
        exponent: the largest Lyapunov exponent and its standard error; None where not found.
        finite: whether weights and states are finite.
        of_loss: whether the error is that of a loss, not a random one.
        interval: in which the horizon of other such sequences is to be expected; None for one over
            too few.
        sequences: over how many the horizon is the median.
        found: what was found of the task's lag where none was given; None where it was not
            looked for.
        reads: "last", "mean", "share", ...: what the readout reads of a sequence; None: each step.
    """

    layer: nn.Module
    steps: int
    lag: int | None
    fraction: float
    horizon: int | None
    noise: int | None
    by_layer: dict[str, int | None]
    rate: float
    growth: float
    facts: dict[str, SpectralFacts]
    half: int | None
    units: int
    carriers: int
    held: int | None
    exponent: tuple[float, float] | None
    finite: bool
    of_loss: bool
    interval: tuple[int | None, int | None] | None = None
    sequences: int = 1
    found: TaskLag | None = None
    reads: str | None = "last"

    @property
    def known_lag(self) -> int | None:
        """The lag that was given, or else the one that was found; None for neither."""
        if self.lag is None and self.found is not None:
            return self.found.lag
        return self.lag

    @property
    def reads_all(self) -> bool:
        """Whether one answer is made of all steps, so that the error comes to each directly."""
        return self.reads not in (None, "last")


def numbers_of(
    recurrent: nn.Module, *, steps: int, lag: int | None, fraction: float, flow: ErrorFlow,
    of_loss: bool, facts: dict[str, SpectralFacts], exchange: PastEffects | None, finite: bool,
    lyapunov: LyapunovSpectrum | Directions[LyapunovSpectrum] | None, found: TaskLag | None,
    reads: str | None,
) -> Numbers:  # fmt: skip
    """The numbers of a recurrent module; the arguments are those of `MemoryReport`."""
    layers = entrances(flow)
    entrance = furthest(layers, fraction)
    over = entrance.over_sequences(fraction)
    far, eps = over.median, entrance.precision
    numbers = Numbers(
        layer=recurrent, steps=steps, lag=lag, fraction=fraction, horizon=far,
        noise=longest(layer.over_sequences(eps).median for layer in layers),
        by_layer={
            layer.layer or "layer": layer.over_sequences(fraction).median for layer in flow.layers
        },
        rate=_rate(entrance, far, fraction), growth=max(map(_growth, layers)), facts=facts,
        half=_half(layers), units=0, carriers=0,
        held=None if exchange is None else exchange.reach(HELD), exponent=_exponent(lyapunov),
        finite=finite, of_loss=of_loss, interval=over.interval, sequences=over.sequences,
        found=found, reads=reads,
    )  # fmt: skip
    known = numbers.known_lag
    units, carriers = _carriers(layers, steps if known is None else known)
    return numbers._replace(units=units, carriers=carriers)


def furthest(layers: Iterable[LayerFlow], fraction: float) -> LayerFlow:
    """The layer whose horizon is the longest."""
    return max(layers, key=lambda layer: _beyond_all(layer.over_sequences(fraction).median))


def _beyond_all(lag: int | None) -> float:
    return math.inf if lag is None else lag


def _rate(layer: LayerFlow, far: int | None, fraction: float) -> float:
    """The mean logarithm of the error's factor a step up to the horizon; NaN without one."""
    if not far:
        return math.nan
    assert layer.by_sequence is not None
    curves = layer.by_sequence.double()
    left = float((curves[:, far] / curves[:, 0]).log().nanmedian())
    return (left if math.isfinite(left) else math.log(fraction)) / far


def _growth(layer: LayerFlow) -> float:
    """The logarithm of the error's largest value over that at lag 0, of all sequences together."""
    assert layer.by_lag is not None
    logs = (layer.by_lag.double() / layer.by_lag[0]).log()
    return max((g for g in logs.tolist() if not math.isnan(g)), default=0.0)


def longest(horizons: Iterable[int | None]) -> int | None:
    """The longest of some horizons; None where one of them is not within the steps seen."""
    known = list(horizons)
    return None if None in known or not known else max(lag for lag in known if lag is not None)


def _exponent(
    lyapunov: LyapunovSpectrum | Directions[LyapunovSpectrum] | None,
) -> tuple[float, float] | None:
    """The largest exponent of all directions and its error; None where none is finite."""
    spectra = {} if lyapunov is None else by_direction(lyapunov)
    leading = max(
        ((float(one.exponents[0]), float(one.error[0])) for one in spectra.values()),
        default=None,
    )
    return leading if leading is not None and math.isfinite(leading[0]) else None


def _carriers(layers: list[LayerFlow], lag: int) -> tuple[int, int]:
    """How many units there are, and the fewest that hold half of what is left at a lag."""
    rows = [layer.by_unit for layer in layers if layer.by_unit is not None]
    squares = torch.cat([row[min(lag, len(row) - 1)].double().square() for row in rows])
    total = float(squares.sum())
    if not total > 0:
        return len(squares), 0
    held = squares.sort(descending=True).values.cumsum(0)
    return len(squares), int((held < 0.5 * total).sum()) + 1


def _half(layers: list[LayerFlow]) -> int | None:
    """The lag up to which half of the gradient of the recurrent weights arises; None without."""
    for layer in layers:
        for name, share in layer.shares().items():
            if "weight_hh" in name and float(share.sum()) > 0:
                return int((share.cumsum(-1) < 0.5).sum())
    return None
