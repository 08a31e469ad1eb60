r"""Where the error of a loss goes on its way back in time, and what of it the weights get.

For the error that arises at step t and the states s of a layer,
:math:`\partial E_t / \partial s_{t-l}` by lag l.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longlag.gradients import gradient_by_lag
from longlag.gradients.layer_pass import STATES_ONLY, Pass
from longlag.gradients.layers import names_in
from longlag.gradients.method import Loss
from longlag.gradients.model_pass import ModelPass
from longlag.memory.measures.directions import Reading, both_ways, recurrent_of
from longlag.memory.measures.horizon import horizon, horizons
from longlag.scan.inputs import to_batch_first

__all__ = ["ErrorFlow", "LayerFlow", "entrances", "error_flow", "product"]

AT_ONCE = 1 << 22
"""Numbers of partials that are taken at once."""


@dataclass(frozen=True)
class LayerFlow:
    r"""The error on its way back through one recurrent layer; R replicas put an R in front.

    The error of a state counts all of the layer's states as one vector, with each held for itself
    (``joint=True`` of :func:`longlag.gradients.state_errors`), so that
    :math:`\delta_{s-1} = J_s^\top \delta_s` where nothing new arises.

    Attributes:
        layer: where the layer is in the model; of a bidirectional module ``forward_layer`` or
            ``backward_layer`` stands in the path.
        by_step: :math:`\lVert \partial E / \partial s_s \rVert` by sequence and step s = 0 .. T,
            (N, T + 1); s = 0 is the state before the first step. Zero in the padding. Of a
            backward reading s counts in its own order.
        by_lag: the norm over all sequences by lag, (T + 1,); None with ``step="all"``.
        by_unit: the same by lag and unit, (T + 1, H): of the unit's states.
        weights: by parameter, the norm of the term of each lag in its gradient, (T,); empty where
            it was not asked for.
        precision: eps of the numbers.
    """

    layer: str
    by_step: Tensor
    by_lag: Tensor | None
    by_unit: Tensor | None
    weights: dict[str, Tensor]
    precision: float

    def shares(self) -> dict[str, Tensor]:
        """By parameter, each lag's part in the sum of the norms of its terms, (T,).

        The terms can cancel, so this is not their part in the gradient itself. Zeros where the
        gradient is zero.
        """
        found = {}
        for name, norms in self.weights.items():
            total = norms.sum(-1, keepdim=True)
            found[name] = norms / torch.where(total == 0, 1.0, total)
        return found

    def horizon(self, fraction: float = 0.01) -> int | None:
        """The lag from which on the error is below a fraction of that at lag 0, for good.

        None where it is not within the lags seen. With replicas see :meth:`horizons`.
        """
        return horizon(self._by_lag(), fraction)

    def horizons(self, fraction: float = 0.01) -> Tensor:
        """The same for each replica: a number, or (R,); inf for none."""
        return horizons(self._by_lag().movedim(-1, 0), fraction)

    def noise(self) -> int | None:
        """The lag from which on the error is below eps times that at lag 0, for good."""
        return horizon(self._by_lag(), self.precision)

    def unit_horizons(self, fraction: float = 0.01) -> Tensor:
        """The horizon of each unit, (H,) in float64; inf where it has none within the lags seen.

        The units with the greatest carry the long memory.
        """
        self._by_lag()
        assert self.by_unit is not None
        return horizons(self.by_unit.movedim(-2, 0), fraction)

    def _by_lag(self) -> Tensor:
        if self.by_lag is None:
            raise ValueError(
                "step: got 'all', of which errors of all ages are mixed at each step; give one "
                "step, such as -1, to have them by lag"
            )
        return self.by_lag


@dataclass(frozen=True)
class ErrorFlow:
    """What :func:`error_flow` finds.

    Attributes:
        loss: E, a scalar.
        step: whose error was followed, as given.
        layers: one for each recurrent layer, the one that reads x first; of a bidirectional module
            those of the forward direction, then those of the backward one.
    """

    loss: Tensor
    step: int | str
    layers: tuple[LayerFlow, ...]

    def horizons(self, fraction: float = 0.01) -> dict[str, int | None]:
        """The horizon of each layer by its name."""
        return {each.layer: each.horizon(fraction) for each in self.layers}


def product(output: Tensor, target: Tensor) -> Tensor:
    """A loss whose error at the output is the target."""
    return (output * target).sum()


def entrances(flow: ErrorFlow) -> list[LayerFlow]:
    """Of each direction the layer that reads x: all that is remembered of x goes through it.

    A direction that the error does not reach is left out: it has no horizon.
    """
    first: dict[str, LayerFlow] = {}
    for each in flow.layers:
        way = next((w for w in ("forward_layer", "backward_layer") if w in each.layer), "")
        first.setdefault(way, each)
    found = list(first.values())
    return [e for e in found if e.by_lag is None or bool((e.by_lag[..., 0] != 0).any())] or found


@torch.no_grad()
def error_flow(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    step: int | Literal["all"] = -1,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    state: Any = None,
    weights: bool = True,
) -> ErrorFlow:
    r"""The error of one step, followed back to every state before it; exact, at all lags.

    The error of step t is what the loss sends back through the readout's result at t. In a stack it
    goes down through the layers as it goes back in time, and the lag is counted in each layer's own
    time, as in :func:`longlag.gradient_by_lag`.

    Args:
        model: a recurrent layer, a stack, a bidirectional module, or a `SequenceModel` around one.
        x: (N, T, C).
        target, loss: as for :meth:`BPTT.gradients`.
        step: whose error: a number from 0, or a negative one that counts from each sequence's own
            end; by default the last. Of a model with ``reduce="last"`` that is all the error there
            is. A backward direction counts in its own order, so that -1 is its last reading, of
            the first step of x. ``"all"`` takes the error of all steps; it has no curves by lag.
        lengths: (N,), steps that count; `resets` (N, T), True where the state is set to zero before
            the step; `state`, what the model starts from.
        weights: whether to find what each lag adds to the gradients of the parameters. With
            ``step="all"`` that takes a backward pass for each step.

    Returns:
        The loss, and what each layer gets.

    Raises:
        TypeError: the model is none of these; an argument is of another type.
        ValueError: an argument is out of range or does not fit; a module inside a stack reads in
            both directions; units are dropped out; the loss is no scalar.

    Cost: one forward and one backward pass. The norms of the weights' terms take N^2 (Z + K)
    operations a step for a matrix of (K, Z), in place of N Z K for the terms themselves, of which
    none is kept: :math:`\lVert A^\top B \rVert_F^2 = \langle A A^\top, B B^\top \rangle` for the
    errors A (N, K) and what was read, B (N, Z).

    Source: S. Hochreiter, diploma thesis, TU Munich, 1991 (the error flow).

    >>> import longlag as ll
    >>> model = ll.SequenceModel(ll.Elman(2, 8, seed=0), 1, reduce="last", seed=1)
    >>> x, target = torch.ones(4, 50, 2), torch.zeros(4, 1)
    >>> (layer,) = error_flow(model, x, target, nn.functional.mse_loss).layers
    >>> layer.by_lag.shape, layer.by_unit.shape, layer.weights["layer.weight_hh"].shape
    (torch.Size([51]), torch.Size([51, 8]), torch.Size([50]))
    >>> layer.horizon(0.01)
    35
    """
    if step != "all" and (isinstance(step, bool) or not isinstance(step, int)):
        raise TypeError(f"step: got {step!r}, expected a whole number or 'all'")
    recurrent = recurrent_of(model)
    readings = both_ways(recurrent, x, lengths, resets, state)
    if readings is None:
        return _of_one(model, x, target, loss, step, lengths, resets, state, weights)
    value, error = _at_output(model, recurrent, x, target, loss, lengths, resets, state)
    layers: list[LayerFlow] = []
    width = getattr(recurrent.forward_layer, "output_size")  # noqa: B009 (of an nn.Module)
    parts = (error[..., :width], error[..., width:])
    prefix = "" if recurrent is model else "layer."
    for name, reading, part in zip(readings._fields, readings, parts, strict=True):
        layers += _of_direction(reading, part, f"{prefix}{name}_layer", step, weights)
    return ErrorFlow(value, step, tuple(layers))


def _at_output(
    model: nn.Module, recurrent: nn.Module, x: Tensor, target: Tensor, loss: Loss, lengths: Any,
    resets: Any, state: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The loss, and its error at what a module in the model puts out, (N, T, H)."""
    found: list[Tensor] = []

    def cut(_: nn.Module, __: Any, result: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        found.append(result[0].detach().requires_grad_())
        return found[0], result[1]

    handle = recurrent.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            output = model(x, state, lengths=lengths, resets=resets)
            output = output[0] if isinstance(output, tuple) else output
            value = loss(output, target)
    finally:
        handle.remove()
    if value.dim():
        raise ValueError(f"loss: got shape {tuple(value.shape)}, expected a scalar")
    if not value.requires_grad:
        return value, torch.zeros_like(found[0])
    (error,) = torch.autograd.grad(value, found, materialize_grads=True)
    return value.detach(), error


def _of_direction(
    reading: Reading, error: Tensor, name: str, step: int | str, weights: bool
) -> tuple[LayerFlow, ...]:
    """One direction, for the error of what it puts out, in the order of x."""
    index = reading.order.unsqueeze(-1).expand(error.shape)
    error = error.gather(-2, index)

    flow = _of_one(reading.layer, reading.x, error, product, step, reading.lengths,
                   reading.resets, reading.state, weights)  # fmt: skip
    found = []
    for each in flow.layers:
        path = f"{name}.{each.layer}".rstrip(".")
        terms = {f"{name}.{own}": norms for own, norms in each.weights.items()}
        found.append(
            LayerFlow(path, each.by_step, each.by_lag, each.by_unit, terms, each.precision)
        )
    return tuple(found)


def _of_one(
    model: nn.Module, x: Tensor, target: Tensor, loss: Loss, step: int | str, lengths: Any,
    resets: Any, state: Any, weights: bool,
) -> ErrorFlow:  # fmt: skip
    run = ModelPass(model, x, lengths, resets, state, "error_flow", joint=True)
    steps = run.given.steps
    if isinstance(step, int) and steps and not -steps <= step < steps:
        raise ValueError(
            f"step: got {step}, expected one of the {steps} steps of x: {-steps} to {steps - 1}"
        )
    error = run.read(loss, target)
    slope = run.explicit(error)
    at = None
    if isinstance(step, int):
        at = run.at(step)
        times = torch.arange(steps, device=x.device).view(-1, *[1] * at.dim())
        slope = slope.masked_fill((times != at).unsqueeze(-1), 0.0)
    run.backward(slope, STATES_ONLY)
    terms: dict[str, Tensor] = {}
    if weights and at is None:
        found = gradient_by_lag(model, x, target, loss, step="all", lengths=lengths, resets=resets,
                                state=state)  # fmt: skip
        terms = found.norms()
    layers = []
    for each in run.layers:
        names = names_in(model, each.layer)
        if weights and at is not None:
            own = {names[n]: by for n, by in _term_norms(each, at).items() if n in names}
        else:
            own = {name: terms[name] for name in names.values() if name in terms}
        layers.append(_layer_flow(each, at, own))
    return ErrorFlow(error.loss.detach(), step, tuple(layers))


def _layer_flow(each: Pass, at: Tensor | None, weights: dict[str, Tensor]) -> LayerFlow:
    squares = None
    for delta, first in zip(each.deltas, each.gradients.initial, strict=True):
        path = torch.cat([first.unsqueeze(0), delta])  # s = 0 .. T
        # The norm of two numbers, and not the root of their squares, which could underflow.
        squares = path.abs() if squares is None else torch.hypot(squares, path)
    assert squares is not None
    norms = torch.linalg.vector_norm(squares, dim=-1)  # (T + 1, N)
    by_lag = by_unit = None
    if at is not None:
        aligned = _by_lag(squares, at + 1)
        by_unit = torch.linalg.vector_norm(aligned, dim=-2)
        by_lag = torch.linalg.vector_norm(by_unit, dim=-1)
        if by_lag.dim() == 2:
            by_lag, by_unit = by_lag.movedim(0, -1), by_unit.movedim(0, -2)
    precision = torch.finfo(norms.dtype).eps
    by_step = to_batch_first(norms.unsqueeze(-1)).squeeze(-1)
    return LayerFlow(each.name, by_step, by_lag, by_unit, weights, precision)


def _by_lag(path: Tensor, at: Tensor) -> Tensor:
    """(times, N, .) by time to (times, N, .) by lag before ``at`` (N,); zero before the first."""
    lags = torch.arange(len(path), device=path.device).view(-1, *[1] * at.dim())
    times = at - lags
    index = times.clamp(0, len(path) - 1).unsqueeze(-1).expand(path.shape)
    there = (times >= 0) & (at < len(path)) & (at >= 0)
    return path.gather(0, index).masked_fill(~there.unsqueeze(-1), 0.0)


def _term_norms(each: Pass, at: Tensor) -> dict[str, Tensor]:
    """The Frobenius norm of the term of each lag in the gradients, (T,), by the layer's names."""
    steps = each.x.shape[0]
    if not each.drive.numel():
        zero = torch.zeros(steps, dtype=torch.float64, device=at.device)
        return {name: zero for name, _ in each.layer.named_parameters()}
    found: dict[str, list[Tensor]] = {}
    wide = each.drive[:1].numel() * (2 + len(each.states))
    block = max(1, AT_ONCE // max(1, wide))
    for first in range(0, steps, block):
        lags = slice(first, min(first + block, steps))
        for name, by in _squares(each, at, lags).items():
            found.setdefault(name, []).append(by)
    return {name: torch.cat(parts).sqrt() for name, parts in found.items()}


def _squares(each: Pass, at: Tensor, lags: slice) -> dict[str, Tensor]:
    """The squares of these norms for some lags, of all replicas together, in float64."""
    layer, step, weights = each.layer, each.step, each.weights
    count = torch.arange(lags.start, lags.stop, device=at.device)
    times = at - count.view(-1, *[1] * at.dim())  # (L, N)
    there = ((times >= 0) & (at < len(each.drive))).unsqueeze(-1)
    index = times.clamp(0, len(each.drive) - 1).unsqueeze(-1)

    def take(path: Tensor) -> Tensor:
        return path.gather(0, index.expand(*index.shape[:-1], path.shape[-1]))

    before = [take(states[:-1]) for states in each.states]
    if each.schedule.keep is not None:
        keep = take(each.schedule.keep)
        before = [state.masked_fill(~keep, 0.0) for state in before]
    deltas = [take(delta).masked_fill(~there, 0.0) for delta in each.deltas]
    partials = step.partials(take(each.drive), before, step.blocks(weights), weights.units, None)
    drives = each.by_drives(partials, deltas)
    gates = step.by_gate(drives)
    found = {"weight_ih": _outer_square(gates, take(each.x))}
    if layer.bias is not None:
        found["bias"] = _total(gates.sum(-2))
    if layer.weight_hh is not None:
        # Patterned blocks are left out of the gradient; their terms are made block by block.
        found["weight_hh"] = torch.stack(
            [_product_square(step, product, drives, before) for product in step.products]
        ).sum(0)
    units = [
        each.by_symbol(partials, deltas, symbol).sum(-2) for symbol in layer.recurrence.unit_symbols
    ]
    return found | {name: _total(by) for name, by in each.by_unit(units).items()}


def _product_square(step: Any, product: Any, drives: Tensor, before: Any) -> Tensor:
    reached, read = step.reached(drives, product.gates), step.read(product, before, None)
    if product.pattern is None:
        return _outer_square(reached, read)
    groups = len(product.pattern)
    rows, columns = reached.unflatten(-1, (len(product.gates), groups, -1)), read.unflatten(
        -1, (groups, -1)
    )  # fmt: skip
    found = [
        _outer_square(rows[..., i, :].flatten(-2), columns[..., j, :])
        for i, row in enumerate(product.pattern)
        for j, kept in enumerate(row)
        if kept
    ]
    return torch.stack(found).sum(0)


def _outer_square(errors: Tensor, read: Tensor) -> Tensor:
    """|| sum_n errors_n read_n^T ||^2 by lag, (L,): from (L, N, K) and (L, N, Z)."""
    errors, scale = _scaled(errors)
    gram = (errors @ errors.mT).double() * (read @ read.mT).double()
    found = gram.sum((-2, -1)).clamp(min=0) * scale
    return found.flatten(1).sum(1) if found.dim() > 1 else found


def _scaled(errors: Tensor) -> tuple[Tensor, Tensor]:
    """Errors with their greatest number 1, (L, ...), so that their squares do not underflow."""
    most = errors.abs().amax((-2, -1), keepdim=True)
    most = torch.where(most == 0, 1.0, most)
    return errors / most, most.double().square().squeeze(-1).squeeze(-1)


def _total(by: Tensor) -> Tensor:
    """The sum of squares but for the first axis, in float64."""
    return by.double().flatten(1).square().sum(1)
