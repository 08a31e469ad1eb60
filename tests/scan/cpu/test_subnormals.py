"""Subnormal numbers count as zero inside the kernels, and nowhere else."""

import numpy as np
import pytest
import torch
from tests.scan import cases
from tests.scan.cpu.test_backend import threads

import longlag as ll
from longlag.recurrence import Cell, Dense, tanh
from longlag.scan.cpu.threads import POOL

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
STEPS = {torch.float32: 200, torch.float64: 1200}
"""In which halving goes below the smallest normal number."""


class Halved(Cell):
    """A state that only fades, and an error that fades on its way back."""

    gates = ("drive",)
    wiring = {"drive": Dense()}

    def update(self, pre, state, unit):
        return {"h": 0.5 * state.h + tanh(pre.drive)}


def subnormals(tensor):
    smallest = torch.finfo(tensor.dtype).tiny
    return int(((tensor != 0) & (tensor.abs() < smallest)).sum())


def faded(layer, dtype, rows):
    """All that a layer gives where one number is read and the error comes at the end."""
    x = torch.zeros(rows, STEPS[dtype], 1, dtype=dtype)
    x[:, 0] = 1.0
    x.requires_grad_()
    output, state = layer(x)
    output[:, -1].sum().backward()
    return [output.detach(), *(part.detach() for part in state), x.grad, *(
        parameter.grad for parameter in layer.parameters()
    )]  # fmt: skip


def halved(dtype, backend="cpu", hidden=16):
    torch.manual_seed(0)
    layer = ll.Recurrent(Halved(), 1, hidden, backend=backend, dtype=dtype)
    with torch.no_grad():
        layer.weight_hh.zero_()
    return layer


@DTYPES
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (3, 1), (16, 2)])
def test_what_fades_is_zero_in_the_end(dtype, rows, count):
    with threads(count):
        parts = faded(halved(dtype), dtype, rows)
    assert [subnormals(part) for part in parts] == [0] * len(parts)
    assert parts[0][:, -1].eq(0).all()
    assert parts[2][:, 0].eq(0).all()
    expected = faded(halved(dtype, "reference"), dtype, rows)
    assert subnormals(expected[0]) > 0  # the case has some
    for part, other in zip(parts, expected, strict=True):
        near = 1e3 * torch.finfo(dtype).tiny
        torch.testing.assert_close(part, other, rtol=1e-5, atol=near)


@pytest.mark.slow
@pytest.mark.every_cell
@pytest.mark.parametrize("name", cases.CELLS)
def test_no_cell_gives_a_subnormal_number(name):
    dtype = torch.float32
    for scale in (1e-3, 1e-20, 1e-36):
        torch.manual_seed(0)
        layer = ll.Recurrent(cases.CELLS[name], 1, 12, backend="cpu", dtype=dtype)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(scale)
        parts = faded(layer, dtype, 2)
        assert [subnormals(part) for part in parts] == [0] * len(parts), scale


@DTYPES
def test_what_is_read_counts_as_zero_too(dtype):
    layer = halved(dtype)
    tiny = torch.finfo(dtype).tiny
    with torch.no_grad():
        layer.weight_ih.fill_(1 / tiny)
        output, _ = layer(torch.full((2, 3, 1), tiny / 4, dtype=dtype))
        normal, _ = layer(torch.full((2, 3, 1), tiny, dtype=dtype))
    assert output.eq(0).all()
    assert normal.ne(0).all()


def halves_of_the_smallest():
    """What Python, NumPy and PyTorch make of halves of the smallest normal numbers."""
    single, double = torch.finfo(torch.float32).tiny, torch.finfo(torch.float64).tiny
    return (
        double / 2,
        (np.full(5, single, np.float32) * np.float32(0.5)).tolist(),
        (torch.full((5,), single) * 0.5).tolist(),
    )


@pytest.mark.parametrize("flushes", [False, True])
def test_the_mode_of_each_thread_is_as_before(flushes):
    """Also where the user has chosen it."""
    layer = halved(torch.float32)
    outside = halves_of_the_smallest()
    assert outside[0] > 0
    assert all(outside[1])
    assert all(outside[2])
    seen = []
    with threads(2):
        faded(layer, torch.float32, 16)  # there is a pool by now
        torch.set_flush_denormal(flushes)
        try:
            here = halves_of_the_smallest()
            faded(layer, torch.float32, 16)
            assert halves_of_the_smallest() == here
        finally:
            torch.set_flush_denormal(False)
        POOL.run(lambda part, parts: seen.append(halves_of_the_smallest()), 2)
    assert halves_of_the_smallest() == outside
    assert seen == [outside] * 2
