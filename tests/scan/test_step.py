import itertools

import pytest
import torch
from tests.scan import cases

from longlag import cells
from longlag.recurrence import block_diagonal, block_triangular
from longlag.recurrence.lowered import Product, lower
from longlag.scan import Weights
from longlag.scan.connections import matrix_of
from longlag.scan.step import outer, times, torch_step


def test_one_product_serves_the_gates_that_read_alike():
    assert torch_step(cells.LSTM().recurrence).products == (
        Product(0, False, None, (0, 1, 2, 3), (0, 1, 2, 3)),
    )
    assert torch_step(cells.LSTM1997().recurrence).products == (
        Product(0, True, None, (0, 1, 2), (0, 1, 2)),
    )
    assert torch_step(cells.IndRNN().recurrence).products == ()
    mixed = torch_step(cases.Mixed().recurrence)
    assert mixed.products == (
        Product(1, False, None, (0,), (0,)),
        Product(0, True, None, (1,), (1,)),
        Product(0, False, None, (2,), (2,)),
    )


def test_a_product_has_one_source_one_way_and_one_pattern():
    triangle, cross, heads = block_triangular(3), ((0, 1), (1, 0)), block_diagonal(3)
    wired = cases.Wired().recurrence
    assert wired.states == ("h", "c", "h_1", "h_2", "h_3", "c_1")
    assert lower(wired).products == (
        Product(0, False, triangle, (0, 2), (0, 6)),
        Product(5, False, None, (0, 1), (1, 3)),
        Product(4, True, None, (0,), (2,)),
        Product(5, False, cross, (1,), (4,)),
        Product(3, False, heads, (2,), (5,)),
    )
    assert lower(cases.Delayed().recurrence).products == (
        Product(0, False, None, (0,), (0,)),
        Product(2, False, None, (0,), (1,)),
    )


@pytest.mark.parametrize("replicas", [(), (2,)])
def test_a_pattern_zeroes_blocks_whatever_stands_in_them(replicas):
    rows = cases.random(*replicas, 4, 4)
    expected = rows.clone()
    expected[..., 2:, :2] = 0.0
    poisoned = torch.where(expected == 0, float("nan"), rows)
    assert torch.equal(matrix_of(cells.Clockwork((1, 2)).recurrence, poisoned, None), expected)
    assert matrix_of(cells.Elman().recurrence, rows, None) is rows
    step = torch_step(cases.Wired().recurrence)
    recurrent = torch.full((*replicas, 7 * 6, 6), float("nan"))
    blocks = step.blocks(Weights(recurrent, ()))
    gradient = step.by_row([torch.full_like(block, float("nan")) for block in blocks], None)
    assert gradient is not None
    for number, wire in enumerate(step.recurrence.wires):
        ours = gradient[..., 6 * number : 6 * number + 6, :]
        there = wire.pattern or ((1,),)
        for i, j in itertools.product(range(len(there)), repeat=2):
            size = 6 // len(there)
            block = ours[..., i * size : (i + 1) * size, j * size : (j + 1) * size]
            assert block.isnan().all() if there[i][j] else (block == 0).all()


def test_the_whole_step_is_one_call_where_every_gate_is_dense_and_whole():
    assert torch_step(cells.LSTM().recurrence).fused
    assert not torch_step(cells.GRU().recurrence).fused
    assert not torch_step(cells.IndRNN().recurrence).fused
    assert not torch_step(cases.Mixed().recurrence).fused
    assert not torch_step(cases.Delayed().recurrence).fused
    assert not torch_step(cases.Blocks().recurrence).fused


def test_it_is_made_once_and_kept_with_the_recurrence():
    recurrence = cells.GRU().recurrence
    assert torch_step(recurrence) is torch_step(recurrence)
    assert torch_step(recurrence) is torch_step(cells.GRU().recurrence)
    assert torch_step(recurrence) is not torch_step(cells.GRU(recurrent_bias=False).recurrence)


def test_blocks_are_the_rows_of_each_product():
    step = torch_step(cases.Mixed().recurrence)
    recurrent = cases.random(9, 3)
    blocks = step.blocks(Weights(recurrent, ()))
    assert len(blocks) == 3
    assert all(torch.equal(*pair) for pair in zip(blocks, recurrent.split(3), strict=True))
    assert step.blocks(Weights(None, ())) == []


@pytest.mark.parametrize("front", [(), (5,)])
@pytest.mark.parametrize("replicas", [(), (2,)])
def test_times_is_a_product_for_each_step_and_replica(front, replicas):
    x, matrix = cases.random(*front, *replicas, 4, 3), cases.random(*replicas, 3, 6, seed=1)
    letters = "ijk"[: len(front)], "r"[: len(replicas)]
    pattern = "{0}{1}na,{1}ab->{0}{1}nb".format(*letters)
    torch.testing.assert_close(times(x, matrix), torch.einsum(pattern, x, matrix))


@pytest.mark.parametrize("replicas", [(), (2,)])
def test_outer_sums_over_steps_and_sequences(replicas):
    x, y = cases.random(5, *replicas, 4, 3), cases.random(5, *replicas, 4, 2, seed=1)
    r = "r"[: len(replicas)]
    torch.testing.assert_close(
        outer(x, y, bool(replicas)), torch.einsum(f"t{r}na,t{r}nb->{r}ab", x, y)
    )
