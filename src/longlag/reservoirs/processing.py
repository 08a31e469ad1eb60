"""What a reservoir computes of its past inputs, function by function and degree by degree."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longlag.arguments import check_number, check_whole
from longlag.layers.base import RecurrentModule
from longlag.layers.evaluation import evaluation_mode
from longlag.reservoirs.driven import check_reservoir, noise, outputs

PRODUCTS = 1000
"""How many products of a degree there are at most, where no longest delay is asked for."""

AT_ONCE = 1 << 18
"""Numbers that are there at once: 2 MB, which a cache holds."""


class Factor(NamedTuple):
    """A Legendre polynomial of one past input.

    Attributes:
        delay: k.
        degree: of the polynomial.
        feature: of x.
    """

    delay: int
    degree: int
    feature: int = 0


@dataclass(frozen=True)
class ProcessingCapacities:
    """What :func:`information_processing_capacity` finds.

    Attributes:
        products: M functions of the past input, each as its factors.
        capacities: (M,), in 0 .. 1, how much of each the states hold, in float64.
        threshold: what chance explains: a capacity below it counts as 0.
        rank: directions in which the states vary, at most H; the total cannot exceed it, but for
            an error of about ``rank / steps`` for each product that counts.
    """

    products: tuple[tuple[Factor, ...], ...]
    capacities: Tensor
    threshold: float
    rank: int

    @property
    def by_degree(self) -> dict[int, float]:
        """The sum over the products of each degree; that of 1 is the memory capacity."""
        sums: dict[int, float] = {}
        for product, capacity in zip(self.products, self.capacities.tolist(), strict=True):
            degree = sum(factor.degree for factor in product)
            sums[degree] = sums.get(degree, 0.0) + capacity
        return sums

    @property
    def total(self) -> float:
        """The information processing capacity, as far as the products reach."""
        return float(self.capacities.sum())


def information_processing_capacity(
    layer: RecurrentModule,
    degree: int = 3,
    delays: int | Sequence[int] | None = None,
    *,
    steps: int = 20000,
    washout: int | None = None,
    amplitude: float = 1.0,
    chance: float = 1e-4,
    seed: Any = 0,
) -> ProcessingCapacities:
    r"""The information processing capacity: which functions of past inputs the states hold.

    .. math:: y_t = \prod_i P_{d_i}(u_{t-k_i} / A), \qquad
        C_y = 1 - \min_w \frac{\sum_t (y_t - w^\top h_t)^2}{\sum_t y_t^2}

    u is independent noise, uniform in ± A, and P are the Legendre polynomials, so that all products
    are uncorrelated. Their capacities add up to at most H, the number of units; to as many as there
    are independent states, where the reservoir has fading memory and no product is left out.
    Degree 1 is memory, the others are what is computed. What r independent states explain of any
    series of T steps is taken from each C, which becomes 1 - (1 - C) (T - 1) / (T - 1 - r), as an
    adjusted R^2.

    Args:
        layer: a module that reads forward; it is not changed.
        degree: D, the largest sum of the degrees :math:`d_i`, >= 1.
        delays: the longest delay, from 0 on, of all degrees, or of each of them; None for as long
            as a degree has at most 1000 products, and at most 2 H.
        steps: T behind the washout, more than H.
        washout: steps before, at least the longest delay; None for 100 more than it.
        amplitude: A > 0.
        chance: in (0, 1]: a capacity that is exceeded with this probability by a product which the
            states do not hold counts as 0. C T is then chi-squared with one degree of freedom for
            each independent state. 1 sets none to 0.
        seed: for the noise: a whole number, or a generator.

    Raises:
        TypeError, ValueError: an argument is out of range, a state is not finite, or the layer
            reads no features, reads in both directions or has replicas.

    Cost: two runs over T steps, H^2 and H M multiply-adds for each step of them, M the number of
    products. All sums are in float64.

    Source: J. Dambre, D. Verstraeten, B. Schrauwen and S. Massar, Information processing capacity
    of dynamical systems, Scientific Reports 2, 2012.

    Example:
        >>> import longlag as ll
        >>> layer = ll.EchoState(1, 10, input_scaling=0.5, seed=0, dtype=torch.float64)
        >>> measured = ll.reservoirs.information_processing_capacity(layer, 3, steps=4000)
        >>> list(measured.by_degree), 7.0 < measured.total < 10.0
        ([1, 2, 3], True)
    """
    method = "information_processing_capacity"
    check_reservoir(layer, method)
    check_whole("degree", degree, 1)
    longest = _longest(delays, degree, layer)
    check_whole("steps", steps, layer.output_size + 1)
    most = max(longest)
    washout = most + 100 if washout is None else check_whole("washout", washout, most)
    check_number("amplitude", amplitude, above=0.0)
    check_number("chance", chance, above=0.0, most=1.0)
    products = tuple(
        product
        for number, delay in enumerate(longest, 1)
        for product in _products(number, delay, layer.input_size)
    )
    x = noise(layer, 1, washout + steps, amplitude, seed, method)
    with evaluation_mode(layer):
        states = _States.of(_behind(outputs(layer, x, method), washout), layer)
        behind = _behind(outputs(layer, x, method), washout)
        capacities = _capacities(states, behind, x[0].double() / amplitude, products, washout)
    rank = states.whitening.shape[1]
    threshold = _threshold(chance, rank) / steps
    # What `rank` numbers explain of any series of so many steps.
    free = steps - 1 - rank
    without_chance = 1.0 - (1.0 - capacities) * (steps - 1) / free
    capacities = without_chance.where(capacities >= threshold, 0.0).cpu()
    return ProcessingCapacities(products, capacities, threshold, rank)


def _longest(delays: Any, degree: int, layer: RecurrentModule) -> list[int]:
    """The longest delay of each degree."""
    if delays is None:
        return [_reach(number, layer) for number in range(1, degree + 1)]
    if not isinstance(delays, Sequence):
        expected = "a whole number, one for each degree, or None"
        return [check_whole("delays", delays, 0, expected=expected)] * degree
    if len(delays) != degree:
        raise ValueError(
            f"delays: got {len(delays)} numbers, expected one, or {degree}, one for each degree"
        )
    return [check_whole("delays", delay, 0) for delay in delays]


def _reach(degree: int, layer: RecurrentModule) -> int:
    """The longest delay, at most 2 H, up to which a degree has no more than so many products."""
    delay = 0
    while delay < 2 * layer.output_size:
        variables = (delay + 2) * layer.input_size
        if math.comb(variables + degree - 1, degree) > PRODUCTS:
            break
        delay += 1
    return delay


def _products(degree: int, longest: int, features: int) -> Iterator[tuple[Factor, ...]]:
    """All products of a degree."""
    variables = [(delay, feature) for delay in range(longest + 1) for feature in range(features)]
    for chosen in combinations_with_replacement(variables, degree):
        yield tuple(
            Factor(delay, count, feature) for (delay, feature), count in Counter(chosen).items()
        )


def _behind(pieces: Iterator[Tensor], washout: int) -> Iterator[tuple[int, Tensor]]:
    """The states (n, H) of a sequence behind the washout, each with the step of its first."""
    first = 0
    for piece in pieces:
        start = max(0, washout - first)
        if start < piece.shape[1]:
            yield first + start, piece[0, start:]
        first += piece.shape[1]


class _States(NamedTuple):
    """What makes the states uncorrelated and of one size: (h - mean) whitening.

    Attributes:
        mean: (H,).
        whitening: (H, rank).
    """

    mean: Tensor
    whitening: Tensor

    @classmethod
    def of(cls, pieces: Iterator[tuple[int, Tensor]], layer: RecurrentModule) -> "_States":
        like = layer.like
        r = like.new_zeros((0, layer.output_size + 1), dtype=torch.float64)
        for _, h in pieces:
            row = torch.cat([torch.ones_like(h[:, :1]), h], -1)
            for part in row.split(max(1024, row.shape[1])):
                r = torch.linalg.qr(torch.cat([r, part]), mode="r").R
        # The first column is constant: what is below the first row is the factor of h - mean.
        _, s, v = torch.linalg.svd(r[1:, 1:], full_matrices=False)
        kept = s > s[0] * len(s) * torch.finfo(like.dtype).eps
        return cls(r[0, 1:] / r[0, 0], v[kept].mT / s[kept])


def _capacities(
    states: _States,
    pieces: Iterator[tuple[int, Tensor]],
    u: Tensor,
    products: Sequence[tuple[Factor, ...]],
    washout: int,
) -> Tensor:
    """Of each product, the share of its variance that a linear readout of the states has."""
    degree = max(sum(factor.degree for factor in product) for product in products)
    longest = max(factor.delay for product in products for factor in product)
    polynomials = _legendre(u, degree)
    rows = _rows(products, degree, longest, u.shape[1]).to(u.device)
    rank = states.whitening.shape[1]
    seen = u.new_zeros(rank, len(products))
    square, total = u.new_zeros(2, len(products))
    size = max(1, AT_ONCE // (len(products) + (degree + 1) * (longest + 1) * u.shape[1]))
    for start, every in pieces:
        for first, h in zip(range(start, start + len(every), size), every.split(size), strict=True):
            z = (h - states.mean) @ states.whitening
            stop = first + len(h)
            past = [polynomials[:, first - k : stop - k] for k in range(longest + 1)]
            table = torch.stack(past, 1).transpose(-1, -2).flatten(0, 2)  # (degree delay C, n)
            y = table.index_select(0, rows[0])  # (M, n)
            for more in rows[1:]:
                y *= table.index_select(0, more)
            seen += z.mT @ y.mT
            square += y.square().sum(-1)
            total += y.sum(-1)
    variation = square - total.square() / (len(u) - washout)
    return (seen.square().sum(0) / variation).clamp(max=1.0)


def _legendre(u: Tensor, degree: int) -> Tensor:
    """P_0 .. P_degree of numbers in [-1, 1], (degree + 1, *u)."""
    values = [torch.ones_like(u), u]
    for n in range(1, degree):
        values.append(((2 * n + 1) * u * values[n] - n * values[n - 1]) / (n + 1))
    return torch.stack(values)


def _rows(
    products: Sequence[tuple[Factor, ...]], degree: int, longest: int, features: int
) -> Tensor:
    """The row in the table of each factor of each product, (degree, M); row 0 is constant 1."""
    rows = torch.zeros(degree, len(products), dtype=torch.long)
    for number, product in enumerate(products):
        for place, factor in enumerate(product):
            delays = factor.degree * (longest + 1) + factor.delay
            rows[place, number] = delays * features + factor.feature
    return rows


def _threshold(chance: float, rank: int) -> float:
    """What a chi-squared number of so many degrees of freedom exceeds with this probability."""
    from scipy.special import chdtri  # some hundredths of a second, which few need

    return float(chdtri(rank, chance)) if rank and chance < 1.0 else 0.0
