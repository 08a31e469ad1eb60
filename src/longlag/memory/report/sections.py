"""What a report measures by rules of its own: whose error, whose pasts, and how many exponents."""

import torch
from torch import Tensor, nn

from longlag.gradients.losses import due, resolve_loss
from longlag.gradients.method import Loss
from longlag.layers import Recurrent, RecurrentModule
from longlag.layers.composition import reduction_of
from longlag.layers.inputs import Inputs
from longlag.memory.measures.directions import (
    Direction,
    Directions,
    each_direction,
    reads_back_inside,
    recurrent_of,
)
from longlag.memory.measures.exchange import PastEffects, past_effects
from longlag.memory.measures.flow import (
    ErrorFlow,
    error_at_output,
    error_flow,
    last_step,
    product,
    renamed,
)
from longlag.memory.measures.horizon import spread
from longlag.memory.measures.lyapunov import LyapunovSpectrum, lyapunov_exponents
from longlag.memory.measures.parts import flow_of, parts_of
from longlag.memory.measures.task_lag import TaskLag, task_lag

EXPONENTS = 8
"""Lyapunov exponents that are found by default."""

TRAJECTORIES = 4
"""Sequences along which they are found."""

FEWEST = 20
"""Steps below which they are not looked for."""

EXCHANGES = 12
"""Lags at which pasts are exchanged, beside the task's own."""

EXCHANGED = 16
"""Sequences between which pasts are exchanged."""


def followed_error(
    model: nn.Module, inputs: Inputs, target: Tensor | None, loss: str | Loss | None,
    step: int | None, seed: int,
) -> tuple[ErrorFlow, bool]:  # fmt: skip
    """The flow of an error, and whether it is that of the loss.

    It is a random error at the output where there is no target, or none is due, or the error of
    the loss is exactly zero. The arguments are those of `memory_report`.
    """
    if target is None and loss is not None:
        raise ValueError("target: got None, and a loss; expected both, or neither")
    if target is not None:
        target = torch.as_tensor(target, device=inputs.x.device)
        _, function = resolve_loss(loss, target)
        last = _last_due(model, target, inputs) if step is None else step
        if last is not None:
            flow = _flow(model, inputs, target, function, last, step)
            if any(
                layer.by_lag is not None and bool(layer.by_lag[0] != 0) for layer in flow.layers
            ):
                return flow, True
    output, generator = inputs.output_of(model), torch.Generator().manual_seed(seed)
    error = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
    return _flow(model, inputs, error, product, -1 if step is None else step, step), False


def _flow(
    model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss, last: int, step: int | None
) -> ErrorFlow:
    """The error's way back; through layers that read both ways on one another, one by one.

    There the step is the last at which each layer has an error, where none is given.
    """
    recurrent = recurrent_of(model)
    if not reads_back_inside(recurrent):
        return error_flow(model, inputs.x, target, loss, step=last, **inputs.options)
    assert isinstance(recurrent, RecurrentModule)
    value, error = error_at_output(model, recurrent, inputs, target, loss)
    prefix = "" if recurrent is model else "layer"
    flows = [flow_of(part, step) for part in parts_of(recurrent, inputs, error)]
    layers = tuple(renamed(layer, prefix) for flow in flows for layer in flow.layers)
    return ErrorFlow(value, last, layers)


def found_lag(
    model: nn.Module, inputs: Inputs, target: Tensor | None, loss: str | Loss | None,
    step: int | None, lag: int | None,
) -> TaskLag | None:  # fmt: skip
    """The lag of the task where none was given; None where it is not to be looked for."""
    reduce = reduction_of(model)
    if target is None or lag is not None or loss is product or reduce not in (None, "last"):
        return None
    if inputs.resets is not None:
        return None
    target = torch.as_tensor(target, device=inputs.x.device)
    _, function = resolve_loss(loss, target)
    last = _last_due(model, target, inputs) if step is None or reduce else step
    if last is None or last >= 0:
        return None
    return task_lag(
        model, inputs.x, target, function, lengths=inputs.lengths, state=inputs.state, step=last
    )


def _last_due(model: nn.Module, target: Tensor, inputs: Inputs) -> int | None:
    """The last step at which an error is due somewhere, counted as `error_flow` does."""
    if reduction_of(model) is not None or target.dim() < 2:
        return -1
    is_due = due(target)
    if is_due.dim() > 2:
        is_due = is_due.flatten(2).any(-1)
    # A target that does not fit is refused by the loss.
    return last_step(is_due, inputs.remaining) if is_due.shape == inputs.x.shape[:-1] else -1


def largest_exponents(
    recurrent: nn.Module, inputs: Inputs, count: int | None
) -> LyapunovSpectrum | Directions[LyapunovSpectrum] | None:
    """The largest Lyapunov exponents along a few sequences; None for resets or too few steps."""
    steps = inputs.x.shape[-2]
    few = inputs.first(TRAJECTORIES)
    discarded = steps // 10
    if inputs.resets is not None or count == 0 or steps < FEWEST:
        return None
    if int(few.ends.max()) <= discarded + 1:
        return None

    def of(direction: Direction) -> LyapunovSpectrum:
        size = sum(
            layer.hidden_size * len(layer.recurrence.states)
            for layer in direction.layer.modules()
            if isinstance(layer, Recurrent)
        )
        x, lengths, _, state = direction.inputs
        wanted = min(EXPONENTS if count is None else count, size)
        return lyapunov_exponents(
            direction.layer, x, wanted, state=state, discard=discarded, lengths=lengths
        )

    return each_direction(recurrent, few, of)


def pasts_exchanged(
    model: nn.Module, recurrent: nn.Module, inputs: Inputs, lag: int | None
) -> PastEffects | None:
    """The effects of the past between some sequences; None for both directions and resets."""
    causal = isinstance(recurrent, RecurrentModule) and recurrent.causal
    some = inputs.first(EXCHANGED)
    longest = int(some.ends.max())
    if not causal or inputs.resets is not None or len(some.x) < 2 or longest < 2:
        return None
    lags = spread(longest - 1, EXCHANGES)
    if lag is not None and lag < longest:
        lags.append(lag)
    return past_effects(model, some.x, lengths=some.lengths, state=some.state, lags=lags)
