"""A user's own files, and the preparation that travels with a saved model.

    data = read("speech.csv", task="classification")
    train, held_out = data.split(0.2, seed=0, stratify=True)
    preparation = Preparation.fit(train, task="classification")
    batch = preparation.apply(train)                        # what a network and its loss take
    answers = preparation.restore(outputs, batch.lengths)   # in the user's units
    write_predictions("answers.csv", train, answers)

NumPy alone; frames and `.parquet` files need the extra `longlag[tables]`, `.ts` files
`longlag[ts]`.
"""

from longlag.data.arrays import from_arrays
from longlag.data.columns import Columns
from longlag.data.encoding import Encoding
from longlag.data.errors import DataError, DataWarning
from longlag.data.predictions import (
    ClassPredictions,
    LabelPredictions,
    Predictions,
    ValuePredictions,
    write_predictions,
)
from longlag.data.preparation import Preparation
from longlag.data.reading import from_frame, read
from longlag.data.scaling import Scaling
from longlag.data.sequences import SequenceData
from longlag.data.task import TASKS, Task

__all__ = [
    "TASKS",
    "ClassPredictions",
    "Columns",
    "DataError",
    "DataWarning",
    "Encoding",
    "LabelPredictions",
    "Predictions",
    "Preparation",
    "Scaling",
    "SequenceData",
    "Task",
    "ValuePredictions",
    "from_arrays",
    "from_frame",
    "read",
    "write_predictions",
]
