"""A class of each series, or of each of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted
from typing_extensions import Self

from longlag.data import (
    ClassPredictions,
    DataError,
    LabelPredictions,
    SequenceData,
    ValuePredictions,
)
from longlag.data.arrays import with_target
from longlag.estimators.base import worded
from longlag.estimators.inputs import at_steps
from longlag.estimators.labels import (
    MANY,
    ONE,
    SETS,
    as_many,
    form_of,
    labels_of,
    sets_of,
    with_label_sets,
)
from longlag.estimators.series import OfSeries, check_count, weighted
from longlag.pipeline.settings import Settings


@dataclass(eq=False, repr=False, kw_only=True)
class RecurrentClassifier(ClassifierMixin, OfSeries):
    """Tells the class of series by a recurrent network, or that of each of their steps.

    Does what ``longlag train --task classification`` does (with ``per_step`` tagging), by the same
    code: the same data and seed give the same network. With no parameter said, a few networks are
    tried on folds of the data, and the best one is fitted anew on all of them (``cell="auto"``).

    X is an array (N, T, C) of N series, T steps, C features; (N, T) where there is one feature; a
    list of series (T, C) or (T,) of any length; or a frame in long form, a row a step, with a
    column that names the series. y has a label for each series: text or whole numbers; with
    ``per_step`` an array (N, T), or a list of arrays (T,). A frame may have it as a column, then y
    is None. Where several labels may hold at once, y has 0 and 1 for each of L labels, (N, L), or a
    set of labels for each series; with ``per_step`` (N, T, L), a list of arrays (T, L), or a list
    with a list of sets for each series. They are learnt as L yes-or-no questions.

    Args:
        per_step: whether each step has a class, not each series one.
        metric: what the best weights are chosen by, on the part held out: "loss", "accuracy",
            "balanced_accuracy", "macro_f1" or "auc".
        class_weight: None; "balanced": errors of a class weigh the more the rarer it is; or
            {label: weight}, the others 1. Where several labels may hold, of errors where they do.
        validation_fraction: the share of each class that is held out to keep the best weights by.
        refit: whether the network is then trained anew on all data; None: where it was chosen.
        columns: which column of a frame is what, `longlag.data.Columns`.
        layout: "NTC", or "NCT" for arrays (N, C, T) and series (C, T), as aeon has them.
        threads: processor threads.
        verbose: whether `fit` shows how far it is.
        random_state: a whole number gives the same network at each fit.
        others: of network and training, as of `longlag.pipeline.settings.Settings`.

    Attributes:
        classes_: the K labels, sorted; where y was (N, L), 0 to L - 1.
        n_features_in_: features at each step, C, not T: other series may be longer or shorter.
        feature_names_in_: of a frame.
        fitted_: the network, with ``score`` on the part held out, ``history``, ``card``.
        settings_: with which it was trained, those of the chosen network where one was chosen.
        tried_: the networks that were tried.

    Raises:
        DataError, SettingsError: data or parameters do not fit; both are a ValueError.
        TrainingFailed: an error in training, its cause; ``fitted`` holds the best weights so far.

    Cost: as of `longlag train`: seconds to minutes.

    Example:
        >>> random = np.random.default_rng(0)
        >>> X = random.normal(size=(40, 12, 1))
        >>> y = np.where(X.sum(axis=(1, 2)) > 0, "up", "down")
        >>> model = RecurrentClassifier(cell="gru", hidden=8, epochs=30, random_state=0).fit(X, y)
        >>> model.predict(X[:2]).shape, model.predict_proba(X[:2]).shape, model.classes_.tolist()
        ((2,), (2, 2), ['down', 'up'])
    """

    metric: str = Settings.metric
    class_weight: Literal["balanced"] | Mapping[Any, float] | None = None

    _TASKS: ClassVar[tuple[str, ...]] = ("classification", "tagging of classes")

    @property
    def _task(self) -> str:
        return "tagging" if self.per_step else "classification"

    @property
    def _tags(self) -> Literal["classes"]:
        return "classes"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @worded()
    def fit(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Train on series and their classes.

        Args:
            X: series, as the class says.
            y: their labels; None: they are in the frame X.
            sample_weight: what each series counts for, (N,) numbers >= 0, in the loss, in the
                readout of a reservoir, and in the score on the part held out, by which the best
                weights are kept; their scale does not matter. Features are scaled without them.
        """
        data, classes, form = self._labelled(X, y)
        self._train(weighted(data, sample_weight))
        self.classes_, self._form = classes, form
        return self

    @worded()
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train further: one pass over some series, none of which is held out.

        Scaling and categories stay those of the first call, whose series should be like all others.
        It is for networks trained by updates: a reservoir, and a choice of the cell, need all data
        at once. Without a cell it is "gru".

        Args:
            X, y: as of `fit`.
            classes: all labels, at the first call; None: those of its y.
            sample_weight: as of `fit`.

        Raises:
            ValueError: the cell is "echo" or "auto", there is a schedule, or a label is none of
                the classes.
        """
        first = "fitted_" not in self.__dict__
        known = self.classes_ if not first else None if classes is None else np.unique(classes)
        data, here, form = self._labelled(X, y, new=first, known=known)
        if known is not None:
            unknown = np.setdiff1d(here, known)
            if len(unknown):
                raise DataError(
                    f"y: the label {unknown[0].item()!r} is none of the classes of the first "
                    "call; give all labels there, as classes="
                )
        labels = None if known is None or data.label_sets else labels_of(known).tolist()
        self._train_further(weighted(data, sample_weight), labels)
        if first:
            self._form = form
        self.classes_ = here if known is None else known
        return self

    @worded()
    def predict(self, X: Any) -> Any:
        """The most probable class of each series (N,), or with ``per_step`` of each step.

        Args:
            X: series with the features of those in `fit`, of any length.

        Returns:
            (N,); with ``per_step`` (N, T), or a list of arrays (T,) where X is a list or frame.
            Where several labels may hold, those whose probability is 1/2 or more, in the form of y.
        """
        check_is_fitted(self, "fitted_")
        data = self._sequences(X)
        if self._form != ONE:
            holds = self._ask(data).probabilities >= 0.5
            if self._form == SETS:
                return sets_of(holds, self.classes_, data.lengths if self.per_step else None)
            return self._shaped(X, holds.astype(np.int64), data.lengths)
        best = self._ask(data).probabilities.argmax(axis=-1)
        return self._shaped(X, self.classes_[self._order.argsort()[best]], data.lengths)

    @worded()
    def predict_proba(self, X: Any) -> Any:
        """The probabilities of the classes, in the order of ``classes_``; (N, K) or (N, T, K).

        Where several labels may hold, that of each.
        """
        check_is_fitted(self, "fitted_")
        data = self._sequences(X)
        shares = self._ask(data).probabilities
        if self._form == ONE:
            shares = shares[..., self._order]
        return self._shaped(X, shares, data.lengths)

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of `predict_proba`."""
        shares = self.predict_proba(X)
        return [np.log(one) for one in shares] if isinstance(shares, list) else np.log(shares)

    @worded()
    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """The share of right answers, of series or steps; of sets of labels, right in all of them.

        Args:
            X, y: as of `fit`.
            sample_weight: of each series.
        """
        check_is_fitted(self, "fitted_")
        data, *_ = self._labelled(X, y, new=False, known=self.classes_)
        target, answers = data.target, self._ask(replace(data, target=None))
        assert target is not None
        said = answers.labels if isinstance(answers, ClassPredictions) else answers.holds
        if self.per_step:
            target, said = target[data.valid], said[data.valid]
        weights = self._weights(sample_weight, data)
        if data.label_sets:
            known = ~np.isnan(target).any(axis=1)
            target, said = target[known] > 0.5, said[known]
            weights = None if weights is None else weights[known]
        return float(accuracy_score(target, said, sample_weight=weights))

    def _ask(self, data: SequenceData) -> ClassPredictions | LabelPredictions:
        answers = self._answers(data).predictions
        assert not isinstance(answers, ValuePredictions)
        return answers

    def _class_weights(self, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return super()._class_weights(given)
        weights = {}
        for label, weight in given.items():
            if isinstance(label, np.generic | bool | float):
                label = labels_of(np.array([label])).tolist()[0]
            weights[str(label)] = weight.item() if isinstance(weight, np.generic) else weight
        return weights

    @property
    def _order(self) -> NDArray[np.int64]:
        """Where each of ``classes_`` is among the classes of the network."""
        place = {label: at for at, label in enumerate(self.fitted_.preparation.classes or ())}
        return np.array([place[label] for label in labels_of(self.classes_).tolist()])

    def _labelled(
        self, X: Any, y: Any, *, new: bool = True, known: NDArray[Any] | None = None
    ) -> tuple[SequenceData, NDArray[Any], str]:
        """Series with their labels, as the pipeline has them, and as the user does, sorted; and the
        form of y, `ONE`, `MANY` or `SETS`."""
        data = self._with_target_of(X, y, new=new)
        if y is None:
            assert data.target is not None
            if data.label_sets:
                return data, np.array(data.target_names), MANY
            return data, np.unique(data.target[data.valid] if self.per_step else data.target), ONE
        form = form_of(y, per_step=self.per_step)
        if form != ONE:
            many, classes = as_many(y, form, data.lengths if self.per_step else None, known)
            check_count(many, data)
            return with_label_sets(data, many, tuple(map(str, classes.tolist()))), classes, form
        if self.per_step:
            labels = at_steps(y, data.lengths)
            check_count(labels, data)
            inside = labels[data.valid] if labels.shape[:2] == data.valid.shape else labels.ravel()
        else:
            anything: Any = None  # no dtype is asked for
            y = check_array(y, ensure_2d=False, dtype=anything, input_name="y", allow_nd=True)
            labels = inside = column_or_1d(y, warn=True)
            check_count(labels, data)
        check_classification_targets(inside)
        classes = np.unique(inside)
        codes = labels_of(classes)
        places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
        return with_target(data, codes[places], task=self._task, tags="classes"), classes, ONE

    def _remembered(self) -> dict[str, Any]:
        return {"labels": self.classes_.dtype.kind, "form": self._form}

    def _recall(self, record: Mapping[str, Any]) -> None:
        preparation, kind = self.fitted_.preparation, record.get("labels")
        if preparation.label_sets:
            self._form = str(record.get("form", MANY))
            classes = np.array(preparation.target_names)
            self.classes_ = classes.astype(
                {"i": np.int64, "O": object}.get(str(kind), classes.dtype)
            )
            return
        self._form = ONE
        classes = np.unique(np.array(preparation.classes))
        if kind in ("b", "f", "O") and classes.dtype.kind != "b":
            classes = classes.astype({"b": bool, "f": float, "O": object}[kind])
        self.classes_ = classes
