"""Gradient methods: small frozen objects that answer alike and differ in their laws."""

from longlag.gradients.bptt import BPTT
from longlag.gradients.method import Accumulated, Backward, GradientMethod, Loss, forward

__all__ = ["BPTT", "Accumulated", "Backward", "GradientMethod", "Loss", "forward"]
