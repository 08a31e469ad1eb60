"""The one entry: run a recurrence over time on a backend."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan import derived, library, node, reference
from longlag.scan.inputs import Schedule, Weights
from longlag.scan.node import Engine, drive_of, to_batch_first, to_time_first

__all__ = ["BACKENDS", "Scanned", "check_backend", "engine_for", "scan"]

BACKENDS = ("auto", "reference", "derived", "cpu")
"""What ``backend=`` can be: ``"reference"`` is plain PyTorch under autograd, the definition of
correct; ``"derived"`` the same forward loop with explicit back-propagation through time; ``"cpu"``
kernels compiled for this processor, for float32 and float64; and ``"auto"`` takes ``"cpu"`` where
it can do the work, else ``"derived"``; inside the transforms of torch.func, ``"reference"``."""


def _choose(backend: str, like: Tensor) -> tuple[str, Engine | None]:
    """The backend that runs, and its engine; the reference has none."""
    if backend == "reference":
        return "reference", None
    # Inside torch.func transforms (grad, vmap, jacrev) only plain operations can be followed.
    if torch._C._are_functorch_transforms_active():
        if backend != "auto":
            raise ValueError(
                f"backend: {backend!r} cannot run inside a transform of torch.func, which follows "
                "plain operations only; use backend='auto' or 'reference'"
            )
        library.say_once("reference", "it is inside a transform of torch.func")
        return "reference", None
    return engine_for(backend, like)


def engine_for(backend: str, like: Tensor, what: str = "this") -> tuple[str, Engine]:
    """The backend that runs outside autograd's graph, and its engine; ``"derived"`` where the
    compiled one is not asked for, or ``"auto"`` finds that it cannot run.

    Args:
        backend: one of :data:`BACKENDS`.
        like: a tensor of the dtype and on the device of all.
        what: is run, for errors.

    Raises:
        ValueError: ``"cpu"`` is asked for, and cannot run.
    """
    if backend in ("auto", "cpu"):
        from longlag.scan.cpu import engine  # brings in llvmlite, which nothing else needs

        problem = engine.unsupported(like)
        if problem is None:
            return "cpu", engine.ENGINE
        if backend == "cpu":
            raise ValueError(
                f"backend: 'cpu' cannot run {what}: {problem}; use backend='auto', which takes "
                "another where it must"
            )
        library.say_once("derived", problem)
    return "derived", derived.ENGINE


class Scanned(NamedTuple):
    """What a scan gives.

    Attributes:
        output: (N, T, H), zero in the padding.
        state: the final states, each (N, H): after the last step that is not padding.
        backend: the backend that ran; inside torch.compile, where it is chosen when the graph runs,
            the one that was asked for.
    """

    output: Tensor
    state: tuple[Tensor, ...]
    backend: str


def check_backend(backend: str) -> None:
    """Raise a ValueError where ``backend`` is none that there is."""
    if backend not in BACKENDS:
        known = ", ".join(repr(name) for name in BACKENDS)
        raise ValueError(f"backend: got {backend!r}, expected one of {known}")


def scan(
    recurrence: Recurrence,
    x: Float[Tensor, "*R N T C"],
    weights: Weights,
    initial: Sequence[Float[Tensor, "*R N H"]] | None = None,
    lengths: Int[Tensor, "*R N"] | None = None,
    resets: Bool[Tensor, "*R N T"] | None = None,
    mask: Float[Tensor, "*R N H"] | None = None,
    backend: str = "auto",
) -> Scanned:
    """Run a recurrence over time.

    Args:
        recurrence: the traced cell.
        x: the input; or, where ``weights.input`` is None, the drive a = U x + b of every gate,
            gates side by side, which under autocast may be of lower precision than the states.
        weights: matrices, bias and unit parameters.
        initial: the states before the first step, in the order of ``recurrence.states``; None for
            zeros.
        lengths: numbers of steps that count, in 0..T; the rest is padding, whose content, even
            NaN, changes nothing.
        resets: True where the state is set to zero before the step.
        mask: recurrent dropout mask, one a sequence.
        backend: one of :data:`BACKENDS`.

    Raises:
        ValueError: for an unknown backend, or one that cannot run on such tensors; for a mask that
            requires a gradient.
    """
    check_backend(backend)
    if mask is not None and mask.requires_grad:
        raise ValueError("mask: requires a gradient, and has none; use mask.detach()")
    schedule = Schedule.of(x, lengths, resets, mask)
    active = schedule.active
    if torch.compiler.is_compiling() and backend != "reference":
        drive, initial = _unfolded(recurrence, to_time_first(x), weights, initial, active)
        drive = drive.to(initial[0].dtype)  # under autocast it may have been rounded
        output, final = library.compiled_scan(
            recurrence, backend, drive, weights, tuple(initial), schedule
        )
        return Scanned(to_batch_first(output), tuple(final), backend)
    like = x if weights.input is None else weights.input
    chosen, engine = _choose(backend, like if initial is None else initial[0])
    device = x.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if chosen == "cpu" and not autocast:
        assert engine is not None
        output, final = node.run(engine, recurrence, x, weights, initial, schedule, False)
        return Scanned(output, tuple(final), chosen)
    x, initial = _unfolded(recurrence, to_time_first(x), weights, initial, active)
    # Under autocast the drive may be rounded. The loop is not: its errors would add up.
    x = x.to(initial[0].dtype)
    weights = Weights(weights.recurrent, weights.units)
    with torch.autocast(device, enabled=False) if autocast else nullcontext():
        if engine is None:
            output, final = reference.run(recurrence, x, weights, initial, schedule)
        else:
            output, final = node.run(engine, recurrence, x, weights, initial, schedule)
    return Scanned(to_batch_first(output), tuple(final), chosen)


def _unfolded(
    recurrence: Recurrence,
    x: Tensor,
    weights: Weights,
    initial: Sequence[Tensor] | None,
    active: Tensor | None,
) -> tuple[Tensor, Sequence[Tensor]]:
    """The drive, zero in the padding, and initial states, for backends that want them so."""
    if active is not None:
        x = x.masked_fill(~active, 0.0)
    drive = drive_of(x, weights)
    if active is not None:
        drive = drive.masked_fill(~active, 0.0)
    if initial is None:
        hidden = drive.shape[-1] // len(recurrence.gates)
        like = x if weights.input is None else weights.input
        zero = like.new_zeros((*drive.shape[1:-1], hidden))
        initial = (zero,) * len(recurrence.states)
    return drive, initial
