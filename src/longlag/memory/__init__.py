"""How far back a recurrent network remembers: Jacobians, their products, and the error's way."""

from longlag.memory.directions import Directions
from longlag.memory.flow import ErrorFlow, LayerFlow, error_flow
from longlag.memory.horizon import horizon, horizons
from longlag.memory.jacobians import state_jacobians
from longlag.memory.lyapunov import LyapunovSpectrum, lyapunov_exponents, lyapunov_of
from longlag.memory.norms import JacobianNorms, LogStatistics, jacobian_norms
from longlag.memory.spectra import MatrixFacts, SpectralFacts, spectral_facts

__all__ = [
    "Directions",
    "ErrorFlow",
    "JacobianNorms",
    "LayerFlow",
    "LogStatistics",
    "LyapunovSpectrum",
    "MatrixFacts",
    "SpectralFacts",
    "error_flow",
    "horizon",
    "horizons",
    "jacobian_norms",
    "lyapunov_exponents",
    "lyapunov_of",
    "spectral_facts",
    "state_jacobians",
]
