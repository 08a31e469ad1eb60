"""Gradient methods: small frozen objects that answer alike and differ in their laws."""

from longlag.gradients.bptt import BPTT
from longlag.gradients.checkpointed import CheckpointedBPTT
from longlag.gradients.method import (
    Accumulated,
    Backward,
    GradientMethod,
    Loss,
    WindowedMethod,
    forward,
)
from longlag.gradients.truncated import TruncatedBPTT

__all__ = [
    "BPTT",
    "Accumulated",
    "Backward",
    "CheckpointedBPTT",
    "GradientMethod",
    "Loss",
    "TruncatedBPTT",
    "WindowedMethod",
    "forward",
]
