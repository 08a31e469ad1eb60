"""The processor's peaks are those of a processor."""

import pytest

from longlag.lab.bench.machine import bandwidth, describe, peak_flops
from longlag.scan.cpu.target import host


@pytest.mark.skipif(not host().fma, reason="no fused multiply-add")
def test_the_peak_is_between_one_and_a_thousand_gigaflops():
    peak = peak_flops(1)
    assert peak is not None
    assert 1e9 < peak < 1e12
    # Two operations a lane: not even one multiply-add a nanosecond would mean that it waits.
    assert peak > host().lanes(4) * 1e9


def test_the_best_peak_counts(monkeypatch):
    from longlag.lab.bench import machine

    rates = iter([1.0, 5.0, 3.0, 2.0, 4.0, 9.0])  # four at first, then one at a time
    monkeypatch.setattr(machine, "_SEEN", {})
    monkeypatch.setattr(machine, "_peak", lambda threads: next(rates))
    assert [machine.peak_flops(2) for _ in range(3)] == [5.0, 5.0, 9.0]


def test_a_near_cache_is_read_faster_than_a_tenth_of_a_register_a_nanosecond():
    assert 1e9 < bandwidth(1 << 14) < 1e13
    assert 1e8 < bandwidth(1 << 23) < 1e13


def test_a_processor_without_fused_multiply_add_has_no_peak(monkeypatch):
    from dataclasses import replace

    from longlag.lab.bench import limits, machine, problem, rows

    without = replace(host(), fma=False)
    monkeypatch.setattr(machine, "host", lambda: without)
    assert peak_flops(1) is None
    little = problem.Problem(rows.Row("elman", 2, 3, 4, 5))
    assert limits.least_seconds(little, "forward", 1) is None


def test_the_machine_is_described():
    found = describe()
    assert found["vector_bits"] in (128, 256, 512)
    assert found["processor"]
