"""Initial weights: small frozen objects, each drawing from an explicit generator.

A layer takes one for the input matrix, one for the recurrent matrix and one for the biases. Each
gate's block is drawn on its own: ``Orthogonal()`` makes every (H, H) block of W orthogonal.
"""

import hashlib
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from longlag.arguments import check_whole

LARGE = 400
"""Rows from which on a sparse matrix has its eigenvalues by iteration."""


class Initializer(ABC):
    """How one block of weights is drawn.

    Attributes:
        by_width: whether the numbers depend on how many a unit reads: in a sparse matrix, where it
            reads fewer, they are larger.
    """

    by_width: ClassVar[bool] = False

    @abstractmethod
    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:
        """Fill one block (rows, columns) in place."""


@dataclass(frozen=True)
class Glorot(Initializer):
    r"""Uniform in :math:`\pm g \sqrt{6 / (\mathrm{rows} + \mathrm{columns})}`.

    Args:
        gain: g > 0.

    Source: X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward
    neural networks, AISTATS 2010.

    Example:
        >>> block = torch.empty(3, 4)
        >>> Glorot().fill_(block)
        >>> bool(block.abs().max() <= (6 / 7) ** 0.5)
        True
    """

    gain: float = 1.0
    by_width: ClassVar[bool] = True

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: D102
        bound = self.gain * math.sqrt(6.0 / max(1, sum(block.shape)))
        block.uniform_(-bound, bound, generator=generator)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    r"""A random matrix with orthonormal rows or columns, uniform over all such, times a gain.

    Args:
        gain: the common singular value; with 1 a linear network keeps :math:`\|h\|`.

    Source: A. M. Saxe, J. L. McClelland and S. Ganguli, Exact solutions to the nonlinear dynamics
    of learning in deep linear neural networks, ICLR 2014.

    Example:
        >>> block = torch.empty(4, 4)
        >>> Orthogonal().fill_(block)
        >>> torch.allclose(block @ block.T, torch.eye(4), atol=1e-5)
        True
    """

    gain: float = 1.0
    by_width: ClassVar[bool] = True

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: D102
        rows, columns = block.shape
        shape = (max(rows, columns), min(rows, columns))
        normal = torch.empty(shape, dtype=torch.float64).normal_(generator=generator)
        q, r = torch.linalg.qr(normal)
        q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
        block.copy_(self.gain * (q if rows >= columns else q.mT))


@dataclass(frozen=True)
class Identity(Initializer):
    """A multiple of the identity matrix: at the start every unit keeps its own state.

    Args:
        gain: the number on the diagonal.

    Source: Q. V. Le, N. Jaitly and G. E. Hinton, A simple way to initialize recurrent networks of
    rectified linear units, 2015.

    Example:
        >>> block = torch.empty(2, 2)
        >>> Identity(0.5).fill_(block)
        >>> block.tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """

    gain: float = 1.0

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: D102
        block.zero_()
        block.diagonal().fill_(self.gain)


@dataclass(frozen=True)
class Constant(Initializer):
    """One number everywhere.

    Example:
        >>> block = torch.empty(1, 2)
        >>> Constant(0.5).fill_(block)
        >>> block.tolist()
        [[0.5, 0.5]]
    """

    value: float

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: D102
        block.fill_(self.value)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform in [low, high).

    Example:
        >>> block = torch.empty(2, 2)
        >>> Uniform(-0.2, 0.2).fill_(block)
        >>> bool(block.abs().max() <= 0.2)
        True
    """

    low: float = -0.1
    high: float = 0.1

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: D102
        block.uniform_(self.low, self.high, generator=generator)


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with mean 0.

    Args:
        std: the standard deviation.

    Example:
        >>> block = torch.empty(2, 2)
        >>> Normal(0.01).fill_(block)
        >>> bool(block.abs().max() < 0.1)
        True
    """

    std: float = 0.1

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: D102
        block.normal_(0.0, self.std, generator=generator)


@dataclass(frozen=True)
class Sparse(Initializer):
    """Another initial matrix, of which each unit keeps a few weights, drawn at random.

    Args:
        connections: non-zero weights of each unit (row), >= 1; all, where it has no more.
        base: how the matrix is drawn before.

    Raises:
        TypeError, ValueError: `connections` is not a whole number of at least 1.

    Source: J. Martens, Deep learning via Hessian-free optimization, ICML 2010.

    Example:
        >>> block = torch.empty(4, 10)
        >>> Sparse(3).fill_(block)
        >>> (block != 0).sum(1)
        tensor([3, 3, 3, 3])
    """

    connections: int
    base: Initializer = Normal(1.0)

    def __post_init__(self) -> None:
        check_whole("connections", self.connections, 1)

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: D102
        self.base.fill_(block, generator)
        order = torch.rand(block.shape, generator=generator, dtype=torch.float64).argsort(1)
        block.masked_fill_(order.argsort(1) >= self.connections, 0.0)


@dataclass(frozen=True)
class SpectralRadius(Initializer):
    """Another initial matrix, scaled to a given spectral radius.

    Args:
        radius: the largest absolute eigenvalue wanted, >= 0.
        base: how the matrix is drawn before it is scaled.

    Raises:
        ValueError: where the matrix is not square, or has radius 0 and cannot be scaled.

    Source: H. Jaeger, The "echo state" approach to analysing and training recurrent neural
    networks, GMD report 148, 2001.

    Example:
        >>> block = torch.empty(10, 10)
        >>> SpectralRadius(0.95, Normal(1.0)).fill_(block)
        >>> round(spectral_radius(block), 4)
        0.95
    """

    radius: float
    base: Initializer = Normal(1.0)

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:  # noqa: D102
        if block.shape[0] != block.shape[1]:
            raise ValueError(
                f"SpectralRadius: got a block of shape {tuple(block.shape)}, expected a square "
                "one; use it for the recurrent matrix"
            )
        self.base.fill_(block, generator)
        self.scale_(block)

    def scale_(self, block: Tensor) -> None:
        """Scale a block to the radius, in place."""
        radius = spectral_radius(block)
        if block.numel() == 0:
            return
        if radius == 0.0:
            raise ValueError(
                f"SpectralRadius: the matrix drawn by {self.base} has radius 0 and cannot be "
                f"scaled to {self.radius}; use another base"
            )
        block.mul_(self.radius / radius)


@dataclass(frozen=True)
class Chrono:
    r"""Gate biases that let the memory last: time scales spread up to ``longest`` steps.

    .. math:: b_f \sim \log U(1, T_{\max} - 1), \qquad b_i = -b_f

    for the LSTM; the gate that keeps the state of a GRU (update) likewise. The other biases stay
    as the cell declares them.

    Args:
        longest: T_max, the longest lag expected, in steps; > 2.

    Source: C. Tallec and Y. Ollivier, Can recurrent neural networks warp time?, ICLR 2018.

    Example:
        >>> Chrono(longest=100)
        Chrono(longest=100)
    """

    longest: float

    def __post_init__(self) -> None:
        if not self.longest > 2:
            raise ValueError(f"longest: got {self.longest}, expected a lag of more than 2 steps")

    def draw(self, hidden: int, generator: torch.Generator | None = None) -> Tensor:
        """The bias of the gate that keeps: (H,), float64, each the log of a time scale."""
        scale = torch.empty(hidden, dtype=torch.float64)
        return scale.uniform_(1.0, self.longest - 1.0, generator=generator).log()


def as_generator(seed: int | torch.Generator | None, role: str) -> torch.Generator | None:
    """The generator that a ``seed`` argument means; None is PyTorch's global one.

    Args:
        seed: a whole number, a generator, or None.
        role: what it is for. Equal numbers in different roles give independent generators, so a
            layer and the readout on it may be given the same seed.

    Raises:
        TypeError: for anything else.
    """
    if seed is None or isinstance(seed, torch.Generator):
        return seed
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(
            f"seed: got {seed!r} ({type(seed).__name__}), expected a whole number, a "
            "torch.Generator or None"
        ) from None
    digest = hashlib.sha256(f"{number} {role}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def spectral_radius(matrix: Tensor) -> float:
    """The largest absolute eigenvalue of a square matrix; 0 for an empty one.

    A large matrix of which most is zero is not taken apart: its largest eigenvalues are found by
    Arnoldi's iteration (ARPACK), to the same precision.

    >>> round(spectral_radius(torch.tensor([[0.0, 2.0], [-2.0, 0.0]])), 6)
    2.0
    """
    if matrix.numel() == 0:
        return 0.0
    matrix = matrix.detach().double().cpu()
    if len(matrix) >= LARGE and int(matrix.count_nonzero()) < matrix.numel() // 4:
        from scipy.sparse import csr_array  # a tenth of a second, which few need
        from scipy.sparse.linalg import ArpackNoConvergence, eigs

        start = np.random.default_rng(0).standard_normal(len(matrix))  # the same at each call
        with suppress(ArpackNoConvergence):
            # Several, in a space much larger than they need: the greatest is then not passed over.
            values = eigs(
                csr_array(matrix.numpy()), k=6, ncv=60, v0=start, return_eigenvectors=False
            )
            return float(np.abs(values).max())
    return float(torch.linalg.eigvals(matrix).abs().max())


_BY_NAME: Mapping[str, Initializer] = {
    "glorot": Glorot(),
    "orthogonal": Orthogonal(),
    "identity": Identity(),
    "uniform": Uniform(),
    "normal": Normal(),
}


def initializer(argument: str, wanted: "str | Initializer") -> Initializer:
    """The initializer that ``argument`` names: an object as it is, or by its name."""
    if isinstance(wanted, Initializer):
        return wanted
    if wanted not in _BY_NAME:
        known = ", ".join(repr(name) for name in _BY_NAME)
        raise ValueError(
            f"{argument}: got {wanted!r}, expected one of {known} or an object of longlag.init"
        )
    return _BY_NAME[wanted]
