"""From options to a model, and from a model to outputs, batch by batch."""

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from longlag.cells import CELLS
from longlag.data import Prepared
from longlag.layers import Bidirectional, Recurrent, RecurrentModule, SequenceModel, Stack
from longlag.layers.built_in import LAYERS
from longlag.layers.init import Chrono

__all__ = ["build_model", "run_model"]


def build_model(
    *,
    cell: str,
    input_size: int,
    hidden: int,
    output_size: int,
    reduce: str | None,
    layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    chrono: float | None = None,
    repeat: list[int] | None = None,
    seed: int = 0,
) -> SequenceModel:
    """A model as `longlag train` makes it.

    Args:
        cell: a key of `longlag.cells.CELLS`.
        input_size: C.
        hidden: H, units of each layer and direction.
        output_size: K.
        reduce: "last" for an output a sequence, None for one a step.
        layers: how many lie on one another.
        bidirectional: whether each layer reads both ways.
        dropout: between layers.
        input_dropout, recurrent_dropout: see `longlag.Recurrent`.
        chrono: the longest lag, for biases that let the memory last.
        repeat: for each output the input that it starts from: the readout sees the inputs, and
            the untrained network forecasts that nothing changes.
        seed: for all parameters.
    """
    generator = torch.Generator().manual_seed(seed)

    def layer(size: int, input_dropout: float) -> RecurrentModule:
        def one_way() -> Recurrent:
            return LAYERS[CELLS[cell]](
                size,
                hidden,
                input_dropout=input_dropout,
                recurrent_dropout=recurrent_dropout,
                bias_init=None if chrono is None else Chrono(chrono),
                seed=generator,
            )

        return Bidirectional(one_way(), one_way()) if bidirectional else one_way()

    width = hidden * (2 if bidirectional else 1)
    parts = [
        layer(width if number else input_size, input_dropout * (not number))
        for number in range(layers)
    ]
    whole = parts[0] if layers == 1 else Stack(*parts, dropout=dropout)
    model = SequenceModel(
        whole, output_size, reduce=reduce, direct=repeat is not None, seed=generator
    )
    if repeat is not None:
        direct = model.readout.weight_direct
        assert direct is not None
        with torch.no_grad():
            nn.init.zeros_(model.readout.weight)
            assert model.readout.bias is not None
            nn.init.zeros_(model.readout.bias)
            direct.zero_()
            direct[torch.arange(output_size), torch.tensor(repeat)] = 1.0
    return model


def run_model(model: nn.Module, prepared: Prepared, batch_size: int) -> Float[np.ndarray, "N *T K"]:
    """The outputs for all sequences, in evaluation mode, `batch_size` sequences at a time.

    Each batch is only as long as its longest sequence; what lies beyond is zero.
    """
    count, steps, _ = prepared.x.shape
    outputs: np.ndarray | None = None
    model.eval()
    with torch.no_grad():
        for first in range(0, count, batch_size):
            rows = slice(first, first + batch_size)
            lengths = prepared.lengths[rows]
            x = torch.from_numpy(prepared.x[rows, : int(lengths.max())])
            found = model(x, lengths=torch.from_numpy(lengths)).numpy()
            if outputs is None:
                shape = (count, *((steps,) if found.ndim == 3 else ()), found.shape[-1])
                outputs = np.zeros(shape, found.dtype)
            if found.ndim == 3:
                outputs[rows, : found.shape[1]] = found
            else:
                outputs[rows] = found
    assert outputs is not None
    return outputs
