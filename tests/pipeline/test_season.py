"""The season of made series, with and without one."""

import numpy as np
import pytest

from longlag.pipeline.season import find_season


def seasonal(rng, count, steps, season, noise):
    """A pattern drawn for all, on trends, with noise of its own for each: (N, T, 1)."""
    pattern = rng.normal(size=season)
    pattern = (pattern - pattern.mean()) / pattern.std()
    at = np.arange(steps)
    values = pattern[at % season] + noise * rng.normal(size=(count, steps))
    return (values + rng.normal(size=(count, 1)) * at / 20)[:, :, None]


@pytest.mark.parametrize(
    ("count", "steps", "season", "noise"),
    [(1, 40, 7, 0.3), (1, 115, 12, 0.5), (1, 500, 24, 1.0), (10, 60, 12, 0.5), (50, 30, 5, 1.0)],
)
def test_a_season_is_found(count, steps, season, noise):
    found = []
    for seed in range(20):
        values = seasonal(np.random.default_rng(seed), count, steps, season, noise)
        found.append(find_season(values, np.full(count, steps)))
    assert found.count(season) >= 17, found


def test_a_smooth_season_is_found_under_noise_that_hides_its_changes():
    """Of shops by month: promotions change what is sold by more than the season does in a month."""
    rng = np.random.default_rng(0)
    months, lengths = np.arange(96), rng.integers(75, 97, 50)
    values = np.zeros((50, 96, 1))
    for shop, length in enumerate(lengths):
        season = 1 + 0.3 * np.cos(2 * np.pi * (months + 6 * (shop % 2)) / 12)
        promoted = 1 + 0.4 * (rng.random(96) < 0.15)
        values[shop, :length, 0] = (season * promoted * (100 + months))[:length]
    assert find_season(values, lengths) == 12
    changes = [np.diff(values[n, :length, 0]) for n, length in enumerate(lengths)]
    known = [np.corrcoef(one[12:], one[:-12])[0, 1] for one in changes]
    assert np.mean(known) < 0.3


def autoregressive(rng, count, steps, shares):
    values, noise = np.zeros((count, steps + 50)), rng.normal(size=(count, steps + 50))
    for t in range(2, steps + 50):
        values[:, t] = noise[:, t]
        for lag, share in enumerate(shares, start=1):
            values[:, t] += share * values[:, t - lag]
    return values[:, 50:, None]


@pytest.mark.parametrize("shares", [(), (1.0,), (0.7,), (0.5, -0.3)], ids=str)
@pytest.mark.parametrize(("count", "steps"), [(1, 40), (1, 300), (10, 60)])
def test_chance_is_no_season(shares, count, steps):
    """Noise, random walks, what fades and what swings irregularly."""
    rng = np.random.default_rng(0)
    found = [
        find_season(autoregressive(rng, count, steps, shares), np.full(count, steps))
        for _ in range(40)
    ]
    assert sum(season > 1 for season in found) <= 3, found


def test_what_is_common_to_all_series_counts_once():
    """Fifty walks that are nearly the same are no more evidence than one."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        steps = 0.2 * rng.normal(size=(50, 80, 1)) + rng.normal(size=(1, 80, 1))
        found.append(find_season(steps.cumsum(1), np.full(50, 80)))
    assert sum(season > 1 for season in found) <= 2, found


def test_series_too_short_or_constant_have_none():
    assert find_season(np.ones((2, 50, 1)), np.full(2, 50)) == 1
    assert find_season(np.arange(50.0).reshape(1, 50, 1), np.array([50])) == 1
    for steps in range(7):
        walk = np.random.default_rng(0).normal(size=(2, steps, 2)).cumsum(1)
        assert find_season(walk, np.full(2, steps)) in (1, 2)
    assert find_season(np.zeros((0, 5, 1)), np.zeros(0, np.int64)) == 1


def test_the_longest_season_is_a_third_of_the_series_or_what_is_said():
    values = np.sin(2 * np.pi * np.arange(90.0) / 30).reshape(1, 90, 1)
    assert find_season(values, np.array([90])) == 30
    assert find_season(values[:, :80], np.array([80])) == 1
    assert find_season(values, np.array([90]), longest=29) == 1
