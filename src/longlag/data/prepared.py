"""Sequences as a network and its loss take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from longlag.data.sequences import Array

IGNORED_CLASS = -100  # torch.nn.CrossEntropyLoss's ignore_index; numeric targets have NaN


@dataclass(frozen=True, eq=False)
class Prepared:
    """N sequences as a network and its loss take them.

    Args:
        x: inputs (N, T, C) without units, zero beyond the end.
        lengths: steps of each sequence (N,).
        target: class numbers (N,) or (N, T), int64, -100 where no error is due; or numbers
            without units (N, D) or (N, T, horizon * D), float32, NaN where no error is due;
            or None. In forecasting, the D values one step ahead come first.

    Example:
        >>> import numpy as np
        >>> x = np.zeros((1, 2, 3), np.float32)
        >>> Prepared(x, lengths=np.array([2]), target=np.array([0])).x.shape
        (1, 2, 3)
    """

    x: Float32[Array, "N T C"]
    lengths: Int64[Array, " N"]
    target: NDArray[Any] | None


def windows(
    values: Float32[Array, "N T D"], lengths: Int64[Array, " N"], horizon: int
) -> Float32[Array, "N T HD"]:
    """What follows each step: values at t + 1, ..., t + horizon, NaN beyond the end.

    Example:
        >>> import numpy as np
        >>> windows(np.array([[[1.0], [2.0], [3.0]]], np.float32), np.array([3]), 2).tolist()
        [[[2.0, 3.0], [3.0, nan], [nan, nan]]]
    """
    n, t, d = values.shape
    ahead = np.full((n, t, horizon, d), np.nan, np.float32)
    for step in range(1, min(horizon, t - 1) + 1):
        known = np.arange(step, t) < lengths[:, None]  # (N, T - step)
        ahead[:, : t - step, step - 1] = np.where(known[:, :, None], values[:, step:], np.nan)
    return ahead.reshape(n, t, horizon * d)
