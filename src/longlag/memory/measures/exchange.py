"""Does what was read long ago still make a difference? Pasts are exchanged between sequences.

A gradient tells what an infinitely small change does. A network that holds a symbol in one of two
stable states does so because small changes die out: its gradients vanish, and it remembers all the
same (Bengio, Simard and Frasconi, 1994). So here the change is a large one: k steps before its
end a sequence gets the state of another one, and goes on with inputs of its own.

Sources: Y. Bengio, P. Simard and P. Frasconi, Learning long-term dependencies with gradient
descent is difficult, IEEE Transactions on Neural Networks 5(2), 1994; H. Jaeger, The "echo state"
approach, GMD report 148, 2001 (the state forgets what it started from).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longlag.layers import RecurrentModule, SequenceModel
from longlag.layers.inputs import Inputs
from longlag.layers.state_tree import map_tensors
from longlag.memory.measures.directions import recurrent_of
from longlag.memory.measures.horizon import spread

LAGS = 12
"""Lags that are measured by default, from 1 on, each so many times the one before."""

PAIRS = 2000
"""Of places, by whose distance effects are measured."""

PARTNERS = 2
"""With how many other sequences each one is exchanged."""


@dataclass(frozen=True)
class PastEffects:
    """What :func:`past_effects` finds.

    Attributes:
        lags: in order, from 0.
        effects: (L,), in float64: how much the output at the end changes where the state is
            exchanged so many steps before, on average over sequences, in units of the mean distance
            between the outputs at two places of the sequences. NaN where no two are so long.
    """

    lags: tuple[int, ...]
    effects: Tensor

    def reach(self, fraction: float = 0.1) -> int | None:
        """The greatest lag looked at up to which every effect is at least a fraction.

        None where it is less already at the first lag after 0.
        """
        reached = None
        for lag, effect in zip(self.lags[1:], self.effects[1:].tolist(), strict=True):
            if not effect >= fraction:
                break
            reached = lag
        return reached


@torch.no_grad()
def past_effects(
    model: nn.Module,
    x: Tensor,
    *,
    lengths: Tensor | None = None,
    state: Any = None,
    lags: Sequence[int] | None = None,
) -> PastEffects:
    r"""How much of the difference between two pasts is left at the end, by lag.

    With :math:`y(s, k)` the output after the last k inputs of a sequence from the state s,

    .. math:: e_k = \frac{\langle \lVert y(s'_{T-k}, k) - y(s_{T-k}, k) \rVert \rangle}
        {\langle \lVert y'_t - y_u \rVert \rangle}

    where s' is the state of another sequence at the same distance from its own end, and t and u are
    any steps of any two sequences. The output is that of the readout at the last step, or h where
    there is none, or it takes the mean. A network that forgets has effects that go to 0; one that
    holds a symbol in stable states has effects that stay.

    Args:
        model: a recurrent layer or stack, or a `SequenceModel` around one. Its mode stays.
        x: (N, T, C), N >= 2 different sequences.
        lengths: (N,), steps that count; `state`, what the model starts from.
        lags: k >= 1, in steps; by default 12 from 1 to T - 1, by equal factors.

    Raises:
        TypeError: the model is none of these.
        ValueError: there is no lag below T, fewer than two sequences, or the module reads in both
            directions.

    Cost: one forward pass for each lag, two more of its own length, and one for the distance.

    >>> import longlag as ll
    >>> x = torch.randn(8, 60, 2, generator=torch.manual_seed(0))
    >>> short = ll.Elman(2, 16, weight_hh_init=ll.init.SpectralRadius(0.5), seed=0)
    >>> past = past_effects(short, x, lags=[1, 10, 50])
    >>> bool(past.effects[1] > 0.05), bool(past.effects[2] < 0.01), past.reach(0.01)
    (True, True, 1)
    """
    layer = recurrent_of(model)
    if not isinstance(layer, RecurrentModule):
        raise TypeError(f"model: got {type(model).__name__}, expected a recurrent module")
    if not layer.causal:
        raise ValueError("model: reads in both directions, and so has no past; expected one")
    if x.shape[-3] < 2 or x.dim() != 3:
        raise ValueError(f"x: got shape {tuple(x.shape)}, expected (N, T, C) with N >= 2")
    inputs = Inputs(x, lengths, None, state)
    longest = int(inputs.ends.max())
    wanted = spread(longest - 1, LAGS) if lags is None else sorted(set(lags))
    chosen = [int(lag) for lag in wanted if 1 <= lag < longest]
    if not chosen:
        raise ValueError(f"lags: got {lags!r}, expected some from 1 to {longest - 1}")
    changes = [_mean_change(model, layer, inputs, lag) for lag in (0, *chosen)]
    effects = torch.tensor(changes, dtype=torch.float64)
    return PastEffects((0, *chosen), effects / _mean_distance(model, inputs))


def _mean_change(model: nn.Module, layer: RecurrentModule, inputs: Inputs, lag: int) -> float:
    """The mean change of the output where the state is exchanged at a lag; NaN for none."""
    rows = (inputs.ends > lag).nonzero().squeeze(-1)
    if len(rows) < 2:
        return float("nan")
    x, ends = inputs.x[rows], inputs.ends[rows]
    state = map_tensors(inputs.state, lambda part: part[rows])
    output, at_cut = layer(x, state, lengths=ends - lag)
    last = layer.last(output, ends - lag)
    tail = x.gather(1, (ends.unsqueeze(-1) - lag + torch.arange(lag, device=x.device))
                    .unsqueeze(-1).expand(-1, -1, x.shape[-1]))  # fmt: skip
    final = x[torch.arange(len(x), device=x.device), ends - 1]

    def run(places: Tensor) -> Tensor:
        if lag == 0:
            return _read(model, last[places], final)
        output, _ = layer(tail, map_tensors(at_cut, lambda part: part[places]))
        return _read(model, output[:, -1], final)

    own = torch.arange(len(x), device=x.device)
    before = run(own)
    changes = [
        torch.linalg.vector_norm(run(own.roll(shift)).double() - before.double(), dim=-1).mean()
        for shift in {1 + k * (len(x) - 1) // PARTNERS for k in range(PARTNERS)}
    ]
    return float(torch.stack(changes).mean())


def _mean_distance(model: nn.Module, inputs: Inputs) -> float:
    """The mean distance between the outputs at two places."""
    x, output = inputs.x, inputs.output_of(recurrent_of(model))
    there = inputs.remaining >= 0
    outputs = _read(model, output[there], x[there]).double()
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(len(outputs), (2, PAIRS), generator=generator).to(x.device)
    return float(torch.linalg.vector_norm(outputs[first] - outputs[second], dim=-1).mean())


def _read(model: nn.Module, h: Tensor, x: Tensor) -> Tensor:
    if not isinstance(model, SequenceModel) or model.reduce not in (None, "last"):
        return h
    return model.readout(h, x if model.direct else None)
