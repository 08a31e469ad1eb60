r"""Lyapunov exponents of a network that is driven by its input.

A small disturbance of the state grows as :math:`e^{\lambda_1 t}`; the volume of a small body of k
dimensions as :math:`e^{(\lambda_1 + \dots + \lambda_k) t}`.

Sources: G. Benettin, L. Galgani, A. Giorgilli and J.-M. Strelcyn, Lyapunov characteristic exponents
for smooth dynamical systems, Meccanica 15, 1980 (the QR method); J. L. Kaplan and J. A. Yorke,
Chaotic behavior of multidimensional difference equations, 1979 (the dimension); R. Engelken,
F. Wolf and L. F. Abbott, Lyapunov spectra of chaotic recurrent neural networks, Physical Review
Research 5, 2023.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.gradients.runs.model_run import ModelRun
from longlag.layers.inputs import Inputs
from longlag.memory.measures.chains import Chains
from longlag.memory.measures.linear import joint_size

BLOCKS = 10
"""Into how many stretches one trajectory is cut for the standard error."""


@dataclass(frozen=True)
class LyapunovSpectrum:
    """What :func:`lyapunov_exponents` finds; R replicas put an R in front.

    Attributes:
        exponents: in nats a step, the greatest first, (K,) in float64; -inf for directions that are
            forgotten at once.
        error: their standard errors, (K,): over the sequences; of one sequence over ten stretches
            of it, which is right where these are longer than what the trajectory remembers. NaN
            where there are too few steps for either.
        by_sequence: the exponents of each trajectory in the order of the QR method, (N, K).
        steps: how many steps they are the mean of, of all trajectories together.
        size: S, the numbers of the state; with K < S there are S - K further exponents.
    """

    exponents: Tensor
    error: Tensor
    by_sequence: Tensor
    steps: int
    size: int

    @property
    def total(self) -> Tensor:
        """The sum of the exponents; with all S of them, the mean of ``log |det J_t|``."""
        return self.exponents.sum(-1)

    @property
    def kaplan_yorke(self) -> Tensor:
        r"""The Kaplan-Yorke dimension, in float64: where the sum of the exponents crosses 0.

        .. math:: D = k + \frac{\lambda_1 + \dots + \lambda_k}{|\lambda_{k+1}|}

        with the greatest k for which the sum is not negative; 0 where the first is negative. NaN
        where the sum of the K exponents is not negative yet and there are more than K; S where it
        stays so for all S.
        """
        flat = self.exponents.reshape(-1, self.exponents.shape[-1]).tolist()
        dimensions = [_dimension(spectrum, self.size) for spectrum in flat]
        return self.exponents.new_tensor(dimensions).view(self.exponents.shape[:-1])


def _dimension(exponents: list[float], size: int) -> float:
    total = 0.0
    for number, exponent in enumerate(exponents):
        if math.isnan(exponent):
            return math.nan
        if total + exponent < 0:
            return number + total / -exponent
        total += exponent
    return float(size) if len(exponents) == size else math.nan


@torch.no_grad()
def lyapunov_exponents(
    layer: nn.Module,
    x: Tensor,
    count: int | None = None,
    *,
    state: Any = None,
    discard: int | None = None,
    every: int = 1,
    lengths: Tensor | None = None,
) -> LyapunovSpectrum:
    r"""The Lyapunov exponents along the trajectories that x drives.

    .. math:: Q_t R_t = J_t Q_{t-1}, \qquad
        \lambda_i = \frac{1}{T} \sum_t \log |R_{t,ii}|

    with orthonormal :math:`Q_0` at the beginning.

    Args:
        layer: a recurrent layer or a stack of longlag, whose layers then are one state.
        x: (N, T, C). For the free dynamics give zeros.
        count: K, how many exponents, from the greatest; by default all S.
        state: what the layer starts from.
        discard: the first steps, which are run but not counted, so that the state comes to its
            attractor and Q to its directions; by default a tenth of T.
        every: steps between two decompositions, >= 1. More is faster; too many lose the small
            exponents, once a disturbance grows 1/eps times as much as another meanwhile.
        lengths: (N,), steps that count. Sequences no longer than ``discard`` do not.

    Returns:
        The exponents, mean over all steps that count, and their errors.

    Raises:
        TypeError, ValueError: as for :func:`~longlag.memory.state_jacobians`; an argument is out of
            range; the module reads in both directions.

    Cost: for each step and sequence the product of J_t with K vectors, without its matrix, and
    2 S K^2 operations for the decomposition every ``every`` steps.

    Sources: see the module.

    >>> import longlag as ll
    >>> layer = ll.Elman(1, 2, activation="identity", bias=False, dtype=torch.float64)
    >>> _ = layer.weight_hh.data.copy_(torch.tensor([[0.5, 0.0], [0.3, -0.25]]))
    >>> spectrum = lyapunov_exponents(layer, torch.zeros(1, 200, 1, dtype=torch.float64))
    >>> [round(float(factor), 3) for factor in spectrum.exponents.exp()]
    [0.5, 0.25]
    """
    inputs = Inputs(x, lengths, None, state)
    run = ModelRun(layer, inputs, "lyapunov_exponents", joint=True)
    steps, size = run.inputs.steps, joint_size(run.layers)
    discard = steps // 10 if discard is None else discard
    front = x.shape[:-2]
    sequences = torch.arange(front[-1], device=x.device).expand(front).contiguous()
    ends = torch.full(front, steps, device=x.device)
    # A factor past a sequence's own end is that of a zero state; it is not counted.
    chains = Chains(run.layers, sequences, ends, ends)

    def ahead(t: int, q: Tensor) -> Tensor:
        return chains.ahead(steps - t, q.mT.contiguous()).mT

    return _exponents(ahead, inputs.ends, x, size, steps, count, discard, every)


def lyapunov_of(
    jacobians: Tensor, count: int | None = None, *, discard: int = 0, every: int = 1
) -> LyapunovSpectrum:
    """The Lyapunov exponents of given Jacobians, as those of any map along its trajectory.

    Args:
        jacobians: J_1 .. J_T of one trajectory (T, S, S), or of N (N, T, S, S).
        count, discard, every: as for :func:`lyapunov_exponents`; nothing is discarded by default.

    Returns:
        The exponents, mean over all steps.

    Raises:
        ValueError: the shape is another; an argument is out of range.

    >>> turn = torch.tensor([[0.0, -2.0], [2.0, 0.0]]).double()
    >>> exponents = lyapunov_of(turn.expand(50, 2, 2)).exponents
    >>> [round(float(factor), 6) for factor in exponents.exp()]
    [2.0, 2.0]
    """
    if jacobians.dim() not in (3, 4) or jacobians.shape[-1] != jacobians.shape[-2]:
        raise ValueError(
            f"jacobians: got shape {tuple(jacobians.shape)}, expected (T, S, S) or (N, T, S, S)"
        )
    batched = jacobians if jacobians.dim() == 4 else jacobians.unsqueeze(0)
    batch, steps, size, _ = batched.shape
    own = torch.full((batch,), steps, device=batched.device)
    return _exponents(
        lambda t, q: batched[:, t] @ q, own, batched, size, steps, count, discard, every
    )


def _exponents(
    ahead: Callable[[int, Tensor], Tensor], own: Tensor, like: Tensor, size: int, steps: int,
    count: int | None, discard: int, every: int,
) -> LyapunovSpectrum:  # fmt: skip
    """The exponents of the map ``ahead(t, q)``, J_t q; `own` (*, N) is each sequence's length."""
    count = check_whole("count", size if count is None else count, 1, size)
    check_whole("every", every, 1)
    check_whole("discard", discard, 0, max(0, steps - 1))
    # Orthonormal columns in general position, the same at each call.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(size, count, generator=generator, dtype=torch.float64)
    q = torch.linalg.qr(drawn).Q.to(like).expand(*own.shape, size, count)
    logs, times = [], []  # log |R_ii| of each decomposition, and the step after which it was made
    for t in range(steps):
        q = ahead(t, q)
        # Steps that count and those that do not are kept apart.
        if (t + 1) % every == 0 or t + 1 in (steps, discard) or every == 1:
            q, r = torch.linalg.qr(q)
            logs.append(r.diagonal(dim1=-2, dim2=-1).abs().double().log())
            times.append(t + 1)
    stacked = torch.stack(logs) if logs else q[None, :0, ..., 0, :].double()
    return _spectrum(stacked, times, own, discard, size)


def _spectrum(
    logs: Tensor, times: list[int], own: Tensor, discard: int, size: int
) -> LyapunovSpectrum:
    """The mean over the steps that count, discard < t <= each sequence's own length."""
    after = torch.tensor(times, dtype=torch.int64, device=logs.device).view(-1, *[1] * own.dim())
    counted = (after > discard) & (after <= own)
    before = torch.cat([torch.zeros_like(after[:1]), after])[: len(after)]
    spans = ((after - before) * counted).double()  # (D, *, N)
    kept = logs.masked_fill(~counted.unsqueeze(-1), 0.0)
    length = spans.sum(0).unsqueeze(-1)  # (*, N, 1)
    by_sequence = kept.sum(0) / length  # 0 / 0: a sequence of which nothing counts is NaN
    mean = kept.sum((0, -2)) / length.sum(-2)
    order = mean.argsort(-1, descending=True)
    enough = int((length[..., 0] > 0).sum(-1).min()) if length.numel() else 0
    error = _error(by_sequence, length) if enough > 1 else _error_of_one(kept, spans)
    return LyapunovSpectrum(
        mean.gather(-1, order), error.gather(-1, order), by_sequence, int(spans.sum()), size
    )


def _error(by_sequence: Tensor, length: Tensor) -> Tensor:
    """Standard error of the mean of sequences, weighed by their lengths."""
    weight = length / length.sum(-2, keepdim=True)
    values = by_sequence.masked_fill(length == 0, 0.0)
    mean = (weight * values).sum(-2, keepdim=True)
    count = (length > 0).sum(-2).double()
    spread = (weight.square() * (values - mean).square()).sum(-2)
    return (spread * count / (count - 1)).sqrt()


def _error_of_one(kept: Tensor, spans: Tensor) -> Tensor:
    """The same over stretches of one trajectory."""
    there = spans.reshape(len(spans), -1).sum(-1) > 0
    kept, spans = kept[there], spans[there]
    if len(kept) < 2 * BLOCKS:
        return torch.full_like(kept.sum((0, -2)), torch.nan)
    parts = [part.sum(0) for part in kept.tensor_split(BLOCKS)]
    lengths = [part.sum(0).unsqueeze(-1) for part in spans.tensor_split(BLOCKS)]
    values, length = torch.stack(parts, -2), torch.stack(lengths, -2)
    return _error((values / length).flatten(-3, -2), length.flatten(-3, -2))
