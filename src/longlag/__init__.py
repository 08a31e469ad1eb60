"""longlag: recurrent networks that must remember.

A recurrence is declared once, as equations; kernels, back-propagation through time, Jacobians and
LaTeX are derived from it.

Parts are imported when they are first used, so that ``longlag --help`` does not wait for PyTorch.
"""

import importlib
from typing import Any

from longlag import cells

__version__ = "0.1.0"

_MODULES = (
    "cells",
    "chunker",
    "memory",
    "nn",
    "recurrence",
    "reservoirs",
    "tasks",
    "training",
    "turing",
)
_PARTS = {
    "estimators": "RecurrentClassifier RecurrentForecaster RecurrentRegressor",
    "gradients": "BPTT RTRL CheckpointedBPTT Omega SnAp1 TruncatedBPTT "
    "gradient_by_lag state_errors",
    "layers": "Bidirectional Dilated EchoState Embedded Ensemble ModelCard NextGeneration "
    "Recurrent SequenceModel Stack Stream from_torch init load save show topology",
    "memory": "MemoryRecorder MemoryReport memory_report state_jacobians watch",
    "nn": "accelerate",
    "onnx": "export_onnx from_onnx",
    "recurrence": "Cell UnitParameter",
    "reservoirs": "RecursiveLeastSquares Ridge",
    "training": "Checkpoint EarlyStopping History Schedule Streams fit fit_replicas",
}
_WHERE = {name: part for part, names in _PARTS.items() for name in names.split()}

# What type checkers read of it stands in __init__.pyi, written by tools/stubs.py.
__all__ = [*_MODULES, *_WHERE, *cells.__all__]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'longlag' has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"longlag.{name}")
    value = getattr(importlib.import_module(f"longlag.{_WHERE.get(name, 'layers')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
