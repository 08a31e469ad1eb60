"""A part held out, and series cut into stretches."""

import warnings

import numpy as np
import pytest

from longlag.batch import Batch
from longlag.data import Columns, DataError, SequenceData
from longlag.pipeline.dataset import check_classes, fit_preparation, hold_out, read_parts, stretches


def test_stretches_keep_every_step_with_its_target():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 23, 2)).astype(np.float32)
    target = rng.normal(size=(3, 23, 4)).astype(np.float32)
    lengths = np.array([23, 4, 10])
    cut = stretches(Batch(x, target, lengths), 6)
    assert cut.x.shape == (len(cut.lengths), 6, 2)
    assert cut.target is not None
    seen = set()
    for piece, ahead, length in zip(cut.x, cut.target, cut.lengths, strict=True):
        assert not piece[length:].any()
        assert np.isnan(ahead[length:]).all()
        for step, after in zip(piece[:length], ahead[:length], strict=True):
            n, t = np.argwhere((x == step).all(axis=2))[0]
            assert t < lengths[n]
            np.testing.assert_array_equal(after, target[n, t])
            seen.add((n, t))
    assert seen == {(n, t) for n, length in enumerate(lengths) for t in range(length)}
    assert stretches(Batch(x, target, lengths), 23).x is x


def test_a_validation_share_is_held_out_of_each_class(tmp_path):
    labels = ["rare"] * 8 + ["often"] * 32
    rows = [[n, t, 0.1 * t, label] for n, label in enumerate(labels) for t in range(3)]
    lines = [",".join(map(str, row)) for row in (["series", "time", "step", "target"], *rows)]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    draws = set()
    for seed in range(5):
        parts = read_parts(
            tmp_path / "my.csv", "classification", None,
            share=0.25, other=None, seed=seed, horizon=None,
        )  # fmt: skip
        assert parts.train.target is not None
        assert parts.held_out.target is not None
        assert sorted(parts.held_out.target) == ["often"] * 8 + ["rare"] * 2
        assert sorted(parts.train.target) == ["often"] * 24 + ["rare"] * 6
        assert not set(parts.train.names) & set(parts.held_out.names)
        draws.add(parts.held_out.names)
    assert len(draws) == 5


def labelled(labels):
    x = np.random.default_rng(0).normal(size=(len(labels), 5, 2)).astype(np.float32)
    names = tuple(map(str, range(len(labels))))
    return SequenceData(x, np.full(len(labels), 5), np.array(labels), names)


def test_data_without_a_file_are_named_by_themselves():
    parts = hold_out(labelled(["up", "down"] * 6), "classification", share=0.25, seed=0)
    assert (len(parts.train), len(parts.held_out)) == (9, 3)
    preparation = fit_preparation(
        parts, "classification", horizon=None, standardise=True, columns=None
    )
    with pytest.raises(DataError, match=r"^target: the class 'aside' was not in the training data"):
        check_classes(preparation, labelled(["aside"]), None)


def test_what_python_gives_is_named_in_its_own_words():
    short = SequenceData(np.ones((2, 9, 1), np.float32), np.full(2, 9), None, ("a", "b"))
    with pytest.raises(DataError, match="Use a smaller horizon, another validation, or longer"):
        hold_out(short, "forecasting", share=0.5, seed=0, horizon=7)


@pytest.mark.parametrize(("task", "told"), [("forecasting", 1), ("tagging", 0)])
def test_rows_that_a_forecast_lacks_are_told(tmp_path, task, told):
    """A season is counted in rows, and 2 in 60 that are not there shift it, held out or not."""
    path = tmp_path / "a.csv"
    rows = [f"{t},{t % 7},{t % 2}" for t in range(60) if t not in (20, 55)]
    path.write_text("\n".join(["time,f,target", *rows]))
    columns = Columns(series=None, target="f" if task == "forecasting" else "target")
    horizon = 2 if task == "forecasting" else None
    parts = read_parts(path, task, columns, share=0.2, other=None, seed=0, horizon=horizon)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        fit_preparation(parts, task, horizon=horizon, standardise=True, columns=columns)
    said = [str(one.message) for one in given]
    assert sum("2 steps left out" in one for one in said) == told
