r"""Whether a reservoir has echo states: states that its input alone determines, not the first one.

Of two states under one input the difference is multiplied, unit by unit, by slopes of the
activation between 0 and :math:`\gamma = \sup |\phi'|`:

.. math:: d_t = (1 - a) \odot d_{t-1} + a \odot g_t \odot (W d_{t-1}), \qquad |g_t| \le \gamma

It shrinks in every input if a norm bounds that below 1. As slopes and leaks are diagonal, a
diagonal D may scale it: :math:`\max_i (1 - a_i) + \gamma \lVert D \operatorname{diag}(a) W D^{-1}
\rVert_2`, or :math:`\max_i (1 - a_i + a_i \gamma\, \rho(|W|))`, which is the largest row sum for
the best D.
"""

import math
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import Tensor, nn

from longlag import cells
from longlag.arguments import check_number, check_whole
from longlag.layers.checks import check_input
from longlag.layers.evaluation import evaluation_mode
from longlag.layers.init import as_generator, spectral_radius
from longlag.layers.recurrent import Recurrent
from longlag.recurrence import activation
from longlag.recurrence.program import compile_program
from longlag.reservoirs.driven import check_single, noise
from longlag.reservoirs.rows import NUMBERS
from longlag.scan.programs import run_program

STEEPEST = {
    "tanh": 1.0, "sigmoid": 0.25, "relu": 1.0, "identity": 1.0, "saturated": 1.0, "bipolar": 0.5,
    "double_bipolar": 1.0, "positive": 1.0,
}  # fmt: skip
"""The greatest slope of each activation."""

ODD = ("tanh", "identity", "bipolar", "double_bipolar")
"""Activations that leave 0 at 0, where they are steepest."""

ROUNDING = 1e-10
"""How far from 1 a norm or a radius must be to count as below or above."""


@dataclass(frozen=True)
class EchoStates:
    """What :func:`echo_states` finds.

    Attributes:
        bound: whatever the input, the difference of two states grows by no more than this factor a
            step, in a norm of its own; of a linear network the spectral radius.
        radius: the spectral radius of diag(1 - a) + gamma diag(a) W, which a small state is
            multiplied by at zero input.
        proved: whether bound < 1: there are echo states for every input.
        disproved: whether radius > 1 and a state of zero stays there at zero input, which was said
            to be admissible; or the network is linear. There are no echo states.
        distance: what was left at the end of the differences of the first states, the largest
            share.
        forgets: whether that is at most the tolerance: echo states were seen under this input.
        exponent: the largest conditional Lyapunov exponent under this input, in nats a step;
            negative where a small difference shrinks.
    """

    bound: float
    radius: float
    proved: bool
    disproved: bool
    distance: float
    forgets: bool
    exponent: float

    @property
    def holds(self) -> bool:
        """Whether there are echo states: proved, or seen and not disproved."""
        return self.proved or (self.forgets and not self.disproved)

    def __str__(self) -> str:
        if self.proved:
            return f"Echo states for every input: differences shrink by {self.bound:.3g} a step."
        measured = (
            f"under the measured input {self.distance:.1e} of a difference is left, and the "
            f"conditional Lyapunov exponent is {self.exponent:.3g}"
        )
        if self.disproved:
            return (
                f"No echo states near zero: the spectral radius is {self.radius:.3g}; {measured}."
            )
        seen = "Echo states, as measured" if self.forgets else "No echo states seen"
        return f"{seen}: {measured}."


def echo_states(
    layer: Recurrent,
    x: Tensor | None = None,
    *,
    zero_input: bool = True,
    starts: int = 8,
    steps: int = 2000,
    amplitude: float = 1.0,
    tolerance: float = 1e-5,
    seed: Any = 0,
) -> EchoStates:
    r"""Whether the layer has echo states: by proof where its norm allows one, and by measurement.

    With :math:`\gamma = \sup |\phi'|`:

    - proved for every input, if :math:`\gamma \lVert W \rVert_2 < 1` for one leak a, or a norm with
      scaled units is so small (see the module ``longlag.reservoirs.echoes``);
    - disproved for an input that may be zero, if :math:`\operatorname{diag}(1-a) +
      \operatorname{diag}(a) \phi'(0) W` has a spectral radius above 1, there are no biases, and
      phi is odd;
    - measured: several first states under the same input come together, or not. A small difference
      grows as :math:`e^{\lambda t}` with the conditional Lyapunov exponent :math:`\lambda`;
      ``longlag.memory.lyapunov_exponents`` gives the others too.

    Args:
        layer: an :class:`~longlag.EchoState`, or another layer of leaky units.
        x: (N, T, C), the inputs that matter; None for noise, uniform in ± amplitude, or of a layer
            that reads no features for none.
        zero_input: whether an input of zeros is admissible too.
        starts: first states for each input, uniform in [-1, 1], >= 2.
        steps: T of the noise.
        amplitude: of the noise, >= 0.
        tolerance: the share of the first difference that may be left at the end, above 0.
        seed: for noise and first states: a whole number, or a generator.

    Raises:
        TypeError, ValueError: an argument is out of range, or the layer has other units, or
            replicas.

    Cost: eigenvalues and singular values of matrices (H, H), a run over T steps of ``starts``
    sequences, and H^2 multiply-adds a step for the exponent.

    Source: H. Jaeger, The "echo state" approach to analysing and training recurrent neural
    networks, GMD report 148, 2001; M. Buehner and P. Young, A tighter bound for the echo state
    property, IEEE Transactions on Neural Networks 17(3), 2006; I. Yildiz, H. Jaeger and S. Kiebel,
    Re-visiting the echo state property, Neural Networks 35, 2012.

    Example:
        >>> import longlag as ll
        >>> print(ll.reservoirs.echo_states(ll.EchoState(1, 50, topology="ring", seed=0)))
        Echo states for every input: differences shrink by 0.9 a step.
        >>> ll.reservoirs.echo_states(ll.EchoState(1, 50, spectral_radius=1.5, seed=0)).disproved
        True
    """
    check_leaky(layer, "echo_states")
    check_whole("starts", starts, 2)
    check_number("tolerance", tolerance, above=0.0)
    if x is None:
        check_whole("steps", steps, 1)
        check_number("amplitude", amplitude, least=0.0)
        x = noise(layer, 1, steps, amplitude, seed, "echo_states")
    x = check_input(x, layer.input_size, None, layer.weight_ih)
    if not x.shape[0] or not x.shape[1]:
        raise ValueError(f"x: got {tuple(x.shape)}, expected at least one sequence and one step")
    leak, matrix = leaky_weights(layer)
    phi = layer.cell.activation  # type: ignore[union-attr]
    radius = spectral_radius(torch.diag(1 - leak) + STEEPEST[phi] * leak.unsqueeze(-1) * matrix)
    bound = radius if phi == "identity" else _bound(leak, matrix, STEEPEST[phi])
    zero = layer.bias is None or not bool(layer.bias.any())
    unstable = radius > 1 + ROUNDING
    with evaluation_mode(layer), torch.no_grad():
        distance, exponent = _measured(layer, x, starts, as_generator(seed, "first states"))
    return EchoStates(
        bound,
        radius,
        proved=bound < 1 - ROUNDING,
        disproved=unstable and (phi == "identity" or (zero_input and zero and phi in ODD)),
        distance=distance,
        forgets=distance <= tolerance,
        exponent=exponent,
    )


def check_leaky(layer: Any, method: str) -> None:
    """A layer of leaky units.

    Raises:
        TypeError, ValueError: it is none, or has replicas.
    """
    if not isinstance(layer, Recurrent) or not isinstance(layer.cell, cells.Leaky):
        name = type(layer.cell if type(layer) is Recurrent else layer).__name__
        raise TypeError(
            f"layer: got {name}, expected leaky units, as ll.EchoState(...) has without a proximity"
        )
    check_single(layer, method)


def leaky_weights(layer: Recurrent) -> tuple[Tensor, Tensor]:
    """The leaks (H,) and W (H, H), zero where there is none, in float64."""
    leak = layer.unit("leak").detach().double()
    matrix = layer.recurrent_matrix()
    if matrix is None:
        return leak, leak.new_zeros(len(leak), len(leak))
    return leak, matrix.detach().double()


def _bound(leak: Tensor, matrix: Tensor, gamma: float) -> float:
    """The least of the norms that are tried."""
    size = matrix.abs()
    rows = 1 - leak + leak * gamma * spectral_radius(size)
    # The best scaling of a matrix without signs is by its eigenvectors; every scaling is valid.
    positive = size + 1e-6 * size.mean().clamp(min=torch.finfo(size.dtype).tiny)
    scale = (_dominant(positive.mT) / _dominant(positive)).sqrt()
    norms = [
        (1 - leak).max() + gamma * torch.linalg.matrix_norm(leak.unsqueeze(-1) * scaled, 2)
        for scaled in (matrix, scale.unsqueeze(-1) * matrix / scale)
    ]
    return min(float(rows.max()), *map(float, norms))


def _dominant(matrix: Tensor) -> Tensor:
    """About the eigenvector of the largest eigenvalue of a positive matrix."""
    vector = matrix.new_ones(len(matrix))
    for _ in range(100):
        vector = matrix @ vector
        vector = vector / vector.sum()
    return vector.clamp(min=1e-12)


def _measured(
    layer: Recurrent, x: Tensor, starts: int, generator: torch.Generator | None
) -> tuple[float, float]:
    """What is left of the differences of first states, and the exponent."""
    count, hidden = len(x), layer.hidden_size
    first = torch.empty(starts, count, hidden, dtype=torch.float64)
    first.uniform_(-1.0, 1.0, generator=generator)
    first = first.to(next(layer.parameters()))
    tangent = Tangent(layer, count)
    state = layer.state_of([first.flatten(0, 1)])
    size = max(1, NUMBERS // (starts * count * hidden))
    for piece in x.split(size, 1):
        before = state.h
        h, state = layer(piece.repeat(starts, 1, 1), state)
        tangent.follow(piece, torch.cat([before[:count, None], h[:count, :-1]], 1))
    last = state.h.view(starts, count, hidden).double()
    if not bool(last.isfinite().all()):
        return math.inf, tangent.exponent
    left = (last[1:] - last[0]).norm(dim=-1) / (first[1:] - first[0]).double().norm(dim=-1)
    return float(left.max()), tangent.exponent


class Tangent:
    """A small difference of states, carried along trajectories, of size 1 again at each step."""

    def __init__(self, layer: Recurrent, count: int) -> None:
        self.layer = layer
        self.leak, self.matrix = leaky_weights(layer)
        z, one = sympy.symbols("z one", real=True)
        slope = sympy.diff(activation(layer.cell.activation)(z), z)  # type: ignore[union-attr]
        self.slope = compile_program((z, one), [one * slope])
        drawn = torch.randn(
            count, len(self.leak), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        self.direction = nn.functional.normalize(drawn.to(self.leak.device), dim=-1)
        self.logs: list[Tensor] = []

    def follow(self, x: Tensor, before: Tensor) -> None:
        """Some steps, (N, t, C), with the state before each, (N, t, H)."""
        z = x.double() @ self.layer.weight_ih.detach().double().mT
        z = z + before.double() @ self.matrix.mT
        if self.layer.bias is not None:
            z = z + self.layer.bias.detach().double()
        (slopes,) = run_program(self.slope, [z, torch.ones_like(z)])
        for slope in slopes.expand_as(z).unbind(1):
            d = self.direction
            d = (1 - self.leak) * d + self.leak * slope * (d @ self.matrix.mT)
            size = d.norm(dim=-1, keepdim=True)
            self.logs.append(size.log().squeeze(-1))
            self.direction = d / size.clamp(min=torch.finfo(d.dtype).tiny)

    @property
    def exponent(self) -> float:
        """The mean logarithm of the growth, the first tenth of the steps left out."""
        logs = torch.stack(self.logs)
        return float(logs[len(logs) // 10 :].mean())
