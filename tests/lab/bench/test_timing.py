import gc
import time

import pytest

from longlag.lab.bench.results import Timing
from longlag.lab.bench.timing import Effort, Samples, in_turns, quartiles


def test_each_has_its_turn_in_every_round():
    seen = []
    calls = {name: (lambda name=name: seen.append(name)) for name in "abc"}
    samples = in_turns(calls, Effort(seconds=0.0, rounds=(4, 9), turn=0.0))
    assert seen == [*"abc", *"abc" * 4]  # one to see how long it takes, then the rounds
    assert all(len(each.seconds) == 4 for each in samples.values())


def test_a_short_call_is_repeated_and_the_time_is_of_one():
    count = [0]

    def call():
        count[0] += 1
        time.sleep(0.001)

    samples = in_turns({"a": call}, Effort(seconds=0.0, rounds=(3, 3), turn=0.02))
    assert count[0] > 3 * 3
    assert 0.0009 < min(samples["a"].seconds) < 0.01


def test_the_first_of_several_calls_is_not_counted():
    """It finds the caches full of what the others have left."""
    slow, took = [True], Samples()

    def call():
        time.sleep(0.05 if slow.pop() else 0.0)
        slow.append(False)

    took.turn(call, 3)
    assert took.seconds[0] < 0.01


def test_a_turn_begins_after_a_rest():
    samples, begun = Samples(), time.perf_counter()
    samples.turn(lambda: None, 1, rest=0.02)
    assert time.perf_counter() - begun >= 0.02
    assert samples.seconds[0] < 0.02


def test_rounds_go_on_while_there_is_time_and_stop_at_the_most():
    effort = Effort(seconds=60.0, rounds=(2, 7), turn=0.0)
    assert len(in_turns({"a": lambda: None}, effort)["a"].seconds) == 7


def test_a_slow_call_is_timed_once():
    calls = {"quick": lambda: None, "slow": lambda: time.sleep(0.03)}
    effort = Effort(seconds=0.0, rounds=(5, 5), turn=0.0, slow=0.02)
    samples = in_turns(calls, effort)
    assert len(samples["quick"].seconds) == 5
    assert len(samples["slow"].seconds) == 1
    assert samples["slow"].seconds[0] >= 0.03
    assert samples["slow"].cores < 0.9  # it slept


def test_garbage_is_collected_between_the_turns_only():
    was = []
    in_turns({"a": lambda: was.append(gc.isenabled())}, Effort(0.0, (2, 2), 0.0))
    assert was == [False] * 3
    assert gc.isenabled()


def test_ratios_are_taken_turn_by_turn():
    ours, theirs = Samples([1.0, 2.0, 4.0]), Samples([3.0, 6.0, 8.0])
    timing = Timing.of(theirs, ours, None)
    assert timing.ratio == quartiles([3.0, 3.0, 2.0])
    assert timing.seconds.median == 6.0
    once = Timing.of(Samples([8.0]), ours, 5)
    assert (once.ratio.median, once.turns, once.memory) == (4.0, 1, 5)


def test_quartiles_of_many():
    found = quartiles([float(value) for value in range(101)])
    assert (found.low, found.median, found.high) == pytest.approx((25, 50, 75))
