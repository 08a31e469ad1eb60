"""Trajectories with a past: one path a state, from which delays are read by their address.

A state that is read d steps back has a path of D + T + 1 rows, D = d - 1: its values at the steps
-D .. -1, then s_0 .. s_T. What the layer carries as h_1, h_2, ... are rows of it. After a reset the
older rows stand in memory still, and count as zero.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from longlag.recurrence.lowered import Lowered
from longlag.scan.inputs import Schedule


def held_since(keep: Tensor, delay: int) -> Tensor:
    """Where what was there ``delay`` steps before has not been reset since, (T, N, 1).

    >>> keep = torch.tensor([True, False, True, True]).view(4, 1, 1)
    >>> held_since(keep, 2).flatten().tolist()
    [True, False, False, True]
    """
    if delay == 1:
        return keep
    steps = torch.arange(len(keep), device=keep.device).view(-1, *[1] * (keep.dim() - 1))
    latest = torch.where(keep, -delay, steps).cummax(0).values
    return steps - latest >= delay


def paths_of(lowered: Lowered, visited: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The path of each stored state, from all states s_0 .. s_T as a layer carries them."""
    first = visited[0]
    paths = []
    for number, depth in zip(lowered.stored, lowered.depths, strict=True):
        past = [first[lowered.held_number(number, steps)] for steps in range(depth, 0, -1)]
        paths.append(torch.stack([*past, *(states[number] for states in visited)]))
    return paths


def first_states(lowered: Lowered, paths: Sequence[Tensor]) -> list[Tensor]:
    """The states before the first step, as a layer carries them, from their paths."""
    return [paths[place][lowered.depths[place] - back] for place, back in lowered.origins]


def states_before(
    lowered: Lowered, paths: Sequence[Tensor], schedule: Schedule, first: int, stop: int
) -> list[Tensor]:
    """All states as the steps first .. stop - 1 read them, each (stop - first, N, H)."""
    states = []
    for place, back in lowered.origins:
        begin = lowered.depths[place] - back
        state = paths[place][begin + first : begin + stop]
        if schedule.keep is not None:
            held = held_since(schedule.keep, back + 1)[first:stop]
            state = state.masked_fill(~held, 0.0)
        states.append(state)
    return states


def states_after(lowered: Lowered, paths: Sequence[Tensor], first: int, stop: int) -> list[Tensor]:
    """All states after the steps first .. stop - 1, each (stop - first, N, H)."""
    begins = [lowered.depths[place] - back + 1 for place, back in lowered.origins]
    return [
        paths[place][begin + first : begin + stop]
        for (place, _), begin in zip(lowered.origins, begins, strict=True)
    ]


def output_of(lowered: Lowered, paths: Sequence[Tensor], dilation: int = 1) -> Tensor:
    """The states that are put out, (T, N, H)."""
    if dilation > 1:
        return paths[lowered.output].view_as(paths[lowered.output])
    return paths[lowered.output][lowered.depths[lowered.output] + 1 :]


def final_states(
    lowered: Lowered,
    paths: Sequence[Tensor],
    schedule: Schedule,
    lengths: Tensor | None,
    apart: bool,
) -> list[Tensor]:
    """The states after each row's last step, in memory that is not the paths'.

    Args:
        lowered: the recurrence.
        paths: of its stored states.
        schedule: which steps count.
        lengths: (N,), or (R, N), how many; None where all do.
        apart: whether each has memory of its own, as autograd wants it of what a node gives; else
            those of one path may be views, which takes half the time.
    """
    if lengths is None and not any(lowered.depths):
        return [torch.select_copy(path, 0, -1) for path in paths]
    states: list[Tensor] = []
    latest: list[Any] = []
    if lengths is None:  # of all rows the same steps
        pairs = zip(paths, lowered.depths, strict=True)
        rows = [path[len(path) - 1 - depth :] for path, depth in pairs]
        latest = [torch.unbind_copy(row) if apart else row.clone().unbind() for row in rows]
    for place, back in lowered.origins:
        path, end = paths[place], lowered.depths[place] - back
        if lengths is None:
            state = latest[place][end]
        else:
            at = (lengths + end).view(1, *path.shape[1:-1], 1).expand(1, *path.shape[1:])
            state = path.gather(0, at).squeeze(0)
        if back and schedule.keep is not None:
            state.masked_fill_(~held_at_end(schedule.keep, back, lengths), 0.0)
        states.append(state)
    return states


def held_at_end(keep: Tensor, steps: int, lengths: Tensor | None) -> Tensor:
    """Where the value of so many steps before the end has not been reset since, (N, 1)."""
    if len(keep) == 0:
        return torch.ones(keep.shape[1:], dtype=torch.bool, device=keep.device)
    held = held_since(keep, steps)
    if lengths is None:
        return held[-1]
    lengths = lengths.unsqueeze(-1)
    return held.gather(0, (lengths - 1).clamp(min=0).unsqueeze(0)).squeeze(0) | (lengths == 0)
