"""On which cores the threads of kernels are."""

import os
import sys
import threading

import pytest

from longlag.scan.cpu import threads
from longlag.scan.cpu.threads import Pool

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="of two cores of Linux"
)


def where(pool: Pool, parts: int = 2) -> dict[int, set[int]]:
    """Part by part on which cores its thread may be."""
    found: dict[int, set[int]] = {}
    together = threading.Barrier(parts)

    def task(part: int, _: int) -> None:
        together.wait(10)
        found[part] = os.sched_getaffinity(0)

    pool.run(task, parts)
    return found


def test_others_keep_off_the_callers_core_and_follow_it(monkeypatch):
    every, pool = os.sched_getaffinity(0), Pool()
    for core in sorted(every)[:2]:
        monkeypatch.setattr(threads, "_core", lambda core=core: core)
        for _ in range(3):  # whichever thread takes it
            assert where(pool) == {0: every, 1: every - {core}}


def test_one_core_is_shared(monkeypatch):
    every, pool = os.sched_getaffinity(0), Pool()
    core = min(every)
    monkeypatch.setattr(threads, "_core", lambda: core)
    os.sched_setaffinity(0, {core})
    try:
        assert where(pool) == {0: {core}, 1: {core}}
    finally:
        os.sched_setaffinity(0, every)


def test_a_system_that_does_not_tell_leaves_all_as_it_is(monkeypatch):
    every = os.sched_getaffinity(0)
    monkeypatch.setattr(threads, "_core", lambda: None)
    assert where(Pool()) == {0: every, 1: every}


def test_the_core_is_one_of_those_that_the_caller_may_use():
    assert threads._core() in os.sched_getaffinity(0)
