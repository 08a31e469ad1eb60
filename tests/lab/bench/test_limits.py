"""The limit by hand, for a processor with round numbers."""

import pytest

from longlag.lab.bench import limits
from longlag.lab.bench.limits import LATENCY, least_seconds, scan_flops
from longlag.lab.bench.problem import Problem
from longlag.lab.bench.rows import Row


@pytest.fixture(autouse=True)
def _round_numbers(monkeypatch):
    monkeypatch.setattr(limits, "peak_flops", lambda threads: 1e9 * threads)
    monkeypatch.setattr(limits, "bandwidth", lambda size: 1e9)


def test_arithmetic_of_a_batch():
    problem = Problem(Row("lstm", 32, 10, 6, 8))
    scan, product = 2 * 32 * 10 * 4 * 8 * 8, 2 * 32 * 10 * 4 * 8 * 6
    assert scan_flops(problem) == scan
    for name, flops, passes in (
        ("scan", scan, 1),
        ("forward", scan + product, 1),
        ("forward+backward", 3 * scan + 2 * product, 2),
    ):
        expected = flops / 1e9 + passes * 10 * LATENCY
        assert least_seconds(problem, name, 1) == pytest.approx(expected)
        halved = flops / 2e9 + passes * 10 * LATENCY
        assert least_seconds(problem, name, 2) == pytest.approx(halved)


def test_weights_of_one_sequence_and_a_second_thread_with_nothing_to_do():
    problem = Problem(Row("elman", 1, 10, 1, 8))
    expected = 10 * (4 * 8 * 8 / 1e9 + LATENCY)  # 256 bytes a step take longer than 128 operations
    assert least_seconds(problem, "scan", 1) == pytest.approx(expected)
    assert least_seconds(problem, "scan", 2) == pytest.approx(expected)


def test_replicas_share_the_threads_and_each_has_weights():
    problem = Problem(Row("elman", 1, 10, 1, 8, replicas=4))
    for threads in (1, 2):
        expected = 10 * (4 // threads * 4 * 8 * 8 / 1e9 + LATENCY)
        assert least_seconds(problem, "scan", threads) == pytest.approx(expected)


def test_padding_is_no_work():
    ragged = Problem(Row("gru", 16, 40, 1, 8, ragged=True))
    assert ragged.lengths is not None
    assert scan_flops(ragged) == 2 * int(ragged.lengths.sum()) * 3 * 8 * 8
