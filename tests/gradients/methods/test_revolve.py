"""The binomial schedule: the least number of steps, and no more states than allowed."""

import functools
from math import comb

import pytest

from longlag.gradients.methods.revolve import advances, reverse, split, starts


@functools.cache
def least(steps, stored):
    """By trying every place for the next stored state."""
    if steps == 1:
        return 0
    if stored == 1:
        return steps * (steps - 1) // 2
    return min(k + least(steps - k, stored - 1) + least(k, stored) for k in range(1, steps))


@pytest.mark.parametrize("stored", range(1, 9))
def test_the_closed_form_is_the_least(stored):
    assert all(advances(steps, stored) == least(steps, stored) for steps in range(1, 70))


@pytest.mark.parametrize(("stored", "repetitions"), [(1, 4), (3, 2), (3, 5), (5, 3), (10, 3)])
def test_the_published_reach(stored, repetitions):
    """C(c + r, c) steps are the most that c states reverse with r runs of each step (1992)."""
    steps = comb(stored + repetitions, stored)
    extra = advances(steps + 1, stored) - advances(steps, stored)
    assert extra == repetitions + 1
    assert advances(steps, stored) - advances(steps - 1, stored) == repetitions


@pytest.mark.parametrize("stored", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 33, 64])
def test_every_step_comes_once_the_last_first_from_its_own_state(steps, stored):
    states, order, moved, most = {0: 0}, [], [], 0

    def advance(state, first, until):
        nonlocal most
        assert state == first < until
        moved.append(until - first)
        most = max(most, len(states))
        return until

    def back(step, state):
        assert state == step
        order.append(step)

    reverse(steps, stored, states, advance, back)
    assert order == list(reversed(range(steps)))
    assert sum(moved) == advances(steps, stored)
    assert not states
    assert most <= stored


@pytest.mark.parametrize(("steps", "stored"), [(1, 1), (2, 1), (10, 3), (64, 6), (5, 9)])
def test_the_first_pass_stores_what_is_wanted_first(steps, stored):
    places = list(starts(steps, stored))
    assert places[0] == 0
    assert len(places) <= stored
    moved = []

    def advance(state, first, until):
        moved.append((first, until))
        return until

    reverse(steps, stored, {n: n for n in places}, advance, lambda step, state: None)
    assert sum(b - a for a, b in moved) == advances(steps, stored) - places[-1]


def test_a_split_leaves_something_on_both_sides():
    assert all(0 < split(n, c) < n for n in range(2, 100) for c in range(2, 12))
