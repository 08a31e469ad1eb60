from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from longlag.data import DataError, SequenceData

LENGTHS = np.array([4, 1, 3, 2, 4, 2, 3, 1, 4, 2])


def ragged(target: np.ndarray | None = None) -> SequenceData:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(10, 4, 2)).astype(np.float32)
    x[np.arange(4) >= LENGTHS[:, None]] = 0
    times = np.where(np.arange(4) < LENGTHS[:, None], np.array(["0s", "1s", "2s", "3s"]), "")
    return SequenceData(x, LENGTHS, target, tuple("abcdefghij"), ("u", "v"), ("y",), times)


def test_select_takes_every_part_in_the_order_given():
    data = ragged(np.arange(10.0))
    part = data.select([7, 2])
    assert part.names == ("h", "c")
    assert part.lengths.tolist() == [1, 3]
    np.testing.assert_array_equal(part.x, data.x[[7, 2]])
    assert part.target is not None
    assert part.target.tolist() == [7.0, 2.0]
    assert part.times is not None
    assert part.times.tolist() == [["0s", "", "", ""], ["0s", "1s", "2s", ""]]
    assert data.select(LENGTHS == 1).names == ("b", "h")


def test_split_is_a_partition_and_the_seed_decides_it():
    data = ragged()
    train, held = data.split(0.3, 5)
    assert (len(train), len(held)) == (7, 3)
    assert sorted(train.names + held.names) == list(data.names)
    assert list(held.names) == sorted(held.names)
    assert data.split(0.3, 5)[1].names == held.names
    assert len({data.split(0.3, seed)[1].names for seed in range(20)}) > 10
    np.testing.assert_array_equal(held.x, data.select(np.isin(data.names, held.names)).x)


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.99, 9)])
def test_split_leaves_a_series_on_each_side(fraction, count):
    assert len(ragged().split(fraction, 0)[1]) == count


def test_stratify_keeps_the_share_of_each_class():
    labels = np.array(list("aaaaaabbbc"))
    for seed in range(10):
        train, held = ragged(labels).split(0.3, seed, stratify=True)
        assert held.target is not None
        assert train.target is not None
        assert sorted(held.target.tolist()) == ["a", "a", "b"]
        assert set(train.target.tolist()) == {"a", "b", "c"}
    drawn = {ragged(labels).split(0.3, seed, stratify=True)[1].names for seed in range(20)}
    assert len(drawn) > 5


def test_split_says_what_it_cannot_do():
    with pytest.raises(DataError, match=r"fraction: .* in \(0, 1\), got 1.0"):
        ragged().split(1.0, 0)
    with pytest.raises(DataError, match="at least 2 series to hold one out, got 1"):
        ragged().select([0]).split(0.5, 0)
    with pytest.raises(DataError, match="one class label per series"):
        ragged(np.arange(10.0)).split(0.5, 0, stratify=True)
    with pytest.raises(DataError, match=r"hold out 5 of 10 .* only 0 can go"):
        ragged(np.arange(10)).split(0.5, 0, stratify=True)


def test_split_time_cuts_each_series_without_overlap():
    whole = ragged().select(LENGTHS > 1)
    past, future = whole.split_time(0.25)
    assert past.lengths.tolist() == [3, 2, 1, 3, 1, 2, 3, 1]
    assert (past.lengths + future.lengths).tolist() == whole.lengths.tolist()
    for n, length in enumerate(whole.lengths):
        joined = np.concatenate(
            [past.x[n, : past.lengths[n]], future.x[n, : future.lengths[n]]], axis=0
        )
        np.testing.assert_array_equal(joined, whole.x[n, :length])
    assert not past.x[~past.valid].any()
    assert not future.x[~future.valid].any()
    assert future.times is not None
    assert future.times[0].tolist() == ["3s"]


def test_split_time_cuts_tags_and_refuses_a_target_per_series():
    tags = np.where(np.arange(4) < LENGTHS[:, None], np.array(list("wxyz")), "")
    tagged = ragged(tags).select([0, 3])
    past, future = tagged.split_time(0.5)
    assert past.target is not None
    assert future.target is not None
    assert past.target.tolist() == [["w", "x"], ["w", ""]]
    assert future.target.tolist() == [["y", "z"], ["x", ""]]
    with pytest.raises(DataError, match="one per series; use split"):
        ragged(np.arange(10.0)).split_time(0.5)
    with pytest.raises(DataError, match="2 series have one step only, as 'b'"):
        ragged().split_time(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((10, 4), np.float32)}, r"x: expected \(N, T, C\)"),
        ({"x": np.zeros((10, 4, 2))}, "of float32, got .* of float64"),
        ({"lengths": LENGTHS[1:]}, r"lengths: expected \(10,\)"),
        ({"lengths": LENGTHS + 1}, "lengths: expected 1 to T = 4, got 2 to 5"),
        ({"lengths": LENGTHS - 1}, "got 0 to 3"),
        ({"names": ("a",)}, "names: expected 10"),
        ({"feature_names": ("u",)}, "feature_names: expected 2, got 1"),
        ({"target": np.arange(9)}, r"target: expected \(10,\)"),
        ({"target": np.zeros((10, 3), int)}, r"target: expected \(10, 4\)"),
        ({"target": np.zeros(10, object)}, "got .* of object"),
        ({"times": np.zeros((10, 3), str)}, r"times: expected \(10, 4\)"),
    ],
)
def test_parts_that_disagree_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        replace(ragged(), **change)


@pytest.mark.parametrize("part", ["x", "lengths", "target", "times"])
@pytest.mark.parametrize("value", [["a"], 3, "abc"])
def test_a_part_that_is_no_array_is_named(part, value):
    parts = {"x": np.ones((1, 2, 1), np.float32), "lengths": np.array([2]), "target": None}
    with pytest.raises(DataError, match=rf"^{part}: expected an array of NumPy, got "):
        SequenceData(**{**parts, "names": ("a",), part: value})
