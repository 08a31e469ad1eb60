"""Class labels and their numbers, and the probabilities of a network's outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray

from longlag.data.cells import MISSING
from longlag.data.errors import DataError, and_others, listing
from longlag.data.sequences import Array
from longlag.messages import near_match

Label = str | int


def label_fault(label: str) -> str:
    """Why the text is no label, or nothing."""
    if label in MISSING:
        return (
            f"{label!r} stands for a missing value, expected a label; fill it in, or give such a "
            "class another name"
        )
    if label.endswith("\0"):
        return f"the label {label!r} ends with NUL, which NumPy drops from a text; rename the class"
    return ""


def find_classes(labels: NDArray[Any]) -> tuple[Label, ...]:
    """The distinct labels in order; texts that are all integers are ordered as numbers."""
    classes: list[Label] = np.unique(labels).tolist()
    try:
        return tuple(sorted(classes, key=lambda label: (int(label), str(label))))
    except ValueError:
        return tuple(classes)


def encode(
    labels: NDArray[Any], classes: Sequence[Label], where: Callable[[int], str]
) -> Int64[Array, " M"]:
    """The position in `classes` of each label (M,); `where` tells where a label stands.

    Raises:
        DataError: a label is not among the classes.
    """
    distinct, codes = np.unique(labels, return_inverse=True)
    position = {label: at for at, label in enumerate(classes)}
    table = np.array([position.get(label, -1) for label in distinct.tolist()], np.int64)
    numbers = table[codes.reshape(-1)]
    unknown = np.flatnonzero(numbers < 0)
    if len(unknown):
        label = labels[unknown[0]].item()
        hint = near_match(label, map(str, classes))
        raise DataError(
            f"{where(int(unknown[0]))}: unknown class {label!r}; the classes in training were "
            f"{listing(classes)}{hint}{and_others(len(unknown))}"
        )
    return numbers


def softmax(logits: Float[Array, "*N K"]) -> Float64[Array, "*N K"]:
    """exp(l_k) / sum over j of exp(l_j), in float64, from the largest logit down.

    Example:
        >>> import numpy as np
        >>> softmax(np.array([[1000.0, 1000.0]])).tolist()
        [[0.5, 0.5]]
    """
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def expit(logits: Float[Array, "*N K"]) -> Float64[Array, "*N K"]:
    """1 / (1 + exp(-l)), in float64, without overflow.

    Example:
        >>> import numpy as np
        >>> expit(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(logits.astype(np.float64)))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)
