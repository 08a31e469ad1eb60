from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longlag.data.ahead import values_ahead


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 3), st.integers(0, 1000))
def test_these_are_the_values_ahead(steps, horizon, width, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, steps + 1, size=3)
    values = rng.normal(size=(3, steps, width)).astype(np.float32)
    ahead = values_ahead(values, lengths, horizon)
    assert ahead.shape == (3, steps, horizon * width)
    assert ahead.dtype == np.float32
    for n in range(3):
        for t in range(steps):
            for k in range(1, horizon + 1):
                part = ahead[n, t, (k - 1) * width : k * width]
                if t + k < lengths[n]:
                    assert part.tolist() == values[n, t + k].tolist()
                else:
                    assert np.isnan(part).all()
