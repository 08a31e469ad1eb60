"""`fit` with the library's own layers and tasks."""

import numpy as np
import pytest
import torch

from longlag.layers import LSTM, SequenceModel
from longlag.tasks import LongLag
from longlag.training import fit


@pytest.mark.slow
def test_an_lstm_learns_a_lag_from_a_stream():
    torch.manual_seed(0)
    task = LongLag(delay=5)
    layer = LSTM(task.input_size, 8)
    model = SequenceModel(layer, output_size=task.output_size, reduce=task.reduce)
    history = fit(
        model,
        task.stream(batch_size=16, seed=0),
        validation=task.stream(batch_size=64, seed=1).batch(0),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.02),
        steps=300,
        progress=False,
    )
    first, last = history.records[0], history.records[-1]
    assert last.validation_loss < 0.01 < first.loss


def test_padding_changes_nothing_not_even_nan():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, 7, 2)).astype(np.float32)
    target, lengths = x.cumsum(axis=1), generator.integers(1, 8, 12)
    beyond = np.arange(7) >= lengths[:, None]
    found = []
    for filling in (0.0, 5.0, np.nan):
        torch.manual_seed(0)
        model = SequenceModel(LSTM(2, 4), output_size=2, reduce=None)
        padded = x.copy()
        padded[beyond] = filling
        history = fit(model, (padded, target, lengths), epochs=3, batch_size=5, progress=False)
        found.append(history.losses.tolist())
    assert found[0] == found[1] == found[2]
