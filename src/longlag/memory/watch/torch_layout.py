"""The layouts of torch.nn as those of longlag: sequences, states, and their gradients."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from longlag.layers.state_tree import tensors_of


def batch_first(
    sequence: Tensor | PackedSequence, module: nn.RNNBase
) -> tuple[Tensor, Tensor | None]:
    """(N, T, ...) and the lengths of a PackedSequence, from the layout of a torch.nn module."""
    if isinstance(sequence, PackedSequence):
        return pad_packed_sequence(sequence, batch_first=True)
    if sequence.dim() == 2:
        return sequence.unsqueeze(0), None
    return sequence if module.batch_first else sequence.transpose(0, 1), None


def nested_state(state: Any, module: nn.RNNBase) -> Any:
    """The state of the converted module from h, or (h, c), of a torch.nn module."""
    parts = [state] if isinstance(state, Tensor) else list(state)
    parts = [part.unsqueeze(1) if part.dim() == 2 else part for part in parts]
    count = 1 + module.bidirectional
    rows = [tuple(part[row] for part in parts) for row in range(count * module.num_layers)]
    layers = [tuple(rows[at : at + 2]) for at in range(0, len(rows), 2)] if count == 2 else rows
    return layers[0] if len(layers) == 1 else tuple(layers)


def by_state(gradients: dict[int, Tensor], module: nn.RNNBase) -> dict[int, Tensor]:
    """Gradients of h_n (0) and c_n (1) as those of the states of the converted module, in order."""
    if not gradients:
        return {}
    like = next(iter(gradients.values()))
    count = 1 + isinstance(module, nn.LSTM)
    filled = tuple(gradients.get(number, torch.zeros_like(like)) for number in range(count))
    return dict(enumerate(tensors_of(nested_state(filled, module))))
