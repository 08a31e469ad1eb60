"""To torch.nn: Elman, LSTM and GRU layers, several of them, both directions.

It knows a layer by its cell, and what is made of layers by the rows that these are in; so it
stands below all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from longlag.cells import GRU, LSTM, Elman
from longlag.recurrence import Cell

KINDS: Mapping[type, Any] = {Elman: nn.RNN, LSTM: nn.LSTM, GRU: nn.GRU}
"""What torch.nn has, by cell."""


class Convertible(Protocol):
    """What a recurrent module says of itself."""

    dropout: float
    training: bool

    @property
    def cell(self) -> Cell | None:
        """The cell of a plain layer."""
        ...

    def rows(self) -> Sequence[Sequence["Convertible"]]:
        """The layers from below to above, each as its directions."""
        ...


def to_torch(module: Convertible) -> nn.RNNBase:
    """The same network as a torch.nn module, with copies of its weights.

    Args:
        module: an Elman (tanh or relu), LSTM without peepholes or GRU layer; a Bidirectional of
            two such; or a Stack of such of one hidden size.

    Returns:
        The torch.nn module, with ``batch_first=True``.

    Raises:
        ValueError: where torch.nn has no such network; the message says which part.

    Example:
        >>> import longlag as ll
        >>> to_torch(ll.LSTM(3, 4))
        LSTM(3, 4, batch_first=True)
    """
    rows: Sequence[Sequence[Any]] = module.rows()
    for layer in (layer for row in rows for layer in row):
        problem = _problem(layer)
        if problem:
            raise ValueError(f"to_torch: torch.nn cannot hold this network: {problem}")
    first = rows[0][0]
    for number, row in enumerate(rows):
        for layer in row:
            for name, ours in _in_common(first).items():
                theirs = _in_common(layer)[name]
                if ours != theirs:
                    raise ValueError(
                        f"to_torch: layer {number} differs from the first in {name} "
                        f"({theirs!r}, not {ours!r}); torch.nn has one kind and size for all layers"
                    )
        if len(row) != len(rows[0]):
            raise ValueError(
                f"to_torch: layer {number} reads {len(row)} direction(s) and the first "
                f"{len(rows[0])}; torch.nn has the same for all layers"
            )
    extra = {"nonlinearity": first.cell.activation} if isinstance(first.cell, Elman) else {}
    converted = KINDS[type(first.cell)](
        first.input_size,
        first.hidden_size,
        num_layers=len(rows),
        bias=first.bias is not None,
        batch_first=True,
        dropout=module.dropout,
        bidirectional=len(rows[0]) == 2,
        device=first.weight_ih.device,
        dtype=first.weight_ih.dtype,
        **extra,
    )
    for number, row in enumerate(rows):
        for layer, suffix in zip(row, ("", "_reverse"), strict=False):
            _copy(layer, converted, f"_l{number}{suffix}")
    return converted.train(module.training)


def _problem(layer: Any) -> str | None:
    """Why torch.nn has no such layer, if it has none."""
    cell = layer.cell
    if cell is not None and cell.recurrence.delayed:
        return "it has no delays"
    if cell is not None and (cell.recurrence.patterned or layer.entries is not None):
        return "its recurrent matrices are full, without a pattern or entries that are not there"
    if cell is not None and cell.recurrence.constrained:
        return f"it keeps no recurrent matrix {cell.recurrence.constrained}"
    kind = type(layer).__name__
    if type(cell) not in KINDS or kind != type(cell).__name__:  # a class of one's own may do more
        return f"it has no {kind}"
    if isinstance(cell, Elman) and cell.activation not in ("tanh", "relu"):
        return f"its RNN has no activation {cell.activation!r}"
    if isinstance(cell, LSTM) and cell.peepholes:
        return "its LSTM has no peepholes"
    if layer.replicas is not None:
        return "it has no replicas"
    if layer.recurrent_dropout or layer.input_dropout:
        return "it has no input or recurrent dropout"
    if isinstance(cell, GRU) and cell.recurrent_bias != (layer.bias is not None):
        return "its GRU has both biases or none"
    return None


def _in_common(layer: Any) -> dict[str, Any]:
    """What all layers of a torch.nn module have in common."""
    return {
        "recurrence.name": layer.cell.recurrence.name,
        "cell": layer.cell.activation if isinstance(layer.cell, Elman) else None,
        "hidden_size": layer.hidden_size,
        "bias": layer.bias is not None,
    }


@torch.no_grad()
def _copy(layer: Any, module: nn.RNNBase, suffix: str) -> None:
    getattr(module, "weight_ih" + suffix).copy_(layer.weight_ih)
    getattr(module, "weight_hh" + suffix).copy_(layer.weight_hh)
    if layer.bias is not None:
        getattr(module, "bias_ih" + suffix).copy_(layer.bias)
        recurrent = getattr(module, "bias_hh" + suffix)
        recurrent.zero_()
        if isinstance(layer.cell, GRU):
            recurrent[-layer.hidden_size :] = layer.unit("bias_hn")
