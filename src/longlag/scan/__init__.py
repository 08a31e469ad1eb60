"""Running a recurrence over time: the one entry, its backends, lengths, resets, replicas."""

from longlag.scan.backend import BACKENDS, BackendWarning, check_backend, choose
from longlag.scan.entry import Scanned, scan, scan_fed
from longlag.scan.inputs import FULL, Schedule, Weights
from longlag.scan.library import register

__all__ = [
    "BACKENDS",
    "FULL",
    "BackendWarning",
    "Scanned",
    "Schedule",
    "Weights",
    "check_backend",
    "choose",
    "register",
    "scan",
    "scan_fed",
]
