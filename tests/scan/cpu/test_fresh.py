"""New memory: of the shape, dtype and alignment that was asked for, whatever the system says."""

import sys

import pytest
import torch

from longlag.scan.cpu import fresh as module
from longlag.scan.cpu.fresh import LEAST, fresh


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0, 1, 1000, LEAST // 4 - 1, LEAST // 4, LEAST + 12345])
def test_it_is_as_asked_for(dtype, size):
    tensor = fresh(torch.zeros((), dtype=dtype), (size, 2))
    assert tensor.shape == (size, 2)
    assert tensor.dtype == dtype
    tensor.fill_(3.0)
    assert float(tensor.sum()) == 6.0 * size


def test_only_whole_pages_within_are_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "_advise", lambda: lambda *given: asked.append(given))
    small = fresh(torch.zeros(()), (LEAST // 4 - 1,))
    assert asked == []
    large = fresh(torch.zeros(()), (5 * LEAST // 4 + 3,))
    ((first, size, advice),) = asked
    page, begin = 1 << 21, large.data_ptr()
    assert first % page == size % page == 0
    assert begin <= first
    assert first + size <= begin + large.numel() * 4
    assert size >= 5 * LEAST - 2 * page
    assert advice == 14
    assert small is not None


def test_where_the_system_knows_no_such_pages_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    module._advise.cache_clear()
    try:
        assert module._advise()(0, 1 << 21, 14) is None
    finally:
        module._advise.cache_clear()
