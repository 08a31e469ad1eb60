"""A dilated scan in phases: the d interleaved sequences that never meet, as rows or replicas.

A recurrence that reads s_{t-d} in place of s_{t-1} takes the steps p, p + d, p + 2 d, ... of a
sequence as one sequence of their own, for each phase p < d. So it is the undilated recurrence over
d times the rows and a d-th of the steps. For a compiled backend groups of phases are replicas that
share their weights, which it takes one after the other.

Source: S. Chang et al., Dilated recurrent neural networks, NIPS 2017, section 2.1.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.recurrence.dilation import depths_of, dilated
from longlag.recurrence.traced import held
from longlag.scan.backend import choose
from longlag.scan.entry import Scanned, scan
from longlag.scan.inputs import Weights, to_batch_first, to_time_first
from longlag.scan.pieces import current
from longlag.scan.trajectory import held_since

ROWS = 16
"""Rows that a group of phases has, where one phase has fewer."""

LARGE = 1 << 28
"""Multiply-adds from which phases bring more than it costs to make them, where it could be done
without."""


@dataclass(frozen=True)
class Dilation:
    """A recurrence, and what it is when each step reads the states of d steps before.

    Attributes:
        recurrence: the undilated one.
        whole: the dilated one.
        steps: d.
        numbers: by state that the cell declares, which states of ``whole`` hold it, the latest
            first.
        views: whether all that is held back is a view of one path.
    """

    recurrence: Recurrence
    whole: Recurrence
    steps: int
    numbers: Mapping[str, Sequence[int]]
    views: bool

    @classmethod
    def of(cls, recurrence: Recurrence, steps: int) -> "Dilation":
        """Of so many steps, at least 1."""
        whole = dilated(recurrence, steps)
        places = {name: number for number, name in enumerate(whole.states)}
        depths = depths_of(recurrence)
        numbers = {
            source: [places[held(source, back)] for back in range(depth * steps)]
            for source, depth in depths.items()
        }
        views = len(whole.states) - len(whole.delayed) == len(depths)
        return cls(recurrence, whole, steps, numbers, views)


def scan_dilated(
    dilation: Dilation,
    x: Tensor,
    weights: Weights,
    *others: Any,
    backend: str = "auto",
    **more: Any,
) -> Scanned:
    """What ``scan(dilation.whole, x, ...)`` gives; in phases, where that pays.

    Phases cannot be had for a recurrence that reads the step ``t``, of which one would see its own
    count, nor for pieces of sequences, where a phase is another row in each. And where all that is
    held back is a view of one path, a compiled kernel can take the steps as they are, which is less
    to prepare; of what is large, it then reads from far what in phases is near.
    """
    options = {"backend": backend, **more}
    if dilation.steps == 1 or dilation.whole.timed or current() is not None:
        return scan(dilation.whole, x, weights, *others, **options)
    as_they_are = dilation.views and x.device.type == "cpu" and backend in ("auto", "cpu")
    if as_they_are and not _pays(dilation.steps, x, weights, backend):
        return scan(dilation.whole, x, weights, *others, **options)
    return scan_in_phases(dilation, x, weights, *others, **options)


def scan_in_phases(
    dilation: Dilation,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor] | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    mask: Tensor | None = None,
    backend: str = "auto",
) -> Scanned:
    """What ``scan(dilation.whole, ...)`` gives, in a d-th of the steps.

    Args:
        dilation: of a recurrence that does not read the step ``t``.
        x: batch first, (N, T, C), or (R, N, T, C).
        weights, lengths, resets, mask, backend: as of :func:`~longlag.scan.scan`.
        initial: the states of the dilated recurrence before the first step.

    Returns:
        The output, and the states of the dilated recurrence after each sequence's own last step.
    """
    *front, rows, steps, _ = x.shape
    phases = max(1, min(dilation.steps, steps))  # the others have no step
    groups = _groups(phases, rows) if _shares_weights(x, weights, backend) else 1
    phase = torch.arange(phases, device=x.device).unsqueeze(-1)
    ends = lengths
    if ends is None and steps % phases:
        ends = torch.full((*front, rows), steps, device=x.device)
    if ends is not None:
        ends = _join(
            (ends.unsqueeze(-2) - phase + dilation.steps - 1) // dilation.steps, -2, groups
        )
    resets = resets if steps else None
    blocked = None
    if resets is not None:  # a reset keeps the next d steps from what was before it
        free = held_since(~resets.movedim(-1, 0).unsqueeze(-1), dilation.steps)
        blocked = ~_fold(free.movedim(0, -2), phases, groups).squeeze(-1)
    if mask is not None:
        mask = _join(mask.unsqueeze(-3).expand(*front, phases, -1, -1), -3, groups)
    past = None if initial is None else list(_past(dilation, initial))
    first = None if past is None else [_join(part[..., :phases, :, :], -3, groups) for part in past]
    result = scan(
        dilation.recurrence, _fold(x, phases, groups), weights, first, ends, blocked, mask, backend
    )

    latest = [_part(part, phases, groups) for part in result.state]
    if phases < dilation.steps:
        if past is None:
            past = [part.new_zeros(*front, dilation.steps, *part.shape[-2:]) for part in latest]
        pairs = zip(latest, past, strict=True)
        latest = [torch.cat([new, old[..., phases:, :, :]], -3) for new, old in pairs]
    state = _present(dilation, latest, steps if lengths is None else lengths, resets)
    return Scanned(_unfold(result.output, phases, groups, steps), state, result.backend)


def _pays(steps: int, x: Tensor, weights: Weights, backend: str) -> bool:
    """Whether phases of what could be read by its address are faster, and need no copies."""
    if torch.compiler.is_compiling() or x.shape[-2] % steps:
        return False
    by_step = sum(part.numel() for part in (weights.recurrent, weights.input) if part is not None)
    large = math.prod(x.shape[:-1]) * by_step >= LARGE
    return large and _shares_weights(x, weights, backend)


def _shares_weights(x: Tensor, weights: Weights, backend: str) -> bool:
    """Whether what will run takes phases as replicas that share their weights."""
    if x.dim() == 4 or torch.compiler.is_compiling():
        return False
    recurrent, units, matrix, bias, _ = weights
    like = x if matrix is None else matrix
    return choose(backend, like, tensors=(x, recurrent, *units, matrix, bias)).shares_weights


def _groups(phases: int, rows: int) -> int:
    """How many groups of phases are run one after the other, each with all rows of its phases.

    What a step reads again, such as the states of the step before, then stays in a cache as it does
    without dilation. One where threads would not have equal shares.
    """
    sizes = (size for size in range(1, phases + 1) if phases % size == 0)
    groups = phases // max(size for size in sizes if size == 1 or size * rows <= ROWS)
    threads = torch.get_num_threads()
    return groups if groups % threads == 0 or groups >= 4 * threads else 1


def _fold(sequence: Tensor, phases: int, groups: int) -> Tensor:
    """From (*R, N, T, F) to (*R, N', ceil(T / phases), F), where N' is as :func:`_join` makes it.

    Time is first in memory. Nothing is copied where T is a multiple and each phase is a group; or
    where time was first in memory before, as in the output of a layer, and there are no replicas.
    """
    sequence = to_time_first(sequence)
    padding = -len(sequence) % phases
    if padding:
        sequence = torch.nn.functional.pad(sequence, (0, 0) * (sequence.dim() - 1) + (0, padding))
    sequence = sequence.unflatten(0, (len(sequence) // phases, phases)).movedim(1, -3)
    return to_batch_first(_join(sequence, -3, groups))


def _unfold(sequence: Tensor, phases: int, groups: int, steps: int) -> Tensor:
    """Back from there to (*R, N, T, F)."""
    sequence = _part(to_time_first(sequence), phases, groups).movedim(-3, 1).flatten(0, 1)
    return to_batch_first(sequence if len(sequence) == steps else sequence[:steps])


def _join(phases: Tensor, axis: int, groups: int) -> Tensor:
    """Phases and sequences, along this axis and the next, as rows of so many groups."""
    if groups > 1:
        phases = phases.unflatten(axis, (groups, -1))
    return phases.flatten(axis, axis + 1)


def _part(rows: Tensor, phases: int, groups: int) -> Tensor:
    """Back from there, of numbers (..., rows, F)."""
    together = phases // groups
    parts = rows.unflatten(-2, (together, rows.shape[-2] // together))
    return parts if groups == 1 else parts.flatten(-4, -3)


def _past(dilation: Dilation, initial: Sequence[Tensor]) -> Iterator[Tensor]:
    """By state of the undilated recurrence, what each phase begins with: (*R, d, N, H)."""
    for name in dilation.recurrence.states:
        source, age = dilation.recurrence.delayed.get(name, (name, 0))
        numbers = dilation.numbers[source][age * dilation.steps :][: dilation.steps]
        yield torch.stack([initial[number] for number in reversed(numbers)], -3)


def _present(
    dilation: Dilation,
    latest: Sequence[Tensor],
    ends: Tensor | int,
    resets: Tensor | None,
) -> tuple[Tensor, ...]:
    """The states of the dilated recurrence after the last step, each (*R, N, H).

    Args:
        dilation: as of :func:`scan_in_phases`.
        latest: by state of the undilated recurrence, the latest of each phase: (*R, d, N, H).
        ends: (N,), the numbers of steps; or one for all.
        resets: (N, T), after which what is older counts as zero.
    """
    back = torch.arange(dilation.steps, device=latest[0].device)
    if isinstance(ends, int):
        order = (ends - 1 - back) % dilation.steps
        ordered = [part.index_select(-3, order) for part in latest]
    else:
        order = (ends.unsqueeze(-2) - 1 - back.unsqueeze(-1)) % dilation.steps
        ordered = [part.gather(-3, order.unsqueeze(-1).expand(part.shape)) for part in latest]
    since = None
    if resets is not None:  # how many steps before the last the latest reset was
        steps = torch.arange(resets.shape[-1], device=resets.device)
        since = (ends if isinstance(ends, int) else ends.unsqueeze(-1)) - 1 - steps
        never = max(map(len, dilation.numbers.values()))
        since = torch.where(resets & (since >= 0), since, never).amin(-1)
    state: dict[int, Tensor] = {}
    for source, numbers in dilation.numbers.items():
        ages = range(len(numbers) // dilation.steps)
        parts = [ordered[dilation.recurrence.states.index(held(source, age))] for age in ages]
        line = torch.cat(parts, -3) if len(parts) > 1 else parts[0]
        if since is not None:
            age = torch.arange(len(numbers), device=line.device).unsqueeze(-1)
            line = line.masked_fill((since.unsqueeze(-2) < age).unsqueeze(-1), 0.0)
        state.update(zip(numbers, line.unbind(-3), strict=True))
    return tuple(state[number] for number in range(len(state)))
