"""A trained network with all that prediction needs, and its file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from longlag.data import DataError, Predictions, Preparation, SequenceData
from longlag.layers import EchoState, ModelCard, SequenceModel, load_with_card, save
from longlag.pipeline.dataset import prepare
from longlag.pipeline.network import run_model
from longlag.pipeline.scores import LEAST_SHARE, Score, fits_baseline, score
from longlag.pipeline.seen import Seen
from longlag.training import History

EVALUATED = 256
"""Sequences that are run at a time, unless something else is asked for."""


class Answers(NamedTuple):
    """What a network says of some data."""

    predictions: Predictions
    """In the units of the user."""
    score: Score | None
    """How good they are; None where no target is known."""


_NONE_SEEN = Seen({})


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network, the preparation of its data, and what a guess without it would be.

    Args:
        model: takes and gives what the preparation says.
        preparation: fitted on the training part.
        baseline: what `find_baseline` gave for the training part.
        history: of the training, where it was just done.
        score: on the part that was held out, where it was just done.
        card: what others should know of it.
        seen: the series that it was trained on.

    Raises:
        ValueError: the sizes of model and preparation differ, or the baseline is of another task.
    """

    model: SequenceModel
    preparation: Preparation
    baseline: Any
    history: History | None = None
    score: Score | None = None
    card: ModelCard | None = None
    seen: Seen = _NONE_SEEN

    def __post_init__(self) -> None:
        sizes = (self.model.input_size, self.model.output_size)
        prepared = (self.preparation.input_size, self.preparation.output_size)
        if sizes != prepared:
            raise ValueError(
                f"the network takes {sizes[0]} features and gives {sizes[1]} numbers, its "
                f"preparation {prepared[0]} and {prepared[1]}; train it again"
            )
        if not fits_baseline(self.preparation, self.baseline):
            raise ValueError(
                f"the baseline {self.baseline!r} is not of its task, {self.preparation.task}; "
                "train it again"
            )

    def predict(
        self, data: SequenceData, path: Path | None = None, batch_size: int = EVALUATED
    ) -> Answers:
        """Answers in the units of the user, and their score where the data have a target.

        Args:
            data: sequences with the features of the training data.
            path: the file they come from, for messages.
            batch_size: sequences at a time; fewer need less memory.

        Raises:
            DataError: the data do not fit those of the training.
        """
        prepared = prepare(self.preparation, data, path)
        outputs = run_model(self.model, prepared, batch_size)
        return Answers(
            self.restore(outputs, data.lengths),
            score(self.preparation, self.baseline, prepared, outputs, shares=self.puts_out_shares),
        )

    def trained_on(self, data: SequenceData) -> int:
        """How many of these series the network was trained on, as far as their names tell."""
        return self.seen.count(data, self.preparation.feature_names)

    def restore(self, outputs: np.ndarray, lengths: np.ndarray) -> Predictions:
        """Answers in the units of the user, from the outputs of the network."""
        if self.puts_out_shares:
            outputs = np.log(np.maximum(outputs, LEAST_SHARE))
        return self.preparation.restore(outputs, lengths)

    @property
    def puts_out_shares(self) -> bool:
        """Whether the outputs are no logits of classes but, as a fitted readout's, shares."""
        return self.preparation.classes is not None and isinstance(self.model.layer, EchoState)

    def save(self, path: str | Path) -> None:
        """Write network and preparation to one file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        metadata = {"preparation": self.preparation.to_dict(), "baseline": self.baseline}
        if self.seen.series:
            metadata["seen"] = self.seen.to_dict()
        save(self.model, path, metadata=metadata, card=self.card)

    @classmethod
    def load(cls, path: str | Path) -> "Fitted":
        """Read what `save` wrote.

        Raises:
            ValueError: it is another file, or its parts do not fit each other.
            DataError, ArchiveError: it is damaged.
        """
        model, metadata, card = load_with_card(path)
        if (
            not isinstance(metadata, dict)
            or "preparation" not in metadata
            or not isinstance(model, SequenceModel)
        ):
            raise ValueError(
                f"{path}: it holds a {type(model).__name__} without the preparation of its data; "
                "expected a file that `longlag train` saved"
            )
        try:
            preparation = Preparation.from_dict(metadata["preparation"])
        except DataError as error:
            raise error.within(f"{path}: ") from error
        try:
            seen = Seen.from_dict(metadata.get("seen"))
            return cls(model, preparation, metadata.get("baseline"), card=card, seen=seen)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
