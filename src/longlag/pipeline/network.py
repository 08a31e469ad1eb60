"""From settings to a model, and from a model to outputs, batch by batch."""

import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from longlag.batch import Batch
from longlag.cells import CELLS
from longlag.layers import (
    Bidirectional,
    EchoState,
    Embedded,
    Recurrent,
    RecurrentModule,
    SequenceModel,
    Stack,
)
from longlag.layers.built_in import LAYERS
from longlag.layers.embedded import embedding_size
from longlag.layers.init import Chrono
from longlag.pipeline.dataset import lengths_of
from longlag.pipeline.settings import SHARES, Settings


def build_model(
    settings: Settings,
    *,
    input_size: int,
    output_size: int,
    repeat: list[int] | None = None,
    steps: int = 1,
    vectors: Mapping[int, int] | None = None,
) -> SequenceModel:
    """The untrained model of some settings.

    Args:
        settings: cell, sizes, dropout and seed.
        input_size: C.
        output_size: K.
        repeat: for each output the input that it starts from: the readout sees the inputs, and
            the untrained network forecasts that nothing changes; an empty list: it puts out zeros.
        steps: of the longest series, over which the leaks of a reservoir spread.
        vectors: by position, how many categories an input stands for of which vectors are read.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    read = input_size
    if vectors:
        read += sum(embedding_size(count) - 1 for count in vectors.values())

    def layer(number: int) -> RecurrentModule:
        def one_way() -> Recurrent:
            return LAYERS[CELLS[settings.cell]](
                width if number else read,
                settings.units,
                input_dropout=settings.input_dropout * (not number),
                recurrent_dropout=settings.recurrent_dropout,
                dilation=2**number if settings.dilated else 1,
                seed=generator,
                **({"constraint": "orthogonal"} if settings.orthogonal else {}),
                **_lasting(settings),
            )

        return Bidirectional(one_way(), one_way()) if settings.bidirectional else one_way()

    width = settings.units * (2 if settings.bidirectional else 1)
    if settings.echo:
        parts = [_reservoir(settings, input_size, steps, generator)]
    else:
        parts = [layer(number) for number in range(settings.layers)]
    whole = parts[0] if len(parts) == 1 else Stack(*parts, dropout=settings.dropout)
    if vectors:
        whole = Embedded(whole, vectors, seed=generator)
    sees = repeat is not None and not vectors
    model = SequenceModel(whole, output_size, reduce=settings.read, direct=sees, seed=generator)
    if repeat is not None:
        readout = model.linear_readout
        direct = readout.weight_direct
        with torch.no_grad():
            nn.init.zeros_(readout.weight)
            assert readout.bias is not None
            nn.init.zeros_(readout.bias)
            if direct is not None:
                direct.zero_()
            if repeat:
                assert direct is not None
                direct[..., torch.arange(output_size), torch.tensor(repeat)] = 1.0
    return model


def _lasting(settings: Settings) -> dict[str, Any]:
    """The options of a layer whose memory lasts from the beginning."""
    lag = settings.chrono
    if lag is None:
        return {}
    if settings.cell == "leaky":
        return {"time_scales": (2.0, lag)}
    if settings.cell == "indrnn":
        return {"initial_low": 0.5 ** (1 / lag)}
    return {"bias_init": Chrono(lag)}


def scale_readout(model: SequenceModel, share: float) -> None:
    """Make the model put out that share of what it did."""
    readout = model.linear_readout
    with torch.no_grad():
        for weight in (readout.weight, readout.bias, readout.weight_direct):
            if weight is not None:
                weight.mul_(share)


def _reservoir(
    settings: Settings, input_size: int, steps: int, generator: torch.Generator
) -> EchoState:
    names = ("spectral_radius", "leak", "density", "input_scaling", "bias_scaling")
    values = {name: getattr(settings, name) for name in names}
    chosen = {name: value for name, value in values.items() if value is not None}
    if settings.read in SHARES:
        units = settings.units
        spread = np.geomspace(1.0, 4.0 / max(steps, 16), units).tolist()
        chosen = {"leak": spread, "density": min(1.0, 10 / units), "bias_scaling": 0.5} | chosen
    options = tuple(
        (name, tuple(value) if isinstance(value, list) else value) for name, value in chosen.items()
    )
    layer, after = _drawn(input_size, settings.units, settings.seed, options)
    generator.set_state(after)
    return copy.deepcopy(layer)


@lru_cache(maxsize=2)
def _drawn(
    input_size: int, units: int, seed: int, options: tuple[tuple[str, Any], ...]
) -> tuple[EchoState, torch.Tensor]:
    """A reservoir, and the state of its generator after it: drawn once for all folds, since its
    eigenvalues take longer than the states of some tens of series."""
    generator = torch.Generator().manual_seed(seed)
    layer = EchoState(input_size, units, seed=generator, **dict(options))
    return layer, generator.get_state()


def run_model(
    model: nn.Module, prepared: Batch[np.ndarray], batch_size: int
) -> Float[np.ndarray, "N *T K"]:
    """The outputs for all sequences, in evaluation mode, `batch_size` sequences at a time.

    Each batch is only as long as its longest sequence; what lies beyond is zero.
    """
    count, steps, _ = prepared.x.shape
    ends = lengths_of(prepared)
    outputs: np.ndarray | None = None
    model.eval()
    with torch.no_grad():
        for first in range(0, count, batch_size):
            rows = slice(first, first + batch_size)
            lengths = ends[rows]
            x = torch.from_numpy(prepared.x[rows, : int(lengths.max())])
            output = model(x, lengths=torch.from_numpy(lengths)).numpy()
            if outputs is None:
                shape = (count, *((steps,) if output.ndim == 3 else ()), output.shape[-1])
                outputs = np.zeros(shape, output.dtype)
            outputs[rows, : output.shape[1]] = output
    assert outputs is not None
    return outputs
