"""The classic problems that need memory, as their papers define them. NumPy only."""

from longlag.batch import Batch
from longlag.tasks.adding import Adding, Adding1997
from longlag.tasks.base import Predict, Stream, Task
from longlag.tasks.copy_memory import Copy
from longlag.tasks.criteria import Criterion, Errors, Rule
from longlag.tasks.embedded_reber import EmbeddedReber
from longlag.tasks.long_lag import LongLag, LongLagRandom
from longlag.tasks.long_lag_trigger import LongLagTrigger
from longlag.tasks.lorenz import Lorenz
from longlag.tasks.mackey_glass import FreeRuns, MackeyGlass
from longlag.tasks.multiplication import Multiplication
from longlag.tasks.narma import NARMA10
from longlag.tasks.recall import Delay, MemoryCapacity
from longlag.tasks.sequential_digits import SequentialDigits
from longlag.tasks.series import Driven, InputTarget, Series
from longlag.tasks.temporal_order import TemporalOrder, TemporalOrder1997
from longlag.tasks.training_criterion import TrainingCriterion
from longlag.tasks.two_sequence import TwoSequence

__all__ = [
    "NARMA10",
    "Adding",
    "Adding1997",
    "Batch",
    "Copy",
    "Criterion",
    "Delay",
    "Driven",
    "EmbeddedReber",
    "Errors",
    "FreeRuns",
    "InputTarget",
    "LongLag",
    "LongLagRandom",
    "LongLagTrigger",
    "Lorenz",
    "MackeyGlass",
    "MemoryCapacity",
    "Multiplication",
    "Predict",
    "Rule",
    "SequentialDigits",
    "Series",
    "Stream",
    "Task",
    "TemporalOrder",
    "TemporalOrder1997",
    "TrainingCriterion",
    "TwoSequence",
]
