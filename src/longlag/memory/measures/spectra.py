r"""What the recurrent matrix alone says of memory, before any data.

For :math:`h_t = c \odot h_{t-1} + u \odot \phi(U x_t + W h_{t-1} + b)` the Jacobian is
:math:`\operatorname{diag}(c) + \operatorname{diag}(u \odot \phi') W`, and with
:math:`\gamma = \sup |\phi'|`

.. math:: \left\lVert \frac{\partial h_t}{\partial h_{t-k}} \right\rVert_2 \le
    \left(\max_i |c_i| + \gamma\, \lVert \operatorname{diag}(u) W \rVert_2\right)^k

An Elman network has c = 0 and u = 1; leaky units c = 1 - a and u = a.

Sources: S. Hochreiter, diploma thesis, TU Munich, 1991; R. Pascanu, T. Mikolov and Y. Bengio, On
the difficulty of training recurrent neural networks, ICML 2013, section 2 (the sufficient and the
necessary condition).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sympy
import torch
from torch import Tensor, nn

from longlag.layers import Recurrent
from longlag.layers.init import spectral_radius
from longlag.recurrence import Recurrence
from longlag.recurrence.functions import Expression
from longlag.recurrence.program import compile_program
from longlag.recurrence.wiring import Absent, Dense, Diagonal
from longlag.scan.programs import run_program

REACH = 50.0
"""Pre-activations between -50 and 50 are looked at for the steepest slope."""


class MatrixFacts(NamedTuple):
    """Of one recurrent matrix; R replicas make every number (R,).

    Attributes:
        norm: the largest singular value, ||W||_2.
        smallest: the smallest singular value.
        radius: the spectral radius, the largest |eigenvalue|.
    """

    norm: Tensor
    smallest: Tensor
    radius: Tensor


@dataclass(frozen=True)
class SpectralFacts:
    """What :func:`spectral_facts` finds of a layer; in float64, R replicas make a number (R,).

    Attributes:
        matrices: by gate, and ``GATE.NUMBER`` where it has several, the facts of its recurrent
            matrix; a diagonal one counts as such. Empty where the layer has none.
        gamma: the greatest slope of the activation, ``sup |phi'|``; None where there is no one
            activation, or it has no greatest slope.
        critical: 1 / gamma, the norm of W at which an Elman network may cease to forget.
        step_bound: the number that no ||J_t||_2 exceeds, whatever the input; None without a bound.
        reason: why there is no bound, as a sentence; "" where there is.
        vanishes: whether step_bound < 1, which is sufficient for the influence of the past to
            vanish; of an Elman network that is ||W|| < 1 / gamma. None without a bound.
        may_explode: whether step_bound > 1, which is necessary for it to explode. None likewise.
    """

    matrices: Mapping[str, MatrixFacts]
    gamma: float | None
    step_bound: Tensor | None
    reason: str

    @property
    def critical(self) -> float | None:
        """See the class."""
        return 1 / self.gamma if self.gamma else None

    @property
    def vanishes(self) -> Tensor | None:
        """See the class."""
        return None if self.step_bound is None else self.step_bound < 1

    @property
    def may_explode(self) -> Tensor | None:
        """See the class."""
        return None if self.step_bound is None else self.step_bound > 1

    def log_bound(self, lags: Tensor) -> Tensor | None:
        """The logarithm of the bound of ||ds_t/ds_{t-k}||_2 for lags k (L,); None without one."""
        if self.step_bound is None:
            return None
        lags = lags.to(self.step_bound)
        logs = lags * self.step_bound.log().unsqueeze(-1)
        return logs.masked_fill(lags == 0, 0.0)  # 0 times -inf


@torch.no_grad()
def spectral_facts(layer: nn.Module) -> SpectralFacts:
    r"""Norm and spectral radius of the recurrent matrices, and the bound that follows from them.

    The form of the equation, and the activation's slope, are read from the traced cell, not from
    its name: so a cell of one's own of the form :math:`c \odot h + u \odot \phi(\cdot)`, with c and
    u unit parameters or constants, has its bound too. gamma is found by search between
    pre-activations of -50 and 50. Where the gates multiply the state or each other, as in LSTM and
    GRU, no number made of W alone bounds the Jacobian, and ``reason`` says so.

    Args:
        layer: one recurrent layer of longlag.

    Raises:
        TypeError: it is none; of a stack, take one of ``stack.layers``.

    Weights that are not finite make the numbers of their matrix NaN, and the bound with it.

    Cost: a singular value and an eigenvalue decomposition of each matrix, and once more for the
    bound.

    >>> import longlag as ll
    >>> facts = spectral_facts(ll.Elman(3, 8, activation="sigmoid", seed=0))
    >>> facts.gamma, facts.critical, bool(facts.vanishes)
    (0.25, 4.0, True)
    >>> spectral_facts(ll.LSTM(3, 8)).reason
    'LSTM has 2 states and 4 gates; the bound is for one of each'
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(
            f"layer: got {type(layer).__name__}, expected one recurrent layer; of a stack take one "
            "of stack.layers"
        )
    matrices = {name: _facts(matrix) for name, matrix in _matrices(layer).items()}
    form = _form(layer.recurrence)
    if isinstance(form, str):
        return SpectralFacts(matrices, None, None, form)
    units = {name: layer.unit(name).detach().double() for name in layer.recurrence.units}
    gamma = _steepest(form.slope, form.symbol)
    if gamma is None:
        reason = f"{layer.recurrence.name}: the slope of its activation has no upper limit"
        return SpectralFacts(matrices, None, None, reason)
    keep = _of_units(form.keep, units, layer).abs()
    scale = _of_units(form.scale, units, layer).abs() * gamma
    bound = keep.amax(-1)
    (gate,) = layer.recurrence.gates
    if isinstance(gate.wiring, Diagonal):
        weight = units[f"diagonal.{gate.name}"].abs()
        bound = keep if gate.wiring.truncated else keep + scale * weight
        bound = bound.amax(-1)
    elif gate.matrices and not gate.matrices[0].truncated:
        (matrix,) = _matrices(layer).values()
        bound = bound + _facts(scale.unsqueeze(-1) * matrix).norm
    return SpectralFacts(matrices, gamma, bound, "")


def facts_by_layer(module: nn.Module) -> dict[str, SpectralFacts]:
    """The :func:`spectral_facts` of each recurrent layer of a module by path; "" for itself."""
    return {
        name: spectral_facts(layer)
        for name, layer in module.named_modules()
        if isinstance(layer, Recurrent)
    }


def _matrices(layer: Recurrent) -> dict[str, Tensor]:
    """The recurrent matrices by gate, in float64; diagonal ones as matrices."""
    matrices, number = {}, 0
    whole = layer.recurrent_matrix()
    blocks = () if whole is None else whole.detach().double().split(layer.hidden_size, -2)
    for gate in layer.recurrence.gates:
        if isinstance(gate.wiring, Diagonal):
            weight = layer.unit(f"diagonal.{gate.name}").detach().double()
            matrices[gate.name] = torch.diag_embed(weight)
        for place in range(len(gate.matrices)):
            name = gate.name if len(gate.matrices) == 1 else f"{gate.name}.{place}"
            matrices[name] = blocks[number]
            number += 1
    return matrices


def _facts(matrix: Tensor) -> MatrixFacts:
    if not bool(matrix.isfinite().all()):
        nothing = matrix.new_full(matrix.shape[:-2], torch.nan)
        return MatrixFacts(nothing, nothing, nothing)
    values = torch.linalg.svdvals(matrix)
    radii = [spectral_radius(one) for one in matrix.reshape(-1, *matrix.shape[-2:])]
    radius = matrix.new_tensor(radii).reshape(matrix.shape[:-2])
    return MatrixFacts(values[..., 0], values[..., -1], radius)


class _Form(NamedTuple):
    """keep * h + scale * phi(z): by the unit parameters, and the slope phi'(z)."""

    keep: Expression
    scale: Expression
    slope: Expression
    symbol: sympy.Symbol


def _form(recurrence: Recurrence) -> "_Form | str":
    """The form of a cell's one equation, or why it has none."""
    name = recurrence.name
    states, gates = len(recurrence.states), len(recurrence.gates)
    if states != 1 or gates != 1:
        return f"{name} has {_many(states, 'state')} and {_many(gates, 'gate')}; " + (
            "the bound is for one of each"
        )
    if recurrence.timed:
        return f"{name} reads the step within the sequence, and the bound is the same at every step"
    (gate,), (state,) = recurrence.gates, recurrence.state_symbols
    if gate.split or len(gate.matrices) > 1 or not isinstance(
        gate.wiring, Absent | Dense | Diagonal | tuple
    ):  # fmt: skip
        return f"{name}: its gate is not one sum of what comes from the input and from the past"
    equation = recurrence.equations[recurrence.states[0]]
    z = sympy.Symbol("z", real=True)
    drive = gate.from_input
    if isinstance(gate.wiring, Diagonal):
        # Here the product with the past stands in the equation itself.
        weight = sympy.Symbol(f"unit.diagonal.{gate.name}", real=True)
        equation = equation.xreplace({drive: z - weight * state})
    else:
        equation = equation.xreplace({drive: z})
    keep, slope = sympy.diff(equation, state), sympy.diff(equation, z)
    apart = f"{name}: its state and its activation multiply each other, or act otherwise than by "
    if {z, state} & keep.free_symbols or state in slope.free_symbols:
        return apart + "a sum"
    scale, rest = sympy.factor_terms(slope).as_independent(z, as_Add=False)
    number, scale = scale.as_coeff_Mul()
    if rest.free_symbols - {z}:
        return f"{name}: the slope of its activation depends on its unit parameters"
    return _Form(keep, scale, number * rest, z)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _steepest(slope: Expression, z: sympy.Symbol) -> float | None:
    """The greatest absolute value of a slope; None where it grows on and on."""
    program = compile_program((z,), [slope.replace(sympy.DiracDelta, lambda *_: 0)])

    def at(points: Tensor) -> Tensor:
        return run_program(program, [points])[0].abs().nan_to_num(0.0)

    points = torch.linspace(-REACH, REACH, 20001, dtype=torch.float64)
    values = at(points)
    best, width = float(points[int(values.argmax())]), 2 * REACH / 20000
    most = float(values.max())
    if float(at(2 * points).max()) > most * (1 + 1e-6):
        return None
    while width > 1e-9:
        near = torch.linspace(best - width, best + width, 201, dtype=torch.float64)
        values = at(near)
        if float(values.max()) > most:
            most, best = float(values.max()), float(near[int(values.argmax())])
        width /= 50
    return most if math.isfinite(most) else None


def _of_units(expression: Expression, units: Mapping[str, Tensor], layer: Any) -> Tensor:
    """The value of an expression of the unit parameters: (H,), or (R, H)."""
    symbols = [sympy.Symbol(f"unit.{name}", real=True) for name in units]
    front = () if layer.replicas is None else (layer.replicas,)
    ones = torch.ones((*front, layer.hidden_size), dtype=torch.float64,
                      device=layer.weight_ih.device)  # fmt: skip
    one = sympy.Symbol("one", real=True)
    program = compile_program((one, *symbols), [expression * one])
    return run_program(program, [ones, *units.values()])[0].expand_as(ones)
