"""Keras' loop over time, run by the kernels: its masks, its direction, its dropout, its states."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import torch
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.scan import Weights, scan


def as_tensor(value: Any, dtype: Any = None) -> Tensor:
    """What Keras has for a tensor, a variable too, as one of PyTorch."""
    tensor: Any = keras.ops.convert_to_tensor(value, dtype)
    return tensor


class Pass(NamedTuple):
    """What one call of a layer runs.

    Attributes:
        recurrence: the traced cell.
        x: (N, T, C), or the drive (N, T, G H) where the weights have no input matrix.
        weights: as the scan takes them.
        mask: recurrent dropout (N, H), the same for all gates; None for none.
        further: further states of the cell, which Keras does not know, before the first step.
    """

    recurrence: Recurrence
    x: Tensor
    weights: Weights
    mask: Tensor | None = None
    further: Sequence[Tensor] = ()


class Compiled:
    """What makes a layer of Keras run its loop over time by longlag's kernels.

    Attributes:
        backend_used: the backend of longlag that the latest call ran on; ``"keras"`` where Keras'
            own loop did.
    """

    backend_used: str | None = None
    _said = False
    _loops_on_gpu = True  # Keras' own loop, which has cuDNN there

    def _reason(self) -> str | None:
        """Why the layer's equations are none that can be compiled; None where they are."""
        return None

    def _pass(self, x: Tensor, state: Sequence[Tensor], training: bool) -> Pass:
        """What to run, with x in the order in which it is read."""
        raise NotImplementedError

    def inner_loop(
        self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As ``keras.layers.RNN`` calls it: the last output, all outputs, the final states.

        Where not all outputs are wanted, the last stands for them.
        """
        x = as_tensor(sequences)
        state = [*initial_state] if isinstance(initial_state, (list, tuple)) else [initial_state]
        if x.is_meta:  # Keras asks for the shapes alone
            outputs = state[0].new_empty((*x.shape[:2], self.cell.output_size))
            return outputs[:, -1], outputs, state
        reason = self._reason()
        if reason is not None or (self._loops_on_gpu and x.device.type != "cpu"):
            if reason is not None and not self._said:
                self._set("_said", True)
                warnings.warn(
                    f"{self.name}: runs Keras' own loop over time: {reason}", stacklevel=2
                )
            self._set("backend_used", "keras")
            own: Any = super()
            return own.inner_loop(sequences, initial_state, mask, training=training)
        if self.stateful:  # these are its variables, which the call will overwrite
            state = [part.clone() for part in state]
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        if mask is not None:
            mask = as_tensor(mask, "bool")
            mask = mask.flatten(1) if mask.dim() > 2 else mask
        x = x.to(state[0].dtype)
        if self.go_backwards:
            x = x.flip(1)
            mask = None if mask is None else mask.flip(1)
        return self._run(x, state, mask, training)

    def _run(
        self: Any, x: Tensor, state: list[Tensor], mask: Tensor | None, training: bool
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        lengths = None
        if mask is not None:
            lengths = mask.sum(1)
            if not _right_padded(mask, lengths):
                # A masked step changes nothing: the others come first, in their order.
                order = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
                x = x.gather(1, order.unsqueeze(-1).expand_as(x))
        recurrence, x, weights, drop, further = self._pass(x, state, training)
        done = scan(recurrence, x, weights, (*state, *further), lengths, mask=drop)
        self._set("backend_used", done.backend)
        final = [*done.state[: len(state)]]
        last, outputs = final[recurrence.carried.index(recurrence.output)], done.output
        if mask is None:
            return last, outputs, final
        latest = mask.cumsum(1) - 1  # of each step, the last one up to it that counts
        before = latest < 0
        if self.zero_output_for_mask:
            before = ~mask
        last = last.masked_fill(before[:, -1:], 0.0)
        if not self.return_sequences:
            return last, last.unsqueeze(1), final
        index = latest.clamp(min=0).unsqueeze(-1).expand_as(outputs)
        outputs = outputs.gather(1, index).masked_fill(before.unsqueeze(-1), 0.0)
        return last, outputs, final

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # Keras would track it


def _right_padded(mask: Tensor, lengths: Tensor) -> bool:
    """Whether masked steps are the last ones; False also where no one may look."""
    if torch.compiler.is_compiling():
        return False
    steps = torch.arange(mask.shape[1], device=mask.device)
    return bool(torch.equal(mask, steps < lengths.unsqueeze(1)))
