"""A trained network with all that prediction needs, and its file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from longlag.batch import Batch
from longlag.data import DataError, Predictions, Preparation, SequenceData, ValuePredictions
from longlag.data.records import numbers
from longlag.layers import EchoState, ModelCard, SequenceModel, load_with_card, save
from longlag.pipeline import outputs
from longlag.pipeline.changes import Changes
from longlag.pipeline.dataset import judged, known_ahead, prepare
from longlag.pipeline.intervals import Intervals
from longlag.pipeline.network import run_model
from longlag.pipeline.outputs import POINT, Outputs
from longlag.pipeline.relative import Relative
from longlag.pipeline.scores import Score, fits_baseline, logits_of, score
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
        changes: further features of the network, where it has them.
        relative: what a forecaster reads and puts out in place of the values, if that is so.
        intervals: around its forecasts, in the units that it puts out.
        puts_out: what a forecaster puts out for each value.
        estimator: what an estimator of scikit-learn keeps with it, as JSON data.

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
    changes: Changes | None = None
    relative: Relative | None = None
    intervals: Intervals | None = None
    puts_out: Outputs = POINT
    estimator: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        sizes = (self.model.input_size, self.model.output_size)
        features = self.preparation.input_size
        if self.changes is not None:
            features += self.changes.size
        if self.relative is not None:
            features = self.relative.features
        prepared = (features, self.preparation.output_size * self.puts_out.width)
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
        values = prepare(self.preparation, data, path)
        if self.relative is not None:  # from where it has seen a season on
            values = judged(values, np.minimum(self.relative.season + 1, data.lengths))
        read = self._read(values, known_ahead(self.preparation, data, path))
        outputs = run_model(self.model, read, batch_size)
        if self.relative is None:
            reached = score(
                self.preparation, self.baseline, values, outputs, shares=self.puts_out_shares
            )
            return Answers(self.restore(outputs, data.lengths), reached)
        forecasts = self.relative.restore(self.puts_out.point(outputs), values)
        reached = score(self.preparation, self.baseline, values, forecasts, self.relative)
        if reached is not None and self.intervals is not None:
            assert read.target is not None
            held = self.intervals.hold((read.target, outputs), self.puts_out)
            reached = replace(reached, coverage=held, level=self.intervals.level)
        return Answers(self._forecasts(outputs, values), reached)

    def _forecasts(self, outputs: np.ndarray, values: Batch[np.ndarray]) -> Predictions:
        """What a relative forecaster says of the steps after the end of each series."""
        relative, puts_out, lengths = self.relative, self.puts_out, values.lengths
        assert relative is not None
        assert lengths is not None

        def restored(numbers: np.ndarray) -> ValuePredictions:
            found = self.preparation.restore(relative.restore(numbers, values), lengths)
            assert isinstance(found, ValuePredictions)
            return found

        point = puts_out.point(outputs)
        predictions = restored(point)
        middle, ends = predictions.values, {}
        if self.intervals is not None:
            low, high, unit = puts_out.ends(outputs)
            low, high = (
                restored(end + unit * np.array(moved)).values
                for end, moved in ((low, self.intervals.low), (high, self.intervals.high))
            )
            ends = {"low": np.minimum(low, middle), "high": np.maximum(high, middle)}
        beside = {}
        for name, found in puts_out.beside(outputs).items():
            if name == "sd":  # a distance, not a place
                beside[name] = restored(point + found).values - middle
            else:
                beside[name] = restored(found).values
        return replace(predictions, beside=beside, **ends)

    def prepare(self, data: SequenceData, path: Path | None = None) -> Batch[np.ndarray]:
        """The data as the network takes them.

        Raises:
            DataError: see `longlag.pipeline.dataset.prepare`.
        """
        return self._read(
            prepare(self.preparation, data, path), known_ahead(self.preparation, data, path)
        )

    def _read(
        self, values: Batch[np.ndarray], future: np.ndarray | None = None
    ) -> Batch[np.ndarray]:
        """What the network reads of prepared data."""
        if self.relative is not None:
            return self.relative.apply(values, future=future)
        return values if self.changes is None else self.changes.apply(values)

    def trained_on(self, data: SequenceData) -> int:
        """How many of these series the network was trained on, as far as their names tell."""
        return self.seen.count(data, self.preparation.feature_names)

    def restore(self, outputs: np.ndarray, lengths: np.ndarray) -> Predictions:
        """Answers in the units of the user, from outputs in those of the preparation."""
        if self.puts_out_shares:
            outputs = logits_of(outputs, sets=self.preparation.label_sets)
        return self.preparation.restore(outputs, lengths)

    @property
    def puts_out_shares(self) -> bool:
        """Whether the outputs are no logits of classes but, as a fitted readout's, shares."""
        labels = self.preparation.classes is not None or self.preparation.label_sets
        return labels and isinstance(self.model.layer, EchoState)

    def save(self, path: str | Path) -> None:
        """Write network and preparation to one file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        metadata: dict[str, Any] = {
            "preparation": self.preparation.to_dict(), "baseline": self.baseline,
        }  # fmt: skip
        if self.changes is not None:
            metadata["changes"] = list(self.changes.scale)
            metadata["places"] = self.changes.steps
        if self.relative is not None:
            metadata["relative"] = self.relative.to_dict()
        if self.intervals is not None:
            metadata["intervals"] = self.intervals.to_dict()
        if self.estimator is not None:
            metadata["estimator"] = dict(self.estimator)
        if self.puts_out is not POINT:
            metadata["outputs"] = self.puts_out.to_dict()
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
            return cls(
                model, preparation, metadata.get("baseline"), card=card,
                estimator=metadata.get("estimator"), **_around(metadata, preparation),
            )  # fmt: skip
        except DataError as error:
            raise error.within(f"{path}: ") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _around(metadata: Mapping[str, Any], preparation: Preparation) -> dict[str, Any]:
    """What is between preparation and network, of the metadata of a file.

    Raises:
        DataError: it is damaged.
    """
    changes, places, relative, intervals = (
        metadata.get(name) for name in ("changes", "places", "relative", "intervals")
    )
    size = preparation.output_size
    return {
        "seen": Seen.from_dict(metadata.get("seen")),
        "changes": None if changes is None else Changes(numbers(changes, "changes"), places),
        "relative": None if relative is None else Relative.from_dict(relative, preparation),
        "intervals": None if intervals is None else Intervals.from_dict(intervals, size),
        "puts_out": outputs.from_dict(metadata.get("outputs")),
    }
