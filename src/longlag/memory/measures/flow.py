r"""Where the error of a loss goes on its way back in time, and what of it the weights get.

For the error that arises at step t and the states s of a layer,
:math:`\partial E_t / \partial s_{t-l}` by lag l.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.gradients import gradient_by_lag
from longlag.gradients.method import Loss
from longlag.gradients.parameters import names_in
from longlag.gradients.runs.layer_run import STATES_ONLY, LayerRun
from longlag.gradients.runs.model_run import ModelRun
from longlag.layers.inputs import Inputs
from longlag.memory.measures.directions import (
    Direction,
    directions_of,
    in_order_of_x,
    recurrent_of,
)
from longlag.memory.measures.horizon import (
    HorizonOverSequences,
    horizon,
    horizon_over_sequences,
    horizons,
)
from longlag.memory.measures.term_norms import term_norms
from longlag.scan.inputs import to_batch_first


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
        by_sequence: the same by sequence and lag, (N, T + 1); zero before its beginning.
        seen: (N,), the lags that each sequence has, that of the state before its first step
            included; 0 where it has no such step. Both None with ``step="all"``.
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
    by_sequence: Tensor | None = None
    seen: Tensor | None = None

    def shares(self) -> dict[str, Tensor]:
        """By parameter, each lag's part in the sum of the norms of its terms, (T,).

        The terms can cancel, so this is not their part in the gradient itself. Zeros where the
        gradient is zero.
        """
        totals = {name: norms.sum(-1, keepdim=True) for name, norms in self.weights.items()}
        return {
            name: norms / torch.where(totals[name] == 0, 1.0, totals[name])
            for name, norms in self.weights.items()
        }

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

    def over_sequences(self, fraction: float = 0.01) -> HorizonOverSequences:
        """The median of the horizons of the sequences, with an interval; without replicas."""
        self._by_lag()
        assert self.by_sequence is not None
        assert self.seen is not None
        return horizon_over_sequences(self.by_sequence, self.seen, fraction)

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
        return {flow.layer: flow.horizon(fraction) for flow in self.layers}


def product(output: Tensor, target: Tensor) -> Tensor:
    """A loss whose error at the output is the target."""
    return (output * target).sum()


def last_step(marked: Tensor, remaining: Tensor) -> int | None:
    """The marked step that is nearest to the end of its sequence, as a negative number from there.

    Args:
        marked: (N, T); None is returned where no step is.
        remaining: (N, T), from :attr:`longlag.layers.inputs.Inputs.remaining`.

    >>> last_step(torch.tensor([[True, False, False]]), torch.tensor([[1, 0, -1]]))
    -2
    """
    distances = remaining[marked & (remaining >= 0)]
    return -1 - int(distances.min()) if distances.numel() else None


def renamed(flow: LayerFlow, path: str) -> LayerFlow:
    """The same, with names for a model in which the module of the layer stands at a path."""
    if not path:
        return flow
    weights = {f"{path}.{name}": norms for name, norms in flow.weights.items()}
    return dataclasses.replace(flow, layer=f"{path}.{flow.layer}".rstrip("."), weights=weights)


_OTHER = {"forward_layer": "backward_layer", "backward_layer": "forward_layer"}


def _direction(flow: LayerFlow) -> tuple[str, str]:
    """The bidirectional module that a layer is in, by its path, and in which direction."""
    for name in _OTHER:
        module, found, _ = flow.layer.partition(name)
        if found:
            return module, name
    return "", ""


def entrances(flow: ErrorFlow) -> list[LayerFlow]:
    """Of each direction the layer that reads x: all that is remembered of x goes through it.

    A direction that the error does not reach is left out: it has no horizon.
    """
    first, *others = flow.layers
    module, name = _direction(first)
    reading_x = [first]
    if name:
        reading_x += [layer for layer in others if _direction(layer) == (module, _OTHER[name])][:1]
    reached = [e for e in reading_x if e.by_lag is None or bool((e.by_lag[..., 0] != 0).any())]
    return reached or reading_x


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
    if step != "all":
        check_whole("step", step, expected="a whole number or 'all'")
    recurrent, inputs = recurrent_of(model), Inputs(x, lengths, resets, state)
    both = directions_of(recurrent, inputs)
    if both is None:
        return _of_one(model, inputs, target, loss, step, weights)
    value, error = error_at_output(model, recurrent, inputs, target, loss)
    width = getattr(both.forward.layer, "output_size")  # noqa: B009 (of an nn.Module)
    errors = (error[..., :width], error[..., width:])
    prefix = "" if recurrent is model else "layer."
    layers = [
        renamed(layer, f"{prefix}{name}_layer")
        for name, direction, own in zip(both._fields, both, errors, strict=True)
        for layer in _of_direction(direction, own, step, weights).layers
    ]
    return ErrorFlow(value, step, tuple(layers))


def error_at_output(
    model: nn.Module, recurrent: nn.Module, inputs: Inputs, target: Tensor, loss: Loss
) -> tuple[Tensor, Tensor]:
    """The loss, and its error at what a module in the model puts out, (N, T, H)."""
    outputs: list[Tensor] = []

    def cut(_: nn.Module, __: Any, result: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        outputs.append(result[0].detach().requires_grad_())
        return outputs[0], result[1]

    handle = recurrent.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            value = loss(inputs.output_of(model), target)
    finally:
        handle.remove()
    if value.dim():
        raise ValueError(f"loss: got shape {tuple(value.shape)}, expected a scalar")
    if not value.requires_grad:
        return value, torch.zeros_like(outputs[0])
    (error,) = torch.autograd.grad(value, outputs, materialize_grads=True)
    return value.detach(), error


def _of_direction(direction: Direction, error: Tensor, step: int | str, weights: bool) -> ErrorFlow:
    """One of two directions, for the error of what it puts out, in the order of x."""
    assert direction.order is not None
    error = in_order_of_x(error, direction.order)
    return _of_one(direction.layer, direction.inputs, error, product, step, weights)


def _of_one(
    model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss, step: int | str, weights: bool
) -> ErrorFlow:
    run = ModelRun(model, inputs, "error_flow", joint=True)
    steps = run.inputs.steps
    if isinstance(step, int) and steps and not -steps <= step < steps:
        raise ValueError(
            f"step: got {step}, expected one of the {steps} steps of x: {-steps} to {steps - 1}"
        )
    error = run.read(loss, target)
    slope = run.explicit(error)
    at = None
    if isinstance(step, int):
        at = run.at(step)
        times = torch.arange(steps, device=at.device).view(-1, *[1] * at.dim())
        slope = slope.masked_fill((times != at).unsqueeze(-1), 0.0)
    run.backward(slope, STATES_ONLY)
    terms: dict[str, Tensor] = {}
    if weights and at is None:
        gradient = gradient_by_lag(model, inputs.x, target, loss, step="all", **inputs.options)
        terms = gradient.norms()
    layers = []
    for layer_run in run.layers:
        names = names_in(run.model, layer_run.layer)
        if weights and at is not None:
            by_name = term_norms(layer_run, at)
            own = {names[n]: norms for n, norms in by_name.items() if n in names}
        else:
            own = {name: terms[name] for name in names.values() if name in terms}
        layers.append(_layer_flow(layer_run, at, own))
    return ErrorFlow(error.loss.detach(), step, tuple(layers))


def _layer_flow(run: LayerRun, at: Tensor | None, weights: dict[str, Tensor]) -> LayerFlow:
    by_state = zip(run.gradients.initial, run.apart_from_stages(), strict=True)
    paths = [torch.cat([first.unsqueeze(0), delta]) for first, delta in by_state]  # s = 0 .. T
    # The norm of two numbers, and not the root of their squares, which could underflow.
    units = functools.reduce(torch.hypot, paths[1:], paths[0].abs())
    norms = torch.linalg.vector_norm(units, dim=-1)  # (T + 1, N)
    by_lag = by_unit = by_sequence = seen = None
    if at is not None:
        aligned = _by_lag(units, at + 1)
        by_sequence = torch.linalg.vector_norm(aligned, dim=-1).movedim(0, -1)
        seen = torch.where((at >= 0) & (at + 1 < len(units)), at + 2, 0)
        by_unit = torch.linalg.vector_norm(aligned, dim=-2)
        by_lag = torch.linalg.vector_norm(by_unit, dim=-1)
        if by_lag.dim() == 2:
            by_lag, by_unit = by_lag.movedim(0, -1), by_unit.movedim(0, -2)
    precision = torch.finfo(norms.dtype).eps
    by_step = to_batch_first(norms.unsqueeze(-1)).squeeze(-1)
    return LayerFlow(run.name, by_step, by_lag, by_unit, weights, precision, by_sequence, seen)


def _by_lag(path: Tensor, at: Tensor) -> Tensor:
    """(times, N, .) by time to (times, N, .) by lag before ``at`` (N,); zero before the first."""
    lags = torch.arange(len(path), device=path.device).view(-1, *[1] * at.dim())
    times = at - lags
    index = times.clamp(0, len(path) - 1).unsqueeze(-1).expand(path.shape)
    there = (times >= 0) & (at < len(path)) & (at >= 0)
    return path.gather(0, index).masked_fill(~there.unsqueeze(-1), 0.0)
