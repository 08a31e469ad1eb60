"""Columns by name where there are names, by position where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from longlag.data.errors import DataError, and_others, listing
from longlag.data.sequences import Array
from longlag.messages import near_match


def positions(names: Sequence[str], present: Sequence[str]) -> list[int]:
    """Where each of the targets to forecast is among the features."""
    place = {name: at for at, name in enumerate(present)}
    for name in names:
        if name not in place:
            raise DataError(
                f"forecasting predicts features only: {name!r} is not among the features "
                f"{listing(present)}{near_match(name, present)}"
            )
    return [place[name] for name in names]


def order_features(
    trained: Sequence[str] | None, present: Sequence[str] | None, expected: int, count: int
) -> list[int]:
    """Where each of the features of the training is among those given.

    Raises:
        DataError: a feature is missing, or there is one too many.
    """
    if trained is not None and present is not None:
        place = {name: at for at, name in enumerate(present)}
        missing = [name for name in trained if name not in place]
        if missing:
            others = f" ({len(missing)} are missing: {listing(missing)})" if missing[1:] else ""
            raise DataError(
                f"the feature {missing[0]!r} of the training data is missing{others}; the "
                f"features are {listing(present)}{near_match(missing[0], present)}"
            )
        known = set(trained)
        extra = [name for name in present if name not in known]
        if extra:
            raise DataError(
                f"{len(present)} features, expected {expected}: {listing(extra)} were not in the "
                f"training data; read the file with columns=preparation.columns"
            )
        return [place[name] for name in trained]
    if count != expected:
        raise DataError(
            f"{count} features, expected {expected} as in the training data"
            + ("" if trained is None else f": {listing(trained)}")
        )
    return list(range(count))


def order_targets(trained: Sequence[str], present: Sequence[str], count: int) -> list[int]:
    """Where each target of the training is among the columns given."""
    if count != len(trained):
        raise DataError(
            f"the target has {count} columns, expected {len(trained)} as in the training data: "
            f"{listing(trained)}"
        )
    if len(present) == count and set(present) == set(trained):
        place = {name: at for at, name in enumerate(present)}
        return [place[name] for name in trained]
    return list(range(count))


def align_labels(
    values: Float64[Array, "*N D"], present: Sequence[str], trained: Sequence[str]
) -> Float64[Array, "*N E"]:
    """Whether each label of the training holds, where a file lists those that do.

    Raises:
        DataError: a label was not in the training data.

    >>> align_labels(np.array([[1.0], [np.nan]]), ["b"], ["a", "b"]).tolist()
    [[0.0, 1.0], [nan, nan]]
    """
    unknown = [name for name in present if name not in trained]
    if unknown:
        raise DataError(
            f"the label {unknown[0]!r} was not in the training data, which had {listing(trained)}"
            f"{near_match(unknown[0], trained)}{and_others(len(unknown))}"
        )
    unseen = np.isnan(values).all(axis=-1, keepdims=True) & (len(present) > 0)
    aligned = np.where(np.broadcast_to(unseen, (*values.shape[:-1], len(trained))), np.nan, 0.0)
    aligned[..., [list(trained).index(name) for name in present]] = values
    return aligned
