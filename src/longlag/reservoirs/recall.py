"""How many of its past inputs a reservoir holds: the capacity of each delay, and their sum."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from longlag.arguments import check_number, check_whole
from longlag.batch import Batch
from longlag.layers.base import RecurrentModule
from longlag.layers.evaluation import evaluation_mode
from longlag.layers.sequence_model import SequenceModel
from longlag.reservoirs.driven import check_reservoir, noise
from longlag.reservoirs.ridge import Ridge
from longlag.reservoirs.rows import Rows


@dataclass(frozen=True)
class MemoryCapacities:
    """What :func:`memory_capacity` finds.

    Attributes:
        delays: K delays.
        capacities: (K, C), in 0 .. 1, for each delay and feature, in float64.
        size: H, which the total cannot exceed.
    """

    delays: tuple[int, ...]
    capacities: Tensor
    size: int

    @property
    def total(self) -> float:
        """The memory capacity: the sum over delays and features."""
        return float(self.capacities.sum())


def memory_capacity(
    layer: RecurrentModule,
    delays: int | Sequence[int] | None = None,
    *,
    steps: int = 5000,
    washout: int | None = None,
    amplitude: float = 1.0,
    alpha: float | Sequence[float] | None = 1e-9,
    chance: float = 1e-4,
    seed: Any = 0,
) -> MemoryCapacities:
    r"""The memory capacity: how well readouts recall the input of each delay.

    .. math:: MC = \sum_k \frac{\operatorname{cov}^2(u_{t-k}, y^k_t)}
        {\operatorname{var}(u_t) \operatorname{var}(y^k_t)}

    u is independent noise, uniform in ± amplitude; the readouts y, one for each delay and feature,
    are fitted by :class:`~longlag.Ridge` and measured on another series. The sum over all delays,
    0 among them, is at most H; linear networks reach it, nonlinear ones pay with it for what
    they compute (:func:`information_processing_capacity`).

    Args:
        layer: a module that reads forward; it is not changed.
        delays: the longest delay, from 0 on, or the delays themselves; None for 0 .. 2 H. Jaeger
            counts from 1: ``range(1, 101)``.
        steps: T, of the series for the fit and of the one for the measure, behind the washout.
        washout: steps before, at least the longest delay; None for 100 more than it.
        amplitude: of the noise, > 0.
        alpha: the penalty of the readouts, as for Ridge. One near 1e-15 shows what is there, a
            large one what is left under noise.
        chance: in (0, 1]: a capacity that an output without memory exceeds with this probability
            counts as 0. 1 leaves all as they are.
        seed: for the noise: a whole number, or a generator.

    Raises:
        TypeError, ValueError: an argument is out of range, a state is not finite, or the layer
            reads no features, reads in both directions or has replicas.

    Cost: two runs over T steps, and H (H + K C) multiply-adds for each step; memory: (T, K C)
    targets.

    Source: H. Jaeger, Short term memory in echo state networks, GMD report 152, 2001.

    Example:
        >>> import longlag as ll
        >>> layer = ll.EchoState(1, 10, topology="ring", spectral_radius=0.5, activation="identity",
        ...                      seed=0, dtype=torch.float64)
        >>> measured = ll.reservoirs.memory_capacity(layer, steps=500)
        >>> round(measured.total, 3)
        10.0
    """
    method = "memory_capacity"
    check_reservoir(layer, method)
    listed = _delays(delays, layer)
    check_whole("steps", steps, 2)
    longest = max(listed)
    washout = longest + 100 if washout is None else check_whole("washout", washout, longest)
    check_number("amplitude", amplitude, above=0.0)
    check_number("chance", chance, above=0.0, most=1.0)
    ridge = Ridge(alpha, washout=washout)
    with evaluation_mode(layer):
        model = SequenceModel(layer, len(listed) * layer.input_size, reduce=None, seed=0)
        fit, test = (
            _rows(model, noise(layer, 1, washout + steps, amplitude, seed, role), listed, washout)
            for role in (f"{method}: fit", f"{method}: test")
        )
        readout = ridge.solve(fit)
        capacities = _squared_correlations(test, readout.weight, readout.bias)
    threshold = NormalDist().inv_cdf(chance / 2.0) ** 2 / steps
    capacities = capacities.where(capacities >= threshold, 0.0)
    shape = (len(listed), layer.input_size)
    return MemoryCapacities(listed, capacities.view(shape).cpu(), layer.output_size)


def _delays(delays: Any, layer: RecurrentModule) -> tuple[int, ...]:
    if delays is None:
        delays = 2 * layer.output_size
    if not isinstance(delays, Sequence):
        expected = "a whole number, a sequence of them, or None"
        return tuple(range(check_whole("delays", delays, 0, expected=expected) + 1))
    if not delays:
        raise ValueError("delays: got no number, expected at least one")
    return tuple(check_whole("delays", delay, 0) for delay in delays)


def _rows(model: SequenceModel, x: Tensor, delays: Sequence[int], washout: int) -> Rows:
    steps = x.shape[1]
    past = [x[0, washout - delay : steps - delay] for delay in delays]
    target = x.new_full((1, steps, len(delays) * x.shape[-1]), torch.nan)
    target[0, washout:] = torch.cat(past, -1)
    return Rows(model, lambda: [Batch(x, target)], False, washout, "memory_capacity")


def _squared_correlations(rows: Rows, weight: Tensor, bias: Tensor) -> Tensor:
    """Of each output with its target; 0 where the output is constant."""
    sums = weight.new_zeros(5, len(weight))
    count = 0
    for piece in rows:
        y, target = piece.h.double() @ weight.mT + bias, piece.target
        parts = (y, target, y.square(), target.square(), y * target)
        sums += torch.stack([part.sum(0) for part in parts])
        count += len(y)
    mean_y, mean_u, square_y, square_u, product = sums / count
    variance_y = square_y - mean_y.square()
    variance_u = square_u - mean_u.square()
    covariance = product - mean_y * mean_u
    varies = variance_y > 1e-12 * square_y  # what is left of a constant after rounding
    capacity = covariance.square() / (variance_y * variance_u).where(varies, 1.0)
    return capacity.where(varies, 0.0).clamp(max=1.0)
