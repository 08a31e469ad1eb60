"""The echo state network: a reservoir of frozen weights, of which only a readout is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from longlag import cells
from longlag.arguments import check_number, check_whole
from longlag.layers.init import Initializer, Orthogonal, as_generator
from longlag.layers.init import spectral_radius as radius_of
from longlag.layers.recurrent import Recurrent
from longlag.layers.topology import Topology, as_topology
from longlag.recurrence import Cell, UnitParameter
from longlag.recurrence import activation as phi_of
from longlag.scan.connections import Entries


@dataclass(frozen=True)
class _Scaled(Initializer):
    """Uniform in ± a number of each column."""

    scales: tuple[float, ...]

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:
        block.uniform_(-1.0, 1.0, generator=generator).mul_(block.new_tensor(self.scales))


@dataclass(frozen=True)
class _Turned(Cell):
    """Leaky units whose state is turned by an orthogonal matrix in place of being kept."""

    proximity: float
    activation: str = "tanh"

    gates = ("candidate", "turned")
    latex_symbols = {"turned": "o"}

    def __post_init__(self) -> None:
        phi_of(self.activation)

    @property
    def unit_parameters(self):
        return {"beta": UnitParameter(self.proximity, trained=False, shared=True)}

    def update(self, pre, state, unit):
        phi = phi_of(self.activation)(pre.candidate)
        return {"h": unit.beta * phi + (1 - unit.beta) * pre.from_state("turned")}


class EchoState(Recurrent):
    r"""Echo state network: leaky units whose weights stay as they were drawn.

    .. math:: h_t = (1 - a) h_{t-1} + a\,\phi(U x_t + W h_{t-1} + b)

    The reservoir answers its input with many different traces of it; a linear readout, fitted in
    one pass by :class:`~longlag.Ridge`, makes of them what is wanted. It forgets its first state,
    and so gives the same states for the same input, if W is contracting enough: a spectral radius
    below 1 nearly always suffices, and one near 1 remembers longest.

    With a ``proximity`` :math:`\beta` it is the edge of stability echo state network (ES2N):

    .. math:: h_t = \beta\,\phi(U x_t + W h_{t-1} + b) + (1 - \beta)\, O h_{t-1}

    with an orthogonal O, drawn uniformly. Its Jacobian has the radius of nearly 1 - beta, or more:
    the smaller beta, the longer it remembers, and the less it computes. ``weight_hh`` then has O
    below W, all of it; the H rows of ``weight_ih`` and ``bias`` that belong to O are zero, and
    nothing reads them.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself.
        hidden_size: H, units.
        spectral_radius: the largest absolute eigenvalue of W, >= 0; W is scaled to it.
        leak: a, in (0, 1], one number or one for each unit: about the time constant 1/a.
        proximity: beta, in (0, 1], in place of a leak; None for leaky units.
        density: the share of the units that each unit reads, in (0, 1], where the topology leaves
            that open. W is sparse unless it is 1.
        input_scaling: U is uniform in ± this; one number >= 0, or one for each of the C features.
        bias_scaling: b is uniform in ± this; 0 for no biases.
        topology: which units read which: "random", "ring", "line", "small-world", "orthogonal",
            "clusters", or an object of :mod:`longlag.topology`.
        feedback_size: F, how many further features x has, behind the C: outputs of the network that
            are fed back, those of the teacher in training.
        feedback_scaling: as input_scaling, for the F features.
        activation: phi, as for :class:`~longlag.cells.Elman`.
        trained: whether gradients are wanted for the weights, to train them like those of any
            other layer.
        dilation: d, the state of so many steps before is read in place of that of one step before;
            as for :class:`~longlag.Recurrent`.
        replicas, weights, backend, seed, device, dtype: as for :class:`~longlag.Recurrent`.

    Attributes:
        input_size: C + F.
        spectral_radius, proximity, density, topology: how W was drawn.
        input_scaling, bias_scaling, feedback_size, feedback_scaling: how U and b were drawn.

    Parameters, further attributes and cost are those of :class:`~longlag.Recurrent`.

    Raises:
        ValueError, TypeError: for an argument out of range.

    Source: H. Jaeger, The "echo state" approach to analysing and training recurrent neural
    networks, GMD report 148, 2001; H. Jaeger et al., Optimization and applications of echo state
    networks with leaky-integrator neurons, Neural Networks 20(3), 2007; A. Ceni and C. Gallicchio,
    Edge of stability echo state network, arXiv:2308.02902, 2023 (proximity).

    Example:
        >>> import longlag as ll
        >>> layer = ll.EchoState(1, 200, spectral_radius=0.9, leak=0.5, seed=0)
        >>> layer.weight_hh.shape, round(layer.effective_spectral_radius(), 3)
        (torch.Size([4000]), 0.933)
        >>> output, _ = layer(torch.zeros(1, 50, 1))
        >>> output.shape, output.requires_grad
        (torch.Size([1, 50, 200]), False)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        spectral_radius: float = 0.9,
        leak: float | Sequence[float] = 1.0,
        proximity: float | None = None,
        density: float = 0.1,
        input_scaling: float | Sequence[float] = 1.0,
        bias_scaling: float = 0.0,
        topology: str | Topology = "random",
        feedback_size: int = 0,
        feedback_scaling: float | Sequence[float] = 1.0,
        activation: str = "tanh",
        trained: bool = False,
        dilation: int = 1,
        replicas: int | None = None,
        weights: str | None = None,
        backend: str = "auto",
        seed: int | torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_whole("input_size", input_size, 0)
        check_whole("hidden_size", hidden_size, 1)
        self.topology = as_topology(topology)
        self.spectral_radius = check_number("spectral_radius", spectral_radius, least=0.0)
        self.proximity = proximity
        if proximity is not None:
            check_number("proximity", proximity, above=0.0, most=1.0)
            if leak != 1.0:
                raise ValueError(
                    f"proximity: got {proximity} with leak = {leak}, expected one of the two"
                )
        self.bias_scaling = check_number("bias_scaling", bias_scaling, least=0.0)
        self.feedback_size = check_whole("feedback_size", feedback_size, 0)
        self.input_scaling = _scales("input_scaling", input_scaling, input_size)
        self.feedback_scaling = _scales("feedback_scaling", feedback_scaling, feedback_size)
        entries: Any = density
        if not isinstance(density, Entries):  # `load` knows them already
            check_number("density", density, above=0.0, most=1.0)
            there = self.topology.draw(hidden_size, density, as_generator(seed, "entries"))
            if there is not None and proximity is not None:
                there = torch.cat([there, torch.ones_like(there)])
            entries = None if there is None else Entries.of(there)
        super().__init__(
            cells.Leaky(leak, activation=activation)
            if proximity is None
            else _Turned(float(proximity), activation),
            input_size + feedback_size,
            hidden_size,
            bias=bias_scaling > 0.0,
            weight_ih_init=_Scaled(self.input_scaling + self.feedback_scaling),
            weight_hh_init=self.topology.values(self.spectral_radius),
            density=entries,
            dilation=dilation,
            replicas=replicas,
            weights=weights,
            backend=backend,
            seed=seed,
            device=device,
            dtype=dtype,
        )
        self.requires_grad_(trained)

    @torch.no_grad()
    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:  # noqa: D102
        super().reset_parameters(seed)
        if self.bias is not None and not self.bias.is_meta:
            drawn = torch.empty(self.bias.shape, dtype=torch.float64)
            drawn.uniform_(-1.0, 1.0, generator=as_generator(seed, "bias"))
            self.bias.copy_(self.bias_scaling * drawn)
        if self.proximity is not None and not self.weight_ih.is_meta:
            self._turn(as_generator(seed, "orthogonal"))

    def _turn(self, generator: torch.Generator | None) -> None:
        """Draw O, which reads no input."""
        hidden = self.hidden_size
        for rows in (self.weight_ih, None if self.bias is None else self.bias.unsqueeze(-1)):
            if rows is not None:
                rows[..., hidden:, :] = 0.0
        matrix = self.recurrent_matrix()
        assert matrix is not None
        assert self.weight_hh is not None
        matrix = matrix.clone()
        for one in matrix.view(-1, 2 * hidden, hidden):
            Orthogonal().fill_(one[hidden:], generator)
        self.weight_hh.copy_(matrix if self.entries is None else self.entries.values(matrix))

    @classmethod
    def from_reservoirpy(cls, node: Any, **options: Any) -> Self:
        """The reservoir that a ``Reservoir`` node of reservoirpy is, with its weights.

        Args:
            node: a node that has been run or initialized, and so knows its weights.
            options: trained, backend, device and dtype, as above.

        Raises:
            ValueError: it has no weights yet, or an activation that longlag does not know.
        """
        if getattr(node, "W", None) is None or callable(node.W):
            raise ValueError(
                "node: it has no weights yet; run it on a step before, or call node.initialize(x)"
            )
        recurrent, inputs = (torch.from_numpy(_as_array(part)) for part in (node.W, node.Win))
        bias = torch.from_numpy(_as_array(node.bias)).expand(len(inputs))
        there = recurrent != 0.0
        layer = cls(
            inputs.shape[1],
            len(inputs),
            leak=float(node.lr) if np.ndim(node.lr) == 0 else tuple(map(float, node.lr)),
            density=1.0 if bool(there.all()) else Entries.of(there),  # type: ignore[arg-type]
            bias_scaling=float(bias.abs().max()),
            activation=node.activation.__name__,
            **options,
        )
        with torch.no_grad():
            layer.weight_ih.copy_(inputs)
            assert layer.weight_hh is not None
            entries = layer.entries
            layer.weight_hh.copy_(recurrent if entries is None else entries.values(recurrent))
            if layer.bias is not None:
                layer.bias.copy_(bias)
        return layer

    def effective_spectral_radius(self) -> float:
        """The spectral radius of a W + (1 - a) I, which the state is multiplied by near 0; with a
        dilation, once in so many steps.

        With a proximity beta, that of beta W + (1 - beta) O. The largest over the replicas. Cost:
        eigenvalues of a matrix (H, H).
        """
        matrix = self.recurrent_matrix()
        assert matrix is not None
        if self.proximity is not None:
            parts = matrix.detach().double().view(-1, 2, self.hidden_size, self.hidden_size)
            mixed = self.proximity * parts[:, 0] + (1 - self.proximity) * parts[:, 1]
            return max(map(radius_of, mixed))
        leak = self.unit("leak").detach().double()
        matrix = matrix.detach().double() * leak.unsqueeze(-1) + torch.diag_embed(1.0 - leak)
        return max(map(radius_of, matrix.view(-1, self.hidden_size, self.hidden_size)))

    def config(self) -> dict[str, Any]:  # noqa: D102
        assert isinstance(self.cell, (cells.Leaky, _Turned))
        turned = {} if self.proximity is None else {"proximity": self.proximity}
        return {
            "type": "EchoState",
            "input_size": len(self.input_scaling),
            "hidden_size": self.hidden_size,
            "spectral_radius": self.spectral_radius,
            "leak": self.cell.leak if isinstance(self.cell, cells.Leaky) else 1.0,
            **turned,
            "density": self.density,
            "input_scaling": self.input_scaling,
            "bias_scaling": self.bias_scaling,
            "topology": self.topology.config(),
            "feedback_size": self.feedback_size,
            "feedback_scaling": self.feedback_scaling,
            "activation": self.cell.activation,
            "dilation": self.dilation,
            "replicas": self.replicas,
            "backend": self.backend,
            **self._rounding(),
        }

    def extra_repr(self) -> str:  # noqa: D102
        feedback = f", feedback_size={self.feedback_size}" if self.feedback_size else ""
        turned = "" if self.proximity is None else f", proximity={self.proximity}"
        turned += f", dilation={self.dilation}" if self.dilation > 1 else ""
        return (
            f"{len(self.input_scaling)}, {self.hidden_size}, topology={self.topology}, "
            f"spectral_radius={self.spectral_radius}{turned}{feedback}"
        )


def _scales(argument: str, value: float | Sequence[float], size: int) -> tuple[float, ...]:
    """One number for each of so many features."""
    if not isinstance(value, Sequence):
        return (check_number(argument, value, least=0.0),) * size
    if len(value) != size:
        raise ValueError(f"{argument}: got {len(value)} numbers, expected one, or {size}")
    return tuple(check_number(argument, number, least=0.0) for number in value)


def _as_array(value: Any) -> NDArray[np.float64]:
    """A matrix of NumPy or SciPy, or a number, as an array."""
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value, np.float64)
