"""What all cases of a comparison have in common."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setup:
    """What all cases of a comparison have in common.

    Attributes:
        seeds: how many networks of each family, trained side by side.
        seed: of weights and sequences.
        hidden: units.
        sequences: that each network gets at most; None: no limit.
        seconds: that each case takes at most, looked at every few updates; None: no limit.
    """

    seeds: int = 5
    seed: int = 0
    hidden: int = 32
    sequences: int | None = 20_000
    seconds: float | None = None
