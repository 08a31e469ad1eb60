"""Conceptors: where the states of a reservoir lie while it follows a pattern, as a soft projection.

Jaeger 2014, "Controlling recurrent neural networks by conceptors" (Jacobs University technical
report 31, arXiv:1403.3369). Known imperfection: only reservoirs with a leak of 1 can be steered,
where the conceptor becomes a part of W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from longlag import cells
from longlag.arguments import check_number, check_whole
from longlag.layers import Readout, Recurrent, SequenceModel

TINY = 1e-12
"""Singular values below this count as 0."""


@dataclass(frozen=True, eq=False)
class Conceptor:
    r"""A matrix that keeps the directions in which states lie, and damps the others.

    .. math:: C = R (R + \alpha^{-2} I)^{-1}, \qquad R = \langle h h^T \rangle

    which minimises :math:`\langle \lVert h - C h \rVert^2 \rangle + \alpha^{-2} \lVert C \rVert^2`.
    Its singular values are in [0, 1]. Conceptors have a logic: ``~c`` (NOT) keeps what c damps,
    ``a & b`` (AND) what both keep, ``a | b`` (OR) what either keeps: that of the states of both.

    Args:
        matrix: (H, H), symmetric, with singular values in [0, 1]; kept in float64.

    Raises:
        ValueError: for another matrix.

    Example:
        >>> h = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])  # states along one axis
        >>> one = Conceptor.of(h, aperture=1.0)
        >>> one.matrix.tolist(), one.quota
        ([[0.8, 0.0], [0.0, 0.0]], 0.4)
        >>> (~one).matrix.diagonal().tolist()[1], (one & ~one).matrix[1, 1].item()
        (1.0, 0.0)
    """

    matrix: Tensor

    def __post_init__(self) -> None:
        matrix = torch.as_tensor(self.matrix).detach().double()
        square = matrix.dim() == 2 and matrix.shape[0] == matrix.shape[1]
        if not square or not bool(matrix.isfinite().all()):
            raise ValueError(f"matrix: got {tuple(matrix.shape)}, expected a finite matrix (H, H)")
        if not torch.allclose(matrix, matrix.mT, rtol=1e-6, atol=1e-8):
            raise ValueError("matrix: is not symmetric; expected a symmetric one")
        matrix = (matrix + matrix.mT) / 2.0
        values = torch.linalg.eigvalsh(matrix)
        if len(values) and not -1e-6 <= float(values[0]) <= float(values[-1]) <= 1.0 + 1e-6:
            raise ValueError(
                f"matrix: has singular values from {float(values[0]):.6g} to "
                f"{float(values[-1]):.6g}, expected such in [0, 1]"
            )
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def of(cls, h: Tensor, aperture: float = 10.0) -> "Conceptor":
        """The conceptor of states.

        Args:
            h: (..., H), states of one pattern; leave out those of the washout.
            aperture: alpha > 0: the larger, the more is kept.
        """
        aperture = check_number("aperture", aperture, above=0.0)
        states = h.detach().flatten(0, -2).double()
        if not len(states):
            raise ValueError(f"h: got {tuple(h.shape)}, expected at least one state")
        if not bool(states.isfinite().all()):
            raise ValueError("h: has a state that is not finite; expected finite ones")
        correlation = states.mT @ states / len(states)
        return cls(_kept(correlation, _eye(correlation), aperture))

    @property
    def singular_values(self) -> Tensor:
        """(H,), the largest first."""
        return torch.linalg.eigvalsh(self.matrix).clamp(0.0, 1.0).flip(0)

    @property
    def quota(self) -> float:
        """The share of all directions that it keeps: the mean singular value."""
        return float(self.matrix.diagonal().mean())

    def with_aperture(self, factor: float) -> "Conceptor":
        """The conceptor whose aperture is this many times as large."""
        factor = check_number("factor", factor, above=0.0)
        return Conceptor(_kept(self.matrix, _eye(self.matrix) - self.matrix, factor))

    def __invert__(self) -> "Conceptor":
        return Conceptor(_eye(self.matrix) - self.matrix)

    def __and__(self, other: "Conceptor") -> "Conceptor":
        _check_alike(self, other)
        # (C^-1 + B^-1 - I)^-1, in the directions that both have.
        (inverse, space), (other_inverse, other_space) = map(_inverted, (self, other))
        missing = 2.0 * _eye(self.matrix) - space - other_space
        values, vectors = torch.linalg.eigh(missing)
        basis = vectors[:, values < 1e-8]
        inner = basis.mT @ (inverse + other_inverse - _eye(self.matrix)) @ basis
        values, vectors = torch.linalg.eigh(torch.linalg.inv(inner))
        both = basis @ vectors
        return Conceptor((both * values.clamp(0.0, 1.0)) @ both.mT)

    def __or__(self, other: "Conceptor") -> "Conceptor":
        _check_alike(self, other)
        return ~(~self & ~other)

    def steer(self, model: SequenceModel) -> SequenceModel:
        r"""The model whose states go through the conceptor after each step.

        :math:`h_t = C\,\phi(U x_t + W h_{t-1} + b)`. Of it :math:`\phi(\cdot)` is the state, so
        that C becomes a part of W and of the readout, and the model runs, is saved and is reported
        as any other. A state of the model is a state of this one.

        Args:
            model: an :class:`~longlag.EchoState` with a leak of 1, or an Elman layer, and a linear
                readout of h alone.

        Raises:
            ValueError, TypeError: for another model.
        """
        layer, readout = _reservoir_of(model)
        if len(self.matrix) != layer.hidden_size:
            raise ValueError(
                f"model: has {layer.hidden_size} units, and the conceptor {len(self.matrix)}; "
                "expected as many"
            )
        like = readout.weight
        matrix = self.matrix.to(like)
        made = _with_matrix(layer, layer.weight_ih, _matrix(layer) @ matrix)
        steered = SequenceModel(
            made, readout.output_size, reduce=model.reduce, bias=readout.bias is not None, seed=0
        )
        _take(steered.linear_readout, readout.weight @ matrix, readout.bias)
        return steered.train(model.training)


class Loaded(NamedTuple):
    """A reservoir that has taken up patterns.

    Attributes:
        model: reads nothing, x is (N, T, 0); it puts out the pattern whose conceptor steers it.
        conceptors: one for each pattern.
        states: the state of the network at the end of each pattern, to start from.
    """

    model: SequenceModel
    conceptors: tuple[Conceptor, ...]
    states: tuple[Tensor, ...]


def load_patterns(
    model: SequenceModel,
    patterns: Sequence[Tensor],
    *,
    aperture: float = 10.0,
    washout: int = 100,
    alpha: float = 1e-4,
    readout_alpha: float = 1e-2,
) -> Loaded:
    """Store patterns in a reservoir, which then makes each of them by itself.

    The reservoir is driven by each pattern. Its new W does to the states of all of them what W and
    the input did; the readout says what was read; and the conceptor of a pattern keeps the states
    on its course.

    Args:
        model: as for :meth:`Conceptor.steer`, with as many outputs as features; it is not changed.
        patterns: each (T, C), longer than the washout.
        aperture: of the conceptors.
        washout: steps at the beginning of each pattern that are left out.
        alpha, readout_alpha: penalties of the new W and of the readout, > 0, per step.

    Raises:
        ValueError, TypeError: for an argument that does not fit.

    Example:
        >>> import longlag as ll
        >>> t = torch.arange(300, dtype=torch.float64).unsqueeze(-1)
        >>> layer = ll.EchoState(1, 60, spectral_radius=1.5, input_scaling=1.5, bias_scaling=0.2,
        ...                      seed=0, dtype=torch.float64)
        >>> model = ll.SequenceModel(layer, 1, reduce=None)
        >>> loaded = load_patterns(model, [(t / 2.0).sin(), (t / 1.3).sin()])
        >>> again = loaded.conceptors[1].steer(loaded.model)
        >>> y = again(torch.zeros(1, 5, 0, dtype=torch.float64), loaded.states[1])
        >>> bool((y[0] - (torch.arange(300.0, 305.0).unsqueeze(-1) / 1.3).sin()).abs().max() < 0.1)
        True
    """
    layer, readout = _reservoir_of(model)
    check_number("alpha", alpha, above=0.0)
    check_number("readout_alpha", readout_alpha, above=0.0)
    check_whole("washout", washout, 0)
    if readout.output_size != layer.input_size:
        raise ValueError(
            f"model: it reads {layer.input_size} features and puts out {readout.output_size}; "
            "expected as many, as it is to put out the patterns that it reads"
        )
    if not patterns:
        raise ValueError("patterns: got none, expected at least one")
    states, before, drives, inputs, conceptors = [], [], [], [], []
    for number, pattern in enumerate(patterns):
        if pattern.dim() != 2 or pattern.shape[1] != layer.input_size or len(pattern) <= washout:
            raise ValueError(
                f"patterns[{number}]: got {tuple(pattern.shape)}, expected (T, {layer.input_size}) "
                f"with T above the washout of {washout}"
            )
        with torch.no_grad():
            h = layer(pattern.unsqueeze(0))[0][0]
        after, read = h[washout:], pattern[washout:].double()
        earlier = torch.cat([h.new_zeros(1, h.shape[1]), h[:-1]])[washout:].double()
        before.append(earlier)
        drives.append(
            earlier @ _matrix(layer).double().mT + read @ layer.weight_ih.detach().double().mT
        )
        states.append(after.double())
        inputs.append(read)
        conceptors.append(Conceptor.of(after, aperture))
    recurrent = _ridge(torch.cat(before), torch.cat(drives), alpha)
    weight = _ridge(torch.cat(states), torch.cat(inputs), readout_alpha)
    made = _with_matrix(layer, layer.weight_ih[:, :0], recurrent)
    loaded = SequenceModel(made, readout.output_size, reduce=model.reduce, bias=False, seed=0)
    _take(loaded.linear_readout, weight, None)
    ends = tuple(h[-1:].to(layer.like) for h in states)
    return Loaded(loaded.train(model.training), tuple(conceptors), ends)


def _eye(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)


def _kept(kept: Tensor, others: Tensor, aperture: float) -> Tensor:
    """kept (kept + others / aperture^2)^-1, of two that have the same eigenvectors."""
    return torch.linalg.solve(kept + others / aperture**2, kept)


def _inverted(conceptor: Conceptor) -> tuple[Tensor, Tensor]:
    """The pseudoinverse, and the projection to the directions that there are."""
    values, vectors = torch.linalg.eigh(conceptor.matrix)
    there = values > TINY
    inverse = (vectors[:, there] / values[there]) @ vectors[:, there].mT
    return inverse, vectors[:, there] @ vectors[:, there].mT


def _check_alike(one: Conceptor, other: object) -> None:
    if not isinstance(other, Conceptor):
        raise TypeError(f"got {type(other).__name__}, expected another Conceptor")
    if one.matrix.shape != other.matrix.shape:
        raise ValueError(
            f"got conceptors of {len(one.matrix)} and {len(other.matrix)} units, expected as many"
        )


def _reservoir_of(model: SequenceModel) -> tuple[Recurrent, Readout]:
    """The layer h = phi(U x + W h + b) of a model, and its readout V h + b."""
    if not isinstance(model, SequenceModel):
        raise TypeError(f"model: got {type(model).__name__}, expected a ll.SequenceModel")
    layer, readout = model.layer, model.linear_readout
    cell = layer.cell
    leak = getattr(cell, "leak", 1.0)
    leaks = leak if isinstance(leak, Sequence) else [leak]
    known = isinstance(cell, (cells.Elman, cells.Leaky)) and all(part == 1.0 for part in leaks)
    if not isinstance(layer, Recurrent) or not known or layer.weight_hh is None:
        raise ValueError(
            f"model: its layer is {repr(layer).splitlines()[0]:.80}, with leak={leak!r:.40}; "
            "expected an ll.EchoState with leak=1.0, or an ll.Elman, of which a conceptor becomes "
            "a part of W"
        )
    if layer.replicas is not None:
        raise ValueError(f"model: got replicas={layer.replicas}, expected one network")
    if model.attention is not None:
        raise ValueError("model: got reduce='attention'; expected another")
    if readout.weight_squares is not None or readout.weight_direct is not None:
        raise ValueError(
            "model: its readout sees x or the squares of h; expected direct=False, squares=False"
        )
    if readout.activation != "identity":
        raise ValueError(
            f"model: has output_activation={readout.activation!r}, expected 'identity'"
        )
    return layer, readout


def _matrix(layer: Recurrent) -> Tensor:
    matrix = layer.recurrent_matrix()
    assert matrix is not None
    return matrix.detach()


@torch.no_grad()
def _with_matrix(layer: Recurrent, weight_ih: Tensor, matrix: Tensor) -> Recurrent:
    """The same layer with another U and W, dense and frozen."""
    made = Recurrent(
        layer.cell, weight_ih.shape[1], layer.hidden_size, bias=layer.bias is not None,
        backend=layer.backend, seed=0, device=weight_ih.device, dtype=weight_ih.dtype,
    )  # fmt: skip
    assert made.weight_hh is not None
    made.weight_ih.copy_(weight_ih)
    made.weight_hh.copy_(matrix)
    if made.bias is not None and layer.bias is not None:
        made.bias.copy_(layer.bias)
    return made.requires_grad_(False)


@torch.no_grad()
def _take(readout: Readout, weight: Tensor, bias: Tensor | None) -> None:
    readout.weight.copy_(weight)
    if readout.bias is not None and bias is not None:
        readout.bias.copy_(bias)


def _ridge(f: Tensor, y: Tensor, alpha: float) -> Tensor:
    """(K, D), with the penalty per row."""
    gram = f.mT @ f + alpha * len(f) * _eye(f.mT)
    return torch.linalg.solve(gram, f.mT @ y).mT
