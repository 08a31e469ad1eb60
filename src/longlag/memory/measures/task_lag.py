"""How far back the answers of a network rest on what it read: older inputs are exchanged.

The lag of a task is seldom known. But a network that has learnt it answers worse where what it
needs is not there: the inputs of more than k steps ago are replaced by those of another sequence,
and the loss is compared with the own one. From the lag of the task on it is the same.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.losses import due
from longlag.gradients.method import Loss
from longlag.layers.inputs import Inputs
from longlag.layers.state_tree import map_tensors
from longlag.memory.measures.horizon import FEWEST, interval, resampled, spread

LAGS, HALVINGS = 12, 6
"""Lags that are looked at, each so many times the one before; then between the two of interest."""

PARTNERS = 3
"""With how many other sequences each one is exchanged."""

LEFT = 0.05
"""Of what all inputs matter, what no longer counts."""

LEARNT = 0.1
"""By so much of it the loss has to be smaller with the own inputs, to tell a lag of the task."""


@dataclass(frozen=True)
class TaskLag:
    """What :func:`task_lag` finds.

    Attributes:
        lags: in order, those looked at.
        losses: (L,), in float64: the mean loss where the inputs further back than a lag are those
            of another sequence.
        own, exchanged: the loss with a sequence's own inputs, and with those of another alone.
        lag: the least lag from which on what the exchange adds to the loss stays below 5 % of what
            it adds where all inputs are exchanged; None where it cannot be told.
        interval: 95 % for it, by the bootstrap over sequences; None without a lag.
        reason: why it cannot be told; "" where it can.
    """

    lags: tuple[int, ...]
    losses: Tensor
    own: float
    exchanged: float
    lag: int | None
    interval: tuple[int, int] | None
    reason: str


@torch.no_grad()
def task_lag(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    lengths: Tensor | None = None,
    state: Any = None,
    step: int = -1,
) -> TaskLag:
    r"""How far back the answer of a step rests on the inputs, as far as the network has learnt it.

    With :math:`E_k` the mean loss of step t where the inputs before t - k are those of another
    sequence at the same distance from its own end, and E the one with all of its own, the lag is
    the least k from which on

    .. math:: E_k - E < 0.05 (E_{-1} - E)

    It is that of the task for a network that has learnt the task, and less for one that has learnt
    a part of it: what lies further back it does not use. It can be told only where the own inputs
    make the loss smaller, by a tenth or more, and surely: the interval of :math:`E_{-1} - E` over
    the sequences, of 95 %, has to be above 0.

    Args:
        model: a recurrent layer, a stack, a bidirectional module, or a `SequenceModel` around one.
            Its mode stays.
        x: (N, T, C), N >= 5 different sequences, better 30.
        target: (N, ...), or (N, T, ...) of a model with an output at each step.
        loss: takes the output and the target of one sequence too, and gives a scalar.
        lengths: (N,), steps that count; `state`, what the model starts from: it is exchanged too.
        step: of a model with an output at each step, whose loss, counted from each sequence's own
            end: -1 is the last.

    Returns:
        The lag, or the reason why it cannot be told, and the losses by lag.

    Cost: about 60 forward passes, and the loss of each sequence for each.

    >>> import longlag as ll
    >>> layer = ll.Elman(1, 1, activation="identity", bias=False, seed=0)
    >>> with torch.no_grad():
    ...     for weight, value in ((layer.weight_ih, 1.0), (layer.weight_hh, 0.5)):
    ...         _ = weight.fill_(value)
    >>> x = torch.randn(200, 30, 1, generator=torch.manual_seed(0))
    >>> found = task_lag(layer, x, layer(x)[0], nn.functional.mse_loss)  # 1/4 of it is left a step
    >>> found.lag, found.interval
    (2, (1, 2))
    """
    inputs = Inputs(x, lengths, None, state).checked()
    at = inputs.ends + step
    each = _reading(model, inputs, target, loss, at)
    if isinstance(each, str):
        return _unknown(each)
    rows, losses_of = each
    if len(rows) < FEWEST:
        return _unknown(f"fewer than {FEWEST} sequences have a target")
    longest = int(at[rows].max())
    shifts = sorted({1 + k * (len(rows) - 1) // PARTNERS for k in range(PARTNERS)})
    own = losses_of(x, inputs.state)

    def added(lag: int) -> Tensor:
        """(N,), what the exchange of all inputs beyond a lag adds to the loss of each sequence."""
        total = torch.zeros_like(own)
        for shift in shifts:
            changed, changed_state = _exchanged(inputs, at, rows, rows.roll(shift), lag)
            total += losses_of(changed, changed_state) - own
        return total / len(shifts)

    everything = added(-1)
    weights = resampled(len(rows)) / len(rows)
    surely, _ = interval(weights @ everything)
    if not bool(everything.isfinite().all()) or not float(surely) > 0:
        return _unknown(
            "the loss is no smaller with a sequence's own inputs than with those of another"
        )
    gain = float(everything.mean()) / abs(float((own + everything).mean()))
    if gain < LEARNT:
        return _unknown(
            f"the loss is only {100 * gain:.2g} % smaller with a sequence's own inputs than with "
            "those of another: little has been learnt yet"
        )
    by_lag = {lag: added(lag) for lag in {0, *spread(longest, LAGS)}}
    for _ in range(HALVINGS):
        lags, table = _table(by_lag)
        found = int(_first_below(table.mean(1), everything.mean()))
        low = lags[found - 1] if found else 0
        between = (low + lags[found]) // 2
        if between in by_lag:
            break
        by_lag[between] = added(between)
    lags, table = _table(by_lag)
    found = int(_first_below(table.mean(1), everything.mean()))
    draws = _first_below(weights @ table.T, weights @ everything)
    ends = tuple(lags[int(end)] for end in interval(draws))
    return TaskLag(
        lags, float(own.mean()) + table.mean(1), float(own.mean()),
        float((own + everything).mean()), lags[found], (ends[0], ends[1]), "",
    )  # fmt: skip


def _unknown(reason: str) -> TaskLag:
    return TaskLag((), torch.zeros(0, dtype=torch.float64), math.nan, math.nan, None, None, reason)


def _table(by_lag: dict[int, Tensor]) -> tuple[tuple[int, ...], Tensor]:
    """The lags in order, and (L, N), what was added at each."""
    lags = tuple(sorted(by_lag))
    return lags, torch.stack([by_lag[lag] for lag in lags])


def _first_below(curves: Tensor, everything: Tensor) -> Tensor:
    """(...), where each of (..., L) begins to stay below its limit; its last place for never."""
    above = curves >= LEFT * everything.unsqueeze(-1)
    places = torch.arange(1, curves.shape[-1] + 1, device=curves.device)
    return (above * places).amax(-1).clamp(max=curves.shape[-1] - 1)


def _reading(
    model: nn.Module, inputs: Inputs, target: Tensor, loss: Loss, at: Tensor
) -> tuple[Tensor, Callable[[Tensor, Any], Tensor]] | str:
    """The sequences that have a target, and their losses for some x and state; or why not."""
    output = inputs.output_of(model)
    by_step = output.dim() == 3
    if target.shape[: output.dim() - 1] != output.shape[:-1]:
        return "the target is no number or class for each output"

    def part(of: Tensor, n: int) -> Tensor:
        return of[n : n + 1, at[n] : at[n] + 1] if by_step else of[n : n + 1]

    rows = [n for n in range(len(output)) if at[n] >= 0 and bool(due(part(target, n)).any())]
    if rows:
        try:
            loss(part(output, rows[0]), part(target, rows[0]))
        except (ValueError, TypeError, RuntimeError, IndexError):
            return "the loss takes no sequence alone"

    def losses(x: Tensor, state: Any) -> Tensor:
        output = inputs._replace(x=x, state=state).output_of(model)
        values = [loss(part(output, n), part(target, n)) for n in rows]
        return torch.stack(values).double().cpu()

    return torch.tensor(rows, device=output.device, dtype=torch.long), losses


def _exchanged(
    inputs: Inputs, at: Tensor, rows: Tensor, others: Tensor, lag: int
) -> tuple[Tensor, Any]:
    """x and state, of which some sequences have from others what lies further back than a lag."""
    whose = torch.arange(len(at), device=at.device)
    whose[rows] = others
    back = at.unsqueeze(-1) - torch.arange(inputs.steps, device=at.device)  # (N, T)
    last = at[whose].unsqueeze(-1)
    place = (last - back).remainder(last + 1).clamp(0, inputs.steps - 1)
    theirs = inputs.x[whose.unsqueeze(-1), place]
    state = map_tensors(inputs.state, lambda own: own[whose])
    return torch.where((back > lag).unsqueeze(-1), theirs, inputs.x), state
