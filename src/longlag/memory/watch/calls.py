"""What a watched module of any kind read in its last pass, and which gradients came back to it.

What a module of torch.nn was given, in any of its layouts, becomes x (N, T, C) with lengths and a
state; the gradients of what it returned become the error of its output. So all that
:mod:`longlag.memory` measures can be had of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from longlag.layers import Bidirectional, Recurrent, Stack
from longlag.layers.base import RecurrentModule
from longlag.layers.inputs import Inputs
from longlag.layers.state_tree import detached, map_tensors, tensors_of
from longlag.memory.measures.modules import TORCH_MODULES
from longlag.memory.watch.torch_layout import batch_first, by_state, nested_state
from longlag.torch_private import transforms_active, version


class Call:
    """One pass of a module: detached references to what it read, and the gradients that came.

    Attributes:
        arguments: x, state, lengths and resets as the module took them.
        gradients: by number: 0 for the output, then the tensors of the final state in order.
        task: of which backward pass they are.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments
        self.gradients: dict[int, Tensor] = {}
        self.task = -1
        self._versions = self._present_versions()

    @staticmethod
    def of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "Call | None":
        """The call; None where it is none of sequences, or where no numbers stand behind them."""
        names = {"x": "x", "state": "state", "lengths": "lengths", "resets": "resets"}
        if isinstance(module, TORCH_MODULES):
            names = {"input": "x", "hx": "state"}
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        arguments = {names[name]: value for name, value in named.items() if name in names}
        if not isinstance(arguments.get("x"), Tensor | PackedSequence):
            return None
        if any(stands_in(tensor) for tensor in tensors_of(arguments)):
            return None
        return Call(detached(arguments))

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

    def inputs(self, module: nn.Module, reader: RecurrentModule) -> Inputs:
        """What the module read, as the reader takes it; padded, in the order of x."""
        dtype = next(reader.parameters()).dtype
        x, state = self.arguments["x"], self.arguments.get("state")
        lengths = self.arguments.get("lengths")
        if isinstance(module, TORCH_MODULES):
            x, lengths = batch_first(x, module)
            state = None if state is None else nested_state(state, module)
        x = _usable(x).to(dtype)
        if lengths is not None:
            lengths = torch.as_tensor(lengths, device=x.device).long()
        state = map_tensors(state, lambda part: _usable(part).to(dtype))
        return Inputs(x, lengths, self.arguments.get("resets"), state)

    def error(self, name: str, module: nn.Module, reader: RecurrentModule) -> Tensor:
        """The error of the output, (N, T, H): what came to it, and to h_n of the top layer."""
        inputs = self.inputs(module, reader)
        error = inputs.x.new_zeros((*inputs.x.shape[:-1], reader.output_size))
        of_output = self.gradients.get(0)
        of_states = {slot - 1: gradient for slot, gradient in self.gradients.items() if slot}
        if isinstance(module, TORCH_MODULES):
            if of_output is not None:
                if isinstance(self.arguments["x"], PackedSequence):
                    of_output = PackedSequence(of_output, *self.arguments["x"][1:])
                of_output, _ = batch_first(of_output, module)
            of_states = by_state(of_states, module)
        if of_output is not None:
            error = error + of_output.to(error.dtype)
        ends = inputs.remaining == 0, inputs.remaining == inputs.remaining[..., :1].clamp(min=0)
        finals = list(_final_outputs(reader, ends))
        for number, gradient in of_states.items():
            final = finals[number]
            if final is not None:
                columns, there = final
                added = gradient.to(error.dtype).unsqueeze(-2)
                error[..., columns] += torch.where(there.unsqueeze(-1), added, 0.0)
            elif bool((gradient != 0).any()):
                raise ValueError(
                    f"{name}: part of the error entered by a final state that is not its output "
                    "(c_n, or h_n of a lower layer), where no flow begins; expected a loss of the "
                    "output, or of h_n of the top layer. norms() and report(gradient=False) need "
                    "no gradient"
                )
        return error

    def _present_versions(self) -> list[int]:
        return [version(tensor) for tensor in tensors_of(self.arguments)]


def stands_in(tensor: Tensor) -> bool:
    """Whether no numbers stand behind a tensor: it is traced, transformed, fake or meta."""
    return (
        type(tensor) not in (Tensor, nn.Parameter)
        or tensor.device.type == "meta"
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or transforms_active()
    )


def _usable(tensor: Tensor) -> Tensor:
    """A tensor that autograd may keep: a copy where it was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def _final_outputs(
    reader: nn.Module, ends: Sequence[Tensor], begin: int = 0, top: bool = True
) -> "Iterator[tuple[slice, Tensor] | None]":
    """Of each tensor of the final state the columns and steps of the output that it is; or None.

    Args:
        reader: a module; its output begins at column `begin`, where it is the `top` one.
        ends: where the steps are, (N, T), with which it ends: the last, and backward the first.
    """
    if isinstance(reader, Recurrent):
        output = slice(begin, begin + reader.hidden_size), ends[0]
        for state in reader.recurrence.states:
            yield output if top and state == reader.recurrence.output else None
    elif isinstance(reader, Bidirectional):
        yield from _final_outputs(reader.forward_layer, ends, begin, top)
        begin += reader.forward_layer.output_size
        yield from _final_outputs(reader.backward_layer, ends[::-1], begin, top)
    elif isinstance(reader, Stack):
        for layer in reader.layers:
            yield from _final_outputs(layer, ends, begin, top and layer is reader.layers[-1])
