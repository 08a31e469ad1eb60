"""A network knows the series it was trained on again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from longlag.data import SequenceData
from longlag.pipeline.seen import Seen


def series(count: int = 6, seed: int = 0) -> SequenceData:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 5, 2)).astype(np.float32)
    x[:, :, 1] = rng.integers(0, 2, (count, 5))
    names = tuple(f"s{n}" for n in range(count))
    lengths = np.array([5, 3] * (count // 2))
    return SequenceData(x, lengths, None, names, ("f", "kind"), categories={"kind": ("a", "b")})


FEATURES = ("f", "kind")


def test_series_are_known_by_name_and_features():
    data = series()
    seen = Seen.from_dict(
        json.loads(json.dumps(Seen.of(data.select([0, 1, 2]), FEATURES).to_dict()))
    )
    assert seen.count(data, FEATURES) == 3
    assert seen.count(series(seed=1), FEATURES) == 0  # the same names
    assert seen.count(replace(data, names=tuple("uvwxyz")), FEATURES) == 0
    assert Seen.from_dict(None).count(data, FEATURES) == 0


def test_the_order_of_columns_and_categories_does_not_matter():
    data = series()
    seen = Seen.of(data, FEATURES)
    turned = replace(
        data, x=np.stack([1 - data.x[:, :, 1], data.x[:, :, 0]], axis=2),
        feature_names=("kind", "f"), categories={"kind": ("b", "a")},
    )  # fmt: skip
    assert seen.count(turned, FEATURES) == 6
    renamed = replace(data, categories={"kind": ("c", "d")})
    assert seen.count(renamed, FEATURES) == 0


def test_a_series_whose_end_was_held_out_is_known_too():
    data = series()
    past, _ = data.split_time(0.4)
    assert Seen.of(past, FEATURES).count(data, FEATURES) == 6
    assert Seen.of(data, FEATURES).count(past, FEATURES) == 0


def test_of_very_many_series_some_are_kept(monkeypatch):
    monkeypatch.setattr("longlag.pipeline.seen.MOST", 4)
    assert list(Seen.of(series(), FEATURES).series) == ["s0", "s1", "s3", "s5"]


@pytest.mark.parametrize("record", [[], {"a": 3}, {"a": ["x", "y"]}])
def test_what_is_damaged_is_refused(record):
    with pytest.raises(ValueError, match="the series it was trained on is damaged"):
        Seen.from_dict(record)
