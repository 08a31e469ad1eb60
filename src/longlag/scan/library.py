"""The scan as an operator of torch.library, so that torch.compile sees one node in one graph.

Eager PyTorch does not need it, and goes through :mod:`longlag.scan.node`, which costs less a call.
"""

import functools
import weakref

import torch
from torch import Tensor

from longlag import cells
from longlag.recurrence import Recurrence
from longlag.recurrence.lowered import lower
from longlag.scan.backend import Run, Wanted, choose
from longlag.scan.connections import known_entries, matrix_of
from longlag.scan.inputs import ScanInputs, Schedule, Weights
from longlag.scan.trajectory import first_states, output_of

_KNOWN: "weakref.WeakValueDictionary[str, Recurrence]" = weakref.WeakValueDictionary()


def register(recurrence: Recurrence) -> str:
    """Make a recurrence known to the operator; returns the key that names it in a graph."""
    return _KNOWN.setdefault(recurrence.key, recurrence).key


def _recurrence(key: str) -> Recurrence:
    """What a key in a graph names; the graph may come from a file of another process."""
    known = _KNOWN.get(key) or _built_in(key)
    if known is None:
        name = key.rpartition("-")[0]
        raise RuntimeError(
            f"the graph runs a cell {name}, {key}, which this process has not met; before it runs, "
            f"build a layer with the options of the one that was exported, and keep it"
        )
    return known


@functools.cache
def _built_in(key: str) -> Recurrence | None:
    """The built-in cell that a key names, where its fields are the defaults."""
    name = key.rpartition("-")[0]
    recurrence = getattr(cells, name)().recurrence if name in cells.__all__ else None
    return recurrence if recurrence is not None and recurrence.key == key else None


@torch.library.custom_op("longlag::scan", mutates_args=())
def _scan(
    key: str,
    backend: str,
    drive: Tensor,
    recurrent: Tensor | None,
    entries: str,
    initial: list[Tensor],
    units: list[Tensor],
    active: Tensor | None,
    keep: Tensor | None,
    mask: Tensor | None,
    clock: Tensor | None,
) -> list[Tensor]:
    """The paths of the stored states, then the final states."""
    weights, schedule = (
        Weights(recurrent, tuple(units), entries=known_entries(entries)),
        Schedule(active, keep, mask, clock),
    )
    chosen = choose(backend, drive, plain=False)
    recurrence = _recurrence(key)
    done = chosen.forward(ScanInputs(recurrence, drive, weights, initial, schedule), False)
    # Final states of one path may be views of one memory, which an operator may not give out.
    held = any(lower(recurrence).depths)
    return [*done.states, *(state.clone() if held else state for state in done.final)]


@_scan.register_fake
def _(key, backend, drive, recurrent, entries, initial, *rest):
    lowered = lower(_recurrence(key))
    paths = [
        drive.new_empty((depth + drive.shape[0] + 1, *initial[number].shape))
        for number, depth in zip(lowered.stored, lowered.depths, strict=True)
    ]
    return [*paths, *(state.new_empty(state.shape) for state in initial)]


@torch.library.custom_op("longlag::scan_backward", mutates_args=())
def _scan_backward(
    key: str,
    backend: str,
    drive: Tensor,
    recurrent: Tensor | None,
    entries: str,
    units: list[Tensor],
    trajectory: list[Tensor],
    active: Tensor | None,
    keep: Tensor | None,
    mask: Tensor | None,
    clock: Tensor | None,
    d_output: Tensor,
    d_final: list[Tensor],
) -> list[Tensor]:
    """Gradients by drive, recurrent matrix where there is one, initial states, units."""
    weights, schedule = (
        Weights(recurrent, tuple(units), entries=known_entries(entries)),
        Schedule(active, keep, mask, clock),
    )
    inputs = ScanInputs(_recurrence(key), drive, weights, schedule=schedule)
    gradients = choose(backend, drive, plain=False).backward(
        inputs, Run(trajectory, []), (d_output, *d_final), Wanted()
    )
    assert gradients.x is not None
    middle = [] if gradients.recurrent is None else [gradients.recurrent]
    results = [gradients.x, *middle, *gradients.initial, *gradients.units]
    # An operator may not give out one tensor twice, nor one that it was given.
    return [result.clone(memory_format=torch.contiguous_format) for result in results]


@_scan_backward.register_fake
def _(key, backend, drive, recurrent, entries, units, trajectory, *rest):
    middle = [] if recurrent is None else [recurrent]
    initial = first_states(lower(_recurrence(key)), trajectory)
    like = [drive, *middle, *initial, *units]
    return [tensor.new_empty(tensor.shape) for tensor in like]


def _setup_context(ctx, inputs, output) -> None:
    key, backend, drive, recurrent, entries, initial, units, active, keep, mask, clock = inputs
    ctx.key, ctx.backend, ctx.entries = key, backend, entries
    ctx.counts = len(initial), len(units)
    ctx.save_for_backward(drive, recurrent, active, keep, mask, clock, *units, *output)


def _backward(ctx, gradients):
    drive, recurrent, active, keep, mask, clock, *rest = ctx.saved_tensors
    states, count = ctx.counts
    units, results = rest[:count], rest[count:]
    lowered = lower(_recurrence(ctx.key))
    stored = len(lowered.stored)
    gradients = [
        torch.zeros_like(path) if gradient is None else gradient
        for gradient, path in zip(gradients, results, strict=True)
    ]
    trajectory = results[:stored]
    # Of what is stored, only the steps of the output have been given out.
    d_output, d_final = output_of(lowered, gradients).clone(), gradients[stored:]
    sent = _scan_backward(
        ctx.key, ctx.backend, drive, recurrent, ctx.entries, units, trajectory, active, keep, mask,
        clock, d_output, d_final,
    )  # fmt: skip
    d_drive, *sent = sent
    d_recurrent = sent.pop(0) if recurrent is not None else None
    d_initial, d_units = list(sent[:states]), list(sent[states:])
    return None, None, d_drive, d_recurrent, None, d_initial, d_units, *[None] * 4


_scan.register_autograd(_backward, setup_context=_setup_context)


def compiled_scan(
    recurrence: Recurrence,
    backend: str,
    drive: Tensor,
    weights: Weights,
    initial: tuple[Tensor, ...],
    schedule: Schedule,
) -> tuple[Tensor, list[Tensor]]:
    """Run a recurrence over time inside a graph; results as in :func:`node.run`."""
    recurrent = weights.recurrent
    if weights.bfloat16:  # rounded by the graph, which then is the same for all kernels
        recurrent = matrix_of(recurrence, recurrent, None, bfloat16=True)
    results = _scan(
        recurrence.key, backend, drive, recurrent,
        "" if weights.entries is None else weights.entries.key, list(initial), list(weights.units),
        schedule.active, schedule.keep, schedule.mask, schedule.clock,
    )  # fmt: skip
    lowered = lower(recurrence)
    result = output_of(lowered, results)
    if schedule.active is not None:
        result = result.masked_fill(~schedule.active, 0.0)
    return result, results[len(lowered.stored) :]
