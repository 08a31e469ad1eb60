"""The built-in recurrences: one file, one equation."""

from longlag.cells.elman import Elman
from longlag.cells.gru import GRU
from longlag.cells.indrnn import IndRNN
from longlag.cells.leaky import Leaky
from longlag.cells.lstm import LSTM
from longlag.cells.lstm1997 import LSTM1997

__all__ = ["GRU", "LSTM", "LSTM1997", "Elman", "IndRNN", "Leaky"]
