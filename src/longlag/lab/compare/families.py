"""The families: each with the initial weights that one would give it for a lag, and a rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import longlag.layers as ll
from longlag.layers import RecurrentModule, init

Make: TypeAlias = Callable[..., RecurrentModule]
"""`make(inputs, hidden, lag, replicas=, seed=)`."""

RESERVOIR = 10
"""Units of a reservoir for each unit of the other families: it is readouts that are trained."""


@dataclass(frozen=True)
class Family:
    """A kind of network.

    Attributes:
        name: as the command takes it.
        about: what it is, and what follows from the lag.
        make: its recurrent layer.
        rate: of Adam.
        reservoir: whether the layer stays as it was drawn and `Ridge` fits the readout.
    """

    name: str
    about: str
    make: Make
    rate: float = 0.01
    reservoir: bool = False


def _of(kind: Callable[..., RecurrentModule], **fixed: Any) -> Make:
    """A layer that is the same for every lag."""
    return lambda inputs, hidden, lag, **options: kind(inputs, hidden, **fixed, **options)


def _chrono(kind: Callable[..., RecurrentModule]) -> Make:
    return lambda inputs, hidden, lag, **options: kind(
        inputs, hidden, bias_init=init.Chrono(max(lag, 3)), **options
    )


def _leaky(inputs: int, hidden: int, lag: int, **options: Any) -> RecurrentModule:
    return ll.Leaky(inputs, hidden, time_scales=(2, max(lag, 2)), **options)


def _skip(inputs: int, hidden: int, lag: int, **options: Any) -> RecurrentModule:
    return ll.Skip(inputs, hidden, delays=(1, max(2, lag // 8)), **options)


def _clockwork(inputs: int, hidden: int, lag: int, **options: Any) -> RecurrentModule:
    """Periods 1, 2, 4 ..., up to the lag, in as many groups as divide the units, 8 at most."""
    most = min(8, 1 + int(math.log2(max(1, lag))))
    groups = next(count for count in range(most, 0, -1) if hidden % count == 0)
    return ll.Clockwork(inputs, hidden, periods=[2**k for k in range(groups)], **options)


def _indrnn(inputs: int, hidden: int, lag: int, **options: Any) -> RecurrentModule:
    """w in [2^(-1/lag), 1]: over the lag no unit keeps less than half."""
    return ll.IndRNN(inputs, hidden, initial_low=0.5 ** (1 / lag), initial_high=1.0, **options)


def _lru(inputs: int, hidden: int, lag: int, **options: Any) -> RecurrentModule:
    return ll.LRU(inputs, hidden, r_min=0.5, r_max=min(0.9999, max(0.9, 1 - 0.5 / lag)), **options)


def _dilated(inputs: int, hidden: int, lag: int, **options: Any) -> RecurrentModule:
    """Dilations 1, 2, 4 ..., up to a quarter of the lag."""
    steps = [2**k for k in range(max(1, int(math.log2(max(1, lag // 2)))))]
    return ll.Dilated(ll.GRU, inputs, hidden, dilations=steps, **options)


def _echo(inputs: int, hidden: int, lag: int, **options: Any) -> RecurrentModule:
    """Leaks from 1 to 1/lag on a logarithmic scale."""
    units = RESERVOIR * hidden
    leaks = [lag ** (-k / max(1, units - 1)) for k in range(units)]
    return ll.EchoState(
        inputs, units, spectral_radius=0.99, leak=leaks, density=min(1.0, 10 / units), **options
    )


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("elman", "tanh units, orthogonal initial W",
               _of(ll.Elman, weight_hh_init=init.Orthogonal()), rate=0.003),
        Family("orthogonal", "tanh units, W orthogonal for good",
               _of(ll.Elman, constraint="orthogonal"), rate=0.003),
        Family("antisymmetric", "small steps with an antisymmetric W", _of(ll.Antisymmetric)),
        Family("leaky", "time constants from 2 steps to the lag", _leaky),
        Family("skip", "reads its state of 1 and of lag/8 steps before", _skip, rate=0.003),
        Family("clockwork", "groups of units with periods 1, 2, 4 ... up to the lag", _clockwork,
               rate=0.003),
        Family("indrnn", "each unit its own past alone, relu, own weights near 1", _indrnn,
               rate=0.003),
        Family("cornn", "coupled, damped oscillators", _of(ll.CoRNN)),
        Family("lem", "two states, whose steps gates set", _of(ll.LEM)),
        Family("lru", "linear units of complex numbers", _lru),
        Family("mingru", "gates that see the input alone, biases for the lag", _chrono(ll.MinGRU)),
        Family("lstm1997", "memory cells of 1997, no forget gate, error cut at the gates",
               _of(ll.LSTM1997)),
        Family("lstm", "forget bias 1", _of(ll.LSTM)),
        Family("lstm-chrono", "gate biases for the lag", _chrono(ll.LSTM)),
        Family("gru", "biases 0", _of(ll.GRU)),
        Family("gru-chrono", "gate biases for the lag", _chrono(ll.GRU)),
        Family("dilated-gru", "layers of GRU that read 1, 2, 4 ... lag/4 steps back", _dilated,
               rate=0.003),
        Family("echo", "reservoir of ten times the units, leaks from 1 to 1/lag, readout by ridge "
               "regression", _echo, reservoir=True),
    )
}  # fmt: skip
"""All families, by name."""
