"""The one entry: run a recurrence over time on a backend."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan import derived, library, reference
from longlag.scan.inputs import Schedule, Weights

__all__ = ["BACKENDS", "Scanned", "check_backend", "scan"]

_Run = Callable[..., tuple[Tensor, list[Tensor]]]

BACKENDS = ("auto", "reference", "derived", "cpu")
"""What ``backend=`` can be: ``"reference"`` is plain PyTorch under autograd, the definition of
correct; ``"derived"`` the same forward loop with explicit back-propagation through time; ``"cpu"``
kernels compiled for this processor, for float32 and float64; and ``"auto"`` takes ``"cpu"`` where
it can do the work, else ``"derived"``; inside the transforms of torch.func, ``"reference"``."""


def _choose(backend: str, drive: Tensor) -> tuple[str, _Run]:
    """The backend that runs, and how."""
    # Inside torch.func transforms (grad, vmap, jacrev) only plain operations can be followed.
    if backend == "reference" or (
        backend == "auto" and torch._C._are_functorch_transforms_active()
    ):
        return "reference", reference.run
    if backend != "derived":
        from longlag.scan.cpu import engine  # brings in llvmlite, which nothing else needs

        problem = engine.unsupported(drive)
        if problem is None:
            return "cpu", engine.run
        if backend == "cpu":
            raise ValueError(
                f"backend: 'cpu' cannot run this: {problem}; use backend='auto', which takes "
                "another where it must"
            )
    return "derived", derived.run


class Scanned(NamedTuple):
    """What a scan gives.

    Attributes:
        output: (N, T, H), zero in the padding.
        state: the final states, each (N, H): after the last step that is not padding.
        backend: the backend that ran.
    """

    output: Tensor
    state: tuple[Tensor, ...]
    backend: str


def check_backend(backend: str) -> None:
    """Raise a ValueError where ``backend`` is none that there is."""
    if backend not in BACKENDS:
        known = ", ".join(repr(name) for name in BACKENDS)
        raise ValueError(f"backend: got {backend!r}, expected one of {known}")


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else nullcontext()


def scan(
    recurrence: Recurrence,
    drive: Float[Tensor, "*R N T GH"],
    weights: Weights,
    initial: Sequence[Float[Tensor, "*R N H"]],
    lengths: Int[Tensor, "*R N"] | None = None,
    resets: Bool[Tensor, "*R N T"] | None = None,
    mask: Float[Tensor, "*R N H"] | None = None,
    backend: str = "auto",
) -> Scanned:
    """Run a recurrence over time.

    Args:
        recurrence: the traced cell.
        drive: a = U x + b of every gate, gates side by side. Under autocast it may be of lower
            precision than the states; the recurrence runs in theirs.
        weights: recurrent matrix and unit parameters.
        initial: the states before the first step, in the order of ``recurrence.states``.
        lengths: numbers of steps that count, in 0..T; the rest is padding, whose content, even
            NaN, changes nothing.
        resets: True where the state is set to zero before the step.
        mask: recurrent dropout mask, one a sequence.
        backend: one of :data:`BACKENDS`.

    Raises:
        ValueError: for an unknown backend, or one that cannot run on such tensors.
    """
    check_backend(backend)
    drive = drive.movedim(-2, 0)  # (T, *R, N, GH)
    active = keep = None
    if lengths is not None:
        steps = torch.arange(drive.shape[0], device=drive.device)
        active = (steps < lengths.unsqueeze(-1)).movedim(-1, 0).unsqueeze(-1)
        drive = drive.masked_fill(~active, 0.0)
    if resets is not None:
        keep = ~resets.movedim(-1, 0).unsqueeze(-1)
    schedule = Schedule(active, keep, mask)
    if torch.compiler.is_compiling() and backend != "reference":
        output, final = library.compiled_scan(
            recurrence, backend, drive, weights, tuple(initial), schedule
        )
        return Scanned(output.movedim(0, -2), tuple(final), backend)
    # Under autocast the drive may be rounded. The loop is not: its errors would add up over time.
    drive = drive.to(initial[0].dtype)
    chosen, run = _choose(backend, drive)
    with _without_autocast(drive.device.type):
        output, final = run(recurrence, drive, weights, initial, schedule)
    return Scanned(output.movedim(0, -2), tuple(final), chosen)
