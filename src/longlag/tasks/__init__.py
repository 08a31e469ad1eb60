"""The classic problems that need memory, as their papers define them. NumPy only."""

from longlag.batch import Batch
from longlag.tasks.adding import Adding, Adding1997
from longlag.tasks.base import Predict, Stream, Task
from longlag.tasks.copy_memory import Copy
from longlag.tasks.criteria import Criterion, Errors, Rule
from longlag.tasks.embedded_reber import EmbeddedReber
from longlag.tasks.long_lag import LongLag, LongLagRandom
from longlag.tasks.long_lag_trigger import LongLagTrigger
from longlag.tasks.multiplication import Multiplication
from longlag.tasks.sequential_digits import SequentialDigits
from longlag.tasks.temporal_order import TemporalOrder, TemporalOrder1997
from longlag.tasks.training_criterion import TrainingCriterion
from longlag.tasks.two_sequence import TwoSequence

__all__ = [
    "Adding",
    "Adding1997",
    "Batch",
    "Copy",
    "Criterion",
    "EmbeddedReber",
    "Errors",
    "LongLag",
    "LongLagRandom",
    "LongLagTrigger",
    "Multiplication",
    "Predict",
    "Rule",
    "SequentialDigits",
    "Stream",
    "Task",
    "TemporalOrder",
    "TemporalOrder1997",
    "TrainingCriterion",
    "TwoSequence",
]
