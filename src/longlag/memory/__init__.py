"""How far back a recurrent network remembers: Jacobians, their products, and the error's way."""

from longlag.memory.advice import Advice
from longlag.memory.directions import Directions
from longlag.memory.exchange import PastEffects, past_effects
from longlag.memory.flow import ErrorFlow, LayerFlow, error_flow
from longlag.memory.growth import StateNorms, state_norms
from longlag.memory.horizon import horizon, horizons
from longlag.memory.jacobians import state_jacobians
from longlag.memory.lyapunov import LyapunovSpectrum, lyapunov_exponents, lyapunov_of
from longlag.memory.norms import JacobianNorms, LogStatistics, jacobian_norms
from longlag.memory.recorder import MemoryRecord, MemoryRecorder
from longlag.memory.report import MemoryReport, memory_report
from longlag.memory.spectra import MatrixFacts, SpectralFacts, spectral_facts
from longlag.memory.verdict import Verdict
from longlag.memory.watch import Watch, Watched, watch

__all__ = [
    "Advice",
    "Directions",
    "ErrorFlow",
    "JacobianNorms",
    "LayerFlow",
    "LogStatistics",
    "LyapunovSpectrum",
    "MatrixFacts",
    "MemoryRecord",
    "MemoryRecorder",
    "MemoryReport",
    "PastEffects",
    "SpectralFacts",
    "StateNorms",
    "Verdict",
    "Watch",
    "Watched",
    "error_flow",
    "horizon",
    "horizons",
    "jacobian_norms",
    "lyapunov_exponents",
    "lyapunov_of",
    "memory_report",
    "past_effects",
    "spectral_facts",
    "state_jacobians",
    "state_norms",
    "watch",
]
