"""longlag: recurrent networks that must remember.

A recurrence is declared once, as equations; kernels, back-propagation through time, Jacobians and
LaTeX are derived from it.
"""

from longlag import cells, recurrence
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

__all__ = [
    "GRU",
    "LSTM",
    "LSTM1997",
    "Bidirectional",
    "Cell",
    "Elman",
    "IndRNN",
    "Leaky",
    "Recurrent",
    "SequenceModel",
    "Stack",
    "UnitParameter",
    "cells",
    "from_torch",
    "init",
    "load",
    "recurrence",
    "save",
]

__version__ = "0.1.0"
