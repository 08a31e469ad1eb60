"""All that a report holds, as plain data: figures, page and JSON are made of it."""

from dataclasses import dataclass

from longlag.memory.measures.directions import Directions
from longlag.memory.measures.exchange import PastEffects
from longlag.memory.measures.flow import ErrorFlow, entrances
from longlag.memory.measures.horizon import HorizonOverSequences
from longlag.memory.measures.lyapunov import LyapunovSpectrum
from longlag.memory.measures.norms import JacobianNorms
from longlag.memory.measures.spectra import SpectralFacts
from longlag.memory.measures.state_norms import StateNorms
from longlag.memory.measures.task_lag import TaskLag
from longlag.memory.report.numbers import furthest
from longlag.memory.report.verdict import Verdict


@dataclass(frozen=True)
class ReportData:
    """What was measured of a network, and what it means; `MemoryReport` says what each part is."""

    name: str
    description: str
    sequences: int
    steps: int
    lag: int | None
    fraction: float
    jacobian_norms: JacobianNorms | Directions[JacobianNorms]
    flow: ErrorFlow
    of_loss: bool
    facts: dict[str, SpectralFacts]
    lyapunov: LyapunovSpectrum | Directions[LyapunovSpectrum] | None
    exchange: PastEffects | None
    states: StateNorms
    task_lag: TaskLag | None
    verdict: Verdict

    @property
    def known_lag(self) -> int | None:
        """The lag that was given, or else the one that was found; None for neither."""
        if self.lag is None and self.task_lag is not None:
            return self.task_lag.lag
        return self.lag

    @property
    def horizon(self) -> int | None:
        """The lag at which half of the sequences have an error that stays below ``fraction``.

        Each of that of its own at lag 0. That of the layer that reads x, through which all that is
        remembered of x has to go; of both directions the longer one. None where it is not within
        the steps seen.
        """
        return self.horizon_over_sequences.median

    @property
    def horizon_interval(self) -> tuple[int | None, int | None] | None:
        """In which the horizon over other such sequences is to be expected, with 95 %.

        An end of None is beyond the steps seen; None for the whole, where there are fewer than 5
        sequences.
        """
        return self.horizon_over_sequences.interval

    @property
    def horizon_over_sequences(self) -> HorizonOverSequences:
        """The horizon, its interval, and over how many sequences."""
        return furthest(entrances(self.flow), self.fraction).over_sequences(self.fraction)
