# Written by tools/stubs.py from the table in cells/__init__.py.

from longlag.cells.antisymmetric import Antisymmetric as Antisymmetric
from longlag.cells.clockwork import Clockwork as Clockwork
from longlag.cells.cornn import CoRNN as CoRNN
from longlag.cells.elman import Elman as Elman
from longlag.cells.gru import GRU as GRU
from longlag.cells.indrnn import IndRNN as IndRNN
from longlag.cells.leaky import Leaky as Leaky
from longlag.cells.lem import LEM as LEM
from longlag.cells.lru import LRU as LRU
from longlag.cells.lstm import LSTM as LSTM
from longlag.cells.lstm1997 import LSTM1997 as LSTM1997
from longlag.cells.mingru import MinGRU as MinGRU
from longlag.cells.skip import Skip as Skip

CELLS: dict[str, str]
__all__ = [
    "GRU",
    "LEM",
    "LRU",
    "LSTM",
    "LSTM1997",
    "Antisymmetric",
    "Clockwork",
    "CoRNN",
    "Elman",
    "IndRNN",
    "Leaky",
    "MinGRU",
    "Skip",
]
