"""Running a recurrence over time: the one entry, its backends, lengths, resets, replicas."""

from longlag.scan.entry import BACKENDS, Scanned, check_backend, engine_for, scan
from longlag.scan.inputs import Schedule, Weights
from longlag.scan.library import BackendWarning, register

__all__ = [
    "BACKENDS",
    "BackendWarning",
    "Scanned",
    "Schedule",
    "Weights",
    "check_backend",
    "engine_for",
    "register",
    "scan",
]
