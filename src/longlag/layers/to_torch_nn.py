"""To torch.nn: Elman, LSTM and GRU layers, several of them, both directions.

It knows a layer by its cell, and what is made of layers by the rows that these are in; so it
stands below all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import nn

from longlag.cells import GRU, LSTM, Elman
from longlag.layers.parameters import MAKE_PLAIN, UNTIE, tied
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
    """The same network as a torch.nn module, with copies of its weights, frozen where these are.

    Args:
        module: an Elman (tanh or relu), LSTM without peepholes or GRU layer; a Bidirectional of
            two such; or a Stack of such of one hidden size.

    Returns:
        The torch.nn module, with ``batch_first=True``.

    Raises:
        ValueError: where torch.nn has no such network; a weight is computed from others, or the
            same in two layers. The message says which part.

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
    for name, other in tied(cast("nn.Module", module)).items():
        raise ValueError(
            f"to_torch: {name} is the same parameter as {other}, and a copy would be another; "
            f"{UNTIE}"
        )
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
    if cell is not None and layer.replaced:
        return f"{layer.replaced[0]} is computed from other parameters; {MAKE_PLAIN}"
    if cell is not None and (cell.recurrence.delayed or layer.dilation > 1):
        return "it has no delays"
    if cell is not None and (cell.recurrence.patterned or layer.entries is not None):
        return "its recurrent matrices are full, without a pattern or entries that are not there"
    if cell is not None and cell.recurrence.constrained:
        return f"it keeps no recurrent matrix {cell.recurrence.constrained}"
    if cell is not None and layer.weights is not None:
        return f"it rounds no recurrent matrix to {layer.weights}; set weights = None"
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
    if isinstance(cell, GRU) and not cell.reset_after:
        return "the reset of its GRU comes after the matrix product, and here before it"
    if isinstance(cell, GRU) and cell.recurrent_bias != (layer.bias is not None):
        return "its GRU has both biases or none"
    if isinstance(cell, GRU) and layer.bias is not None:
        bias, bias_hn = layer.bias.requires_grad, layer.bias_hn.requires_grad
        if bias_hn and not bias:
            return "its bias_hh of a GRU is frozen as a whole; freeze bias_hn too, or train bias"
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
    pairs = {"weight_ih": layer.weight_ih, "weight_hh": layer.weight_hh}
    if layer.bias is not None:
        further = layer.bias_hn if isinstance(layer.cell, GRU) else layer.bias
        pairs |= {"bias_ih": layer.bias, "bias_hh": further}
    for name, ours in pairs.items():
        theirs = getattr(module, name + suffix).requires_grad_(ours.requires_grad)
        if name == "bias_hh":
            theirs.zero_()
            if isinstance(layer.cell, GRU):
                theirs[-layer.hidden_size :] = ours
        else:
            theirs.copy_(ours)
