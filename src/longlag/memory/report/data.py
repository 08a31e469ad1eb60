"""All that a report holds, as plain data: figures, page and JSON are made of it."""

from dataclasses import dataclass

from longlag.memory.measures.directions import Directions
from longlag.memory.measures.exchange import PastEffects
from longlag.memory.measures.flow import ErrorFlow, entrances
from longlag.memory.measures.lyapunov import LyapunovSpectrum
from longlag.memory.measures.norms import JacobianNorms
from longlag.memory.measures.spectra import SpectralFacts
from longlag.memory.measures.state_norms import StateNorms
from longlag.memory.report.numbers import longest
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
    verdict: Verdict

    @property
    def horizon(self) -> int | None:
        """The lag from which on the error is below ``fraction`` of that at lag 0, for good.

        That of the layer that reads x, through which all that is remembered of x has to go; of
        both directions the longer one. None where it is not within the steps seen.
        """
        return longest([layer.horizon(self.fraction) for layer in entrances(self.flow)])
