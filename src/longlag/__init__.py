"""longlag: recurrent networks that must remember.

A recurrence is declared once, as equations; kernels, back-propagation through time, Jacobians and
LaTeX are derived from it.
"""

from longlag import cells, recurrence, tasks, training
from longlag.gradients import BPTT
from longlag.layers import (
    GRU,
    LSTM,
    LSTM1997,
    Bidirectional,
    Elman,
    IndRNN,
    Leaky,
    Recurrent,
    SequenceModel,
    Stack,
    from_torch,
    init,
    load,
    save,
)
from longlag.recurrence import Cell, UnitParameter
from longlag.training import Checkpoint, EarlyStopping, History, Schedule, fit

__all__ = [
    "BPTT",
    "GRU",
    "LSTM",
    "LSTM1997",
    "Bidirectional",
    "Cell",
    "Checkpoint",
    "EarlyStopping",
    "Elman",
    "History",
    "IndRNN",
    "Leaky",
    "Recurrent",
    "Schedule",
    "SequenceModel",
    "Stack",
    "UnitParameter",
    "cells",
    "fit",
    "from_torch",
    "init",
    "load",
    "recurrence",
    "save",
    "tasks",
    "training",
]

__version__ = "0.1.0"
