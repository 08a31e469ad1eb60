"""G7: a row alone equals its row in the batch, and padding, even NaN, changes nothing."""

import pytest
import torch
from tests.scan import cases

LENGTHS = torch.tensor([5, 0, 3, 7, 1])
STEPS = 7


def problem(cell, **options):
    hidden = cases.hidden_of(cell, 3)
    layer = cases.layer_of(cell, 2, hidden, **options)
    resets = torch.zeros(5, STEPS, dtype=torch.bool)
    resets[0, 2] = resets[2, 0] = resets[3, 5] = resets[2, 4] = True
    state = cases.states_of(cell, (5,), hidden, seed=20)
    return layer, cases.random(5, STEPS, 2, seed=9), state, resets


def results_of(layer, x, state, lengths, resets, weights, final_weights, backend):
    """As cases.run, with a loss that is a sum over rows, so that rows can be compared."""
    layer.backend = backend
    x = x.detach().requires_grad_()
    state = [part.detach().requires_grad_() for part in state]
    output, final = layer(x, state, lengths=lengths, resets=resets)
    loss = (output * weights).sum()
    for part, weight in zip(final, final_weights, strict=True):
        loss = loss + (part * weight).sum()
    parameters = list(layer.parameters())
    found = torch.autograd.grad(loss, [x, *state, *parameters], materialize_grads=True)
    own = 1 + len(state)
    return [output, *final, *found[:own]], found[own:]


@pytest.mark.slow
@pytest.mark.every_cell
@pytest.mark.parametrize(("name", "backend"), cases.PAIRS)
def test_a_row_alone_is_its_row_in_the_batch(name, backend):
    layer, x, state, resets = problem(cases.CELLS[name])
    weights = cases.random(5, STEPS, layer.hidden_size, seed=40)
    final_weights = [cases.random(*part.shape, seed=50 + n) for n, part in enumerate(state)]
    rows, total = results_of(layer, x, state, LENGTHS, resets, weights, final_weights, backend)
    sums = [torch.zeros_like(gradient) for gradient in total]
    for row, length in enumerate(LENGTHS.tolist()):
        one = slice(row, row + 1)
        alone, gradients = results_of(
            layer,
            x[one, :length],
            [part[one] for part in state],
            None,
            resets[one, :length],
            weights[one, :length],
            [weight[one] for weight in final_weights],
            backend,
        )
        for mine, whole in zip(alone, rows, strict=True):
            if whole.dim() == 3:
                assert (whole[row, length:] == 0).all()
                whole = whole[:, :length]
            torch.testing.assert_close(mine, whole[one], rtol=1e-12, atol=1e-12)
        sums = [a + b for a, b in zip(sums, gradients, strict=True)]
    for mine, whole in zip(sums, total, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.every_cell("slow")
@pytest.mark.parametrize("filling", [float("nan"), float("inf"), -1e300])
@pytest.mark.parametrize(("name", "backend"), cases.PAIRS)
def test_padding_changes_no_bit(name, backend, filling):
    layer, x, state, resets = problem(cases.CELLS[name])
    padding = (torch.arange(STEPS) >= LENGTHS.unsqueeze(-1)).unsqueeze(-1)
    schedule = {"lengths": LENGTHS, "resets": resets}
    zero = cases.run(layer, x.masked_fill(padding, 0.0), state, backend, **schedule)
    filled = cases.run(layer, x.masked_fill(padding, filling), state, backend, **schedule)
    for what, result in filled.items():
        assert torch.isfinite(result).all(), what
        assert torch.equal(result, zero[what]), what


@pytest.mark.every_cell
@pytest.mark.parametrize(("name", "backend"), cases.PAIRS)
def test_a_reset_cuts_a_sequence_in_two(name, backend):
    layer, x, state, _ = problem(cases.CELLS[name])
    layer.backend = backend
    resets = torch.zeros(5, STEPS, dtype=torch.bool)
    resets[:, 4] = True
    output, final = layer(x, state, resets=resets)
    first, _ = layer(x[:, :4], state)
    second, end = layer(x[:, 4:])
    torch.testing.assert_close(output, torch.cat([first, second], 1), rtol=1e-12, atol=1e-13)
    for mine, theirs in zip(final, end, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.every_cell
@pytest.mark.parametrize(("name", "backend"), cases.PAIRS)
def test_windows_with_the_state_carried_are_one_long_run(name, backend):
    layer, x, state, _ = problem(cases.CELLS[name])
    layer.backend = backend
    x.requires_grad_()
    whole, end = layer(x, state)
    parts, carried = [], state
    for first, last in ((0, 3), (3, 3), (3, 4), (4, STEPS)):
        part, carried = layer(x[:, first:last], carried)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-12, atol=1e-13)
    for mine, theirs in zip(carried, end, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)
    weight = cases.random(*whole.shape, seed=3)
    ours, theirs = (
        torch.autograd.grad((output * weight).sum(), [x, *layer.parameters()], allow_unused=True)
        for output in (torch.cat(parts, 1), whole)
    )
    for mine, expected in zip(ours, theirs, strict=True):
        assert (mine is None) == (expected is None)
        if mine is not None:
            torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)
