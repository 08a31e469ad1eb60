"""Gradient methods: small frozen objects that answer alike and differ in their laws."""

from longlag.gradients.by_lag import ByLag, gradient_by_lag
from longlag.gradients.errors_of_states import LayerErrors, ModelErrors, state_errors
from longlag.gradients.method import (
    Accumulated,
    Backward,
    GradientMethod,
    Loss,
    WindowedMethod,
    forward,
)
from longlag.gradients.methods.bptt import BPTT
from longlag.gradients.methods.checkpointed import CheckpointedBPTT
from longlag.gradients.methods.omega import Omega
from longlag.gradients.methods.rtrl import RTRL
from longlag.gradients.methods.snap import SnAp1
from longlag.gradients.methods.truncated import TruncatedBPTT
from longlag.gradients.online import OnlineLearner, OnlineMethod

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
    "OnlineLearner",
    "OnlineMethod",
    "SnAp1",
    "TruncatedBPTT",
    "WindowedMethod",
    "forward",
    "gradient_by_lag",
    "state_errors",
]
