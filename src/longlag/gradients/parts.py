"""A model taken apart, so that it can be run piece by piece in time.

A gradient method that does not hold all steps at once has to see where the recurrence ends and the
readout begins. Layers and models of longlag say so by their attributes; of torch.nn, a recurrent
module with `batch_first=True` stands for itself.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.gradients.method import Backward

__all__ = [
    "Parts",
    "add_gradients",
    "as_scalar",
    "clipped_lengths",
    "detached",
    "drops_out",
    "join_lengths",
    "join_resets",
    "map_tensors",
    "parts_of",
    "refuse_dropout",
    "refuse_reduced",
    "state_tree",
    "tensors_of",
    "trained",
]


class Parts(NamedTuple):
    """A model as recurrence and readout.

    Attributes:
        recurrent: called as (x, state, lengths=, resets=), gives (h, state); the state is a tree of
            tensors.
        readout: (h, x or None) to the output, for what was reduced; ``by_step`` for each step,
            ``sum_over_steps`` for a mean, in stretches of ``stretch(N)`` steps, so that pieces that
            begin where a stretch does have the bits of the whole. None where h is the output.
        reduce: None (one output a step), "last" or "mean" (one output a sequence).
        direct: whether the readout sees x.
    """

    recurrent: nn.Module
    readout: Any
    reduce: str | None
    direct: bool

    def run(
        self,
        x: Tensor,
        state: Any,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """The recurrence over some steps: h (N, T, H) and the state to go on from."""
        given = {"lengths": lengths, "resets": resets}
        return self.recurrent(x, state, **{k: v for k, v in given.items() if v is not None})

    def read(self, h: Tensor, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The output of each of some steps, of a model with one output a step."""
        if self.readout is None:
            return h
        seen = x if self.direct else None
        if seen is not None and lengths is not None:
            steps = torch.arange(x.shape[-2], device=x.device)
            seen = seen.masked_fill((steps >= lengths.unsqueeze(-1)).unsqueeze(-1), 0.0)
        return self.readout.by_step(h, seen)

    def stretch(self, x: Tensor) -> int:
        """Steps of x (..., N, T, C) that are read out at once; 1 where nothing is."""
        return 1 if self.readout is None else self.readout.stretch(x.shape[-3])


def parts_of(model: nn.Module, method: str) -> Parts:
    """Take a model apart.

    Args:
        model: a `SequenceModel`, a recurrent layer or a stack of longlag, or a recurrent module of
            torch.nn with `batch_first=True`.
        method: the name of the method that asks, for errors.

    Raises:
        TypeError: it is none of these.
        ValueError: it reads sequences in both directions, so that no step can be had before the
            last one has been read.
    """
    recurrent = getattr(model, "layer", model)
    readout = getattr(model, "readout", None) if recurrent is not model else None
    known = hasattr(recurrent, "input_size") and (
        hasattr(recurrent, "output_size") or hasattr(recurrent, "batch_first")
    )
    if not known or (recurrent is not model and readout is None):
        raise TypeError(
            f"model: {method} runs a model piece by piece in time, and does not know how to with a "
            f"{type(model).__name__}; expected ll.SequenceModel, a recurrent layer or ll.Stack, or "
            "a recurrent module of torch.nn; BPTT() takes any module"
        )
    for part in recurrent.modules():
        if hasattr(part, "backward_layer") or getattr(part, "bidirectional", False):
            raise ValueError(
                f"model: {method} cannot be had for a bidirectional {type(part).__name__}, whose "
                "first output depends on the last input; use BPTT()"
            )
        if getattr(part, "batch_first", True) is False:
            raise ValueError(
                f"model: {type(part).__name__} has batch_first=False; expected batch_first=True"
            )
    return Parts(
        recurrent, readout, getattr(model, "reduce", None), bool(getattr(model, "direct", False))
    )


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def add_gradients(model: nn.Module, gradients: dict[str, Tensor], backward: Backward) -> None:
    """Add gradients that are known to `.grad`, through `backward`, which may scale them."""
    named = trained(model)
    total = sum(
        ((named[name] * gradient).sum() for name, gradient in gradients.items()),
        start=torch.zeros(()),
    )
    if isinstance(total, Tensor) and total.requires_grad:
        backward(total)


def as_scalar(value: Tensor) -> Tensor:
    """The loss, checked.

    Raises:
        ValueError: it is not a scalar.
    """
    if value.ndim != 0:
        raise ValueError(
            f"loss(output, target) has shape {tuple(value.shape)}; expected a scalar, shape (). "
            "Take its mean or its sum."
        )
    return value


def clipped_lengths(lengths: Tensor | None, first: int, stop: int) -> Tensor | None:
    """How many of the steps first .. stop - 1 count in each sequence."""
    return None if lengths is None else (lengths - first).clamp(0, stop - first)


def join_lengths(before: Tensor | None, now: Tensor | None, steps: int, x: Tensor) -> Tensor | None:
    """Lengths of `steps` earlier steps and of x (N, T, C) together; None where all steps count."""
    if before is None and now is None:
        return None
    before = torch.full(x.shape[:-2], steps, device=x.device) if before is None else before
    return before + (x.shape[-2] if now is None else now)


def join_resets(before: Tensor | None, now: Tensor | None, steps: int, x: Tensor) -> Tensor | None:
    """Resets of `steps` earlier steps and of x (N, T, C), one after the other; None for none."""
    if before is None and now is None:
        return None
    shapes = ((*x.shape[:-2], steps), x.shape[:-1])
    parts = (
        torch.zeros(shape, dtype=torch.bool, device=x.device) if part is None else part
        for part, shape in zip((before, now), shapes, strict=True)
    )
    return torch.cat(list(parts), -1)


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """The tensors of a state: of nested tuples, lists and dictionaries, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from tensors_of(part)
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for part in tree:
            yield from tensors_of(part)


def map_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tree with its tensors changed; named tuples stay what they are."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(part, change) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [map_tensors(part, change) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def detached(tree: Any) -> Any:
    """The same tree, cut off from the graph."""
    return map_tensors(tree, Tensor.detach)


def drops_out(model: nn.Module) -> str | None:
    """The name of a part that drops out units now; None where there is none."""
    for name, part in model.named_modules():
        given = [getattr(part, each, 0.0) for each in _DROPOUTS]
        active = isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0
        active |= any(isinstance(p, float) and p > 0 for p in given)
        if part.training and active:
            return name or type(part).__name__
    return None


def refuse_dropout(model: nn.Module, method: str) -> None:
    """Raise a ValueError where a second pass over the same steps would draw other masks."""
    name = drops_out(model)
    if name is not None:
        raise ValueError(
            f"model: {name} drops out units in training, and {method} reads the steps twice, each "
            "time with other masks; use model.eval(), or BPTT()"
        )


def refuse_reduced(model: nn.Module) -> None:
    """Raise a ValueError where a window has no error, as there is one output a sequence."""
    reduce = getattr(model, "reduce", None)
    if reduce is not None:
        raise ValueError(
            f"model: has one output a sequence (reduce={reduce!r}), and no error before its end; "
            "call accumulate() with whole sequences"
        )


_DROPOUTS = ("dropout", "input_dropout", "recurrent_dropout")


def state_tree(state: Any) -> Any:
    """A state as nested lists of tensors, which a checkpoint can hold."""
    if isinstance(state, Tensor) or state is None:
        return state
    return [state_tree(part) for part in state]
