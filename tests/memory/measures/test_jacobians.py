"""state_jacobians against automatic differentiation of single steps."""

import pytest
import torch
from tests.memory.brute import ALL, STEPS, assert_relative, batch, made, stacked, step_jacobians
from tests.scan.cases import random, states_of

import longlag as ll
from longlag.memory import Directions, state_jacobians
from longlag.memory.measures import linear


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_any_cell_with_padding_resets_and_a_given_state(name):
    layer = made(name)
    x, lengths, resets = batch()
    state = tuple(states_of(layer.cell, (3,), layer.hidden_size, seed=5))
    expected = step_jacobians(layer, x, lengths, resets, state)
    found = state_jacobians(layer, x, lengths=lengths, resets=resets, state=state)
    assert_relative(found, expected)
    assert (found[2] == 0).all()
    assert (found[0, 3] == 0).all()
    if name != "Lone":  # whose state forgets everything
        assert found[0, 0].abs().max() > 0.01


def test_the_truncation_of_1997_is_honoured():
    """Only dc/dc = 1 and what h shows of it are left: no column of h."""
    found = state_jacobians(made("LSTM1997"), batch()[0])
    assert (found[..., :3] == 0).all()
    assert torch.equal(found[..., 3:, 3:], torch.eye(3).double().expand(3, STEPS, 3, 3))


def test_a_stack_is_one_state():
    stack = stacked()
    x, lengths, resets = batch()
    expected = step_jacobians(stack, x, lengths, resets)
    found = state_jacobians(stack, x, lengths=lengths, resets=resets)
    assert_relative(found, expected)
    assert (found[..., :6, 6:] == 0).all()
    assert found[0, 0, 6:, :6].abs().max() > 1e-3
    lowest = state_jacobians(stack.layers[0], x, lengths=lengths, resets=resets)
    torch.testing.assert_close(found[..., :6, :6], lowest)
    model = ll.SequenceModel(stack, 2)
    assert torch.equal(state_jacobians(model, x, lengths=lengths, resets=resets), found)


def test_both_directions_stand_at_the_steps_of_x():
    layer = ll.Bidirectional(made("LSTM"), made("GRU"))
    x, lengths, resets = batch()
    found = state_jacobians(layer, x, lengths=lengths, resets=resets)
    assert isinstance(found, Directions)
    ahead = step_jacobians(layer.forward_layer, x, lengths, resets)
    assert_relative(found.forward, ahead)
    # Sequence 0 has segments of steps 0 to 2 and 3 to 5; read backward, 2 is the first of one.
    back = step_jacobians(layer.backward_layer, x[:1].flip(1), None, resets[:1].roll(-1, 1).flip(1))
    assert_relative(found.backward[0], back[0].flip(0))
    assert (found.backward[0, 2] == 0).all()
    assert found.backward[0, 5].abs().max() > 0.01
    cut = torch.tensor([[False, False, True, False]])  # sequence 1: 4 steps, segments 0-1, 2-3
    back = step_jacobians(layer.backward_layer, x[1:2, :4].flip(1), None, cut)
    assert_relative(found.backward[1, :4], back[0].flip(0))
    assert (found.backward[1, 4:] == 0).all()


def test_the_backward_states_are_those_of_the_module():
    """The backward reading is the module's own: its Jacobians are derivatives of its output."""
    layer = ll.Bidirectional(made("Elman"), made("Leaky"))
    x, lengths, _ = batch()
    begin = random(3, 3, seed=9).requires_grad_()
    _, state = layer(x, ((torch.zeros_like(begin),), (begin,)), lengths=lengths, resets=None)
    found = state_jacobians(
        layer, x, lengths=lengths, state=((torch.zeros(3, 3).double(),), (begin.detach(),))
    )
    for n in (0, 1):
        whole = torch.eye(3).double()
        for t in range(int(lengths[n])):
            whole = whole @ found.backward[n, t]  # the state after step 0 is the last
        for unit in range(3):
            (by,) = torch.autograd.grad(state.backward.h[n, unit], begin, retain_graph=True)
            assert_relative(whole[unit], by[n])


def test_replicas_stand_in_front():
    layer = ll.GRU(2, 3, replicas=2, seed=1, dtype=torch.float64)
    x = random(2, 3, 5, 2)
    lengths = torch.tensor([[5, 2, 3], [4, 5, 0]])
    found = state_jacobians(layer, x, lengths=lengths)
    assert found.shape == (2, 3, 5, 3, 3)
    alone = ll.GRU(2, 3, dtype=torch.float64)
    for replica in range(2):
        with torch.no_grad():
            for mine, theirs in zip(alone.parameters(), layer.parameters(), strict=True):
                mine.copy_(theirs[replica])
        one = state_jacobians(alone, x[replica], lengths=lengths[replica])
        torch.testing.assert_close(found[replica], one)


def test_many_blocks_of_steps_are_one(monkeypatch):
    x, lengths, resets = batch()
    whole = state_jacobians(stacked(), x, lengths=lengths, resets=resets)
    monkeypatch.setattr(linear, "AT_ONCE", 1)
    found = state_jacobians(stacked(), x, lengths=lengths, resets=resets)
    torch.testing.assert_close(found, whole)


def test_padding_may_hold_anything_and_nothing_has_a_graph():
    layer = made("LSTM")
    x, lengths, _ = batch()
    spoiled = x.masked_fill((torch.arange(STEPS) >= lengths.unsqueeze(-1)).unsqueeze(-1), torch.nan)
    found = state_jacobians(layer, spoiled.requires_grad_(), lengths=lengths)
    assert torch.equal(found, state_jacobians(layer, x, lengths=lengths))
    assert not found.requires_grad


@pytest.mark.parametrize(("count", "steps"), [(0, 4), (2, 0)])
def test_nothing_to_read(count, steps):
    found = state_jacobians(made("LSTM"), torch.ones(count, steps, 2).double())
    assert found.shape == (count, steps, 6, 6)


def test_what_is_refused():
    layer, both = made("LSTM"), ll.Bidirectional(made("GRU"))
    x = torch.ones(2, 4, 2).double()
    with pytest.raises(ValueError, match=r"x: got shape \(2, 4, 3\), expected \(N, T, 2\)"):
        state_jacobians(layer, torch.ones(2, 4, 3).double())
    with pytest.raises(ValueError, match=r"x: got shape \(4, 2\)"):
        state_jacobians(both, x[0])
    with pytest.raises(ValueError, match="state: got Tensor, expected a tuple of 2: "):
        state_jacobians(both, x, state=x)
    with pytest.raises(TypeError, match="state_jacobians"):
        state_jacobians(torch.nn.Linear(2, 2), x)
    with pytest.raises(ValueError, match="bidirectional"):
        state_jacobians(ll.Stack(both), x)
