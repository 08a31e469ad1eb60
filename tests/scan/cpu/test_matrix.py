"""The matrix functions against PyTorch, at sizes below, at and above those of tiles."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longlag.scan.cpu.matrix import Matrix, matrix, packing, send
from longlag.scan.cpu.target import host

DTYPES = {False: torch.float32, True: torch.float64}


def call(address, *given):
    words = [each.data_ptr() if isinstance(each, torch.Tensor) else each for each in given]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(words))(address)(*words)


def facts_of(double, hidden, vectors):
    lanes = min(host().lanes(8 if double else 4), 1 << (hidden.bit_length() - 1))
    vectors = min(vectors, -(-hidden // lanes))
    return Matrix(double, lanes, vectors, host().registers)


def starts_of(hidden, lanes):
    return [min(v * lanes, hidden - lanes) for v in range(-(-hidden // lanes))]


def panels_of(rows, lanes):
    """(P, H) as panels (vectors, P, lanes)."""
    return torch.stack(
        [rows[:, start : start + lanes] for start in starts_of(rows.shape[1], lanes)]
    ).contiguous()


def numbers(*shape, double, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).to(DTYPES[double])


def assert_close(mine, theirs, double):
    scale = max(1.0, float(theirs.abs().max()))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=scale * (1e-13 if double else 1e-5))


SIZES = {
    "double": st.booleans(),
    "hidden": st.sampled_from([1, 3, 8, 15, 16, 17, 33, 48, 70]),
    "rows": st.sampled_from([1, 2, 5, 127, 128, 129, 300]),
    "width": st.sampled_from([1, 2, 7, 8, 9, 16, 31, 33]),
    "vectors": st.integers(1, 4),
}
checked = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.mark.slow
@checked
@given(**SIZES)
def test_the_drive_is_the_input_product(double, hidden, rows, width, vectors):
    facts, gates = facts_of(double, hidden, vectors), 3
    x = numbers(rows, width, double=double, seed=1)
    u = numbers(gates * hidden, width, double=double, seed=2)
    bias = numbers(gates * hidden, double=double, seed=3)
    blocks = -(-hidden // facts.units)
    packed = torch.full((blocks * gates * width * facts.units,), float("nan"), dtype=x.dtype)
    functions = matrix(facts)
    call(functions["pack"], u, packed, hidden, width, gates, torch.arange(gates), 0, blocks)
    found = torch.full((rows, gates * hidden), float("nan"), dtype=x.dtype)
    call(
        functions["drive"], x, width, rows, packed, width, bias, found, gates * hidden, hidden,
        gates, 0, blocks,
    )  # fmt: skip
    assert_close(found, x @ u.T + bias, double)


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize(("hidden", "vectors"), [(32, 2), (37, 4), (70, 2), (130, 6)])
def test_weights_are_packed_rounded_to_the_nearest_even(hidden, vectors, halves):
    """As PyTorch rounds them; ties, subnormal numbers and what is no number among them."""
    lanes, wires = min(host().lanes(4), 16), 2
    facts = Matrix(False, lanes, vectors, host().registers, bfloat16=True, halves=halves)
    w = numbers(wires * hidden, hidden, double=False, seed=0)
    ties = (torch.arange(hidden).view(torch.int64) << 15) + 0x3F800000  # each second one
    w[0] = ties.to(torch.int32).view(torch.float32)
    special = [float("nan"), float("inf"), -float("inf"), -0.0, 3.3e38, 3.4e38, 1e-40, -1e-42]
    w[1, :8] = torch.tensor(special)
    w[2, 0] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    wanted = w.to(torch.bfloat16).float()
    blocks, shared = -(-hidden // facts.units), 2 if halves else 1
    for name, source in (("pack", wanted), ("pack_back", None)):
        packed = torch.zeros(blocks, wires, hidden, facts.packed // lanes, lanes)
        call(packing(facts)[name], w, packed, hidden, hidden, wires, torch.arange(wires), 0, blocks)
        words = packed.view(torch.int32)
        parts = [words] if not halves else [words << 16, words & -65536]
        found = torch.stack(parts, 4).view(torch.float32).flatten(3, 4)  # by vector, lane
        starts = [min(v * lanes, hidden - lanes) for v in range(blocks * vectors)]
        for wire in range(wires):
            block = wanted[wire * hidden : (wire + 1) * hidden]
            rows = block if source is not None else block.T
            for v, start in enumerate(starts):
                mine = found[v // vectors, wire, :, v % vectors]
                theirs = rows[start : start + lanes].T
                assert torch.equal(mine.nan_to_num(7.0), theirs.nan_to_num(7.0))
    assert shared * facts.packed == facts.units


@checked
@given(**SIZES)
def test_outer_products_of_panels(double, hidden, rows, width, vectors):
    facts = facts_of(double, hidden, vectors)
    lanes, functions = facts.lanes, matrix(facts)
    errors = numbers(rows, hidden, double=double, seed=1)
    states = numbers(rows, hidden, double=double, seed=2)
    left, right = panels_of(errors, lanes), panels_of(states, lanes)
    count = left.shape[0]
    everything = torch.tensor([[v, 0, count] for v in range(count)])
    sums = torch.zeros(count * lanes, count, lanes, dtype=errors.dtype)
    for _ in range(2):  # it adds to what is there
        call(
            functions["outer"], sums, left, right, rows * lanes, lanes, rows, hidden, everything,
            count,
        )  # fmt: skip
    found = torch.full((hidden, hidden), float("nan"), dtype=errors.dtype)
    call(functions["unpack"], sums, found, hidden)
    assert_close(found, 2 * errors.T @ states, double)

    x = numbers(rows, width + 1, double=double, seed=3)
    x[:, -1] = 1.0
    sums = torch.zeros(width + 1, count, lanes, dtype=errors.dtype)
    wide = count * lanes
    call(
        functions["outer_input"], sums, wide, x, width + 1, width + 1, left, rows * lanes, rows,
        hidden,
    )  # fmt: skip
    found = torch.full((hidden, width), float("nan"), dtype=errors.dtype)
    bias = torch.full((hidden,), float("nan"), dtype=errors.dtype)
    call(functions["unpack_input"], sums, wide, found, bias, hidden, width)
    assert_close(found, errors.T @ x[:, :-1], double)
    assert_close(bias, errors.sum(0), double)


@pytest.mark.slow
@checked
@given(**SIZES)
def test_errors_are_sent_back_to_the_input(double, hidden, rows, width, vectors):
    facts = facts_of(double, hidden, vectors)
    lanes = facts.lanes
    errors = numbers(rows, 2, hidden, double=double, seed=1)
    u = numbers(2 * hidden, width, double=double, seed=2)
    # The gates' errors in the second and third of three drives, in the other order.
    junk = torch.full((1,), float("nan"), dtype=u.dtype).expand(rows, hidden)
    panels = torch.cat([panels_of(part, lanes) for part in (junk, errors[:, 1], errors[:, 0])])
    slots = torch.tensor([2, 1])
    where = torch.randperm(rows, generator=torch.Generator().manual_seed(3)) * width
    wide = min(host().lanes(8 if double else 4), 1 << (width.bit_length() - 1))
    found = torch.full((rows, width), float("nan"), dtype=u.dtype)
    call(
        send(double, lanes, wide), panels, rows * lanes, rows, where, found, u, hidden, width, 2,
        slots,
    )  # fmt: skip
    assert_close(found[where // width], errors.flatten(1) @ u, double)


@pytest.mark.parametrize("double", [False, True])
def test_a_range_leaves_the_other_sums_alone(double):
    facts = facts_of(double, 64, 2)
    count = 64 // facts.lanes
    errors, states = (numbers(9, 64, double=double, seed=n) for n in (1, 2))
    sums = torch.zeros(64, count, facts.lanes, dtype=errors.dtype)
    some = torch.tensor([[1, 1, count], [count - 1, 0, 1]])
    call(
        matrix(facts)["outer"], sums, panels_of(errors, facts.lanes),
        panels_of(states, facts.lanes), 9 * facts.lanes, facts.lanes, 9, 64, some, 2,
    )  # fmt: skip
    expected = torch.zeros(64, 64, dtype=errors.dtype)
    lanes = facts.lanes
    for row, columns in ((slice(lanes, 2 * lanes), slice(lanes, 64)),
                         (slice(64 - lanes, 64), slice(0, lanes))):  # fmt: skip
        expected[row, columns] = (errors.T @ states)[row, columns]
    assert_close(sums.view(64, 64), expected, double)
