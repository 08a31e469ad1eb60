"""A dilated layer's scan: the undilated recurrence, with its states d steps deep.

What a layer carries are the states of the last steps, each by itself, as its cell declares them. A
scan with a dilation takes and gives those of d steps as one.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.recurrence.dilation import dilated
from longlag.recurrence.traced import held
from longlag.scan.entry import Scanned, scan
from longlag.scan.inputs import Weights
from longlag.scan.pieces import current


@dataclass(frozen=True)
class Dilation:
    """A recurrence, and what it is when each step reads the states of d steps before.

    Attributes:
        recurrence: the undilated one.
        whole: the dilated one.
        steps: d.
        places: by state of ``recurrence``, which states of ``whole`` hold it of the last d steps,
            the earliest first.
        order: by state of ``whole``, its number among all of these.
        views: whether all that is held back is a view of one path.
    """

    recurrence: Recurrence
    whole: Recurrence
    steps: int
    places: Sequence[Sequence[int]]
    order: Sequence[int]
    views: bool

    @classmethod
    def of(cls, recurrence: Recurrence, steps: int) -> "Dilation":
        """Of so many steps, at least 1."""
        whole = dilated(recurrence, steps)
        numbers = {name: number for number, name in enumerate(whole.states)}
        origins = [recurrence.delayed.get(name, (name, 0)) for name in recurrence.states]
        places = [
            [numbers[held(source, age * steps + back)] for back in reversed(range(steps))]
            for source, age in origins
        ]
        joined = list(itertools.chain(*places))
        order = sorted(range(len(joined)), key=joined.__getitem__)
        declared = len(recurrence.states) - len(recurrence.delayed)
        views = len(whole.states) - len(whole.delayed) == declared
        return cls(recurrence, whole, steps, places, order, views)

    @property
    def numbers(self) -> dict[str, list[int]]:
        """By state that the cell declares, which states of ``whole`` hold it, the latest first."""
        delayed = self.recurrence.delayed
        numbers: dict[str, list[int]] = {}
        for name, some in zip(self.recurrence.states, self.places, strict=True):
            source, _ = delayed.get(name, (name, 0))
            numbers.setdefault(source, []).extend(reversed(some))
        return numbers


def scan_dilated(
    dilation: Dilation,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor] | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    mask: Tensor | None = None,
    backend: str = "auto",
) -> Scanned:
    """What ``scan(dilation.whole, x, ...)`` gives, at the cost of the undilated recurrence.

    Not so for a recurrence that reads the step ``t``, nor for pieces of sequences, where states
    have to be as a step carries them. And where delays of the cell make it read further back still,
    a kernel reads by its address what it can.
    """
    recurrence, steps = dilation.recurrence, dilation.steps
    by_address = bool(recurrence.delayed) and dilation.views
    by_address = by_address and x.device.type == "cpu" and backend in ("auto", "cpu")
    if steps == 1 or recurrence.timed or by_address or current() is not None:
        return scan(dilation.whole, x, weights, initial, lengths, resets, mask, backend)
    deep = None
    if initial is not None:
        deep = [torch.stack([initial[number] for number in some]) for some in dilation.places]
    result = scan(recurrence, x, weights, deep, lengths, resets, mask, backend, steps)
    latest = result.state
    if resets is not None and resets.shape[-1]:
        latest = _since_resets(dilation, latest, lengths, resets)
    parts = [part for states in latest for part in states.unbind()]
    return result._replace(state=tuple([parts[number] for number in dilation.order]))


def _since_resets(
    dilation: Dilation, deep: Sequence[Tensor], lengths: Tensor | None, resets: Tensor
) -> list[Tensor]:
    """The states of the last d steps, zero where they are from before the latest reset.

    Args:
        dilation: as of :func:`scan_dilated`.
        deep: by state of the undilated recurrence, (d, *R, N, H).
        lengths: (*R, N), the numbers of steps; None for all.
        resets: (*R, N, T).
    """
    steps = torch.arange(resets.shape[-1], device=resets.device)
    back = (len(steps) if lengths is None else lengths.unsqueeze(-1)) - 1 - steps
    never = len(dilation.order)
    since = torch.where(resets & (back >= 0), back, never).amin(-1).unsqueeze(-1)  # so many steps
    states = []
    for name, latest in zip(dilation.recurrence.states, deep, strict=True):
        _, age = dilation.recurrence.delayed.get(name, (name, 0))
        back = age * dilation.steps + torch.arange(len(latest), device=latest.device).flip(0)
        states.append(latest.masked_fill(since < back.view(-1, *[1] * since.dim()), 0.0))
    return states
