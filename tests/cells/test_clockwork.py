import numpy as np
import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import Clockwork

CELLS = {
    "powers of 2": Clockwork((1, 2, 4)),
    "others": Clockwork((2, 3, 5)),
    "one clock": Clockwork((3,)),
    "relu": Clockwork((1, 2, 3), activation="relu"),
}


def equations(cell, x, s, p):
    """Where t mod T = 0: h = phi(U x + W h + b), W block-triangular; else h stays."""
    groups = np.repeat(np.arange(len(cell.periods)), oracle.HIDDEN // len(cell.periods))
    w = np.where(groups[:, None] <= groups, p.W["candidate"], 0)
    a = x @ p.U["candidate"].T + p.read(s["h"]) @ w.T + p.b["candidate"]
    due = p.t.real % np.array(cell.periods)[groups] == 0
    return {"h": np.where(due, oracle.PHI[cell.activation](a), s["h"])}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_it_is_its_equation(cell, backend):
    layer = oracle.layer_of(cell, backend=backend)
    given = oracle.problem(cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


def by_hand(layer, x, lengths, resets):
    """The paper's loop: group g is computed where t mod T_g = 0, from itself and slower ones."""
    size = layer.hidden_size // len(layer.cell.periods)
    rows = []
    for n in range(len(x)):
        h, start, outputs = x.new_zeros(layer.hidden_size), 0, []
        for t in range(x.shape[1]):
            if resets[n, t]:
                h, start = torch.zeros_like(h), t
            parts = []
            for g, period in enumerate(layer.cell.periods):
                own, slower = slice(g * size, (g + 1) * size), slice(g * size, None)
                if (t - start) % period == 0:
                    a = layer.weight_ih[own] @ x[n, t] + layer.bias[own]
                    parts.append(torch.tanh(a + layer.weight_hh[own, slower] @ h[slower]))
                else:
                    parts.append(h[own])
            h = torch.cat(parts)
            outputs.append(h if t < lengths[n] else torch.zeros_like(h))
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@pytest.mark.parametrize("periods", [(1, 2, 4, 8), (1, 3), (5, 7, 11, 12)])
def test_it_equals_a_plain_loop_compiled(periods):
    layer = ll.Clockwork(3, 8, periods=periods, dtype=torch.float64, seed=0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 40, 3, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(4, 40, 8, dtype=torch.float64, generator=generator)
    lengths, resets = torch.tensor([40, 12, 1, 20]), torch.zeros(4, 40, dtype=torch.bool)
    resets[0, 13] = resets[0, 19] = resets[1, 2] = resets[3, 0] = True
    output, _ = layer(x, lengths=lengths, resets=resets)
    assert layer.backend_used == "cpu"
    expected = by_hand(layer, x, lengths, resets)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    inputs = [x, *layer.parameters()]
    ours = torch.autograd.grad((output * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.count_nonzero() > 0
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


def test_a_group_rests_between_the_ticks_of_its_clock():
    layer = ll.Clockwork(3, 8, seed=0)
    output, state = layer(torch.randn(1, 17, 3, generator=torch.Generator().manual_seed(0)))
    moves = (output[0, 1:] != output[0, :-1]).view(16, 4, 2).all(-1)
    for group, period in enumerate((1, 2, 4, 8)):
        assert moves[:, group].tolist() == [t % period == 0 for t in range(1, 17)]
    assert state.t.tolist() == [[17.0]]


def test_the_clock_is_carried_over_with_the_state():
    layer = ll.Clockwork(3, 4, periods=(2, 5), replicas=2, dtype=torch.float64, seed=0)
    x = torch.randn(2, 5, 11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, end = layer(x)
    first, state = layer(x[:, :, :3])
    then, after = layer(x[:, :, 3:], state)
    torch.testing.assert_close(torch.cat([first, then], -2), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(after, end, rtol=0, atol=1e-14)


def test_slower_groups_are_not_moved_by_faster_ones():
    layer = ll.Clockwork(3, 6, periods=(1, 2, 4), seed=0)
    blocks = (layer.weight_hh != 0).view(3, 2, 3, 2).any(3).any(1)
    assert blocks.tolist() == [[True, True, True], [False, True, True], [False, False, True]]


def test_error_waits_in_a_group_that_rests():
    """Over the seven steps of a rest dh_t/dh_{t-1} of the slow group is the identity."""
    layer = ll.Clockwork(1, 4, periods=(1, 8), dtype=torch.float64, seed=0)
    jacobians = ll.state_jacobians(layer, torch.zeros(1, 8, 1, dtype=torch.float64))
    product = torch.linalg.multi_dot([jacobians[0, t] for t in range(7, 0, -1)])
    eye = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(product[2:4, 2:4], eye, rtol=0, atol=0)
    assert jacobians.shape == (1, 8, 4, 4)


def test_no_error_flows_through_the_clock():
    layer = ll.Clockwork(1, 4, periods=(1, 8), dtype=torch.float64, seed=0)
    h, t = torch.zeros(1, 4, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    output, state = layer(torch.ones(1, 5, 1, dtype=torch.float64), (h, t.requires_grad_()))
    assert output.requires_grad
    assert not state.t.requires_grad


def test_with_one_period_of_one_it_is_an_elman_network():
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ll.Clockwork(3, 4, periods=(1,), seed=1)(x)[0], ll.Elman(3, 4, seed=1)(x)[0])


@pytest.mark.parametrize("periods", [(), (0, 1), (2, 2), (1.5, 2), 3])
def test_periods_that_are_none_are_refused(periods):
    with pytest.raises(ValueError, match=r"periods: got .*, expected different whole numbers of"):
        ll.Clockwork(2, 4, periods=periods)


def test_slower_before_faster_is_refused():
    message = r"periods: got \(4, 1, 2\), expected the fastest first; give \(1, 2, 4\)"
    with pytest.raises(ValueError, match=message):
        Clockwork((4, 1, 2))


def test_units_that_do_not_divide_into_the_groups_are_refused():
    with pytest.raises(
        ValueError, match=r"hidden_size: got 6, expected a multiple of 4.*give 4 or"
    ):
        ll.Clockwork(2, 6)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation: got 'softmax'"):
        Clockwork(activation="softmax")
