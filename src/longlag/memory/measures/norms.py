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

from longlag.arguments import is_whole
from longlag.gradients.runs.layer_run import LayerRun
from longlag.gradients.runs.model_run import ModelRun
from longlag.layers.inputs import Inputs
from longlag.memory.measures import chain_norms
from longlag.memory.measures.chain_norms import ChainNorms
from longlag.memory.measures.chains import Chains, draw_chains, reach_of
from longlag.memory.measures.directions import Direction, Directions, each_direction
from longlag.memory.measures.linear import joint_size

CHAINS = 16
"""End times that are measured by default."""

BUDGET = 2e11
"""Operations that the products with vectors may cost by default; 2 chains at least."""

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
        quantiles = torch.nanquantile(finite, levels, -2)
        return quantiles.masked_fill(quantiles < -1e290, -torch.inf)


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
            would cost too much.
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
    >>> norms = jacobian_norms(layer, torch.ones(4, 30, 2))
    >>> norms.largest.mean.shape, norms.method
    (torch.Size([31]), 'exact')
    >>> bool(norms.largest.mean[30] < norms.largest.mean[10] < 0)  # the memory fades
    True
    """
    _check(lags, sample, method, smallest)

    def of(direction: Direction) -> JacobianNorms:
        return _of_direction(direction, lags, sample, seed, method, smallest)

    return each_direction(model, Inputs(x, lengths, resets, state), of)


def _check(lags: Any, sample: Any, method: Any, smallest: Any) -> None:
    numbers = [lags] if isinstance(lags, int) else list(lags or [])
    if not all(is_whole(lag, 0) for lag in numbers):
        raise ValueError(f"lags: got {lags!r}, expected whole numbers >= 0, or None for all")
    if not (sample is None or sample in ("all", "ends") or is_whole(sample, 1)):
        raise ValueError(f"sample: got {sample!r}, expected a number >= 1, 'all', 'ends' or None")
    if method not in ("auto", "exact", "vectors"):
        raise ValueError(f"method: got {method!r}, expected 'auto', 'exact' or 'vectors'")
    if smallest and method == "vectors":
        raise ValueError(
            "smallest: got True with method='vectors', which finds the largest singular value "
            "only; use method='exact'"
        )


@torch.no_grad()
def _of_direction(
    direction: Direction, lags: int | Sequence[int] | None, sample: int | str | None, seed: int,
    method: str, smallest: bool | None,
) -> JacobianNorms:  # fmt: skip
    run = ModelRun(direction.layer, direction.inputs, "jacobian_norms", joint=True)
    steps, size = run.inputs.steps, joint_size(run.layers)
    wanted = steps if lags is None else lags
    wanted = range(wanted + 1) if isinstance(wanted, int) else wanted
    chosen = sorted({lag for lag in wanted if lag <= steps})
    longest = chosen[-1] if chosen else 0
    weights = 2.0 * sum(_numbers(layer) for layer in run.layers)
    generator = torch.Generator().manual_seed(seed)
    one = longest * weights * chain_norms.vectors_for(size, longest)
    count = max(2, min(CHAINS, int(BUDGET / max(1.0, one)))) if sample is None else sample
    sequences, ends = draw_chains(direction.inputs.ends, steps, count, generator)
    reach = reach_of(sequences, ends, run.inputs.resets)
    if method == "auto":
        cost = ends.numel() * (longest * weights * size + len(chosen) * 10.0 * size**3)
        method = "exact" if smallest or cost <= EXACT else "vectors"
    smallest = method == "exact" if smallest is None else smallest
    parts = []
    for part in chain_norms.chunks(ends.shape[-1], _at_once(run.layers, method, longest)):
        chains = Chains(run.layers, sequences[..., part], ends[..., part],
                        reach[..., part].clamp(max=longest))  # fmt: skip
        if method == "exact":
            parts.append(chain_norms.exact_norms(chains, chosen, smallest))
        else:
            parts.append(_vector_norms(chains, chosen, generator))
    at = torch.tensor(chosen, dtype=torch.int64, device=ends.device)
    beyond = at > reach.unsqueeze(-1)

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts], -2).masked_fill(beyond, torch.nan)

    return JacobianNorms(
        at, LogStatistics(joined("largest")), LogStatistics(joined("frobenius")),
        LogStatistics(joined("smallest")) if smallest else None, method, sequences, ends,
        joined("largest_error").nanmean(-2), joined("frobenius_error").nanmean(-2), size,
    )  # fmt: skip


def _vector_norms(chains: Chains, lags: Sequence[int], generator: torch.Generator) -> ChainNorms:
    """The same as `vector_norms`, but NaN where weights or states are not finite."""
    try:
        return chain_norms.vector_norms(chains, lags, generator)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        weights = [w for run in chains.passes for _, w in run.layer.named_parameters()]
        drives = [run.drive for run in chains.passes]
        if all(bool(tensor.isfinite().all()) for tensor in (*drives, *weights)):
            raise
    nothing = torch.full((*chains.front, len(lags)), torch.nan, dtype=torch.float64)
    return ChainNorms.same(nothing.to(chains.ends.device))


def _numbers(run: LayerRun) -> int:
    """Numbers in the matrices that a vector meets at each step of one network."""
    matrices = (run.layer.weight_ih, run.layer.weight_hh)
    numbers = sum(matrix.numel() for matrix in matrices if matrix is not None)
    return numbers // (run.layer.replicas or 1)


def _at_once(passes: Sequence[LayerRun], method: str, longest: int) -> int:
    """How many chains are followed side by side."""
    size, drives = joint_size(passes), sum(run.drive.shape[-1] for run in passes)
    replicas = passes[0].layer.replicas or 1
    rows = size if method == "exact" else chain_norms.vectors_for(size, longest)
    return max(1, chain_norms.AT_ONCE // (replicas * rows * (size + drives)))
