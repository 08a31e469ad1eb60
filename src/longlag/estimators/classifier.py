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

from longlag.data import ClassPredictions, DataError, SequenceData
from longlag.data.arrays import with_target
from longlag.estimators.base import worded
from longlag.estimators.inputs import at_steps
from longlag.estimators.series import OfSeries, check_count
from longlag.pipeline.settings import Settings


@dataclass(eq=False, repr=False, kw_only=True)
class RecurrentClassifier(ClassifierMixin, OfSeries):
    """Tells the class of series by a recurrent network, or that of each of their steps.

    It does what `longlag train --task classification` does (with ``per_step`` tagging), by the same
    code: the same data and seed give the same network. With no parameter said, a few networks are
    tried on folds of the data, and the best one is fitted anew on all of them (``cell="auto"``).

    X is an array (N, T, C) of N series, T steps, C features; (N, T) where there is one feature; a
    list of series (T, C) or (T,) of any length; or a frame in long form, a row a step, with a
    column that names the series. y has a label for each series: text or whole numbers; with
    ``per_step`` an array (N, T), or a list of arrays (T,). A frame may have it as a column, then y
    is None.

    Args:
        per_step: whether each step has a class, not each series one.
        metric: what the best weights are chosen by, on the part held out: "loss", "accuracy",
            "balanced_accuracy", "macro_f1" or "auc".
        class_weight: None, or "balanced": errors of a class weigh the more the rarer it is.
        validation_fraction: the share of each class that is held out to keep the best weights by.
        refit: whether the network is then trained anew on all data; None: where it was chosen.
        columns: which column of a frame is what, `longlag.data.Columns`.
        layout: "NTC", or "NCT" for arrays (N, C, T) and series (C, T), as aeon has them.
        threads: processor threads.
        verbose: whether `fit` shows how far it is.
        random_state: a whole number gives the same network at each fit.
        others: of network and training, as of `longlag.pipeline.settings.Settings`.

    Attributes:
        classes_: the K labels, sorted.
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
    class_weight: Literal["balanced"] | None = None

    _TASKS: ClassVar[tuple[str, ...]] = ("classification", "tagging of classes")

    @property
    def _task(self) -> str:
        return "tagging" if self.per_step else "classification"

    @property
    def _tags(self) -> Literal["classes"]:
        return "classes"

    @worded()
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on series and their classes.

        Args:
            X: series, as the class says.
            y: their labels; None: they are in the frame X.
        """
        data, classes = self._labelled(X, y)
        self._train(data)
        self.classes_ = classes
        return self

    @worded()
    def partial_fit(self, X: Any, y: Any = None, classes: ArrayLike | None = None) -> Self:
        """Train further: one pass over some series, none of which is held out.

        Scaling and categories stay those of the first call, whose series should be like all others.
        It is for networks trained by updates: a reservoir, and a choice of the cell, need all data
        at once. Without a cell it is "gru".

        Args:
            X, y: as of `fit`.
            classes: all labels, at the first call; None: those of its y.

        Raises:
            ValueError: the cell is "echo" or "auto", there is a schedule, or a label is none of
                the classes.
        """
        first = "fitted_" not in self.__dict__
        known = self.classes_ if not first else None if classes is None else np.unique(classes)
        data, here = self._labelled(X, y, new=first)
        if known is not None:
            unknown = np.setdiff1d(here, known)
            if len(unknown):
                raise DataError(
                    f"y: the label {unknown[0].item()!r} is none of the classes of the first "
                    "call; give all labels there, as classes="
                )
        self._train_further(data, None if known is None else labels_of(known).tolist())
        self.classes_ = here if known is None else known
        return self

    @worded()
    def predict(self, X: Any) -> Any:
        """The most probable class of each series (N,), or with ``per_step`` of each step.

        Args:
            X: series with the features of those in `fit`, of any length.

        Returns:
            (N,); with ``per_step`` (N, T), or a list of arrays (T,) where X is a list or frame.
        """
        check_is_fitted(self, "fitted_")
        data = self._sequences(X)
        best = self._ask(data).probabilities.argmax(axis=-1)
        return self._shaped(X, self.classes_[self._order.argsort()[best]], data.lengths)

    @worded()
    def predict_proba(self, X: Any) -> Any:
        """The probabilities of the classes, in the order of ``classes_``; (N, K) or (N, T, K)."""
        check_is_fitted(self, "fitted_")
        data = self._sequences(X)
        shares = self._ask(data).probabilities[..., self._order]
        return self._shaped(X, shares, data.lengths)

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of `predict_proba`."""
        shares = self.predict_proba(X)
        return [np.log(one) for one in shares] if isinstance(shares, list) else np.log(shares)

    @worded()
    def score(self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """The share of right answers, of series or steps.

        Args:
            X, y: as of `fit`.
            sample_weight: of each series.
        """
        check_is_fitted(self, "fitted_")
        data, _ = self._labelled(X, y, new=False)
        target, said = data.target, self._ask(replace(data, target=None)).labels
        assert target is not None
        if self.per_step:
            target, said = target[data.valid], said[data.valid]
        return float(accuracy_score(target, said, sample_weight=self._weights(sample_weight, data)))

    def _ask(self, data: SequenceData) -> ClassPredictions:
        answers = self._answers(data).predictions
        assert isinstance(answers, ClassPredictions)
        return answers

    @property
    def _order(self) -> NDArray[np.int64]:
        """Where each of ``classes_`` is among the classes of the network."""
        place = {label: at for at, label in enumerate(self.fitted_.preparation.classes or ())}
        return np.array([place[label] for label in labels_of(self.classes_).tolist()])

    def _labelled(self, X: Any, y: Any, *, new: bool = True) -> tuple[SequenceData, NDArray[Any]]:
        """Series with their labels, as the pipeline has them, and as the user does, sorted."""
        data = self._with_target_of(X, y, new=new)
        if y is None:
            assert data.target is not None
            return data, np.unique(data.target[data.valid] if self.per_step else data.target)
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
        known = labels_of(classes)
        places = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
        return with_target(data, known[places], task=self._task, tags="classes"), classes

    def _remembered(self) -> dict[str, Any]:
        return {"labels": self.classes_.dtype.kind}

    def _recall(self, record: Mapping[str, Any]) -> None:
        classes = np.unique(np.array(self.fitted_.preparation.classes))
        kind = record.get("labels")
        if kind in ("b", "f", "O") and classes.dtype.kind != "b":
            classes = classes.astype({"b": bool, "f": float, "O": object}[kind])
        self.classes_ = classes


def labels_of(classes: NDArray[Any]) -> NDArray[Any]:
    """Labels as a file may hold them, text or whole numbers.

    Raises:
        DataError: they are neither.

    >>> labels_of(np.array([False, True])).tolist(), labels_of(np.array([1.0, 2.0])).tolist()
    ([0, 1], [1, 2])
    """
    if classes.dtype.kind in "iub":
        return classes.astype(np.int64)
    if classes.dtype.kind == "f" and (classes == np.rint(classes)).all():
        return classes.astype(np.int64)
    if classes.dtype.kind == "O" and all(isinstance(label, str) for label in classes):
        return classes.astype(str)
    if classes.dtype.kind == "O" and all(isinstance(label, int) for label in classes):
        return classes.astype(np.int64)
    if classes.dtype.kind != "U":
        raise DataError(f"y: labels of {classes.dtype}, expected text or whole numbers")
    return classes
