"""Kernels on PyTorch's own threads, and where there are none."""

import pytest
import torch

import longlag as ll
from longlag.scan.cpu import openmp, shape

FOUND = openmp._openmp() is not None


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr(shape, "SMALL", 0)
    shape.shape_of.cache_clear()
    before = torch.get_num_threads()
    yield ll.LSTM(2, 5, seed=0, dtype=torch.float64), torch.randn(20, 6, 2, dtype=torch.float64)
    torch.set_num_threads(before)
    shape.shape_of.cache_clear()


def gradients(layer, x):
    output, state = layer(x)
    loss = output.sin().sum() + state.h.sum()
    return [output.detach(), *torch.autograd.grad(loss, list(layer.parameters()))]


@pytest.mark.skipif(not FOUND, reason="PyTorch's threads are not GNU OpenMP's")
@pytest.mark.parametrize("count", [2, 3])
def test_the_same_bits_as_on_threads_of_ones_own(problem, count, monkeypatch):
    torch.set_num_threads(count)
    done, start = [], openmp.run

    def noted(*arguments):
        done.append(start(*arguments))
        return done[-1]

    monkeypatch.setattr(openmp, "run", noted)
    found = gradients(*problem)
    assert done == [True, True]
    monkeypatch.setattr(openmp, "run", lambda *_: False)
    for mine, theirs in zip(gradients(*problem), found, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.skipif(not FOUND, reason="PyTorch's threads are not GNU OpenMP's")
def test_fewer_threads_than_parts_do_all_parts(problem, monkeypatch):
    torch.set_num_threads(3)
    expected = gradients(*problem)
    parallel, region, counts = openmp._openmp()
    fewer = lambda region, words, threads, flags: parallel(region, words, 2, flags)  # noqa: E731
    monkeypatch.setattr(openmp, "_openmp", lambda: (fewer, region, counts))
    for mine, theirs in zip(gradients(*problem), expected, strict=True):
        assert torch.equal(mine, theirs)


def test_a_forked_process_has_none(monkeypatch):
    monkeypatch.setattr(openmp._Forked, "so", True)
    assert not openmp.run(lambda *_: None, b"", 2)
