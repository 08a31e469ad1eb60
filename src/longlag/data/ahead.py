"""What lies ahead of each step: the target of forecasting."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from longlag.data.sequences import Array


def values_ahead(
    values: Float32[Array, "N T D"], lengths: Int64[Array, " N"], horizon: int
) -> Float32[Array, "N T HD"]:
    """What follows each step: values at t + 1, ..., t + horizon, NaN beyond the end.

    Example:
        >>> import numpy as np
        >>> values_ahead(np.array([[[1.0], [2.0], [3.0]]], np.float32), np.array([3]), 2).tolist()
        [[[2.0, 3.0], [3.0, nan], [nan, nan]]]
    """
    n, t, d = values.shape
    ahead = np.full((n, t, horizon, d), np.nan, np.float32)
    for step in range(1, min(horizon, t - 1) + 1):
        known = np.arange(step, t) < lengths[:, None]  # (N, T - step)
        ahead[:, : t - step, step - 1] = np.where(known[:, :, None], values[:, step:], np.nan)
    return ahead.reshape(n, t, horizon * d)
