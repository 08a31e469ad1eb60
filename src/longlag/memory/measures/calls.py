"""One pass of a recurrent module of any kind, as a module of longlag reads it.

What a module of torch.nn was given, in any of its layouts, becomes x (N, T, C) with lengths and a
state; the gradients of what it returned become the error of its output; and the module becomes one
of longlag with the same weights. So all that :mod:`longlag.memory` measures can be had of it.
"""

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from longlag.gradients.parts import detached, map_tensors, tensors_of
from longlag.layers import Bidirectional, Recurrent, Stack, from_torch
from longlag.layers.base import RecurrentModule
from longlag.memory.measures.flow import ErrorFlow, LayerFlow, error_flow, product
from longlag.memory.measures.spectra import SpectralFacts, spectral_facts

__all__ = [
    "Call",
    "Part",
    "Reading",
    "facts_of",
    "flow_of",
    "last_with_error",
    "parts_of",
    "reader_of",
    "recurrent_modules",
    "stands_in",
    "without_hooks",
]

_TORCH = (nn.RNN, nn.LSTM, nn.GRU)
_OURS = (Recurrent, Stack, Bidirectional)

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class Reading(NamedTuple):
    """What a module read, as one of longlag takes it: x (N, T, C), and what goes with it."""

    x: Tensor
    lengths: Tensor | None
    resets: Tensor | None
    state: Any


class Part(NamedTuple):
    """A module that is measured for itself.

    Attributes:
        name: its path in the module that was watched, "" for all of it.
        layer: the module; `reading`, what it read.
        error: of its output, (N, T, H), or None.
    """

    name: str
    layer: nn.Module
    reading: Reading
    error: Tensor | None

    def given(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What goes with x, and the options, which overrule it."""
        return {**self.reading._asdict(), **options, "x": self.reading.x}


class Call:
    """One pass of a module: detached references to what it read, and the gradients that came.

    Attributes:
        given: x, state, lengths and resets as the module took them.
        gradients: by number: 0 for the output, then the tensors of the final state in order.
        task: of which backward pass they are.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.gradients: dict[int, Tensor] = {}
        self.task = -1
        self._versions = self._present_versions()

    @staticmethod
    def of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "Call | None":
        """The call; None where it is none of sequences, or where no numbers stand behind them."""
        names = {"x": "x", "state": "state", "lengths": "lengths", "resets": "resets"}
        if isinstance(module, _TORCH):
            names = {"input": "x", "hx": "state"}
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        given = {names[name]: value for name, value in given.items() if name in names}
        if not isinstance(given.get("x"), Tensor | PackedSequence):
            return None
        if any(stands_in(tensor) for tensor in tensors_of(given)):
            return None
        return Call(detached(given))

    @staticmethod
    def outputs(output: Any) -> Iterator[tuple[int, Tensor]]:
        """The tensors of what the module returned, numbered as `gradients`."""
        if isinstance(output, tuple) and len(output) == 2:
            first, state = output
            yield 0, first.data if isinstance(first, PackedSequence) else first
            yield from enumerate(tensors_of(state), start=1)

    def check_unchanged(self, name: str) -> None:
        """Raise a ValueError where a tensor was changed in place after the pass."""
        if self._present_versions() != self._versions:
            raise ValueError(
                f"{name}: what it read has been changed in place since the pass, and is not there "
                "any more; measure before, or give the model a copy: model(x.clone())"
            )

    def reading(self, module: nn.Module, reader: RecurrentModule) -> Reading:
        """What the module read, as the reader takes it; padded, in the order of x."""
        like = next(reader.parameters())
        x, state = self.given["x"], self.given.get("state")
        lengths = self.given.get("lengths")
        if isinstance(module, _TORCH):
            x, lengths = _batch_first(x, module)
            state = None if state is None else _nested(state, module)
        x = _usable(x).to(like.dtype)
        if lengths is not None:
            lengths = torch.as_tensor(lengths, device=x.device).long()
        state = map_tensors(state, lambda each: _usable(each).to(like.dtype))
        return Reading(x, lengths, self.given.get("resets"), state)

    def error(self, name: str, module: nn.Module, reader: RecurrentModule) -> Tensor:
        """The error of the output, (N, T, H): what came to it, and to h_n of the top layer."""
        x, lengths, _, _ = self.reading(module, reader)
        error = x.new_zeros((*x.shape[:-1], reader.output_size))
        came = self.gradients.get(0)
        final = {slot - 1: each for slot, each in self.gradients.items() if slot}
        if isinstance(module, _TORCH):
            if came is not None and isinstance(self.given["x"], PackedSequence):
                came = PackedSequence(came, *self.given["x"][1:])
            came = None if came is None else _batch_first(came, module)[0]
            final = _by_leaf(final, module)
        if came is not None:
            error = error + came.to(error.dtype)
        ends = list(_ends(reader, 0, last=True, top=True))
        for number, gradient in final.items():
            end = ends[number]
            if end is not None:
                error = _with_end(error, gradient.to(error.dtype), lengths, end)
            elif bool((gradient != 0).any()):
                raise ValueError(
                    f"{name}: part of the error entered by a final state that is not its output "
                    "(c_n, or h_n of a lower layer), where no flow begins; expected a loss of the "
                    "output, or of h_n of the top layer. norms() and report(gradient=False) need "
                    "no gradient"
                )
        return error

    def _present_versions(self) -> list[int]:
        tensors = tensors_of(self.given)
        return [-1 if each.is_inference() else each._version for each in tensors]


def recurrent_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The recurrent modules of a model by path, the outermost only.

    Raises:
        TypeError, ValueError: as :func:`watch`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside and isinstance(module, _TORCH + _OURS):
            found[name] = module
            inside |= set(module.modules())
    if not found:
        kinds = sorted({type(module).__name__ for module in model.modules()} - {"Sequential"})
        raise ValueError(
            f"model: found no recurrent module in {type(model).__name__}, which is made of "
            f"{', '.join(kinds)}; expected torch.nn.RNN, LSTM or GRU, or a layer, Stack or "
            "Bidirectional of longlag"
        )
    if all(getattr(module, "proj_size", 0) for module in found.values()):
        name, module = next(iter(found.items()))
        _refuse_projection(name or type(module).__name__, module)
    return found


def _refuse_projection(name: str, module: nn.Module) -> None:
    if size := getattr(module, "proj_size", 0):
        raise ValueError(
            f"{name}: got an LSTM with proj_size={size}, expected 0; longlag's LSTM has no "
            "projection, so that its memory cannot be measured"
        )


def reader_of(name: str, module: nn.Module) -> RecurrentModule:
    """A module of longlag with the weights of a recurrent module, without dropout or hooks.

    Of torch.nn it is a copy, of longlag it shares the weights; half precision becomes float32.

    Raises:
        ValueError: an LSTM has a projection; `name` is who.
    """
    if isinstance(module, _TORCH):
        _refuse_projection(name, module)
        # Its initial weights are drawn, and then overwritten: the model's own draws stay as is.
        with torch.random.fork_rng(devices=[]):
            reader = from_torch(module).eval()
    else:
        reader: Any = without_hooks(module)
    if next(reader.parameters()).dtype in (torch.float16, torch.bfloat16):
        reader = copy.deepcopy(reader).float()
    return reader


def without_hooks(module: nn.Module, known: dict[int, nn.Module] | None = None) -> Any:
    """The same module, in evaluation mode and without hooks; parameters and buffers are shared.

    What it sets as its attributes stays its own: the original is not touched by its passes.
    """
    known = {} if known is None else known
    if id(module) not in known:
        clone = known[id(module)] = object.__new__(type(module))
        clone.__dict__.update(module.__dict__)
        clone.__dict__.update({name: OrderedDict() for name in _HOOKS if name in clone.__dict__})
        clone.__dict__.update(training=False, _compiled_call_impl=None)
        clone.__dict__["_buffers"] = dict(module._buffers)
        clone.__dict__["_modules"] = {
            name: child if child is None else without_hooks(child, known)
            for name, child in module._modules.items()
        }
    return known[id(module)]


def parts_of(reader: RecurrentModule, reading: Reading, error: Tensor | None) -> list[Part]:
    """What is measured for itself: the whole, or the modules of a stack with two directions.

    Args:
        reader: the module; `reading`, what it read; `error`, of its output, or None.
    """
    if not isinstance(reader, Stack) or not any(
        isinstance(each, Bidirectional) for each in reader.modules()
    ):
        return [Part("", reader, reading, error)]
    flat = list(_flat("", reader, reading.state))
    x, inputs, outputs = reading.x, [], []
    with torch.set_grad_enabled(error is not None):
        for _, layer, state in flat:
            inputs.append(x.detach())
            x, _ = layer(x, state, lengths=reading.lengths, resets=reading.resets)
            outputs.append(x)
        errors: Any = [None] * len(flat)
        if error is not None:
            errors = torch.autograd.grad(product(x, error), outputs, materialize_grads=True)
    return [
        Part(name, layer, Reading(x, reading.lengths, reading.resets, state), each)
        for (name, layer, state), x, each in zip(flat, inputs, errors, strict=True)
    ]


def _flat(name: str, stack: Stack, state: Any) -> Iterator[tuple[str, RecurrentModule, Any]]:
    states = [None] * len(stack.layers) if state is None else state
    for number, (layer, own) in enumerate(zip(stack.layers, states, strict=True)):
        assert isinstance(layer, RecurrentModule)
        path = f"{name}.layers.{number}".lstrip(".")
        if isinstance(layer, Stack):
            yield from _flat(path, layer, own)
        else:
            yield path, layer, own


def facts_of(reader: RecurrentModule) -> dict[str, SpectralFacts]:
    """`spectral_facts` of each layer by path."""
    return {
        name: spectral_facts(layer)
        for name, layer in reader.named_modules()
        if isinstance(layer, Recurrent)
    }


def flow_of(part: Part, step: int | Literal["all"] | None, **options: Any) -> ErrorFlow:
    """The flow of the error of a part; by default of the last step that has one."""
    assert part.error is not None
    given = part.given(options)
    step = last_with_error(part, given["lengths"]) if step is None else step
    found = error_flow(part.layer, target=part.error, loss=product, step=step, **given)
    return ErrorFlow(found.loss, step, tuple(_renamed(each, part.name) for each in found.layers))


def last_with_error(part: Part, lengths: Tensor | None) -> int:
    """The last step, from the end of each sequence, at which there is an error; -1 without one."""
    error = part.error
    assert error is not None
    steps = torch.arange(error.shape[-2], device=error.device)
    ends = torch.full(error.shape[:-2], error.shape[-2], device=error.device)
    if lengths is not None:
        ends = torch.as_tensor(lengths, device=error.device)
    ends = ends.unsqueeze(-1)
    width = error.shape[-1]
    if isinstance(part.layer, Bidirectional):
        width = part.layer.forward_layer.output_size
    before_end = ends - 1 - steps
    found = []
    # A backward reading is at its end where x begins.
    for own, distance in ((error[..., :width], before_end), (error[..., width:], steps)):
        there = (own != 0).any(-1) & (before_end >= 0)
        found += distance.expand(there.shape)[there].tolist()
    return -1 - min(found, default=0)


def _renamed(flow: LayerFlow, name: str) -> LayerFlow:
    if not name:
        return flow
    weights = {f"{name}.{own}": norms for own, norms in flow.weights.items()}
    return dataclasses.replace(flow, layer=f"{name}.{flow.layer}".rstrip("."), weights=weights)


def stands_in(tensor: Tensor) -> bool:
    """Whether no numbers stand behind a tensor: it is traced, transformed, fake or meta."""
    return (
        type(tensor) not in (Tensor, nn.Parameter)
        or tensor.device.type == "meta"
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
    )


def _usable(tensor: Tensor) -> Tensor:
    """A tensor that autograd may keep: a copy where it was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def _batch_first(
    sequence: Tensor | PackedSequence, module: nn.RNNBase
) -> tuple[Tensor, Tensor | None]:
    """(N, T, ...) and the lengths of a PackedSequence, from the layout of a torch.nn module."""
    if isinstance(sequence, PackedSequence):
        return pad_packed_sequence(sequence, batch_first=True)
    if sequence.dim() == 2:
        return sequence.unsqueeze(0), None
    return sequence if module.batch_first else sequence.transpose(0, 1), None


def _nested(state: Any, module: nn.RNNBase) -> Any:
    """The state of the converted module from h, or (h, c), of a torch.nn module."""
    parts = [state] if isinstance(state, Tensor) else list(state)
    parts = [part.unsqueeze(1) if part.dim() == 2 else part for part in parts]
    count = 1 + module.bidirectional
    rows = [tuple(part[row] for part in parts) for row in range(count * module.num_layers)]
    layers = [tuple(rows[at : at + 2]) for at in range(0, len(rows), 2)] if count == 2 else rows
    return layers[0] if len(layers) == 1 else tuple(layers)


def _by_leaf(final: dict[int, Tensor], module: nn.RNNBase) -> dict[int, Tensor]:
    """Gradients of h_n and c_n as those of the states of the converted module, in order."""
    if not final:
        return {}
    like = next(iter(final.values()))
    count = 1 + isinstance(module, nn.LSTM)
    filled = tuple(final.get(number, torch.zeros_like(like)) for number in range(count))
    return dict(enumerate(tensors_of(_nested(filled, module))))


class _End(NamedTuple):
    """A final state that is an output: its columns, and at a sequence's last step or its first."""

    columns: slice
    last: bool


def _ends(reader: nn.Module, begin: int, *, last: bool, top: bool) -> "Iterator[_End | None]":
    """What each tensor of the final state is of the output; None where it is nothing of it."""
    if isinstance(reader, Recurrent):
        for state in reader.recurrence.states:
            columns = slice(begin, begin + reader.hidden_size)
            yield _End(columns, last) if top and state == reader.recurrence.output else None
    elif isinstance(reader, Bidirectional):
        yield from _ends(reader.forward_layer, begin, last=last, top=top)
        begin += reader.forward_layer.output_size
        yield from _ends(reader.backward_layer, begin, last=not last, top=top)
    elif isinstance(reader, Stack):
        for layer in reader.layers:
            yield from _ends(layer, begin, last=last, top=top and layer is reader.layers[-1])


def _with_end(error: Tensor, final: Tensor, lengths: Tensor | None, end: _End) -> Tensor:
    """The error with that of a final state added at the step of which it is the output."""
    steps = torch.arange(error.shape[-2], device=error.device)
    ends = torch.full(error.shape[:-2], error.shape[-2], device=error.device)
    ends = (ends if lengths is None else lengths).unsqueeze(-1)
    there = (steps == (ends - 1 if end.last else 0)) & (ends > 0)
    added = final.unsqueeze(-2).expand(*error.shape[:-1], final.shape[-1])
    error = error.clone()
    error[..., end.columns] += added.masked_fill(~there.unsqueeze(-1), 0.0)
    return error
