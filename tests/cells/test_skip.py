import pytest
import torch
from tests.cells import oracle

import longlag as ll
from longlag.cells import Skip

CELLS = {
    "one and three": Skip((1, 3)),
    "one alone": Skip((1,)),
    "long ones alone": Skip((4, 2)),
    "three of them": Skip((1, 2, 5)),
    "relu": Skip((2, 3), activation="relu"),
}


def equations(cell, x, s, p):
    """h_t = phi(U x_t + sum of W_d h_{t-d} + b); the past is handed on."""
    past = [s["h"], *(s[f"h_{steps}"] for steps in range(1, max(cell.delays)))]
    matrices = p.W["candidate"] if len(cell.delays) > 1 else (p.W["candidate"],)
    a = x @ p.U["candidate"].T + p.b["candidate"]
    for delay, w in zip(cell.delays, matrices, strict=True):
        a = a + p.read(past[delay - 1]) @ w.T
    handed_on = {f"h_{steps}": past[steps - 1] for steps in range(1, max(cell.delays))}
    return {"h": oracle.PHI[cell.activation](a), **handed_on}


@pytest.mark.parametrize("backend", ["reference", "derived", "cpu"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_it_is_its_equation(cell, backend):
    layer = oracle.layer_of(cell, backend=backend)
    given = oracle.problem(cell)
    expected = oracle.answer_of_equations(equations, layer, given)
    assert not oracle.difference(oracle.answer_of_layer(layer, given), expected)


def by_hand(layer, x, lengths, resets):
    """A plain loop over the whole past, that knows no delay line."""
    batch, steps, _ = x.shape
    matrices = layer.weight_hh.split(layer.hidden_size)
    rows = []
    for n in range(batch):
        past = []
        outputs = []
        for t in range(steps):
            if resets[n, t]:
                past = []
            a = layer.weight_ih @ x[n, t] + layer.bias
            for delay, w in zip(layer.cell.delays, matrices, strict=True):
                if delay <= len(past):
                    a = a + w @ past[-delay]
            past.append(torch.tanh(a))
            outputs.append(past[-1] if t < lengths[n] else torch.zeros_like(a))
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@pytest.mark.parametrize("delays", [(1, 10), (1, 3), (7,)])
def test_it_equals_a_plain_loop_compiled(delays):
    layer = ll.Skip(3, 5, delays=delays, dtype=torch.float64, seed=0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 25, 3, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(4, 25, 5, dtype=torch.float64, generator=generator)
    lengths, resets = torch.tensor([25, 12, 1, 20]), torch.zeros(4, 25, dtype=torch.bool)
    resets[0, 13] = resets[1, 2] = resets[3, 0] = True
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


def test_with_a_delay_of_one_it_is_an_elman_network():
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ll.Skip(3, 4, delays=(1,), seed=1)(x)[0], ll.Elman(3, 4, seed=1)(x)[0])


def test_a_state_that_is_carried_over_goes_on_where_it_was():
    layer = ll.Skip(3, 4, delays=(1, 4), replicas=2, dtype=torch.float64, seed=0)
    x = torch.randn(2, 5, 11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, end = layer(x)
    first, state = layer(x[:, :, :2])
    then, after = layer(x[:, :, 2:], state)
    torch.testing.assert_close(torch.cat([first, then], -2), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(after, end, rtol=0, atol=1e-14)


def test_error_reaches_far_back_through_few_factors():
    """Where only W_10 is left, 40 steps are 4 factors."""
    layer = ll.Skip(1, 1, delays=(1, 10), activation="identity", dtype=torch.float64)
    with torch.no_grad():
        layer.weight_ih.fill_(1.0)
        layer.weight_hh.copy_(torch.tensor([[0.0], [0.5]]))
    x = torch.randn(1, 41, 1, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[0][0, -1], x)
    assert gradient[0, ::10, 0].tolist() == [0.5**4, 0.5**3, 0.5**2, 0.5, 1.0]
    assert gradient.count_nonzero() == 5


@pytest.mark.parametrize("delays", [(), (0, 1), (1, 1), (1, 2.5), (True, 2), 3, "12"])
def test_delays_that_are_none_are_refused(delays):
    with pytest.raises(ValueError, match=r"delays: got .*, expected different whole numbers of"):
        ll.Skip(2, 3, delays=delays)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation: got 'softmax'"):
        Skip(activation="softmax")
