r"""Norms of products of Jacobians over all lags, of chosen chains: exact, or by few vectors.

For a chain that ends at t, :math:`P_k = J_t J_{t-1} \cdots J_{t-k+1} = \partial s_t / \partial
s_{t-k}`. All products are kept rescaled, with the logarithm of their scale beside them, so that
neither overflow nor underflow ends a curve.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longlag.memory.measures.chains import Chains

RANK = 2
"""Left singular vectors that each anchor hands to the final pass."""

BLOCK = 8
"""Random vectors with which the long anchors begin, and with which what is left is measured."""

KRYLOV = 12
"""Golub-Kahan steps of the short anchors."""

SHORT = 32
"""The last lag that is a short anchor."""

ROUNDS = 2
"""Steps of subspace iteration of the long anchors."""

AT_ONCE = 1 << 25
"""Numbers that the products of some chains may take."""


@dataclass
class ChainNorms:
    """Natural logarithms by chain and lag, (M, L) in float64, R replicas in front.

    Attributes:
        largest, frobenius: of the largest singular value and the Frobenius norm.
        smallest: of the smallest singular value; None where it was not asked for.
        largest_error: how much greater the true largest can be; zeros where exact.
        frobenius_error: one standard error; zeros where exact.
    """

    largest: Tensor
    frobenius: Tensor
    smallest: Tensor | None
    largest_error: Tensor
    frobenius_error: Tensor

    @staticmethod
    def same(norms: Tensor) -> "ChainNorms":
        """The same numbers for all, where there is nothing to tell them apart."""
        return ChainNorms(norms, norms, None, norms, norms)


def exact_norms(chains: Chains, lags: Sequence[int], smallest: bool) -> ChainNorms:
    r"""From the whole matrix P_k, and a singular value decomposition at each lag.

    The smallest singular value is :math:`1 / \lVert P_k^{-1} \rVert`, from the running product of
    the inverses: in P_k itself it is lost as soon as the largest is 1/eps times as large. Where a
    Jacobian is singular, in floating point, it is 0 from there on, and its logarithm is -inf.

    Cost for each chain: at each lag two products of (S, S) with the matrices of the cell, one
    inverse more for the smallest, and at each of ``lags`` some 10 S^3 operations.
    """
    size, front, wanted = chains.size, chains.front, set(lags)
    device, dtype = chains.ends.device, chains.passes[0].drive.dtype
    ones = torch.eye(size, dtype=dtype, device=device).expand(*front, size, size)
    product, scale = ones, torch.zeros(front, dtype=torch.float64, device=device)
    inverse, inverse_scale = ones, scale.clone()
    singular = torch.zeros(front, dtype=torch.bool, device=device)
    largest, frobenius, least = [], [], []
    for lag in range(lags[-1] + 1 if lags else 0):
        if lag:
            product, scale = _rescaled(chains.back(lag, product), scale)
            if smallest:
                factor = chains.back(lag, ones)
                own, info = torch.linalg.inv_ex(factor)
                singular = singular | (info != 0) | _lost(own, factor)
                own = own.masked_fill(singular[..., None, None], 0.0)
                inverse, inverse_scale = _rescaled(own @ inverse, inverse_scale)
        if lag in wanted:
            values = _singular_values(product).double()
            largest.append(values[..., 0].log() + scale)
            frobenius.append(torch.linalg.vector_norm(values, dim=-1).log() + scale)
            if smallest:
                most = _singular_values(inverse.double())[..., 0]
                logs = -(most.log() + inverse_scale).masked_fill(singular, math.inf)
                least.append(logs.masked_fill(values[..., 0].isnan(), math.nan))

    def by_lag(logs: list[Tensor]) -> Tensor:
        return torch.stack(logs, -1) if logs else scale.new_zeros((*front, 0))

    norms = by_lag(largest)
    zero = torch.zeros_like(norms)
    return ChainNorms(norms, by_lag(frobenius), by_lag(least) if smallest else None, zero, zero)


def _singular_values(matrices: Tensor) -> Tensor:
    """The same as svdvals, but NaN for a matrix that is not finite, where that raises an error."""
    finite = matrices.isfinite().all(-1).all(-1)
    if bool(finite.all()):
        return torch.linalg.svdvals(matrices)
    values = torch.linalg.svdvals(matrices.masked_fill(~finite[..., None, None], 0.0))
    return values.masked_fill(~finite.unsqueeze(-1), torch.nan)


def _lost(inverse: Tensor, matrix: Tensor) -> Tensor:
    """Whether rounding has made up the inverse: the condition is beyond what is held."""
    condition = torch.linalg.matrix_norm(inverse) * torch.linalg.matrix_norm(matrix)
    most = 1 / (torch.finfo(matrix.dtype).eps * matrix.shape[-1])
    return ~(condition < most)


def vectors_for(size: int, longest: int) -> int:
    """About how many vectors :func:`vector_norms` sends through each step of a chain."""
    return min(size, RANK * len(_anchors(longest))) + 5 * BLOCK


def vector_norms(chains: Chains, lags: Sequence[int], generator: torch.Generator) -> ChainNorms:
    r"""From a few vectors of each chain: lower bounds of the largest singular value, close ones.

    1. At anchors, lags that grow by a factor of :math:`\sqrt 2` or 2, the leading left singular
       vectors of P_k are found: for short lags by Golub-Kahan bidiagonalisation, for long ones,
       all side by side, by two steps of subspace iteration from random vectors.
    2. Q, an orthonormal basis of them all, is sent back through all lags. The left singular vectors
       of P_k change with k only slowly, and converge as k grows, so
       :math:`\lVert P_k^\top Q \rVert_2` is close to :math:`\lVert P_k \rVert_2`; it is never
       greater.
    3. What Q has missed is measured by random vectors :math:`\omega` in its complement:
       :math:`\lVert P_k \rVert_F^2 = \lVert P_k^\top Q \rVert_F^2
       + \mathrm{E} \lVert P_k^\top (1 - Q Q^\top) \omega \rVert^2`. It also bounds the largest
       singular value from above: its square is at most
       :math:`\lVert P_k^\top Q \rVert_2^2` plus that mean.

    Cost: :func:`vectors_for` vectors through each step; no matrix of (S, S) is made.

    Sources: N. Halko, P. G. Martinsson and J. A. Tropp, Finding structure with randomness, SIAM
    Review 53(2), 2011 (subspace iteration); R. A. Meyer et al., Hutch++: optimal stochastic trace
    estimation, SOSA 2021 (the third part).
    """
    basis = _basis(chains, lags[-1] if lags else 0, generator)
    count = basis.shape[-2]
    probes = _random(chains, BLOCK, generator)
    probes = probes - (probes @ basis.mT) @ basis
    scale = torch.zeros(chains.front, dtype=torch.float64, device=basis.device)
    wanted, vectors = set(lags), torch.cat([basis, probes], -2)
    grams, left, scales = [], [], []
    for lag in range(lags[-1] + 1 if lags else 0):
        if lag:
            vectors, scale = _rescaled(chains.back(lag, vectors), scale)
        if lag in wanted:
            rows = vectors[..., :count, :]
            grams.append(rows @ rows.mT)
            left.append(vectors[..., count:, :].square().sum(-1))
            scales.append(scale)
    if not grams or not scale.numel():
        return ChainNorms.same(scale.new_zeros((*chains.front, len(grams))))
    gram = torch.stack(grams, -3).double()
    values = torch.linalg.eigvalsh(gram)[..., -1].clamp(min=0)
    rest, scale = torch.stack(left, -2).double(), torch.stack(scales, -1)
    missed = rest.mean(-1)
    total = gram.diagonal(dim1=-2, dim2=-1).sum(-1) + missed
    error = rest.std(-1) / math.sqrt(BLOCK)
    return ChainNorms(
        0.5 * values.log() + scale,
        0.5 * total.log() + scale,
        None,
        0.5 * torch.log1p(missed / values).nan_to_num(0.0),
        (0.5 * error / total).nan_to_num(0.0),
    )


def _anchors(longest: int) -> list[int]:
    """Lags at which singular vectors are found: all powers of sqrt(2), later of 2, and the end."""
    lags = [1, 2, 3, 4, 6, 8, 11, 16, 23, SHORT]
    while lags[-1] < longest:
        lags.append(2 * lags[-1])
    return sorted({min(lag, longest) for lag in lags if longest})


def _random(chains: Chains, count: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randn((*chains.front, count, chains.size), generator=generator)
    return drawn.to(chains.passes[0].drive)


def _basis(chains: Chains, longest: int, generator: torch.Generator) -> Tensor:
    """Orthonormal rows (M, K, S) that hold the leading left singular vectors of all lags."""
    anchors = _anchors(longest)
    vectors = [_random(chains, 1, generator)]
    for lag in (lag for lag in anchors if lag <= SHORT):
        vectors.append(_golub_kahan(chains, lag, generator))
    if anchors and anchors[-1] > SHORT:
        vectors += _sweep(chains, [lag for lag in anchors if lag > SHORT], generator)
    rows = torch.cat(vectors, -2)[..., : chains.size, :]
    return torch.linalg.qr(rows.mT).Q.mT.contiguous()


def _golub_kahan(chains: Chains, lag: int, generator: torch.Generator) -> Tensor:
    """The leading left singular vectors of P at a lag, (M, RANK, S)."""
    steps = min(KRYLOV, chains.size)
    u = _unit(_random(chains, 1, generator))
    left = [u]
    for _ in range(steps - 1):
        v = u
        for step in range(1, lag + 1):
            v = _unit(chains.back(step, v))
        for step in range(lag, 0, -1):
            v = _unit(chains.ahead(step, v))
        for _ in range(2):  # once is not enough where rounding has spoiled the first
            basis = torch.cat(left, -2)
            v = _unit(v - (v @ basis.mT) @ basis)
        u = v
        left.append(u)
    basis = torch.cat(left, -2)
    sent = basis
    for step in range(1, lag + 1):
        sent, _ = _rescaled(chains.back(step, sent), None)
    _, vectors = torch.linalg.eigh((sent @ sent.mT).double())
    chosen = vectors[..., -RANK:].to(basis.dtype)
    return chosen.mT @ basis


def _sweep(chains: Chains, anchors: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """The same for many long lags: back from t, and ahead from all anchors together, twice."""
    begin = _random(chains, min(BLOCK, chains.size), generator)
    blocks = dict.fromkeys(anchors, begin)
    for _ in range(ROUNDS):
        right: dict[int, Tensor] = {}
        going = begin if blocks[anchors[0]] is begin else torch.cat(list(blocks.values()), -2)
        rows = blocks[anchors[0]].shape[-2]
        for lag in range(1, anchors[-1] + 1):
            going = _unit(chains.back(lag, going))
            if lag in anchors:
                right[lag] = _leading(going[..., :rows, :], RANK + 1)
                going = going if going.shape[-2] == rows else going[..., rows:, :]
        ahead = begin[..., :0, :]
        for lag in range(anchors[-1], 0, -1):
            ahead = torch.cat([ahead, right[lag]], -2) if lag in right else ahead
            ahead = _unit(chains.ahead(lag, ahead))
        count = ahead.shape[-2] // len(anchors)
        parts = ahead.split(count, -2)
        blocks = {
            lag: _leading(part, count) for lag, part in zip(anchors[::-1], parts, strict=True)
        }
        blocks = {lag: blocks[lag] for lag in anchors}
    return [block[..., :RANK, :] for block in blocks.values()]


def _leading(rows: Tensor, count: int) -> Tensor:
    """The leading right singular vectors of rows (M, K, S): (M, count, S), or K if that is less."""
    return torch.linalg.svd(rows, full_matrices=False).Vh[..., :count, :].contiguous()


def _unit(vectors: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(norm == 0, 1.0, norm)


def _rescaled(product: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """The product of each chain with its largest number 1, and the logarithm of its scale."""
    most = product.abs().amax((-2, -1))
    most = torch.where(most == 0, 1.0, most)
    product = product / most[..., None, None]
    return product, most.double().log() if scale is None else scale + most.double().log()


def chunks(count: int, size: int) -> list[slice]:
    """Slices of at most ``size`` of ``count`` things."""
    if not count:
        return [slice(0, 0)]
    ends = [*range(0, count, max(1, size)), count]
    return [slice(*pair) for pair in itertools.pairwise(ends)]
