"""A dilated recurrence as rows: the d interleaved sequences that never meet.

A recurrence that reads s_{t-d} in place of s_{t-1} takes the steps p, p + d, p + 2 d, ... of a
sequence as one sequence of their own, for each phase p < d. So it is the undilated recurrence over
d times the rows and a d-th of the steps.

Source: S. Chang et al., Dilated recurrent neural networks, NIPS 2017, section 2.1.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from longlag.scan.inputs import ScanInputs, Schedule
from longlag.scan.trajectory import held_since

Back = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, list[Tensor]]]
"""From output and final states of the rows to those of the sequences."""


def in_rows(inputs: ScanInputs) -> tuple[ScanInputs, Back]:
    """The undilated recurrence over the phases as rows, and the way back from what it gives."""
    x, initial, d = inputs.x, inputs.initial, inputs.dilation
    active, keep, mask, _ = inputs.schedule
    if d == 1:
        return inputs, lambda output, final: (output, list(final))
    steps, rows = len(x), x.shape[-2]
    phases = max(1, min(d, steps))  # the others have no step
    lengths = None if active is None else active.sum(0)  # (*R, N, 1)
    if active is None and steps % phases:
        active = x.new_ones((*x.shape[:-1], 1), dtype=torch.bool)

    def join(parts: Tensor) -> Tensor:
        """From (phases, *R, N, F) to (*R, phases N, F)."""
        return parts.movedim(0, -3).flatten(-3, -2)

    def fold(sequence: Tensor, value: float = 0.0) -> Tensor:
        """From (T, *R, N, F) to (ceil(T / phases), *R, phases N, F)."""
        missing = (0, 0) * (sequence.dim() - 1) + (0, -steps % phases)
        if missing[-1]:
            sequence = torch.nn.functional.pad(sequence, missing, value=value)
        parts = sequence.unflatten(0, (len(sequence) // phases, phases))
        return parts.movedim(1, -3).flatten(-3, -2)

    def back(output: Tensor, final: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        output = output.unflatten(-2, (phases, rows)).movedim(-3, 1).flatten(0, 1)
        states = []
        for place, state in enumerate(final):
            latest = state.unflatten(-2, (phases, rows)).movedim(-3, 0)
            if phases < d:
                older = (
                    latest.new_zeros((d, *latest.shape[1:])) if initial is None else initial[place]
                )
                latest = torch.cat([latest, older[phases:]])
            if lengths is None:
                states.append(latest.roll(-(steps % d), 0))
                continue
            order = torch.arange(d, device=x.device).view(-1, *[1] * lengths.dim()) + lengths
            states.append(latest.gather(0, (order % d).expand(latest.shape)))
        return output if len(output) == steps else output[:steps], states

    # A reset keeps the next d steps from what was before it.
    schedule = Schedule(
        None if active is None else fold(active),
        None if keep is None else fold(held_since(keep, d) if steps else keep, True),
        None if mask is None else join(mask.expand(phases, *mask.shape)),
    )
    before = None if initial is None else [join(state[:phases]) for state in initial]
    folded = inputs._replace(x=fold(x), initial=before, schedule=schedule, dilation=1)
    return folded, back
