r"""Norms of what each lag adds to the gradients of a layer's weights, without the terms themselves.

The term of one step in the gradient of a matrix is :math:`A^\top B`, of the errors A (N, K) and
what was read, B (N, Z); :math:`\lVert A^\top B \rVert_F^2 = \langle A A^\top, B B^\top \rangle`
takes N^2 (Z + K) operations in place of N Z K.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from longlag.gradients.runs.layer_run import LayerRun
from longlag.memory.measures.linear import stretches
from longlag.scan.inputs import Weights
from longlag.scan.step import TorchStep


def term_norms(run: LayerRun, at: Tensor) -> dict[str, Tensor]:
    """The Frobenius norm of the term of each lag in the gradients, (T,), by the layer's names.

    Args:
        run: the layer, after its backward pass.
        at: (N,), the step of each sequence whose error it is.
    """
    if not run.drive.numel():
        zero = torch.zeros(len(run.x), dtype=torch.float64, device=at.device)
        return {name: zero for name, _ in run.layer.named_parameters()}
    parts = [_squares(run, at, lags) for lags in stretches([run])]
    return {name: torch.cat([part[name] for part in parts]).sqrt() for name in parts[0]}


def _squares(run: LayerRun, at: Tensor, lags: slice) -> dict[str, Tensor]:
    """The squares of these norms for some lags, of all replicas together, in float64."""
    layer, step, weights = run.layer, run.step, run.weights
    count = torch.arange(lags.start, lags.stop, device=at.device)
    times = at - count.view(-1, *[1] * at.dim())  # (L, N)
    there = ((times >= 0) & (at < len(run.drive))).unsqueeze(-1)
    index = times.clamp(0, len(run.drive) - 1).unsqueeze(-1)

    def take(path: Tensor) -> Tensor:
        return path.gather(0, index.expand(*index.shape[:-1], path.shape[-1]))

    before = [take(states[:-1]) for states in run.states]
    if run.schedule.keep is not None:
        keep = take(run.schedule.keep)
        before = [state.masked_fill(~keep, 0.0) for state in before]
    deltas = [take(delta).masked_fill(~there, 0.0) for delta in run.deltas]
    clock = None if run.schedule.clock is None else take(run.schedule.clock)
    blocks = step.blocks(weights)
    partials = step.partials(take(run.drive), before, blocks, weights.units, None, clock)
    drives = run.by_drives(partials, deltas)
    gates = step.by_gate(drives)
    squares = {"weight_ih": _outer_square(gates, take(run.x))}
    if layer.bias is not None:
        squares["bias"] = _sum_of_squares(gates.sum(-2))
    if layer.weight_hh is not None:
        after = [take(states[1:]) for states in run.states]
        squares["weight_hh"] = _matrix_squares(step, weights, drives, before, after)
    units = [
        run.by_symbol(partials, deltas, symbol).sum(-2) for symbol in layer.recurrence.unit_symbols
    ]
    return squares | {name: _sum_of_squares(terms) for name, terms in run.by_unit(units).items()}


def _matrix_squares(
    step: TorchStep,
    weights: Weights,
    drives: Tensor,
    before: Sequence[Tensor],
    after: Sequence[Tensor],
) -> Tensor:
    pairs = [
        (
            step.reached(drives, product.gates),
            step.read(product, after if product.new else before, None),
        )
        for product in step.products
    ]
    if weights.entries is None and not step.recurrence.patterned:
        return torch.stack([_outer_square(*pair) for pair in pairs]).sum(0)
    # Only what is stored of W has a gradient: here the terms are made, one lag after the other.
    squares = []
    for lag in range(len(drives)):
        # In float64 also before the product: squares of errors that vanish do not underflow.
        terms = [errors[lag].double().mT @ read[lag].double() for errors, read in pairs]
        stored = step.by_row(terms, weights.entries)
        assert stored is not None
        squares.append(stored.square().sum())
    return torch.stack(squares)


def _outer_square(errors: Tensor, read: Tensor) -> Tensor:
    """|| sum_n errors_n read_n^T ||^2 by lag, (L,): from (L, N, K) and (L, N, Z)."""
    # With their greatest number 1, the squares of errors do not underflow.
    most = errors.abs().amax((-2, -1), keepdim=True)
    most = torch.where(most == 0, 1.0, most)
    errors = errors / most
    gram = (errors @ errors.mT).double() * (read @ read.mT).double()
    squares = gram.sum((-2, -1)).clamp(min=0) * most.double().square().squeeze(-1).squeeze(-1)
    return squares.flatten(1).sum(1) if squares.dim() > 1 else squares


def _sum_of_squares(terms: Tensor) -> Tensor:
    """The sum of squares but for the first axis, in float64."""
    return terms.double().flatten(1).square().sum(1)
