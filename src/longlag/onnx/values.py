"""What the values of a foreign graph are, as far as a layer of longlag must know."""

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Known:
    """A constant."""

    array: NDArray[Any]

    def __str__(self) -> str:
        return f"a constant of shape {self.array.shape}"


@dataclass(frozen=True)
class Zeros:
    """Zeros, of whatever shape."""

    def __str__(self) -> str:
        return "zeros"


@dataclass(frozen=True)
class Sizes:
    """Whole numbers that follow from the shape of x."""

    def __str__(self) -> str:
        return "sizes"


@dataclass(frozen=True)
class Input:
    """An input of the graph, or what is made of one without arithmetic.

    Attributes:
        name: of the input.
        axes: where it may be an x, which of its axes stand where; else None.
        positive: whether it is True where the input is above 0.
    """

    name: str
    axes: tuple[int, ...] | None = None
    positive: bool = False

    def __str__(self) -> str:
        return f"the input {self.name!r:.80}"


@dataclass(frozen=True)
class Numbers:
    """What a recurrent operator puts out, or a part of it.

    Attributes:
        level: number of the operator.
        kind: "output" of all steps; "last", "mean" or "sum" over the steps; "final": a state.
        axes: of T, N, D (directions) and F (features) those that there are, in order; "1" is an
            axis of one number.
        directions: which directions it has, in the order of D or F.
        state: name of the state, where it is one.
    """

    level: int
    kind: str
    axes: tuple[str, ...]
    directions: tuple[int, ...]
    state: str = "h"

    def __str__(self) -> str:
        return f"the {self.kind} {self.state} ({', '.join(self.axes)}) of a recurrent node"

    def of(self, *axes: str, **changes: Any) -> "Numbers":
        """The same with other axes."""
        return replace(self, axes=axes, **changes)


@dataclass(frozen=True)
class Several:
    """Final states one after another, along the axis of directions."""

    parts: tuple[Numbers, ...]

    def __str__(self) -> str:
        return "the final states of several layers"


@dataclass(frozen=True)
class ReadOut:
    """A linear function of some numbers: weight (K, F), bias (K,) or None, and an activation."""

    of: Numbers
    weight: NDArray[Any]
    bias: NDArray[Any] | None = None
    activation: str = "identity"

    def __str__(self) -> str:
        return "a linear readout"


Value = Known | Zeros | Sizes | Input | Numbers | Several | ReadOut
