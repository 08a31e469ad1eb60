"""How the past reaches a gate: a dense matrix, one weight per unit, or not at all."""

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Absent", "Dense", "Diagonal", "Initial", "Uniform", "UnitParameter", "Wiring"]


@dataclass(frozen=True)
class Uniform:
    """Initial values drawn from U[low, high), one per unit.

    >>> Uniform(0.0, 1.0)
    Uniform(low=0.0, high=1.0)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(
                f"Uniform: got low = {self.low} and high = {self.high}, expected low <= high"
            )


Initial: TypeAlias = "float | tuple[float, ...] | Uniform"
"""A number for all units, a number for each, or a distribution."""


@dataclass(frozen=True)
class UnitParameter:
    """One number per unit that an update reads as ``unit.NAME``.

    Args:
        initial: its initial value: a number, one number per unit, or a distribution.
        trained: a trained parameter, or a constant kept with the model.
        shared: one number for all units of the layer instead of one per unit.
        interval: open interval to which training confines the value. The layer then trains
            an unbounded number ``NAME_raw`` and the update reads
            low + (high - low) sigmoid(NAME_raw).

    >>> UnitParameter(0.1, interval=(0.0, 1.0)).trained
    True
    """

    initial: Initial = 0.0
    trained: bool = True
    shared: bool = False
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.shared and isinstance(self.initial, tuple) and len(self.initial) != 1:
            raise ValueError(
                f"UnitParameter: got shared=True with {len(self.initial)} initial values, "
                "expected one; give a number, or shared=False"
            )
        if self.interval is None:
            return
        low, high = self.interval
        if not low < high:
            raise ValueError(f"UnitParameter: got interval {self.interval}, expected low < high")
        match self.initial:
            case Uniform(low=first, high=last):
                values = (first, last)
            case tuple() as values:
                pass
            case number:
                values = (number,)
        if not self.trained:
            return
        for value in values:
            if not low < value < high:
                raise ValueError(
                    f"UnitParameter: got initial value {value}, expected one strictly inside "
                    f"{self.interval}, where a trained value can move"
                )


@dataclass(frozen=True)
class Dense:
    r"""A full matrix: :math:`r^g_t = W_g\, s_{t-1}` with :math:`W_g` of shape (H, H).

    Args:
        source: the state that is read; ``None`` is the cell's output.
        truncated: the error does not flow back through this product, though W_g is trained.
            Hochreiter and Schmidhuber (1997) truncate so in all nets of their LSTM.
    """

    source: str | None = None
    truncated: bool = False


@dataclass(frozen=True)
class Diagonal:
    r"""One weight per unit: :math:`r^g_t = w_g \odot s_{t-1}` with :math:`w_g` of shape (H,).

    Args:
        source: the state that is read; ``None`` is the cell's output.
        truncated: as for :class:`Dense`.
        initial: initial value of the weights.
    """

    source: str | None = None
    truncated: bool = False
    initial: Initial = Uniform(0.0, 1.0)


@dataclass(frozen=True)
class Absent:
    """No recurrent product: the gate reads the input only."""


Wiring: TypeAlias = "Dense | Diagonal | Absent"
