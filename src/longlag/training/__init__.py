"""Training: `fit`, its options, its history and the ways it can end."""

from longlag.batch import IGNORED_CLASS, Batch
from longlag.gradients.losses import (
    Quantile,
    WeightedCrossEntropy,
    WeightedLogistic,
    cross_entropy,
    logistic,
    mae,
    mse,
)
from longlag.training.batch import Sequences
from longlag.training.errors import (
    CheckpointMismatchError,
    CheckpointWarning,
    NonFiniteLossError,
    NonFiniteWeightsError,
    StopTraining,
    TrainingInterrupted,
)
from longlag.training.fit import fit
from longlag.training.history import History
from longlag.training.lion import Lion
from longlag.training.options import Checkpoint, EarlyStopping, Schedule
from longlag.training.ranks import RanksError
from longlag.training.record import Record
from longlag.training.replicas import Trained, fit_replicas
from longlag.training.sources import Endless
from longlag.training.streams import Streams

__all__ = [
    "IGNORED_CLASS",
    "Batch",
    "Checkpoint",
    "CheckpointMismatchError",
    "CheckpointWarning",
    "EarlyStopping",
    "Endless",
    "History",
    "Lion",
    "NonFiniteLossError",
    "NonFiniteWeightsError",
    "Quantile",
    "RanksError",
    "Record",
    "Schedule",
    "Sequences",
    "StopTraining",
    "Streams",
    "Trained",
    "TrainingInterrupted",
    "WeightedCrossEntropy",
    "WeightedLogistic",
    "cross_entropy",
    "fit",
    "fit_replicas",
    "logistic",
    "mae",
    "mse",
]
