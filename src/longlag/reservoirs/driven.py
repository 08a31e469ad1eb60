"""A reservoir that noise drives: what every measure of it begins with."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from longlag.layers.base import RecurrentModule
from longlag.layers.init import as_generator
from longlag.reservoirs.rows import NUMBERS


def check_reservoir(layer: Any, method: str) -> RecurrentModule:
    """A module that reads forward, one network with an input; ``method`` is who asks.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(layer, RecurrentModule):
        raise TypeError(
            f"layer: got {type(layer).__name__}, expected a recurrent module of longlag such as "
            "ll.EchoState(...); of a model, give model.layer"
        )
    check_single(layer, method)
    if not layer.causal:
        raise ValueError(
            f"layer: it reads in both directions, and {method} measures what it keeps of the past; "
            "expected layers that read forward"
        )
    if not layer.input_size:
        raise ValueError(f"layer: {method} drives it by noise, but it reads no features")
    return layer


def check_single(layer: RecurrentModule, method: str) -> None:
    """One network, and no replicas.

    Raises:
        ValueError: it has some.
    """
    if layer.replicas is not None:
        raise ValueError(
            f"layer: {method} measures one network, got replicas={layer.replicas}; measure each "
            "alone"
        )


def noise(
    layer: RecurrentModule, batch: int, steps: int, amplitude: float, seed: Any, role: str
) -> Tensor:
    """Independent numbers uniform in ± amplitude that the layer can read, (N, T, C)."""
    like = layer.like
    x = torch.empty(batch, steps, layer.input_size, dtype=torch.float64)
    x.uniform_(-amplitude, amplitude, generator=as_generator(seed, role))
    return x.to(like)


def outputs(layer: RecurrentModule, x: Tensor, method: str) -> Iterator[Tensor]:
    """What the layer puts out for x, some steps at a time, (N, t, H) in float64.

    Raises:
        ValueError: a state is not finite.
    """
    state = None
    size = max(1, NUMBERS // (len(x) * layer.output_size))
    for piece in x.split(size, 1):
        with torch.no_grad():
            h, state = layer(piece, state)
        if not bool(h.isfinite().all()):
            raise ValueError(
                f"layer: {method} found a state that is not finite; expected finite ones. A "
                "spectral radius above 1, or an activation without bounds, lets states grow"
            )
        yield h.double()
