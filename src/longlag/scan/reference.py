"""The reference backend: the recurrence step by step in plain PyTorch, differentiated by autograd.

This is the definition of correct. It takes any floating dtype and any device, and can be
differentiated twice. Every step leaves its operations in autograd's graph, so memory and time are
those of a Python loop; the other backends are for speed.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan.inputs import Schedule, Weights
from longlag.scan.step import torch_step

__all__ = ["run"]


def run(
    recurrence: Recurrence,
    drive: Float[Tensor, "T *R N GH"],
    weights: Weights,
    initial: Sequence[Tensor],
    schedule: Schedule,
) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrence over time.

    Args:
        recurrence: the traced cell.
        drive: a_t = U x_t + b of every gate, time first, zero in the padding.
        weights: recurrent matrix and unit parameters.
        initial: the states before the first step, each (N, H).
        schedule: padding, resets and dropout mask.

    Returns:
        The output (T, N, H) and the final states, each (N, H).
    """
    step = torch_step(recurrence)
    blocks = step.blocks(weights)
    states, outputs = list(initial), []
    # Unbound once: indexing would give each step a gradient as large as the whole drive.
    for t, a in enumerate(drive.unbind(0)):
        before = states
        if schedule.keep is not None:
            before = [state.masked_fill(~schedule.keep[t], 0.0) for state in states]
        after = step.update(a, before, blocks, weights.units, schedule.mask)
        output = after[step.output]
        if schedule.active is not None:
            active = schedule.active[t]
            output = output.masked_fill(~active, 0.0)
            after = [torch.where(active, *pair) for pair in zip(after, states, strict=True)]
        outputs.append(output)
        states = after
    if not outputs:  # empty, and still a part of autograd's graph
        return drive[..., : initial[step.output].shape[-1]], states
    return torch.stack(outputs), states
