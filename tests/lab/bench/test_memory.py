import sys

import pytest
import torch

from longlag.lab.bench import memory
from longlag.lab.bench.memory import peak_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's high-water mark is Linux's")
def test_the_peak_is_what_a_call_holds_at_most():
    size = 60_000_000  # bytes

    def call():
        for _ in range(3):  # one after the other: the memory of one
            torch.ones(size // 4).sum()

    for _ in range(2):  # and again, though the memory was there before
        found = peak_bytes(call)
        assert found is not None
        assert 0.95 * size < found < 1.2 * size
    little = peak_bytes(lambda: torch.ones(4))
    assert little is not None
    assert little < 2_000_000


def test_where_there_is_no_such_mark_nothing_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_RESET", tmp_path / "no" / "file")
    assert peak_bytes(lambda: None) is None
