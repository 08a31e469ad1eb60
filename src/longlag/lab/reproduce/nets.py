"""The networks: those of 1997, and those that one would take now."""

import functools
import math
from typing import Any

import torch
from torch import nn

import longlag.layers as ll
from longlag.lab.reproduce.groups import Network
from longlag.layers import SequenceModel, init
from longlag.tasks import Task

UNIFORM = init.Uniform(-0.2, 0.2)
"""The initial weights of tasks 2a and 2b."""


def one_unit(
    task: Task, replicas: int | None, seed: int, *, activation: str = "sigmoid",
    weight_ih: init.Initializer = UNIFORM, weight_hh: init.Initializer = UNIFORM,
) -> SequenceModel:  # fmt: skip
    """The net of RTRL and BPTT in 1997: one logistic unit that feeds back to itself, direct links,
    no biases; (p + 2)^2 weights on tasks 2a and 2b."""
    layer = ll.Elman(
        task.input_size, 1, activation=activation, bias=False, weight_ih_init=weight_ih,
        weight_hh_init=weight_hh, replicas=replicas, seed=seed + 1,
    )  # fmt: skip
    return _direct(task, layer, seed)


def latch(w: float) -> Network:
    """The same net with other initial weights, from which its unit has two stable states.

    Its own weight is w, and w / 2 is taken from each weight of an input, so that with any symbol
    the unit is in balance at 1/2: with w > 4 it goes from above to near 1, from below to near 0.
    """
    lower = init.Uniform(UNIFORM.low - w / 2, UNIFORM.high - w / 2)
    return functools.partial(one_unit, weight_ih=lower, weight_hh=init.Identity(w))


def latch_tanh(w: float) -> Network:
    """The same net with a tanh unit of own weight w: with w > 1 it has two stable states."""
    return functools.partial(one_unit, activation="tanh", weight_hh=init.Identity(w))


def lstm_2a(task: Task, replicas: int | None, seed: int) -> SequenceModel:
    """The LSTM of tasks 2a and 2b: a memory cell with an input gate in place of the unit."""
    layer = ll.LSTM1997(
        task.input_size, 1, output_gate=False, recurrent=False, cell_input="sigmoid",
        cell_output="identity", bias=False, weight_ih_init=UNIFORM, replicas=replicas,
        seed=seed + 1,
    )  # fmt: skip
    return _direct(task, layer, seed)


def _direct(task: Task, layer: ll.Recurrent, seed: int) -> SequenceModel:
    """With direct links from input to output, logistic outputs, and no biases."""
    return _model(
        task, layer, seed, direct=True, bias=False, output_activation="sigmoid",
        readout_init=UNIFORM,
    )  # fmt: skip


def _model(task: Task, layer: ll.Recurrent, seed: int, **options: Any) -> SequenceModel:
    return SequenceModel(layer, task.output_size, reduce=task.reduce, seed=seed + 2, **options)


def cells_1997(
    cells: int,
    range_: float,
    *,
    input_bias: tuple[float, ...] | None = None,
    output_bias: tuple[float, ...] | None = None,
) -> Network:
    """Memory cells of 1997 with input and output gates, weights uniform in [-range_, range_].

    Args:
        cells: how many, each a block of its own.
        range_: of the initial weights.
        input_bias, output_bias: initial biases of the gates, by cell; both None: no biases at all.
    """
    biased = input_bias is not None or output_bias is not None
    uniform = init.Uniform(-range_, range_)

    def make(task: Task, replicas: int | None, seed: int) -> SequenceModel:
        layer = ll.LSTM1997(
            task.input_size, cells, bias=biased, weight_ih_init=uniform, weight_hh_init=uniform,
            replicas=replicas, seed=seed + 1,
        )  # fmt: skip
        if layer.bias is not None:
            gates = layer.bias.detach().unflatten(-1, (3, cells))  # input, cell input, output
            for gate, values in ((0, input_bias), (2, output_bias)):
                gates[..., gate, :] = torch.tensor(values or (0.0,) * cells)
        return _model(
            task, layer, seed, bias=biased, output_activation="sigmoid", readout_init=uniform
        )

    return make


def elman_2013(hidden: int = 50) -> Network:
    """The network of Pascanu et al. for temporal order, from the weights they call "smart tanh".

    15 recurrent weights a unit, with spectral radius 0.95; all others normal with deviation 0.01;
    biases 0.

    Args:
        hidden: units, >= 15.
    """
    small, recurrent = init.Normal(0.01), init.SpectralRadius(0.95, init.Sparse(15))

    def make(task: Task, replicas: int | None, seed: int) -> SequenceModel:
        layer = ll.Elman(
            task.input_size, hidden, weight_ih_init=small, weight_hh_init=recurrent,
            replicas=replicas, seed=seed + 1,
        )  # fmt: skip
        model = _model(task, layer, seed, readout_init=small)
        bias = model.linear_readout.bias
        assert bias is not None
        nn.init.zeros_(bias)
        return model

    return make


def family(name: str, hidden: int, *, symbols: bool = False) -> Network:
    """A network as one would take it now, by family.

    Args:
        name: one of `FAMILIES`.
        hidden: units.
        symbols: with direct links from input to output and logistic outputs, as suits the
            prediction of the next symbol.
    """

    def make(task: Task, replicas: int | None, seed: int) -> SequenceModel:
        steps, options = task.steps, {"replicas": replicas, "seed": seed + 1}
        sizes = (task.input_size, hidden)
        if name == "Elman":
            layer = ll.Elman(*sizes, weight_hh_init=init.Orthogonal(), **options)
        elif name == "IndRNN":
            # w in [2^(-1/T), 1]: over T steps no unit keeps less than half.
            low = 0.5 ** (1 / steps)
            layer = ll.IndRNN(*sizes, initial_low=low, initial_high=1.0, **options)
        elif name == "Leaky":
            # Leaks from 1/2 to 1/T, evenly spaced by their logarithms.
            exponents = [k / max(1, hidden - 1) for k in range(hidden)]
            leaks = [math.exp(-math.log(2) - e * math.log(steps / 2)) for e in exponents]
            layer = ll.Leaky(*sizes, leak=leaks, **options)
        else:
            gated = {"LSTM": ll.LSTM, "GRU": ll.GRU}[name]
            layer = gated(*sizes, bias_init=init.Chrono(steps), **options)
        outputs = "sigmoid" if symbols else "identity"
        return _model(task, layer, seed, direct=symbols, output_activation=outputs)

    return make


FAMILIES = ("Elman", "IndRNN", "Leaky", "LSTM", "GRU")
