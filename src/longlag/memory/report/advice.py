"""What to try, by the numbers of a report; each suggestion can be followed by a call."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from longlag.layers import GRU, LSTM, Elman, IndRNN, Leaky, Recurrent, init
from longlag.memory.report.numbers import Kind, Numbers

SHORT = 15
"""Lags up to this one an Elman network with an orthogonal W learns reliably
(experiments/memory_horizon: all of 10 at a lag of 10, 1 of 10 at 20)."""

WILD = 1.2
"""A spectral radius above this one makes an Elman network chaotic or saturated."""


@dataclass(frozen=True)
class Advice:
    """One suggestion.

    Attributes:
        name: in one word.
        text: what to do.
        why: the numbers it follows from.
        code: the same as a line of Python.
        clip_norm: to what norm gradients should be cut in training; None: as before.
        settings: the same as settings of `longlag.pipeline`, where it has such; None: it has not.
            The command line says them in options of its own.
    """

    name: str
    text: str
    why: str
    code: str
    clip_norm: float | None = None
    settings: Mapping[str, object] | None = None
    _layer: type[Recurrent] | None = field(default=None, repr=False, compare=False)
    _options: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def builds(self) -> bool:
        """Whether the suggestion is a layer in place of the one looked at."""
        return self._layer is not None

    def build(self, seed: int | torch.Generator | None = None, **options: Any) -> Recurrent:
        """The layer that the suggestion asks for, with fresh weights.

        Args:
            seed: for its weights; a whole number, a generator, or None.
            options: as `longlag.Recurrent` takes them, such as ``replicas``; device and dtype are
                those of the layer that was looked at.

        Raises:
            ValueError: the suggestion is not about the layer.
        """
        if self._layer is None:
            raise ValueError(f"{self.name}: it asks for another training, and not for a layer")
        arguments: dict[str, Any] = {**self._options, "seed": seed, **options}
        return self._layer(**arguments)


def advise(kind: Kind, numbers: Numbers) -> tuple[Advice, ...]:
    """What to try, the most promising first."""
    if kind in ("remembers", "holds", "too short"):
        return ()
    if kind == "not finite":
        text = "start again with a learning rate ten times smaller, and clip the gradients"
        why = "an update has made weights infinite or NaN"
        return (_clip(why, "restart", text, {"learning_rate": 0.0003}),)
    layer = numbers.layer
    if not isinstance(layer, Recurrent):
        return _of_many(kind, numbers)
    if kind == "explodes":
        return _calmer(layer, numbers)
    return _longer(layer, numbers)


def _reach(n: Numbers) -> int:
    """How far back the network should see."""
    return max(3, n.steps if n.known_lag is None else n.known_lag)


def grown(n: Numbers) -> str:
    """How much larger the error becomes on its way back."""
    if math.isinf(n.growth):
        return "beyond the range of the numbers"
    return f"by 10^{n.growth / math.log(10):.1f}"


def _has(n: Numbers, kind: Kind = "vanishes") -> str:
    if kind == "explodes":
        return f"the error grows {grown(n)} on the way back"
    seen = f"beyond {n.steps}" if n.horizon is None else str(n.horizon)
    return f"the horizon is {seen} and should be {_reach(n)}"


def _replacement(
    name: str, text: str, why: str, layer: Recurrent, kind: type[Recurrent], code: str,
    settings: Mapping[str, object] | None = None, **options: Any,
) -> Advice:  # fmt: skip
    """Advice to put a layer of a kind in place of one; `code` is the options as Python."""
    sizes = {"input_size": layer.input_size, "hidden_size": layer.hidden_size}
    like = {"device": layer.weight_ih.device, "dtype": layer.weight_ih.dtype}
    line = f"ll.{kind.__name__}({layer.input_size}, {layer.hidden_size}, {code})"
    return Advice(name, text, why, line, 1.0, settings, kind, sizes | like | options)


def _chrono(
    layer: Recurrent, n: Numbers, kind: type[LSTM] | type[GRU], verdict: Kind = "vanishes"
) -> Advice:
    reach, name = _reach(n), kind.__name__
    text = f"take {_article(name)} with biases for lags to {reach} (chrono initialisation)"
    why = f"{_has(n, verdict)}; its memory is passed on by a gate, not through W and a squashing"
    if isinstance(layer, kind):
        text = f"give its gates biases for lags to {reach} (chrono initialisation)"
        why = f"{_has(n)}; a gate that starts at 1 - 1/k keeps what it holds for k steps"
    return _replacement(
        f"{name.lower()}-chrono", text, why, layer, kind, f"bias_init=ll.init.Chrono({reach})",
        {"cell": name.lower(), "chrono": reach}, bias_init=init.Chrono(reach),
    )  # fmt: skip


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIL" else f"a {name}"


def _leaks(layer: Recurrent, n: Numbers) -> Advice:
    """Leaks from 1/2 to 1/lag, evenly spaced by their logarithms."""
    reach = _reach(n)
    return _replacement(
        "leaky", f"take leaky units with leaks from 1/2 to 1/{reach}",
        f"{_has(n)}; a unit with a leak of 1/k forgets in about k steps, whatever W does",
        layer, Leaky,
        f"time_scales=(2, {reach})", {"cell": "leaky", "chrono": reach}, time_scales=(2, reach),
    )  # fmt: skip


def _orthogonal(layer: Recurrent, why: str) -> Advice:
    return _replacement(
        "orthogonal",
        "take tanh units, start from an orthogonal W, and clip gradients to a norm of 1",
        why, layer, Elman, "weight_hh_init=ll.init.Orthogonal()",
        None if isinstance(layer, Elman) else {"cell": "elman", "clip_norm": 1.0},
        weight_hh_init=init.Orthogonal(),
    )  # fmt: skip


def _indrnn(layer: Recurrent, n: Numbers) -> Advice:
    reach = _reach(n)
    return _replacement(
        "indrnn", f"start its recurrent weights between 2^(-1/{reach}) and 1",
        f"{_has(n)}; then no unit keeps less than half over {reach} steps",
        layer, IndRNN, f"initial_low=0.5 ** (1 / {reach}), initial_high=1.0",
        {"cell": "indrnn", "chrono": reach}, initial_low=0.5 ** (1 / reach), initial_high=1.0,
    )  # fmt: skip


def _clip(
    why: str, name: str = "clip", text: str = "clip gradients to a norm of 1",
    settings: Mapping[str, object] | None = None,
) -> Advice:  # fmt: skip
    code = "ll.fit(model, data, clip_norm=1.0, ...)"
    return Advice(name, text, why, code, 1.0, {"clip_norm": 1.0, **(settings or {})})


def _longer(layer: Recurrent, n: Numbers) -> tuple[Advice, ...]:
    if isinstance(layer, LSTM | GRU):
        own, other = (LSTM, GRU) if isinstance(layer, LSTM) else (GRU, LSTM)
        return (_chrono(layer, n, own), _chrono(layer, n, other), _leaks(layer, n))
    facts = next(iter(n.facts.values()), None)
    why = f"{_has(n)}; ||W|| = 1 lets a step pass the whole influence, and tanh has slope 1 at 0"
    if facts is not None and facts.gamma is not None and facts.gamma < 1:
        why = f"the slope of its activation is {facts.gamma:g} at the most; tanh has slope 1 at 0"
    gates = (_chrono(layer, n, LSTM), _chrono(layer, n, GRU))
    if isinstance(layer, Leaky):
        return (_leaks(layer, n), *gates)
    orthogonal = _orthogonal(layer, why)
    first = (orthogonal, *gates)
    if _reach(n) > SHORT:
        first = (*gates, _leaks(layer, n), orthogonal)
    return (*first, _indrnn(layer, n)) if isinstance(layer, IndRNN) else first


def _calmer(layer: Recurrent, n: Numbers) -> tuple[Advice, ...]:
    clip = _clip(
        f"on the way back the error grows {grown(n)}; one update along it throws weights far away"
    )
    radius = max(
        (float(matrix.radius) for facts in n.facts.values() for matrix in facts.matrices.values()),
        default=0.0,
    )
    if isinstance(layer, LSTM | GRU) or radius <= WILD:
        return (clip,)
    calm = _orthogonal(
        layer, f"the spectral radius of W is {radius:.2f}; at 1 the error neither grows nor dies"
    )
    gates = (_chrono(layer, n, LSTM, "explodes"), _chrono(layer, n, GRU, "explodes"))
    return (calm, *gates, clip) if _reach(n) <= SHORT else (*gates, calm, clip)


def _of_many(kind: Kind, n: Numbers) -> tuple[Advice, ...]:
    """Of stacks and both directions: in words alone."""
    reach = _reach(n)
    if kind == "explodes":
        return (_clip(f"on the way back the error grows {grown(n)}"),)
    return (
        Advice(
            "lstm-chrono",
            f"take LSTM layers with biases for lags to {reach} (chrono initialisation), the layer "
            "that reads x first",
            f"{_has(n)}; the memory of an LSTM is passed on by a gate",
            f"ll.LSTM(..., bias_init=ll.init.Chrono({reach}))",
            1.0,
            {"cell": "lstm", "chrono": reach},
        ),
    )
