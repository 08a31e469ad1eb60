"""What a model is made of: the recurrence, and the readout behind it.

A gradient method that does not hold all steps at once has to see where the recurrence ends and the
readout begins. Models and modules of longlag say so; a recurrent module of torch.nn has an adapter
here, and no one else needs to know of it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from longlag.layers.attention import Attention
from longlag.layers.backward import Backward
from longlag.layers.base import LayerPart, RecurrentModule
from longlag.layers.embedded import embeds
from longlag.layers.inputs import Inputs
from longlag.layers.next_generation import NextGeneration
from longlag.layers.readout import ReadoutModule
from longlag.layers.recurrent import Recurrent
from longlag.layers.sequence_model import SequenceModel


class TorchRecurrent:
    """A recurrent module of torch.nn, asked as one of longlag.

    Args:
        module: with ``batch_first=True``.

    Raises:
        ValueError: it reads (T, N, C).
    """

    def __init__(self, module: nn.RNNBase) -> None:
        if not module.batch_first:
            raise ValueError(
                f"model: {type(module).__name__} has batch_first=False; expected batch_first=True, "
                "or ll.from_torch(model, batch_first=True), as x is (N, T, C)"
            )
        self.module = module

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later input."""
        return not self.module.bidirectional

    def __call__(self, x: Tensor, state: Any = None, **options: Any) -> tuple[Tensor, Any]:
        """Read sequences."""
        return self.module(x, state, **options)

    def step_numbers(self) -> tuple[int, int]:
        """As :meth:`Composition.step_numbers`."""
        module = self.module
        units = module.hidden_size * module.num_layers
        states = 2 if isinstance(module, nn.LSTM) else 1
        gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
        return units * states, units * (gates + 4)


class Composition(NamedTuple):
    """A model as recurrence and readout.

    Attributes:
        recurrent: called as (x, state, lengths=, resets=), gives (h, state).
        path: where it is in the model; "" is the model itself.
        readout: None where h is the output.
        reduce: None (one output a step), or as of `SequenceModel` (one output a sequence).
        direct: whether the readout sees x.
        attention: what weighs the steps, with "attention".
    """

    recurrent: RecurrentModule | TorchRecurrent
    path: str = ""
    readout: ReadoutModule | None = None
    reduce: str | None = None
    direct: bool = False
    attention: Attention | None = None

    def run(self, inputs: Inputs) -> tuple[Tensor, Any]:
        """The recurrence over some steps: h (N, T, H) and the state to go on from."""
        options = inputs._replace(state=None).options
        return self.recurrent(inputs.x, inputs.state, **options)

    def read(self, h: Tensor, inputs: Inputs) -> Tensor:
        """The output of each of some steps, of a model with one output a step."""
        if self.readout is None:
            return h
        seen = inputs.x.to(h.dtype) if self.direct else None
        if seen is not None and inputs.lengths is not None:
            steps = torch.arange(inputs.steps, device=seen.device)
            seen = seen.masked_fill((steps >= inputs.lengths.unsqueeze(-1)).unsqueeze(-1), 0.0)
        return self.readout.by_step(h, seen)

    def stretch(self, x: Tensor) -> int:
        """Steps of x (..., N, T, C) that are read out at once; 1 where nothing is."""
        return 1 if self.readout is None else self.readout.stretch(x.shape[-3])

    def parts(self, method: str, state: Any = None) -> Iterator[LayerPart]:
        """The recurrent layers, the one that reads x first, by their paths in the model.

        Args:
            method: who asks, for errors.
            state: what the model starts from.

        Raises:
            TypeError: the recurrence cannot be seen into.
            ValueError: the state has another number of parts than there are layers.
        """
        if isinstance(self.recurrent, TorchRecurrent):
            raise TypeError(
                f"model: {method} sees into the recurrence of longlag's layers, and not into that "
                f"of a {type(self.recurrent.module).__name__}; ll.from_torch(...) converts a "
                "module of torch.nn"
            )
        if embeds(self.recurrent):
            raise TypeError(
                f"model: {method} sees into the recurrence of cells, and not into the vectors of "
                "categories before it; train by BPTT(), TruncatedBPTT(k1) or "
                "CheckpointedBPTT(), and to measure give it layer.inner and layer.embed(x)"
            )
        for part in self.recurrent.parts(state):
            if not isinstance(part.layer, Recurrent):
                raise TypeError(
                    f"model: {method} sees into the recurrence of cells, and a "
                    f"{type(part.layer).__name__} has none; use BPTT(), or fit its readout by "
                    "ll.Ridge()"
                )
            yield part.inside(self.path)

    def step_numbers(self) -> tuple[int, int]:
        """Numbers of a state, and about those that a step keeps while it is differentiated:
        states, activations, output and its error."""
        if isinstance(self.recurrent, TorchRecurrent):
            return self.recurrent.step_numbers()
        state = residuals = 0
        for _, layer, _ in self.recurrent.parts():
            if isinstance(layer, NextGeneration):
                state += layer.span * layer.input_size
                residuals += 3 * layer.output_size
                continue
            states, gates = len(layer.recurrence.states), len(layer.recurrence.gates)
            state += layer.hidden_size * states
            residuals += layer.hidden_size * (states + gates + 3)
        return state, residuals


def composition_of(model: nn.Module, method: str) -> Composition:
    """Take a model apart, so that it can be run piece by piece in time.

    Args:
        model: a `SequenceModel`, a recurrent layer or a stack of longlag, or a recurrent module of
            torch.nn with `batch_first=True`.
        method: the name of the method that asks, for errors.

    Raises:
        TypeError: it is none of these.
        ValueError: it reads sequences in both directions, so that no step can be had before the
            last one has been read.

    >>> import longlag as ll
    >>> composition_of(ll.SequenceModel(ll.Elman(2, 3), 1), "my_method").reduce
    'last'
    """
    model = unwrapped(model)
    if isinstance(model, SequenceModel):
        made = Composition(
            model.layer, "layer", model.readout, model.reduce, model.direct, model.attention
        )
    elif isinstance(model, RecurrentModule):
        made = Composition(model)
    elif isinstance(model, nn.RNNBase):
        made = Composition(TorchRecurrent(model))
    else:
        raise TypeError(
            f"model: {method} runs a model piece by piece in time, and does not know how to with a "
            f"{type(model).__name__}; expected ll.SequenceModel, a recurrent layer or ll.Stack, or "
            "a recurrent module of torch.nn; BPTT() takes any module"
        )
    if not made.recurrent.causal:
        name = next(type(part).__name__ for part in model.modules() if _reads_both_ways(part))
        raise ValueError(
            f"model: {method} cannot be had for a bidirectional {name}, whose first output depends "
            "on the last input; use BPTT()"
        )
    return made


def reduction_of(model: nn.Module) -> str | None:
    """How a model makes one output of a sequence; None where it has one at every step.

    >>> import longlag as ll
    >>> reduction_of(ll.SequenceModel(ll.Elman(2, 3), 1)), reduction_of(ll.Elman(2, 3))
    ('last', None)
    """
    model = unwrapped(model)
    return model.reduce if isinstance(model, SequenceModel) else None


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, of what torch.compile or Fabric has wrapped around it."""
    for name in ("_orig_mod", "_forward_module"):  # where the one and the other keep it
        model = getattr(model, name, model)
    return model


def _reads_both_ways(module: nn.Module) -> bool:
    if isinstance(module, RecurrentModule):
        return len(module.directions) > 1 or isinstance(module, Backward)
    return isinstance(module, nn.RNNBase) and module.bidirectional
