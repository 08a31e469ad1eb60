# Written by tools/stubs.py from the list in __init__.py.
from longlag import cells as cells
from longlag import chunker as chunker
from longlag import memory as memory
from longlag import recurrence as recurrence
from longlag import reservoirs as reservoirs
from longlag import tasks as tasks
from longlag import training as training
from longlag import turing as turing
from longlag.gradients import BPTT as BPTT
from longlag.gradients import RTRL as RTRL
from longlag.gradients import CheckpointedBPTT as CheckpointedBPTT
from longlag.gradients import Omega as Omega
from longlag.gradients import SnAp1 as SnAp1
from longlag.gradients import TruncatedBPTT as TruncatedBPTT
from longlag.gradients import gradient_by_lag as gradient_by_lag
from longlag.gradients import state_errors as state_errors
from longlag.layers import Bidirectional as Bidirectional
from longlag.layers import EchoState as EchoState
from longlag.layers import NextGeneration as NextGeneration
from longlag.layers import Recurrent as Recurrent
from longlag.layers import SequenceModel as SequenceModel
from longlag.layers import Stack as Stack
from longlag.layers import from_torch as from_torch
from longlag.layers import init as init
from longlag.layers import load as load
from longlag.layers import save as save
from longlag.layers import topology as topology
from longlag.layers.built_in import *  # noqa: F403
from longlag.memory import MemoryRecorder as MemoryRecorder
from longlag.memory import MemoryReport as MemoryReport
from longlag.memory import memory_report as memory_report
from longlag.memory import state_jacobians as state_jacobians
from longlag.memory import watch as watch
from longlag.recurrence import Cell as Cell
from longlag.recurrence import UnitParameter as UnitParameter
from longlag.reservoirs import RecursiveLeastSquares as RecursiveLeastSquares
from longlag.reservoirs import Ridge as Ridge
from longlag.training import Checkpoint as Checkpoint
from longlag.training import EarlyStopping as EarlyStopping
from longlag.training import History as History
from longlag.training import Schedule as Schedule
from longlag.training import Streams as Streams
from longlag.training import fit as fit

__version__: str
