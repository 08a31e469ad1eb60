"""What must travel with a model: the units, classes and names of the data it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from longlag.arguments import is_whole
from longlag.batch import IGNORED_CLASS, Batch
from longlag.data.ahead import values_ahead
from longlag.data.checks import check_resolution, check_standardised, check_target
from longlag.data.columns import Columns
from longlag.data.errors import DataError, listing
from longlag.data.labels import Label, encode, find_classes, softmax
from longlag.data.ordering import order_features, order_targets, positions
from longlag.data.predictions import ClassPredictions, Predictions, ValuePredictions
from longlag.data.records import closed, plain, texts
from longlag.data.room import check_room
from longlag.data.scaling import Scaling
from longlag.data.sequences import Array, SequenceData
from longlag.data.task import check_horizon, check_task

_KEYS = (
    "task", "horizon", "feature_names", "target_names", "inputs", "targets", "classes", "columns",
)  # fmt: skip


@dataclass(frozen=True)
class Preparation:
    """How data become inputs and targets, and outputs become answers: fitted on training data.

    Inputs and numeric targets are standardised, z = (v - mean) / scale, with the mean and scale
    of the valid training steps. Classes become numbers. In forecasting, the target at step t is
    x_{t+1} .. x_{t+horizon} of the target columns, NaN where that is unknown.

    Args:
        task: "classification", "regression", "tagging" or "forecasting".
        inputs: mean and scale of the C features.
        target_names: the names of the D targets.
        feature_names: the names of the C features, or None: then only their number is checked.
        targets: mean and scale of the D targets (regression, forecasting).
        classes: the K labels in order (classification, tagging).
        horizon: steps to forecast, at least 1.
        columns: how to read a `.csv` of new data: `read(path, columns=preparation.columns)`.

    Raises:
        DataError: the parts do not belong together.

    Example:
        >>> import numpy as np
        >>> x = np.array([[[1.0], [3.0]], [[5.0], [0.0]]], np.float32)
        >>> data = SequenceData(x, np.array([2, 1]), np.array(["up", "down"]), ("a", "b"))
        >>> preparation = Preparation.fit(data, task="classification")
        >>> preparation.inputs.mean, preparation.classes
        ((3.0,), ('down', 'up'))
        >>> preparation.apply(data).target
        array([1, 0])
        >>> preparation.restore(np.array([[0.0, 2.0], [1.0, 0.0]]), data.lengths).labels
        array(['up', 'down'], dtype='<U4')
    """

    task: str
    inputs: Scaling
    target_names: tuple[str, ...]
    feature_names: tuple[str, ...] | None = None
    targets: Scaling | None = None
    classes: tuple[Label, ...] | None = None
    horizon: int | None = None
    columns: Columns | None = None

    def __post_init__(self) -> None:
        check_task(self.task)
        labelled = self.task in ("classification", "tagging")
        check_horizon(self.task, self.horizon)
        if labelled != (self.classes is not None) or labelled == (self.targets is not None):
            has = "classes and no targets" if labelled else "targets and no classes"
            raise DataError(f"preparation: {self.task} has {has}")
        if self.feature_names is not None and len(self.feature_names) != self.input_size:
            raise DataError(
                f"preparation: {len(self.feature_names)} feature names for {self.input_size} inputs"
            )
        width = 1 if self.targets is None else len(self.targets.mean)
        if len(self.target_names) != width:
            raise DataError(f"preparation: {len(self.target_names)} target names, expected {width}")
        if self.classes is not None and (
            len(self.classes) < 2
            or len(set(self.classes)) != len(self.classes)
            or len({type(label) for label in self.classes}) > 1
            or np.array(self.classes).dtype.kind not in "iU"
            or any(str(label).endswith("\0") for label in self.classes)  # which NumPy drops
        ):
            raise DataError(
                "preparation: expected at least two distinct classes, all text or all integers of "
                f"64 bits, got {listing(self.classes)}"
            )
        if self.task == "forecasting":
            self._forecast()

    @classmethod
    def fit(
        cls,
        data: SequenceData,
        *,
        task: str,
        horizon: int | None = None,
        standardise: bool = True,
        columns: Columns | None = None,
    ) -> Preparation:
        """The preparation of training data: give it the training part and nothing else.

        Args:
            data: the training sequences, with their target unless the task is forecasting.
            task: what is to be predicted.
            horizon: steps to forecast, at least 1; None for the other tasks.
            standardise: False leaves inputs and targets in their units.
            columns: those the data were read with; kept, with features and target spelled out.

        Raises:
            DataError: no data, no target or a target of another task, a single class, a horizon
                beyond the longest series, or a feature whose spread float32 cannot hold.

        Cost: two passes over the valid steps, in float64.

        Example:
            >>> import numpy as np
            >>> data = SequenceData(np.ones((1, 4, 2), np.float32), np.array([4]), None, ("a",))
            >>> Preparation.fit(data, task="forecasting", horizon=3).output_size
            6
        """
        check_task(task)
        check_horizon(task, horizon)
        if len(data) == 0:
            raise DataError("fit: there are no sequences")
        steps = data.x[data.valid]  # (sum of lengths, C)
        inputs = Scaling.fit(steps) if standardise else Scaling.identity(steps.shape[1])
        feature_names, target_names = data.feature_names, data.target_names or ("target",)
        targets = classes = None
        if task == "forecasting":
            features = feature_names or tuple(f"x{c}" for c in range(steps.shape[1]))
            target_names = data.target_names or features
            targets = inputs.take(positions(target_names, features))
            longest = int(data.lengths.max())
            if horizon is not None and horizon >= longest:
                raise DataError(
                    f"horizon={horizon}: the longest series has {longest} steps, so no value is "
                    f"known {horizon} steps ahead; expected at most {longest - 1}"
                )
        else:
            target = check_target(data, task)
            if task == "regression":
                values = target.reshape(len(data), -1)
                targets = Scaling.fit(values) if standardise else Scaling.identity(values.shape[1])
                if len(target_names) != values.shape[1]:
                    target_names = tuple(f"target{d}" for d in range(values.shape[1]))
            else:
                classes = find_classes(target[data.valid] if task == "tagging" else target)
                if len(classes) < 2:
                    raise DataError(
                        f"fit: the target of the training data has the single class "
                        f"{listing(classes)}; expected at least two"
                    )
        if standardise:
            check_resolution(steps, inputs, feature_names)
        if columns is not None and feature_names is not None:
            columns = replace(columns, features=feature_names, target=target_names)
        return cls(task, inputs, target_names, feature_names, targets, classes, horizon, columns)

    @property
    def input_size(self) -> int:
        """C, the inputs of the network."""
        return len(self.inputs.mean)

    @property
    def output_size(self) -> int:
        """The outputs of the network: K classes, D values, or horizon * D values."""
        if self.classes is not None:
            return len(self.classes)
        return len(self.target_names) * (self.horizon or 1)

    @property
    def reduce(self) -> Literal["last"] | None:
        """ "last" where the target is one per series, None where it is one per step."""
        return "last" if self.task in ("classification", "regression") else None

    def apply(self, data: SequenceData) -> Batch[NDArray[Any]]:
        """Inputs and targets for the network, from data in the user's units.

        Features are taken by name where both sides have names, otherwise by position.

        Returns:
            x without units, zero beyond the end; lengths; and the target, or None: class numbers
            (N,) or (N, T), int64, -100 where no error is due; or numbers without units (N, D) or
            (N, T, horizon * D), float32, NaN where no error is due. In forecasting, the D values
            one step ahead come first.

        Raises:
            DataError: a feature is missing or one too many, a class was not in the training
                data, or a value leaves float32 once standardised.

        Cost: one float64 copy of x; in forecasting the target is horizon * D / C times x.

        Example:
            >>> import numpy as np
            >>> x = np.arange(3, dtype=np.float32).reshape(1, 3, 1)
            >>> data = SequenceData(x, np.array([3]), None, ("a",))
            >>> preparation = Preparation.fit(
            ...     data, task="forecasting", horizon=2, standardise=False
            ... )
            >>> preparation.apply(data).target.tolist()
            [[[1.0, 2.0], [2.0, nan], [nan, nan]]]
        """
        order = order_features(
            self.feature_names, data.feature_names, self.input_size, data.x.shape[2]
        )
        x = self._standardise(data, order)
        return Batch(x, self._target(data, x), data.lengths)

    def _standardise(self, data: SequenceData, order: list[int]) -> Float32[Array, "N T C"]:
        with np.errstate(over="ignore"):
            wide = np.where(data.valid[:, :, None], self.inputs.apply(data.x[:, :, order]), 0.0)
            x = wide.astype(np.float32)
        check_standardised(x, data.x[:, :, order], data.names, self.inputs, self.feature_names)
        return x

    def _target(self, data: SequenceData, x: Float32[Array, "N T C"]) -> NDArray[Any] | None:
        if self.task == "forecasting":
            return values_ahead(x[:, :, self._forecast()], data.lengths, self.horizon or 1)
        if data.target is None:
            return None
        target = check_target(data, self.task)
        if self.targets is not None:
            values = target.reshape(len(data), -1)
            order = order_targets(self.target_names, data.target_names, values.shape[1])
            with np.errstate(over="ignore"):
                standard = self.targets.apply(values[:, order]).astype(np.float32)
            check_standardised(
                standard, values[:, order], data.names, self.targets, self.target_names
            )
            return standard
        classes = self.classes or ()
        if self.task == "classification":
            return encode(target, classes, lambda at: f"series {data.names[at]!r}")
        places = np.argwhere(data.valid)

        def where(at: int) -> str:
            n, t = places[at]
            when = "" if data.times is None else f" (time {str(data.times[n, t])!r})"
            return f"series {data.names[n]!r}, step {t}{when}"

        numbers = np.full(target.shape, IGNORED_CLASS, np.int64)
        numbers[data.valid] = encode(target[data.valid], classes, where)
        return numbers

    def _forecast(self) -> list[int]:
        """Where the targets of forecasting are among the features."""
        features = self.feature_names or tuple(f"x{c}" for c in range(self.input_size))
        return positions(self.target_names, features)

    def restore(self, outputs: NDArray[np.floating], lengths: Int64[Array, " N"]) -> Predictions:
        """Answers in the user's units, from the outputs of the network.

        Args:
            outputs: (N, K) logits, (N, T, K) logits for tagging, (N, D) values, or
                (N, T, horizon * D) values for forecasting, of which the last valid step counts.
            lengths: steps of each sequence (N,).

        Returns:
            labels and probabilities (softmax of the logits), or values: (N, D), and
            (N, horizon, D) after the end of each series for forecasting.

        Raises:
            DataError: the outputs have the wrong shape, or are not finite at a valid step.

        Example:
            >>> import numpy as np
            >>> x = np.array([[[2.0], [6.0]]], np.float32)
            >>> data = SequenceData(x, np.array([2]), None, ("a",))
            >>> preparation = Preparation.fit(data, task="forecasting", horizon=1)
            >>> preparation.restore(np.array([[[0.0], [1.5]]]), data.lengths).values.tolist()
            [[[7.0]]]
        """
        rank = 2 if self.reduce == "last" else 3
        if (
            not isinstance(lengths, np.ndarray)
            or lengths.dtype.kind not in "iu"
            or lengths.ndim != 1
        ):
            raise DataError(f"lengths: expected (N,) whole numbers of NumPy, got {lengths!r:.80}")
        n, size = len(lengths), self.output_size
        fits = outputs.ndim == rank and len(outputs) == n and outputs.shape[-1] == size
        if not fits or (rank == 3 and n and outputs.shape[1] < lengths.max()):
            expected = f"({n}, {size})" if rank == 2 else f"({n}, T >= longest, {size})"
            raise DataError(
                f"restore: outputs have shape {outputs.shape}, {self.task} expects {expected}"
            )
        if rank == 3:
            valid = np.arange(outputs.shape[1]) < lengths[:, None]
            outputs = np.where(valid[:, :, None], outputs, 0.0)
        if self.task == "forecasting":
            outputs = outputs[np.arange(n), lengths - 1].reshape(
                n, self.horizon or 1, len(self.target_names)
            )
        wrong = np.argwhere(~np.isfinite(outputs))
        if len(wrong):
            at = wrong[0].tolist()
            raise DataError(
                f"restore: outputs{at} is {outputs[tuple(at)]}, expected a finite number; the "
                "weights of the model may have overflowed in training"
            )
        if self.targets is not None:
            return ValuePredictions(self.targets.restore(outputs), self.target_names)
        probabilities = softmax(outputs)
        best = probabilities.argmax(axis=-1)
        width = max(len(label) if isinstance(label, str) else 2 for label in self.classes or ())
        check_room(
            "restore",
            f"a label of {width} characters, which widens all {best.size} labels,",
            4 * width * best.size,
            outputs.nbytes,
            "give fewer series at a time",
        )
        labels = np.array(self.classes)[best]
        if rank == 3:
            padding = np.arange(outputs.shape[1]) >= lengths[:, None]
            labels[padding] = np.zeros((), labels.dtype)
            probabilities[padding] = 0.0
        return ClassPredictions(labels, probabilities, self.classes or ())

    def to_dict(self) -> dict[str, Any]:
        """The preparation as JSON-able values; floats return exactly.

        Example:
            >>> import json
            >>> preparation = Preparation("regression", Scaling((0.1,), (3.0,)), ("y",),
            ...     targets=Scaling((0.2,), (7.0,)))
            >>> record = json.loads(json.dumps(preparation.to_dict()))
            >>> Preparation.from_dict(record) == preparation
            True
        """
        return {key: plain(getattr(self, key)) for key in _KEYS}

    @classmethod
    def from_dict(cls, record: object) -> Preparation:
        """The preparation of `to_dict`.

        Raises:
            DataError: a key is unknown or missing, a value has the wrong type, or the parts do
                not belong together.

        Example:
            >>> Preparation.from_dict({"tsk": "regression"})
            Traceback (most recent call last):
            ...
            longlag.data.errors.DataError: preparation: unknown key 'tsk'; did you mean 'task'?
        """
        record = closed(record, _KEYS, "preparation")
        horizon, classes, names = record["horizon"], record["classes"], record["feature_names"]
        if classes is not None and not (
            isinstance(classes, list | tuple)
            and all(isinstance(label, str) or is_whole(label) for label in classes)
        ):
            raise DataError(f"preparation: classes: expected texts or integers, got {classes!r}")
        targets, columns = record["targets"], record["columns"]
        return cls(
            task=record["task"],
            inputs=Scaling.from_dict(record["inputs"], "preparation: inputs"),
            target_names=texts(record["target_names"], "preparation: target_names"),
            feature_names=None if names is None else texts(names, "preparation: feature_names"),
            targets=None if targets is None else Scaling.from_dict(targets, "preparation: targets"),
            classes=None if classes is None else tuple(classes),
            horizon=horizon,
            columns=None if columns is None else Columns.from_dict(columns),
        )
