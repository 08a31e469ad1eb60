"""Which units of a reservoir read which: small frozen objects that draw the entries of W."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from longlag.arguments import check_whole
from longlag.layers import init
from longlag.layers.sparse import CPU, draw_share
from longlag.messages import near_match


class Topology(ABC):
    """How the recurrent matrix W of a reservoir is drawn.

    Attributes:
        may_be_dense: whether all entries can be there.
    """

    may_be_dense: ClassVar[bool] = False

    @abstractmethod
    def draw(self, hidden: int, density: float, generator: torch.Generator | None) -> Tensor | None:
        """Which entries of W are there: a boolean matrix (H, H); None for all."""

    def config(self) -> dict[str, Any]:
        """What :func:`build_topology` needs, as plain data."""
        return {"type": type(self).__name__, **vars(self)}

    def values(self, radius: float) -> init.Initializer:
        """How the numbers of the entries are drawn, for a spectral radius."""
        return (
            init.SpectralRadius(radius, init.Uniform(-1.0, 1.0)) if radius else init.Constant(0.0)
        )


@dataclass(frozen=True)
class Random(Topology):
    """Each unit reads as many units, drawn at random; numbers from U[-1, 1), scaled.

    Source: H. Jaeger, The "echo state" approach to analysing and training recurrent neural
    networks, GMD report 148, 2001.

    >>> int(Random().draw(20, 0.1, None).sum())
    40
    """

    may_be_dense: ClassVar[bool] = True

    def draw(  # noqa: D102
        self, hidden: int, density: float, generator: torch.Generator | None
    ) -> Tensor | None:
        if density >= 1.0:
            return None
        return draw_share(torch.ones(hidden, hidden, dtype=torch.bool), density, generator)


@dataclass(frozen=True)
class Ring(Topology):
    """Each unit reads the one before it, and the first the last; every number is the radius.

    The memory capacity of such a reservoir is as large as its number of units allows.

    Source: A. Rodan and P. Tino, Minimum complexity echo state network, IEEE Transactions on
    Neural Networks 22(1), 2011.

    >>> Ring().draw(3, 0.1, None).int().tolist()
    [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    """

    def draw(  # noqa: D102
        self, hidden: int, density: float, generator: torch.Generator | None
    ) -> Tensor | None:
        return torch.eye(hidden, dtype=torch.bool).roll(1, 0)

    def values(self, radius: float) -> init.Initializer:  # noqa: D102
        return init.Constant(radius)


@dataclass(frozen=True)
class Line(Ring):
    """A delay line: each unit reads the one before it, the first none.

    All eigenvalues are 0 whatever the numbers, so in place of the spectral radius it is each number
    that has the value asked for.

    >>> Line().draw(3, 0.1, None).int().tolist()
    [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    """

    def draw(  # noqa: D102
        self, hidden: int, density: float, generator: torch.Generator | None
    ) -> Tensor | None:
        return torch.eye(hidden, dtype=torch.bool).roll(1, 0).tril(-1)


@dataclass(frozen=True)
class SmallWorld(Topology):
    """Each unit reads its nearest neighbours on a ring, some of these links led elsewhere.

    Args:
        rewiring: the probability in [0, 1] with which a link leads to a unit drawn at random.

    Source: D. J. Watts and S. H. Strogatz, Collective dynamics of "small-world" networks, Nature
    393, 1998.

    >>> SmallWorld(rewiring=0.0).draw(6, 0.4, None)[0].int().tolist()
    [0, 1, 0, 0, 0, 1]
    """

    rewiring: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.rewiring <= 1.0:
            raise ValueError(f"rewiring: got {self.rewiring}, expected a probability in [0, 1]")

    def draw(  # noqa: D102
        self, hidden: int, density: float, generator: torch.Generator | None
    ) -> Tensor | None:
        unit = torch.arange(hidden, device=CPU)
        apart = (unit - unit.unsqueeze(-1)).abs()
        apart = torch.minimum(apart, hidden - apart)
        size = max(1, round(density * hidden))
        # The nearest first, itself last; of two as near the one behind.
        rank = (2 * apart - (unit < unit.unsqueeze(-1)).long()).fill_diagonal_(2 * hidden)
        near = rank.argsort(-1).argsort(-1) < size
        drawn = torch.rand(near.shape, generator=generator, dtype=torch.float64, device=CPU)
        kept = near & (drawn >= self.rewiring)
        # Each link that is led elsewhere goes to a unit that is not read yet.
        free = torch.rand(near.shape, generator=generator, dtype=torch.float64, device=CPU)
        order = free.masked_fill(kept, -1.0).argsort(-1).argsort(-1)
        return order < size


@dataclass(frozen=True)
class Orthogonal(Topology):
    """Every unit reads every other: an orthogonal matrix, times the radius.

    Source: O. L. White, D. D. Lee and H. Sompolinsky, Short-term memory in orthogonal neural
    networks, Physical Review Letters 92, 2004.

    >>> Orthogonal().draw(3, 0.1, None) is None
    True
    """

    may_be_dense: ClassVar[bool] = True

    def draw(  # noqa: D102
        self, hidden: int, density: float, generator: torch.Generator | None
    ) -> Tensor | None:
        return None

    def values(self, radius: float) -> init.Initializer:  # noqa: D102
        return init.Orthogonal(radius)


@dataclass(frozen=True)
class Clusters(Topology):
    """Groups of units of like size, with more links within them than between them.

    Args:
        count: groups, from 1 to H.
        between: how many times less likely a link is between two groups than within one, in [0, 1].

    Source: Z. Deng and Y. Zhang, Collective behavior of a small-world recurrent neural system with
    scale-free distribution, IEEE Transactions on Neural Networks 18(5), 2007.

    >>> Clusters(2, between=0.0).draw(4, 0.5, None).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """

    count: int = 4
    between: float = 0.1

    def __post_init__(self) -> None:
        check_whole("count", self.count, 1)
        if not 0.0 <= self.between <= 1.0:
            raise ValueError(f"between: got {self.between}, expected a number in [0, 1]")

    def draw(  # noqa: D102
        self, hidden: int, density: float, generator: torch.Generator | None
    ) -> Tensor | None:
        if self.count > hidden:
            raise ValueError(f"count: got {self.count} groups of {hidden} units, expected fewer")
        group = torch.arange(hidden, device=CPU) * self.count // hidden
        same = group == group.unsqueeze(-1)
        likely = torch.where(same, 1.0, self.between).double()
        likely = likely / likely.mean(-1, keepdim=True) * density
        if bool((likely > 1.0).any()):
            most = density / float(likely.max())
            raise ValueError(
                f"density: got {density}, but {self} has a density of at most {most:.3g}; give "
                "less, fewer groups, or more links between them"
            )
        drawn = torch.rand(same.shape, generator=generator, dtype=torch.float64, device=CPU)
        return drawn < likely


_BY_NAME = {
    "random": Random(),
    "ring": Ring(),
    "line": Line(),
    "small-world": SmallWorld(),
    "orthogonal": Orthogonal(),
    "clusters": Clusters(),
}


def as_topology(wanted: str | Topology) -> Topology:
    """The topology that is meant: an object as it is, or by its name.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(wanted, Topology):
        return wanted
    if wanted not in _BY_NAME:
        known = ", ".join(map(repr, _BY_NAME))
        raise ValueError(
            f"topology: got {wanted!r}, expected one of {known}, or an object of longlag.topology"
            f"{near_match(wanted, _BY_NAME)}"
        )
    return _BY_NAME[wanted]


def build_topology(config: Any) -> Topology:
    """The topology that plain data describes: its type and its fields.

    Raises:
        TypeError, ValueError: it describes none.
    """
    if not isinstance(config, dict) or not isinstance(config.get("type"), str):
        raise TypeError(f"topology: got {config!r:.80}, expected an object with a type")
    kinds: Mapping[str, type[Topology]] = {
        type(known).__name__: type(known) for known in _BY_NAME.values()
    }
    fields = {name: value for name, value in config.items() if name != "type"}
    if config["type"] not in kinds:
        raise ValueError(
            f"topology: got {config['type']!r:.80}, expected one of {', '.join(kinds)}"
        )
    return kinds[config["type"]](**fields)
