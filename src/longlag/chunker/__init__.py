"""The neural sequence chunker: one net learns what is regular, another what is left over.

Paper: J. Schmidhuber, Learning complex, extended sequences using the principle of history
compression, Neural Computation 4(2), 1992. Not here: its hierarchy of more than two levels, and
codes of the time as an input of their own.
"""

from longlag.chunker.history import StreamHistory
from longlag.chunker.nets import Chunker
from longlag.chunker.online import OnlineBPTT, OnlineLearner, OnlineRTRL
from longlag.chunker.trainer import ChunkerTrainer
from longlag.gradients.online import OnlineMethod

__all__ = [
    "Chunker",
    "ChunkerTrainer",
    "OnlineBPTT",
    "OnlineLearner",
    "OnlineMethod",
    "OnlineRTRL",
    "StreamHistory",
]
