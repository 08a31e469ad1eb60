"""Long series with a target at each step: pieces, windows that carry the state, split in time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from longlag.batch import Batch
from longlag.data import SequenceData
from longlag.pipeline.dataset import hold_out, pieces
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.network import run_model
from longlag.pipeline.scores import score
from longlag.pipeline.settings import Settings, SettingsError
from longlag.training import cross_entropy, mse


def stream(steps: int, seed: int = 0, numbers: bool = False) -> SequenceData:
    """One series: the sign, or the value, of the running mean of noise."""
    x = np.random.default_rng(seed).normal(size=(1, steps, 1)).astype(np.float32)
    slow = np.zeros(steps)
    for t in range(1, steps):
        slow[t] = 0.8 * slow[t - 1] + x[0, t, 0]
    target = slow[None, :, None] if numbers else np.where(slow > 0, "up", "down")[None]
    return SequenceData(x, np.array([steps]), target, ("stream",), ("f",), ("target",))


@pytest.mark.parametrize("numbers", [False, True])
def test_a_single_stream_is_split_in_time_and_trained_on_in_windows(numbers):
    parts = hold_out(stream(6_000, numbers=numbers), "tagging", share=0.25, seed=0)
    assert parts.train.lengths.tolist() == [4_500]
    assert parts.held_out.lengths.tolist() == [3_000]
    assert parts.known.tolist() == parts.judged.tolist() == [1_500]
    np.testing.assert_array_equal(parts.held_out.x[0], stream(6_000).x[0, 3_000:])
    pipeline = Pipeline.of(parts, Settings("tagging", hidden=8, epochs=8, learning_rate=0.02))
    assert pipeline.train.x.shape == (3, 1_600, 1)
    assert pipeline.train.lengths.tolist() == [1_600, 1_600, 1_300]
    fitted = pipeline.fit(progress=False)
    assert fitted.history is not None
    assert len(fitted.history) == 8 * 8  # an update a window, not a series
    assert fitted.score is not None
    assert fitted.score.places == 1_500
    first = fitted.score.measures[0]
    assert first.model > 0.9 if not numbers else first.model < 0.4 * first.baseline
    answers, score = fitted.predict(stream(2_000, seed=1, numbers=numbers))
    assert score is not None
    assert score.places == 2_000
    if numbers:
        assert answers.values.shape == (1, 2_000, 1)


@pytest.mark.parametrize("scheduler", ["one_cycle", "cosine"])
def test_schedules_know_of_windows(scheduler):
    parts = hold_out(stream(2_500), "tagging", share=0.2, seed=0)
    settings = Settings("tagging", hidden=4, epochs=2, scheduler=scheduler, window=100)
    assert len(Pipeline.of(parts, settings).fit(progress=False).history or ()) == 2 * 8


@pytest.mark.parametrize("numbers", [False, True])
def test_what_is_held_out_of_a_stream_starts_with_the_state_before(numbers):
    """The score is that of the network on all of the stream, of its last steps alone."""
    data = stream(700, numbers=numbers)
    parts = hold_out(data, "tagging", share=0.2, seed=0)
    assert (parts.held_out.lengths.tolist(), parts.known.tolist()) == ([700], [560])
    pipeline = Pipeline.of(parts, Settings("tagging", hidden=4, epochs=1))
    fitted = pipeline.fit(progress=False)
    values = fitted.prepare(data)
    outputs = run_model(fitted.model, values, 1)[:, 560:]
    late = values._replace(x=values.x[:, 560:], target=values.target[:, 560:], lengths=None)
    warm = score(fitted.preparation, fitted.baseline, late, outputs)
    cold = score(fitted.preparation, fitted.baseline, late, run_model(fitted.model, late, 1))
    assert fitted.score.measures == warm.measures
    assert fitted.score.measures != cold.measures
    assert fitted.history.records[-1].validation_loss == pytest.approx(_loss(late, outputs))


def _loss(values, outputs):
    loss = mse if values.target.dtype.kind == "f" else cross_entropy
    return loss(torch.from_numpy(outputs), torch.from_numpy(values.target)).item()


def test_short_series_and_both_directions_are_read_whole():
    parts = hold_out(stream(1_200), "tagging", share=0.25, seed=0)
    for settings in (Settings("tagging", hidden=4), Settings("tagging", bidirectional=True)):
        assert Pipeline.of(parts, settings).train.x.shape == (1, 900, 1)
    with pytest.raises(SettingsError, match="window: got 50, but a network that reads backward"):
        Settings("tagging", bidirectional=True, window=50)
    with pytest.raises(SettingsError, match="window: got 50, but classification has none"):
        Settings("classification", window=50)


def test_pieces_follow_each_other_and_keep_their_targets():
    x = np.arange(14, dtype=np.float32).reshape(2, 7, 1)
    cut = pieces(Batch(x, np.arange(14).reshape(2, 7), np.array([7, 4])), least=3, rows=4)
    assert cut.lengths.tolist() == [3, 3, 1, 3, 1]
    assert cut.x[:, :, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 0, 0], [7, 8, 9], [10, 0, 0]]
    assert cut.target[2].tolist() == [6, -100, -100]
