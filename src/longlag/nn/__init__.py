"""torch.nn's RNN, LSTM and GRU under the same names, by compiled kernels."""

from longlag.nn.accelerate import Acceleration, accelerate
from longlag.nn.recurrent import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Acceleration", "accelerate"]
