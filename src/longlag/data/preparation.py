"""What must travel with a model: the units, classes and names of the data it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import NDArray

from longlag.arguments import is_whole
from longlag.batch import IGNORED_CLASS, Batch
from longlag.data.ahead import values_ahead
from longlag.data.checks import check_resolution, check_standardised, check_target
from longlag.data.columns import Columns
from longlag.data.encoding import TIME_DELTA, Encoding, Missing
from longlag.data.errors import DataError, listing
from longlag.data.labels import Label, encode, expit, find_classes, softmax
from longlag.data.ordering import align_labels, order_features, order_targets, positions
from longlag.data.predictions import (
    ClassPredictions,
    LabelPredictions,
    Predictions,
    ValuePredictions,
)
from longlag.data.reading import read
from longlag.data.records import closed, plain, texts
from longlag.data.room import check_room
from longlag.data.scaling import Scaling
from longlag.data.sequences import Array, SequenceData
from longlag.data.task import check_horizon, check_task
from longlag.messages import Fix, Setting

_KEYS = (
    "task", "horizon", "feature_names", "target_names", "inputs", "targets", "classes", "columns",
)  # fmt: skip
_PLAIN = Encoding()
_LATER_KEYS = ("encoding", "label_sets")  # which files of version 0.1 lack


@dataclass(frozen=True)
class Preparation:
    """How data become inputs and targets, and outputs become answers: fitted on training data.

    Inputs and numeric targets are standardised, z = (v - mean) / scale, with the mean and scale
    of the valid training steps. Classes become numbers. In forecasting, the target at step t is
    x_{t+1} .. x_{t+horizon} of the target columns, NaN where that is unknown.

    Categories become several inputs, missing values are filled in, as `encoding` says.

    Args:
        task: "classification", "regression", "tagging" or "forecasting".
        inputs: mean and scale of the C features, of the values that are there; 0 and 1 for
            categories. Where the time since the step before is a feature, it is the last.
        target_names: the names of the D targets.
        feature_names: the names of the C features, or None: then only their number is checked.
        targets: mean and scale of the D targets (regression, forecasting, and tagging where the
            target is a number).
        classes: the K labels in order (classification, tagging).
        horizon: steps to forecast, at least 1.
        columns: how to read a `.csv` of new data: `preparation.read(path)`.
        encoding: what becomes of categories, missing values and times.
        label_sets: whether the targets are labels of which each may hold, 1 or 0; outputs are
            logits then (classification, tagging).

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
    encoding: Encoding = _PLAIN
    label_sets: bool = False

    def __post_init__(self) -> None:
        check_task(self.task)
        if not isinstance(self.label_sets, bool) or (
            self.label_sets and self.task not in ("classification", "tagging")
        ):
            raise DataError(f"preparation: label_sets={self.label_sets!r} for {self.task}")
        labelled = self.task == "classification" and not self.label_sets
        if self.task == "tagging":  # with labels or with numbers
            labelled = self.classes is not None
        check_horizon(self.task, self.horizon)
        if labelled != (self.classes is not None) or labelled == (self.targets is not None):
            has = "classes and no targets" if labelled else "targets and no classes"
            raise DataError(f"preparation: {self.task} has {has}")
        if self.feature_names is not None and len(self.feature_names) != self._features:
            raise DataError(
                f"preparation: {len(self.feature_names)} feature names for {self._features} inputs"
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
        missing: Missing = "error",
        time_delta: bool = False,
        classes: Sequence[Label] | None = None,
        embed: Sequence[str] = (),
    ) -> Preparation:
        """The preparation of training data: give it the training part and nothing else.

        Args:
            data: the training sequences, with their target unless the task is forecasting.
            task: what is to be predicted.
            horizon: steps to forecast, at least 1; None for the other tasks.
            standardise: False leaves inputs and targets in their units.
            columns: those the data were read with; kept, with features, their kinds and the target
                spelled out.
            missing: what is done where a value is missing: "error", "previous", "mean" or
                "indicator"; see `Encoding`.
            time_delta: take the time since the step before as a feature, for series whose steps
                are not evenly spaced.
            classes: labels that there are beside those of the data, where those lack some.
            embed: the features whose categories are to be learned vectors, or ("all",); see
                `Encoding`.

        Raises:
            DataError: no data, no target or a target of another task, a single class, a horizon
                beyond the longest series, a feature whose spread float32 cannot hold, or a value
                that is missing.

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
        encoding = Encoding.fit(data, missing, time_delta, embed)
        for name in (columns.known if columns else None) or ():
            if name in [(data.feature_names or ())[at] for at in encoding.embedded]:
                raise DataError(
                    Setting("embed"), f": {name!r} is known ahead, and of such a feature each "
                    "category is an input; name the others"
                )  # fmt: skip
        steps = data.x[data.valid]  # (sum of lengths, C)
        inputs = _scaling(data, steps, encoding, standardise)
        feature_names, target_names = data.feature_names, data.target_names or ("target",)
        targets = known = None
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
            if target.dtype.kind == "f":
                values = target[data.valid] if task == "tagging" else target.reshape(len(data), -1)
                targets = Scaling.identity(values.shape[1])
                if data.label_sets:
                    _check_labels(values, target_names)
                elif standardise:
                    targets = _fit_known(values, target_names)
                if len(target_names) != values.shape[1]:
                    target_names = tuple(f"target{d}" for d in range(values.shape[1]))
            else:
                labels = target[data.valid] if task == "tagging" else target
                if classes is not None:
                    labels = np.concatenate([labels, np.array(classes)])
                known = find_classes(labels)
                if len(known) < 2:
                    raise DataError(
                        f"the target of the training data has the single class {listing(known)}; "
                        "expected at least two, or ",
                        Fix("another target", "another column as the target"),
                    )
        if standardise:
            check_resolution(steps, inputs, feature_names)
        if columns is not None and feature_names is not None:
            columns = replace(columns, features=feature_names)
            if columns.label_separator is None:  # else the names of the labels are not of columns
                columns = replace(columns, target=target_names)
            columns = replace(columns, categories=tuple(data.categories), dates=data.dates)
        return cls(
            task, inputs, target_names, feature_names, targets, known, horizon, columns, encoding,
            data.label_sets,
        )  # fmt: skip

    @property
    def input_size(self) -> int:
        """The inputs of the network: C, where all features are numbers and none is missing."""
        return self.encoding.count(len(self.inputs.mean))

    @property
    def input_names(self) -> tuple[str, ...]:
        """What each input of the network is."""
        features = self.feature_names or tuple(f"x{c}" for c in range(self._features))
        return self.encoding.names((*features, *[TIME_DELTA] * self.encoding.time_delta))

    @property
    def _features(self) -> int:
        """Features of the data, the time not among them."""
        return len(self.inputs.mean) - self.encoding.time_delta

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

    def read(
        self, path: str | Path, *, columns: Columns | None = None, scored: bool = True
    ) -> SequenceData:
        """The sequences of a file as those of the training were read; it may lack the target.

        Args:
            path: the file.
            columns: what the columns of the training are called in this file, features and targets
                in the order of the training; None, as a whole or for features or targets: the same.
            scored: False: do not look at the target.

        Raises:
            DataError, ImportError: see `longlag.data.read`; or the columns are not as many.
        """
        trained, data_columns = self.columns or Columns(), self.columns
        if columns is not None:
            data_columns = self._renamed(trained, columns)
        data = read(
            path,
            task=self.task,
            columns=data_columns,
            require_target=False if scored else None,
            missing=self.encoding.missing != "error",
            tags="labels" if self.label_sets else "numbers" if self.classes is None else "classes",
        )
        if columns is None or data.feature_names is None:
            return data
        own = {name: at for at, name in enumerate(data.feature_names)}
        names = self.feature_names or data.feature_names
        return replace(
            data,
            feature_names=names,
            target_names=data.target_names if self._lists_labels else self.target_names,
            categories={names[own[name]]: kinds for name, kinds in data.categories.items()},
            dates=tuple(names[own[name]] for name in data.dates),
        )

    def _renamed(self, trained: Columns, columns: Columns) -> Columns:
        """The columns of the training by the names that they have in another file."""
        new: dict[str, str] = {}
        columns_of_target = trained.targets(self.task) or ()
        for role, old, given in (
            ("features", self.feature_names or (), columns.features),
            ("target", self.target_names, columns.target),
        ):
            named = (given,) if isinstance(given, str) else given
            if named is None:
                continue
            if role == "target" and self._lists_labels:
                old = columns_of_target
            if len(named) != len(old):
                raise DataError(
                    f"columns: {len(named)} {role} named, expected {len(old)}, in the order of the "
                    f"training: {listing(old)}"
                )
            new |= dict(zip(old, named, strict=True))

        def told(names: Sequence[str] | None) -> tuple[str, ...] | None:
            return None if names is None else tuple(new.get(name, name) for name in names)

        return replace(
            trained,
            series=columns.series,
            time=columns.time,
            features=told(self.feature_names),
            target=told(columns_of_target),
            weight=None,
            categories=told(trained.categories),
            dates=told(trained.dates),
            known=told(trained.known),
            static=told(trained.static),
        )

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
            self.feature_names, data.feature_names, self._features, data.x.shape[2]
        )
        raw, absent = self.encoding.take(data, order, self.feature_names)
        values = self._standardise(data, raw)
        x = self.encoding.expand(values, absent, data.valid)
        target = self._target(data, values, absent)
        return Batch(x, target, data.lengths, weights=data.weights)

    @property
    def known(self) -> tuple[str, ...]:
        """The features that are known ahead."""
        return (self.columns.known if self.columns else None) or ()

    def known_inputs(self) -> list[int]:
        """Where the features that are known ahead are among the inputs of the network."""
        kinds = dict(self.encoding.categories)
        inputs: list[int] = []
        for name in self.known:
            at = (self.feature_names or ()).index(name)
            first = self.encoding.place(at)
            inputs += range(first, first + len(kinds.get(at, "1")))
        return inputs

    def ahead(self, data: SequenceData) -> Float32[Array, "N K I"]:
        """The inputs of the network for the `horizon` = K steps after the end of each series.

        Only those of features that are known ahead mean something.

        Raises:
            DataError: a series has too few rows there, or a value is missing.
        """
        names, horizon = self.feature_names or (), self.horizon or 1
        order = order_features(names, data.feature_names, self._features, data.x.shape[2])
        future = data.future
        short = np.zeros(len(data), np.int64) if future is None else future.lengths
        wrong = np.flatnonzero(short < horizon)
        if future is None or len(wrong):
            at = int(wrong[0])
            raise DataError(
                f"series {data.names[at]!r} has {short[at]} rows after the last known value of "
                f"{listing(self.target_names)}, expected {horizon}, the horizon, with what is "
                f"known ahead: {listing(self.known)}. Add rows with these, and leave the cells of "
                f"{listing(self.target_names)} empty there"
            )
        x = future.x[:, :horizon, order]
        given = [names.index(name) for name in self.known]
        absent = np.argwhere(np.isnan(x[:, :, given]))
        if len(absent) and self.encoding.missing == "error":
            n, t, c = absent[0].tolist()
            raise DataError(
                f"series {data.names[n]!r}, row {t + 1} after the last known value of "
                f"{listing(self.target_names)}: {self.known[c]!r} is missing, and it is known "
                "ahead; fill it in"
            )
        others = [c for c in range(x.shape[2]) if c not in given]
        x[:, :, others] = 0.0  # of a category its first
        rows = replace(
            data, x=x, lengths=np.full(len(data), horizon), times=None, feature_names=names,
            gaps=np.zeros(x.shape[:2], np.float32), future=None,
        )  # fmt: skip
        raw, missing = self.encoding.take(rows, list(range(x.shape[2])), names)
        return self.encoding.expand(self._standardise(rows, raw), missing, rows.valid)

    def _standardise(
        self, data: SequenceData, raw: Float64[Array, "N T C"]
    ) -> Float32[Array, "N T C"]:
        with np.errstate(over="ignore"):
            wide = np.where(data.valid[:, :, None], self.inputs.apply(raw), 0.0)
            x = wide.astype(np.float32)
        names = self.feature_names
        if names is not None:
            names = (*names, *[TIME_DELTA] * self.encoding.time_delta)
        check_standardised(x, raw, data.names, self.inputs, names)
        return x

    def _target(
        self, data: SequenceData, x: Float32[Array, "N T C"], absent: Bool[Array, "N T C"]
    ) -> NDArray[Any] | None:
        if self.task == "forecasting":
            places = self._forecast()
            known = np.where(absent[:, :, places], np.nan, x[:, :, places]).astype(np.float32)
            return values_ahead(known, data.lengths, self.horizon or 1)
        if data.target is None:
            return None
        target = check_target(data, self.task)
        if self.task == "tagging" and (target.dtype.kind == "f") != (self.classes is None):
            target = self._as_in_training(target)
        if self.targets is not None:
            values = target if self.task == "tagging" else target.reshape(len(data), -1)
            if self._lists_labels:
                values = align_labels(values, data.target_names, self.target_names)
            else:
                order = order_targets(self.target_names, data.target_names, values.shape[-1])
                values = values[..., order]
            with np.errstate(over="ignore"):
                standard = self.targets.apply(values).astype(np.float32)
            known = np.where(np.isnan(values), 0.0, standard)
            check_standardised(known, values, data.names, self.targets, self.target_names)
            if self.task == "tagging":
                standard[~data.valid] = np.nan
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

    @property
    def _lists_labels(self) -> bool:
        """Whether cells of the target list the labels that hold."""
        return self.columns is not None and self.columns.label_separator is not None

    def _as_in_training(self, target: NDArray[Any]) -> NDArray[Any]:
        """Tags of a file that were read as labels, or as numbers, the other way."""
        if self.classes is not None:
            raise DataError(
                "the target holds numbers at each step, and the training data had the classes "
                f"{listing(self.classes)}; read the file with preparation.read, or tags='classes'"
            )
        try:
            return np.where(target == "", "nan", target).astype(np.float64)[:, :, None]
        except ValueError:
            raise DataError(
                "the target holds labels, and the training data had numbers at each step; mend "
                "the cells, or empty the column to predict without a score"
            ) from None

    def _forecast(self) -> list[int]:
        """Where the targets of forecasting are among the features."""
        features = self.feature_names or tuple(f"x{c}" for c in range(self._features))
        places = positions(self.target_names, features)
        for at, _ in self.encoding.categories:
            if at in places:
                raise DataError(
                    f"forecasting predicts numbers: {features[at]!r} holds categories; name the "
                    "targets that are numbers"
                )
        return places

    def repeated_inputs(self) -> list[int]:
        """In forecasting, the input of the network whose last value each output continues."""
        return [self.encoding.place(at) for at in self._forecast()] * (self.horizon or 1)

    def restore(self, outputs: NDArray[np.floating], lengths: Int64[Array, " N"]) -> Predictions:
        """Answers in the user's units, from the outputs of the network.

        Args:
            outputs: (N, K) logits; for tagging (N, T, K) logits or (N, T, D) values; (N, D)
                values; or for forecasting (N, T, horizon * D) values, of which the last valid
                step counts.
            lengths: steps of each sequence (N,).

        Returns:
            labels and probabilities (softmax of the logits), of label sets the probability of each,
            or values: (N, D), (N, T, D) at
            each step, and (N, horizon, D) after the end of each series for forecasting.

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
        if self.label_sets:
            shares = expit(outputs)
            if rank == 3:
                shares[np.arange(shares.shape[1]) >= lengths[:, None]] = 0.0
            return LabelPredictions(shares, self.target_names)
        if self.targets is not None:
            values = self.targets.restore(outputs)
            at_steps = self.task == "tagging"
            if at_steps:
                values[np.arange(values.shape[1]) >= lengths[:, None]] = 0.0
            return ValuePredictions(values, self.target_names, at_steps)
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
        return {key: plain(getattr(self, key)) for key in (*_KEYS, *_LATER_KEYS)}

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
        record = closed(record, _KEYS, "preparation", _LATER_KEYS)
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
            encoding=Encoding.from_dict(record["encoding"]) if "encoding" in record else _PLAIN,
            label_sets=record.get("label_sets", False),
        )


def _check_labels(values: Float64[Array, "M D"], names: Sequence[str]) -> None:
    """Refuse labels that hold nowhere or everywhere: there is nothing to tell apart."""
    if not values.shape[1]:
        raise DataError("fit: the training data have no label; expected some in the target")
    for d, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        if len(np.unique(known)) < 2:
            where = "nowhere" if not len(known) or known[0] == 0 else "everywhere"
            raise DataError(
                f"fit: the label {names[d]!r} holds {where} in the training data, which cannot be "
                "learnt; leave it out, or give data with and without it"
            )


def _fit_known(values: Float64[Array, "M D"], names: Sequence[str]) -> Scaling:
    """The scaling of targets, by those that are known."""
    parts = []
    for d, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        if not len(known):
            name = names[d] if d < len(names) else d
            raise DataError(f"fit: the target {name!r} is known nowhere in the training data")
        parts.append(Scaling.fit(known[:, None]))
    return _beside(parts)


def _beside(parts: Sequence[Scaling]) -> Scaling:
    return Scaling(
        tuple(mean for part in parts for mean in part.mean),
        tuple(scale for part in parts for scale in part.scale),
    )


def _scaling(
    data: SequenceData, steps: Float32[Array, "M C"], encoding: Encoding, standardise: bool
) -> Scaling:
    """The scaling of the features, by the values that are there, and of the time."""
    if encoding.time_delta:
        assert data.gaps is not None
        steps = np.concatenate([steps, data.gaps[data.valid][:, None]], axis=1)
    count = steps.shape[1]
    if encoding.is_plain or not standardise:
        return Scaling.fit(steps) if standardise else Scaling.identity(count)
    kinds = dict(encoding.categories)
    parts = [
        Scaling.identity(1) if c in kinds else Scaling.fit(steps[~np.isnan(steps[:, c])][:, [c]])
        for c in range(count)
    ]
    return _beside(parts)
