"""What answers count for: by their series, and by their class or label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longlag.batch import Batch
from longlag.data import Preparation
from longlag.data.errors import listing
from longlag.messages import Setting, near_match
from longlag.pipeline.settings import Settings, SettingsError


def judged_places(target: NDArray[Any]) -> NDArray[np.bool_]:
    """Which answers, (N,) or (N, T), count: the class, or all the numbers of it, are known.

    >>> judged_places(np.array([2, -100])).tolist()
    [True, False]
    >>> judged_places(np.array([[1.0, np.nan], [0.0, 1.0]])).tolist()
    [False, True]
    """
    if target.dtype.kind == "f":
        return np.logical_not(np.isnan(target).any(axis=-1))
    return target >= 0


def weights_of(batch: Batch[NDArray[Any]], places: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """What each of some places counts for, in their order; None: all the same.

    Args:
        batch: the data.
        places: which, (N, ...).

    >>> x = np.zeros((2, 2, 1))
    >>> weighted = Batch(x, x, weights=np.array([1.0, 3.0]))
    >>> weights_of(weighted, np.array([[True, True], [True, False]])).tolist()
    [1.0, 1.0, 3.0]
    """
    if batch.weights is None:
        return None
    weights = batch.weights.reshape(-1, *[1] * (places.ndim - 1))
    return np.broadcast_to(weights, places.shape)[places]


def class_weights(
    settings: Settings, preparation: Preparation, train: Batch[np.ndarray]
) -> tuple[float, ...] | None:
    """The weight of each class, or of each label where it holds; None: all the same.

    Balanced ones are 1 / (how many there are of a class), of mean 1; or (how often a label does not
    hold) / (how often it does).

    Raises:
        SettingsError: a weight is of none of the classes or labels.
    """
    asked, target, labels = settings.class_weights, train.target, preparation.label_sets
    names = preparation.target_names if labels else preparation.classes
    if asked == "none" or names is None:
        return None
    if isinstance(asked, Mapping):
        return _named(asked, names, "labels" if labels else "classes")
    due = judged_places(target)
    each = weights_of(train, due)
    if labels:
        rows, counts = target[due], np.ones(due.sum()) if each is None else each
        holds = (counts[:, None] * np.nan_to_num(rows)).sum(0)
        fails = (counts[:, None] * np.nan_to_num(1.0 - rows)).sum(0)
        weights = np.where((holds > 0) & (fails > 0), fails / np.where(holds > 0, holds, 1.0), 1.0)
        return tuple(weights.tolist())
    return _balanced(target[due], len(names), each)


def of_each(
    settings: Settings, labels: NDArray[Any], weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """What an error of each series costs, by its weight and by that of its class.

    Args:
        settings: those with the weights of classes.
        labels: the class of each series, (N,).
        weights: what each series counts for, (N,); None: the same.

    >>> of_each(Settings("classification", class_weights={"b": 3}), np.array(["a", "b"]), None)
    array([1., 3.])
    """
    each, asked = np.ones(len(labels)) if weights is None else weights, settings.class_weights
    if asked == "none":
        return each
    names, classes = np.unique(labels, return_inverse=True)
    if isinstance(asked, Mapping):
        own = _named(asked, names.tolist(), "classes")
    else:
        own = _balanced(classes, len(names), weights)
    return each * np.array(own)[classes]


def _named(asked: Mapping[str, float], names: Sequence[object], what: str) -> tuple[float, ...]:
    """Those that are asked for, of all names; 1 of the others."""
    known, given = [str(name) for name in names], {str(k): v for k, v in asked.items()}
    for name in given:
        if name not in known:
            raise SettingsError(
                Setting("class_weights"), f": {name!r} is none of the {what} of the training data, "
                f"{listing(names)}{near_match(name, known)}",
            )  # fmt: skip
    return tuple(float(given.get(name, 1.0)) for name in known)


def _balanced(
    classes: NDArray[Any], count: int, weights: NDArray[np.float64] | None
) -> tuple[float, ...]:
    """Of so many classes 1 / (how much there is of each), of mean 1."""
    counts = np.bincount(classes, weights, minlength=count)
    each = 1.0 / np.where(counts > 0, counts, 1.0)
    return tuple((each / each.mean()).tolist())
