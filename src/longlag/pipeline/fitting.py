"""Data prepared, a network made for them, and the training of the one on the other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longlag.batch import Batch
from longlag.data import Columns, Preparation
from longlag.layers import SequenceModel
from longlag.pipeline.dataset import Parts, fit_preparation, prepare, stretches
from longlag.pipeline.fitted import EVALUATED, Fitted
from longlag.pipeline.network import build_model, run_model
from longlag.pipeline.scores import find_baseline, repeated_inputs, score
from longlag.pipeline.settings import WINDOW, Settings
from longlag.pipeline.updates import optimizer, schedule
from longlag.training import Checkpoint, EarlyStopping, fit

_NEVER = 10**9


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Everything that a training needs, before it.

    Attributes:
        settings: of network and training.
        parts: the data, in the units of the user.
        preparation: fitted on the training part.
        train, held_out: the parts as the network takes them; a forecaster's training part is cut
            into stretches.
        model: the network; `fit` trains it.
    """

    settings: Settings
    parts: Parts
    preparation: Preparation
    train: Batch[np.ndarray]
    held_out: Batch[np.ndarray]
    model: SequenceModel

    @classmethod
    def of(cls, parts: Parts, settings: Settings, columns: Columns | None = None) -> "Pipeline":
        """Fit the preparation, prepare both parts, and make the network.

        Args:
            parts: the data.
            settings: of network and training.
            columns: those that the data were read with; they travel with the model.

        Raises:
            DataError: the data cannot be prepared, or the parts do not fit each other.
        """
        preparation = fit_preparation(
            parts,
            settings.task,
            horizon=settings.steps_ahead,
            standardise=settings.standardise,
            columns=columns,
        )
        held_out = prepare(preparation, parts.held_out, parts.held_out_path)
        train = prepare(preparation, parts.train, parts.train_path)
        if settings.forecasting:
            train = stretches(train, settings.window or WINDOW)
        model = build_model(
            settings,
            input_size=preparation.input_size,
            output_size=preparation.output_size,
            reduce=preparation.reduce,
            repeat=repeated_inputs(preparation) if settings.forecasting else None,
        )
        return cls(settings, parts, preparation, train, held_out, model)

    def fit(self, *, checkpoint: str | Path | None = None, progress: bool = True) -> Fitted:
        """Train, keep the weights with the best validation loss, and score them.

        Args:
            checkpoint: a folder to save the run in; if it holds one, it goes on from there.
            progress: whether `longlag.training.fit` shows how far it is.

        Raises:
            NonFiniteLossError, TrainingInterrupted, OSError: see `longlag.training.fit`.
        """
        settings, count = self.settings, len(self.train.x)
        batch_size = settings.batch_for(count)
        updates = settings.epochs * -(-count // batch_size)
        history = fit(
            self.model,
            self.train,
            validation=self.held_out,
            optimizer=optimizer(settings.optimizer, settings.learning_rate),
            scheduler=schedule(settings.scheduler, settings.learning_rate, updates),
            epochs=settings.epochs,
            batch_size=batch_size,
            clip_norm=settings.clip_norm,
            early_stopping=EarlyStopping(patience=settings.patience or _NEVER),
            metrics=None if self.preparation.classes is None else "accuracy",
            checkpoint=None if checkpoint is None else Checkpoint(checkpoint),
            seed=settings.seed,
            progress=progress,
        )
        baseline = find_baseline(self.preparation, self.parts.train)
        outputs = run_model(self.model, self.held_out, EVALUATED)
        reached = score(self.preparation, baseline, self.held_out, outputs)
        return Fitted(self.model, self.preparation, baseline, history, reached)
