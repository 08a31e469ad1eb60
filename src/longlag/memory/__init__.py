"""How far back a recurrent network remembers: Jacobians, their products, and the error's way."""

from longlag.memory.measures.directions import Directions
from longlag.memory.measures.exchange import PastEffects, past_effects
from longlag.memory.measures.flow import ErrorFlow, LayerFlow, error_flow
from longlag.memory.measures.horizon import HorizonOverSequences, horizon, horizons
from longlag.memory.measures.jacobians import state_jacobians
from longlag.memory.measures.lyapunov import LyapunovSpectrum, lyapunov_exponents, lyapunov_of
from longlag.memory.measures.norms import JacobianNorms, LogStatistics, jacobian_norms
from longlag.memory.measures.spectra import MatrixFacts, SpectralFacts, spectral_facts
from longlag.memory.measures.state_norms import StateNorms, state_norms
from longlag.memory.measures.task_lag import TaskLag, task_lag
from longlag.memory.report.advice import Advice
from longlag.memory.report.report import MemoryReport, memory_report
from longlag.memory.report.verdict import Verdict
from longlag.memory.watch.record import MemoryRecord
from longlag.memory.watch.recorder import MemoryRecorder
from longlag.memory.watch.watch import Watch, Watched, watch

__all__ = [
    "Advice",
    "Directions",
    "ErrorFlow",
    "HorizonOverSequences",
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
    "TaskLag",
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
    "task_lag",
    "watch",
]
