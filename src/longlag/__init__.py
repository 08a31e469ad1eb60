"""longlag: recurrent networks that must remember.

A recurrence is declared once, as equations; kernels, back-propagation through time, Jacobians and
LaTeX are derived from it.

Parts are imported when they are first used, so that ``longlag --help`` does not wait for PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from longlag import cells

if TYPE_CHECKING:
    from longlag import chunker, memory, recurrence, tasks, training
    from longlag.gradients import (
        BPTT,
        RTRL,
        CheckpointedBPTT,
        Omega,
        SnAp1,
        TruncatedBPTT,
        gradient_by_lag,
        state_errors,
    )
    from longlag.layers import (
        Bidirectional,
        Recurrent,
        SequenceModel,
        Stack,
        from_torch,
        init,
        load,
        save,
    )
    from longlag.layers.built_in import *  # noqa: F403
    from longlag.memory import (
        MemoryRecorder,
        MemoryReport,
        memory_report,
        state_jacobians,
        watch,
    )
    from longlag.recurrence import Cell, UnitParameter
    from longlag.training import Checkpoint, EarlyStopping, History, Schedule, Streams, fit

__all__ = [
    "BPTT",
    "RTRL",
    "Bidirectional",
    "Cell",
    "Checkpoint",
    "CheckpointedBPTT",
    "EarlyStopping",
    "History",
    "MemoryRecorder",
    "MemoryReport",
    "Omega",
    "Recurrent",
    "Schedule",
    "SequenceModel",
    "SnAp1",
    "Stack",
    "Streams",
    "TruncatedBPTT",
    "UnitParameter",
    "cells",
    "chunker",
    "fit",
    "from_torch",
    "gradient_by_lag",
    "init",
    "load",
    "memory",
    "memory_report",
    "recurrence",
    "save",
    "state_errors",
    "state_jacobians",
    "tasks",
    "training",
    "watch",
]
__all__ += cells.__all__

__version__ = "0.1.0"

_PARTS = {
    "longlag.gradients": (
        "BPTT",
        "RTRL",
        "CheckpointedBPTT",
        "Omega",
        "SnAp1",
        "TruncatedBPTT",
        "gradient_by_lag",
        "state_errors",
    ),
    "longlag.recurrence": ("Cell", "UnitParameter"),
    "longlag.training": ("Checkpoint", "EarlyStopping", "History", "Schedule", "Streams", "fit"),
    "longlag.memory": (
        "MemoryRecorder",
        "MemoryReport",
        "memory_report",
        "state_jacobians",
        "watch",
    ),
    "longlag": ("chunker", "memory", "recurrence", "tasks", "training"),
}
_WHERE = {name: part for part, names in _PARTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'longlag' has no attribute {name!r}")
    part = _WHERE.get(name, "longlag.layers")
    if part == "longlag":
        return importlib.import_module(f"longlag.{name}")
    value = getattr(importlib.import_module(part), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
