r"""How the influence of the past on the state grows or fades with the lag.

Sources: S. Hochreiter, Untersuchungen zu dynamischen neuronalen Netzen, diploma thesis, TU Munich,
1991; Y. Bengio, P. Simard and P. Frasconi, Learning long-term dependencies with gradient descent is
difficult, IEEE Transactions on Neural Networks 5(2), 1994.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longlag.gradients.layer_pass import Pass
from longlag.gradients.model_pass import ModelPass
from longlag.memory.measures import chain_norms
from longlag.memory.measures.chain_norms import (
    ChainNorms,
    chunks,
    exact_norms,
    vector_norms,
    vectors_for,
)
from longlag.memory.measures.directions import Directions, both_ways, recurrent_of
from longlag.memory.measures.linear import Chains, joint_size

__all__ = ["JacobianNorms", "LogStatistics", "jacobian_norms"]

CHAINS = 16
"""End times that are looked at where nothing is said."""

BUDGET = 2e11
"""Operations that the products with vectors may cost where nothing is said; 2 chains at least."""

EXACT = 4e9
"""Operations up to which `method="auto"` is exact."""

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class LogStatistics:
    """Natural logarithms of a norm by lag, over end times and sequences.

    Attributes:
        values: by chain and lag, (M, L) in float64, R replicas in front; NaN where the chain does
            not reach so far back; -inf for a norm of 0.
    """

    values: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """The mean of the logarithms, (L,): the geometric mean of the norm, as a logarithm."""
        return self.values.nanmean(-2)

    @cached_property
    def quantiles(self) -> Tensor:
        """Their quantiles 0.1, 0.5 and 0.9, (3, L)."""
        if not self.values.numel():
            return self.values.new_full((3, *self.mean.shape), torch.nan)
        # Between two values of -inf there is no number to interpolate.
        finite = self.values.nan_to_num(nan=torch.nan, posinf=torch.inf, neginf=-1e300)
        levels = torch.tensor(QUANTILES, dtype=finite.dtype, device=finite.device)
        found = torch.nanquantile(finite, levels, -2)
        return found.masked_fill(found < -1e290, -torch.inf)


@dataclass(frozen=True)
class JacobianNorms:
    r"""Norms of :math:`\partial s_t / \partial s_{t-k}` by lag k.

    Attributes:
        lags: (L,), the lags k in order, from 0.
        largest: statistics of the logarithm of the largest singular value, the spectral norm.
        frobenius: of the Frobenius norm.
        smallest: of the smallest singular value; None where it was not found.
        method: "exact" or "vectors".
        sequences, ends: (M,), the chains: the sequence n from 0, and the step t from 1 at which
            each chain ends.
        largest_error: (L,), 0 for "exact". For "vectors" the values of ``largest`` are lower
            bounds; on average over the chains they lie no further below the truth than this, as
            estimated by random vectors.
        frobenius_error: (L,), 0 for "exact"; else the mean over the chains of one standard error.
        size: S, the numbers of the state.

    R replicas put an R in front of all but ``lags``.
    """

    lags: Tensor
    largest: LogStatistics
    frobenius: LogStatistics
    smallest: LogStatistics | None
    method: str
    sequences: Tensor
    ends: Tensor
    largest_error: Tensor
    frobenius_error: Tensor
    size: int

    @property
    def exact(self) -> bool:
        """Whether all values are exact to rounding."""
        return self.method == "exact"

    @property
    def count(self) -> Tensor:
        """How many chains reach each lag, (L,)."""
        return (~self.largest.values.isnan()).sum(-2)


def jacobian_norms(
    model: nn.Module,
    x: Tensor,
    *,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    state: Any = None,
    lags: int | Sequence[int] | None = None,
    sample: int | Literal["all", "ends"] | None = None,
    seed: int = 0,
    method: Literal["auto", "exact", "vectors"] = "auto",
    smallest: bool | None = None,
) -> JacobianNorms | Directions[JacobianNorms]:
    r"""Norms of :math:`\partial s_t / \partial s_{t-k} = J_t J_{t-1} \cdots J_{t-k+1}` by lag k.

    The products are kept rescaled, and all results are natural logarithms, so that curves of any
    length neither overflow nor underflow. J_t is that of
    :func:`~longlag.memory.state_jacobians`. A product reaches back to the state before the first
    step, or to the last reset; longer lags of that chain do not count.

    Args:
        model: a recurrent layer, a stack, a bidirectional module, or a `SequenceModel` around one.
            In a stack the state is that of all layers together.
        x: (N, T, C).
        lengths: (N,), steps that count; `resets` (N, T), True where the state is set to zero before
            the step; `state`, what the module starts from.
        lags: the greatest lag, or the lags that are wanted; by default all from 0 to T.
        sample: the chains: how many pairs of a sequence and an end time t to look at. Half of them
            end at their sequence's own last step, so that the longest lags are seen, the other half
            at steps drawn at random; the sequences go round. ``"ends"`` takes the last step of
            each sequence, ``"all"`` each step of each sequence. By default 16, fewer where that
            would be dear.
        seed: for the draw, and for the random vectors.
        method: ``"exact"`` multiplies whole matrices and takes the singular values at each lag.
            ``"vectors"`` sends about 50 vectors back through each chain. The largest singular value
            is then a lower bound: mostly within a thousandth, at worst within some hundredths where
            many singular values lie close together, as in a nearly orthogonal network. The
            Frobenius norm is an estimate. Both come with their error. ``"auto"`` takes the first
            for small states.
        smallest: whether to find the smallest singular value too; exact only. By default where
            ``"auto"`` or the caller has chosen ``"exact"``.

    Returns:
        The norms; of a bidirectional module one such for each direction, in its own time.

    Raises:
        TypeError: the model is none of these; an argument is of another type.
        ValueError: an argument is out of range or does not fit.

    Cost for M chains of L lags, S numbers of the state and P numbers in the matrices of the cell:
    exact, M L (2 S P + 10 S^3) operations, and memory for some chains at a time; vectors, M L 100 P
    operations and memory M (50 S + the partials of some steps). Beside that one forward pass over
    all sequences, which keeps their states.

    Sources: the module's; the method of vectors: :mod:`longlag.memory.measures.chain_norms`.

    >>> import longlag as ll
    >>> layer = ll.Elman(2, 8, seed=0)
    >>> found = jacobian_norms(layer, torch.ones(4, 30, 2))
    >>> found.largest.mean.shape, found.method
    (torch.Size([31]), 'exact')
    >>> bool(found.largest.mean[30] < found.largest.mean[10] < 0)  # the memory fades
    True
    """
    _check(lags, sample, method, smallest)
    recurrent = recurrent_of(model)
    options = (lags, sample, seed, method, smallest)
    readings = both_ways(recurrent, x, lengths, resets, state)
    if readings is not None:
        return Directions(
            *(_of_one(r.layer, r.x, r.lengths, r.resets, r.state, *options) for r in readings)
        )
    return _of_one(recurrent, x, lengths, resets, state, *options)


def _check(lags: Any, sample: Any, method: Any, smallest: Any) -> None:
    given = [lags] if isinstance(lags, int) else list(lags or [])
    if any(isinstance(lag, bool) or not isinstance(lag, int) or lag < 0 for lag in given):
        raise ValueError(f"lags: got {lags!r}, expected whole numbers >= 0, or None for all")
    whole = isinstance(sample, int) and not isinstance(sample, bool) and sample >= 1
    if not (sample is None or sample in ("all", "ends") or whole):
        raise ValueError(f"sample: got {sample!r}, expected a number >= 1, 'all', 'ends' or None")
    if method not in ("auto", "exact", "vectors"):
        raise ValueError(f"method: got {method!r}, expected 'auto', 'exact' or 'vectors'")
    if smallest and method == "vectors":
        raise ValueError(
            "smallest: got True with method='vectors', which finds the largest singular value "
            "only; use method='exact'"
        )


@torch.no_grad()
def _of_one(
    layer: nn.Module,
    x: Tensor,
    lengths: Any,
    resets: Any,
    state: Any,
    lags: int | Sequence[int] | None,
    sample: int | str | None,
    seed: int,
    method: str,
    smallest: bool | None,
) -> JacobianNorms:
    run = ModelPass(layer, x, lengths, resets, state, "jacobian_norms", joint=True)
    lengths, resets = run.given.lengths, run.given.resets
    steps, size = run.given.steps, joint_size(run.layers)
    chosen = list(range(steps + 1)) if lags is None else lags
    chosen = list(range(min(lags, steps) + 1)) if isinstance(lags, int) else chosen
    assert not isinstance(chosen, int)
    chosen = sorted({lag for lag in chosen if lag <= steps})
    longest = chosen[-1] if chosen else 0
    weights = 2.0 * sum(_numbers(each) for each in run.layers)
    generator = torch.Generator().manual_seed(seed)
    one = longest * weights * vectors_for(size, longest)
    count = max(2, min(CHAINS, int(BUDGET / max(1.0, one)))) if sample is None else sample
    sequences, ends = _chains(x, lengths, count, generator)
    reach = _reach(sequences, ends, resets)
    if method == "auto":
        cost = ends.numel() * (longest * weights * size + len(chosen) * 10.0 * size**3)
        method = "exact" if smallest or cost <= EXACT else "vectors"
    smallest = method == "exact" if smallest is None else smallest
    found = []
    for part in chunks(ends.shape[-1], _at_once(run.layers, method, longest)):
        chains = Chains(run.layers, sequences[..., part], ends[..., part],
                        reach[..., part].clamp(max=longest))  # fmt: skip
        if method == "exact":
            found.append(exact_norms(chains, chosen, smallest))
        else:
            found.append(_vector_norms(chains, chosen, generator))
    at = torch.tensor(chosen, dtype=torch.int64, device=x.device)
    there = at <= reach.unsqueeze(-1)
    return _joined(found, at, there, method, sequences, ends, size)


def _vector_norms(chains: Chains, lags: Sequence[int], generator: torch.Generator) -> ChainNorms:
    """The same as `vector_norms`, but NaN where weights or states are not finite."""
    try:
        return vector_norms(chains, lags, generator)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        weights = [w for each in chains.passes for _, w in each.layer.named_parameters()]
        parts = (*(each.drive for each in chains.passes), *weights)
        if all(bool(each.isfinite().all()) for each in parts):
            raise
    nothing = torch.full((*chains.front, len(lags)), torch.nan, dtype=torch.float64)
    nothing = nothing.to(chains.ends.device)
    return ChainNorms(nothing, nothing, None, nothing, nothing)


def _numbers(each: Pass) -> int:
    """Numbers in the matrices that a vector meets at each step of one network."""
    matrix, replicas = each.layer.weight_hh, each.layer.replicas or 1
    return each.layer.weight_ih.numel() // replicas + (
        0 if matrix is None else matrix.numel() // replicas
    )


def _at_once(passes: Sequence[Pass], method: str, longest: int) -> int:
    """How many chains are followed side by side."""
    size, drives = joint_size(passes), sum(each.drive.shape[-1] for each in passes)
    replicas = passes[0].layer.replicas or 1
    rows = size if method == "exact" else vectors_for(size, longest)
    return max(1, chain_norms.AT_ONCE // (replicas * rows * (size + drives)))


def _chains(
    x: Tensor, lengths: Tensor | None, count: int | str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sequences and end times, (M,), or (R, M): the same places of the draw for each replica."""
    front, steps = x.shape[:-2], x.shape[-2]
    if lengths is None:
        lengths = torch.full(front, steps, device=x.device)
    batch = front[-1]
    if count == "all":
        at = torch.arange(steps, device=x.device)
        sequences = torch.arange(batch, device=x.device).repeat_interleave(steps)
        ends = (at + 1).repeat(batch)
    elif count == "ends":
        sequences = torch.arange(batch, device=x.device)
        ends = torch.full_like(sequences, steps)
    else:
        assert not isinstance(count, str)
        order = torch.randperm(batch, generator=generator) if batch else torch.zeros(0).long()
        turns = -(-count // max(1, batch))
        sequences = order.repeat(turns)[:count].to(x.device)
        part = torch.rand(len(sequences), generator=generator, dtype=torch.float64)
        part[::2] = 1.0
        last = lengths[..., sequences]
        drawn = (part.to(x.device) * last).ceil().long()
        return sequences.expand(drawn.shape).contiguous(), drawn
    sequences = sequences.expand(*front[:-1], -1).contiguous()
    last = lengths.gather(-1, sequences)
    return sequences, torch.minimum(ends.expand(last.shape), last)


def _reach(sequences: Tensor, ends: Tensor, resets: Tensor | None) -> Tensor:
    """How far back each chain goes: to the state before the first step, or to the last reset."""
    if resets is None:
        return ends
    at = torch.arange(resets.shape[-1], device=resets.device)
    last = torch.where(resets, at, -1).cummax(-1).values  # (N, T): the last reset up to each step
    index = sequences.unsqueeze(-1).expand(*sequences.shape, resets.shape[-1])
    of_chain = last.gather(-2, index)
    there = ends > 0
    at_end = of_chain.gather(-1, (ends - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(there, ends - 1 - at_end, 0)


def _joined(
    found: Sequence[ChainNorms],
    lags: Tensor,
    there: Tensor,
    method: str,
    sequences: Tensor,
    ends: Tensor,
    size: int,
) -> JacobianNorms:
    """One result of the chains of all chunks."""

    def together(name: str) -> Tensor:
        parts = [getattr(each, name) for each in found]
        return torch.cat(parts, -2).masked_fill(~there, torch.nan)

    smallest = None
    if found[0].smallest is not None:
        smallest = LogStatistics(together("smallest"))
    return JacobianNorms(
        lags,
        LogStatistics(together("largest")),
        LogStatistics(together("frobenius")),
        smallest,
        method,
        sequences,
        ends,
        together("largest_error").nanmean(-2),
        together("frobenius_error").nanmean(-2),
        size,
    )
