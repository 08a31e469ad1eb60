"""Gradient methods: small frozen objects that answer alike and differ in their laws."""

from longlag.gradients.bptt import BPTT
from longlag.gradients.by_lag import ByLag, gradient_by_lag
from longlag.gradients.checkpointed import CheckpointedBPTT
from longlag.gradients.errors import LayerErrors, ModelErrors, state_errors
from longlag.gradients.method import (
    Accumulated,
    Backward,
    GradientMethod,
    Loss,
    WindowedMethod,
    forward,
)
from longlag.gradients.omega import Omega
from longlag.gradients.rtrl import RTRL
from longlag.gradients.snap import SnAp1
from longlag.gradients.truncated import TruncatedBPTT

__all__ = [
    "BPTT",
    "RTRL",
    "Accumulated",
    "Backward",
    "ByLag",
    "CheckpointedBPTT",
    "GradientMethod",
    "LayerErrors",
    "Loss",
    "ModelErrors",
    "Omega",
    "SnAp1",
    "TruncatedBPTT",
    "WindowedMethod",
    "forward",
    "gradient_by_lag",
    "state_errors",
]
