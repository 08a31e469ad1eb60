"""Checks of what a user gives a layer; the messages say what came, what was expected, the fix."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from longlag.arguments import check_whole
from longlag.recurrence import Recurrence
from longlag.recurrence.dilation import LONGEST, depths_of
from longlag.scan.backend import followed
from longlag.torch_private import assert_when_run, transforms_active, under_transforms


def probability(argument: str, value: float) -> float:
    """A dropout probability in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{argument}: got {value}, expected a probability in [0, 1)")
    return float(value)


def check_groups(recurrence: Recurrence, hidden_size: int, argument: str = "hidden_size") -> None:
    """The units divide into the equal groups of every pattern and unit parameter."""
    sizes = recurrence.groupings
    multiple = math.lcm(*sizes)
    if hidden_size % multiple:
        below = hidden_size // multiple * multiple
        fix = f"{below} or {below + multiple}" if below else f"{multiple}"
        raise ValueError(
            f"{argument}: got {hidden_size}, expected a multiple of {multiple}, because "
            f"{recurrence.name} has patterns over {' and '.join(map(str, sizes))} equal groups of "
            f"units; give {fix}"
        )


def check_dilation(dilation: Any, recurrence: Recurrence) -> int:
    """A whole number of steps, with which the state is not too deep."""
    check_whole("dilation", dilation, 1)
    most = LONGEST // max(depths_of(recurrence).values())
    if dilation > most:
        raise ValueError(
            f"dilation: got {dilation}, expected at most {most} steps for {recurrence.name}, "
            "because the state is as deep"
        )
    return dilation


def check_weights(weights: Any, recurrence: Recurrence, sparse: bool, dtype: torch.dtype) -> None:
    """What W is to be rounded to, if anything; and a W that can be."""
    if weights is None:
        return
    if weights != "bfloat16":
        raise ValueError(f"weights: got {weights!r:.80}, expected None or 'bfloat16'")
    name, problem = recurrence.name, ""
    if not recurrence.dense_gates:
        problem = f"{name} has no recurrent matrix W"
    elif sparse:
        problem = "W is sparse; leave out density, or give 1.0 to an EchoState"
    elif recurrence.constrained:
        problem = f"{name} keeps W {recurrence.constrained}, which a rounded matrix is not"
    elif dtype is not torch.float32:
        problem = f"W is of {dtype}; give dtype=torch.float32, or use layer.float()"
    if problem:
        raise ValueError(
            f"weights: got 'bfloat16', which is for a dense W of float32, but {problem}"
        )


def _shape(replicas: int | None, *names: object) -> str:
    listed = ", ".join(str(name) for name in ([replicas] if replicas else []) + list(names))
    return f"({listed}{',' if replicas is None and len(names) == 1 else ''})"


def check_tensor(x: Any) -> None:
    """x is a tensor."""
    if not isinstance(x, Tensor):
        fix = "torch.as_tensor(x) makes one"
        if isinstance(x, PackedSequence):
            fix = "x, lengths = pad_packed_sequence(x, batch_first=True), with lengths=lengths"
        raise TypeError(f"x: got {type(x).__name__}, expected a torch.Tensor; {fix}")


def check_sequences(x: Any) -> None:
    """x is a tensor with axes for sequences, steps and features."""
    check_tensor(x)
    if x.dim() < 3:
        hint = "; for one sequence (T, C) give x.unsqueeze(0)" if x.dim() == 2 else ""
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected (N, T, C){hint}")


_CAST_BY_AUTOCAST = frozenset({torch.float16, torch.bfloat16, torch.float32})


def _autocasts(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether an autocast region lets a tensor come in another floating dtype than this one."""
    kind = tensor.device.type
    return (
        {tensor.dtype, dtype} <= _CAST_BY_AUTOCAST
        and torch.amp.is_autocast_available(kind)
        and torch.is_autocast_enabled(kind)
    )


def check_input(x: Any, input_size: int, replicas: int | None, weight: Tensor) -> Tensor:
    """x is (N, T, C), with R in front for replicas, of the weights' dtype and device.

    Returns:
        The same; in an autocast region, where it may have another dtype, in that of the weights.
    """
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        raise RuntimeError(
            "torch.jit.trace keeps the steps of one length alone; use torch.compile, torch.export, "
            "or ll.save"
        )
    check_tensor(x)
    if x.layout is not torch.strided or x.is_nested:
        fix = "x.to_dense()"
        if x.is_nested:
            fix = "x.to_padded_tensor(0.0), with lengths="
        raise TypeError(f"x: got layout {x.layout}, expected a dense tensor; use {fix}")
    if x.dim() != (3 if replicas is None else 4) or x.shape[-1] != input_size:
        hint, expected = "", _shape(replicas, "N", "T", input_size)
        if x.dim() == 2 and replicas is None:
            hint = "; for one sequence (T, C) give x.unsqueeze(0)"
            if input_size == 1 != x.shape[-1]:
                hint = "; for one feature give x.unsqueeze(-1)"
        elif x.dim() == 3 and replicas is None:
            hint = f"; the last axis holds the features, of which this layer takes {input_size}"
        elif replicas is not None:
            hint = f"; the layer has {replicas} replicas, each with its own sequences"
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected {expected}{hint}")
    if replicas is not None and x.shape[0] != replicas:
        expected = _shape(replicas, "N", "T", input_size)
        raise ValueError(
            f"x: got shape {tuple(x.shape)}, expected {expected}; to give every replica the same "
            f"sequences, use x.expand({replicas}, ...)"
        )
    if x.dtype != weight.dtype:
        if not _autocasts(x, weight.dtype):
            other = f" or layer.to({x.dtype})" if x.dtype.is_floating_point else ""
            raise TypeError(
                f"x: got {x.dtype}, expected {weight.dtype}, the dtype of the weights; "
                f"use x.to({weight.dtype}){other}"
            )
        x = x.to(weight.dtype)
    if x.device != weight.device:
        raise ValueError(
            f"x: is on {x.device}, expected {weight.device}, where the weights are; "
            f"use x.to({str(weight.device)!r})"
        )
    return x


def _as_tensor(argument: str, value: Any, x: Tensor) -> Tensor:
    """What may be given as a list or an array, on the device of x."""
    try:
        return torch.as_tensor(value, device=x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{argument}: got {value!r:.80}, expected a tensor, or an array or lists of equal "
            f"lengths to make one of ({error})"
        ) from error


def check_lengths(lengths: Any, x: Tensor) -> Tensor:
    """Lengths are (N,) whole numbers in 0..T."""
    lengths = _as_tensor("lengths", lengths, x)
    batch = tuple(x.shape[:-2])
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths: got {lengths.dtype}, expected whole numbers (torch.int64)")
    lengths = lengths.long()
    if tuple(lengths.shape) != batch:
        raise ValueError(
            f"lengths: got shape {tuple(lengths.shape)}, expected {batch}: one per sequence of x"
        )
    compiling = torch.compiler.is_compiling()
    if compiling and transforms_active():
        return lengths  # no operator of a graph can look at what vmap maps
    values = lengths if compiling else under_transforms(lengths)
    if compiling or followed((values,)):  # looked at when it runs
        fit = (values >= 0).all() & (values <= x.shape[-2]).all()
        assert_when_run(fit, f"lengths: expected 0 to {x.shape[-2]}, the number of steps of x")
    elif values.numel() and (values.min() < 0 or values.max() > x.shape[-2]):
        raise ValueError(
            f"lengths: got values from {int(values.min())} to {int(values.max())}, expected "
            f"0 to {x.shape[-2]}, the number of steps of x"
        )
    return lengths


def check_resets(resets: Any, x: Tensor) -> Tensor:
    """Resets are (N, T) truth values."""
    resets = _as_tensor("resets", resets, x)
    if resets.dtype != torch.bool:
        raise TypeError(f"resets: got {resets.dtype}, expected torch.bool; use resets.bool()")
    if resets.shape != x.shape[:-1]:
        raise ValueError(
            f"resets: got shape {tuple(resets.shape)}, expected {tuple(x.shape[:-1])}: one truth "
            "value per step of x"
        )
    return resets


def check_parts(state: Any, count: int) -> Sequence[Any]:
    """The states of the layers of a stack, or of two directions; where None, None for each."""
    if state is None:
        return (None,) * count
    if not isinstance(state, (tuple, list)) or len(state) != count:
        raise ValueError(
            f"state: got {_counted(state, 'parts')}, expected a tuple of {count}: the states of "
            "the layers of a stack, or of both directions, forward first; None for zeros"
        )
    return state


def _counted(state: Any, of: str) -> str:
    """What was given as a state that should be a sequence."""
    return f"{len(state)} {of}" if isinstance(state, (tuple, list)) else type(state).__name__


def check_state(
    state: Any, recurrence: Recurrence, x: Tensor, hidden_size: int, argument: str = "state"
) -> tuple[Tensor, ...]:
    """The state is one (N, H) per name, but (N, 1) for t; a bare tensor will do for one name.

    Returns:
        Its tensors; in an autocast region, where they may have another dtype, in that of x.
    """
    names = recurrence.carried
    if isinstance(state, Tensor):
        state = (state,)
    if not isinstance(state, (tuple, list)) or len(state) != len(names):
        wanted = f"{len(names)} tensors: ({', '.join(names)})"
        raise ValueError(f"{argument}: got {_counted(state, 'items')}, expected {wanted}")
    parts = []
    for number, (name, part) in enumerate(zip(names, state, strict=True)):
        clock = number == len(recurrence.states)
        expected = (*x.shape[:-2], 1 if clock else hidden_size)
        if not isinstance(part, Tensor):
            raise TypeError(
                f"{argument}.{name}: got {type(part).__name__}, expected a torch.Tensor"
            )
        if tuple(part.shape) != expected:
            raise ValueError(
                f"{argument}.{name}: got shape {tuple(part.shape)}, expected {expected}: "
                f"one row per sequence of x, one column{'' if clock else ' per hidden unit'}"
            )
        alike = part.dtype == x.dtype
        if part.device != x.device or not (alike or _autocasts(part, x.dtype)):
            raise TypeError(
                f"{argument}.{name}: got {part.dtype} on {part.device}, expected {x.dtype} on "
                f"{x.device}, as x"
            )
        parts.append(part if alike else part.to(x.dtype))
    return tuple(parts)
