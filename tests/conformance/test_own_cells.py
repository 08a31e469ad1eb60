"""Cells declared by a user, on every backend, against a loop written by hand in torch."""

import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.recurrence import Cell, Dense, UnitParameter, cos, exp, log, relu, saturate, tanh

BATCH, STEPS, INPUTS, HIDDEN = 3, 6, 2, 4
LENGTHS = torch.tensor([6, 2, 5])
RESETS = torch.zeros(BATCH, STEPS, dtype=torch.bool)
RESETS[0, 2] = RESETS[1, 1] = RESETS[2, 0] = RESETS[2, 4] = True


def mixed_step(layer, a, state, mask):
    """tests.scan.cases.Mixed, line by line; detach is the truncation."""
    c, h, old = state
    a, b, d, k, s, v = a.chunk(6, dim=-1)
    w_a, w_b, w_s = layer.weight_hh.split(HIDDEN)
    w_k, w_v = layer.weight_hh_diagonal.split(HIDDEN)
    alpha = torch.sigmoid(layer.alpha_raw)
    a = a + (mask * h) @ w_a.T
    b = b + (mask * c.detach()) @ w_b.T
    k = k + w_k * c
    recurrent_v = w_v * h.detach()
    split = torch.tanh(s) + layer.gamma * ((mask * c) @ w_s.T)
    gated = torch.sigmoid(v + recurrent_v) * recurrent_v
    new = (1 - alpha) * c + alpha * torch.tanh(a + d * b) + gated
    return new, layer.beta * torch.sin(k) * new + split / (1 + old**2), h


class Clipped(Cell):
    """Every function of the language, and an output that no gate reads."""

    state = ("m", "y")
    output = "y"
    gates = ("p", "q")
    wiring = {"p": Dense("m"), "q": Dense("m")}
    unit_parameters = {"k": UnitParameter(0.5)}

    def update(self, pre, state, unit):
        m = saturate(pre.p) - 0.5 * relu(pre.q) ** 2 + abs(state.m) / 3
        y = log(1 + exp(tanh(m))) * cos(unit.k * state.y) - (1 + m**2) ** -1.5 * unit.k
        return {"m": m, "y": y}


def clipped_step(layer, a, state, mask):
    m, y = state
    p, q = (a + (mask * m) @ layer.weight_hh.T).chunk(2, dim=-1)
    m = p.clamp(0, 1) - 0.5 * torch.relu(q) ** 2 + m.abs() / 3
    softplus = torch.log(1 + torch.exp(torch.tanh(m)))
    return m, softplus * torch.cos(layer.k * y) - layer.k / (1 + m**2) ** 1.5


def by_hand(layer, step, x, state, lengths, resets, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ones = x.new_ones(BATCH, HIDDEN)
        mask = torch.nn.functional.dropout(ones, layer.recurrent_dropout)
    outputs = []
    for t in range(STEPS):
        before = [torch.where(resets[:, t, None], 0.0, part) for part in state]
        after = step(layer, x[:, t] @ layer.weight_ih.T + layer.bias, before, mask)
        active = (t < lengths)[:, None]
        output = after[layer.cell.state.index(layer.cell.output)]
        outputs.append(torch.where(active, output, 0.0))
        state = [torch.where(active, *pair) for pair in zip(after, state, strict=True)]
    return torch.stack(outputs, 1), state


@pytest.mark.slow
@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(
    ("cell", "step"), [(cases.Mixed(), mixed_step), (Clipped(), clipped_step)], ids=["mixed", "all"]
)
def test_a_cell_of_ones_own_is_its_loop(cell, step, dropout, backend):
    layer = cases.layer_of(cell, INPUTS, HIDDEN, backend=backend, recurrent_dropout=dropout)
    x = cases.random(BATCH, STEPS, INPUTS).requires_grad_()
    state = [
        cases.random(BATCH, HIDDEN, seed=n + 1).requires_grad_() for n in range(len(cell.state))
    ]
    with torch.random.fork_rng():
        torch.manual_seed(4)
        output, final = layer(x, state, lengths=LENGTHS, resets=RESETS)
    expected, end = by_hand(layer, step, x, state, LENGTHS, RESETS, seed=4)
    for mine, theirs in zip((output, *final), (expected, *end), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)
    weight = cases.random(*output.shape, seed=9)
    inputs = [x, *state, *layer.parameters()]
    ours, theirs = (
        torch.autograd.grad(
            (out * weight).sum() + sum(part.square().sum() for part in last),
            inputs,
            create_graph=True,
        )
        for out, last in ((output, final), (expected, end))
    )
    again = [
        torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
        for gradients in (ours, theirs)
    ]
    for mine, other in (*zip(ours, theirs, strict=True), *zip(*again, strict=True)):
        assert other.count_nonzero() > 0
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


class Many(Cell):
    """More gates than a processor has registers."""

    state = ("h",)
    gates = tuple(f"gate_{number}" for number in range(40))

    def update(self, pre, state, unit):
        first, *rest = (tanh(getattr(pre, name)) for name in self.gates)
        return {"h": sum(rest, first) / 20}


@pytest.mark.parametrize("batch", [3, 8])
def test_a_cell_may_have_any_number_of_gates(batch):
    layer = cases.layer_of(Many(), INPUTS, HIDDEN, backend="cpu")
    x = cases.random(batch, STEPS, INPUTS)
    state, parameters = x.new_zeros(batch, HIDDEN), [*layer.parameters()]
    outputs = []
    for step in x.unbind(1):
        sums = step @ layer.weight_ih.T + state @ layer.weight_hh.T + layer.bias
        state = torch.tanh(sums).view(batch, 40, HIDDEN).sum(1) / 20
        outputs.append(state)
    output, expected = layer(x)[0], torch.stack(outputs, 1)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-13)
    ours, theirs = (
        torch.autograd.grad(out.square().sum(), parameters) for out in (output, expected)
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_a_cell_is_enough_for_a_whole_model(tmp_path):
    """Declared here, trained, saved and loaded, with no further word on how to run it."""
    model = ll.SequenceModel(ll.Recurrent(Clipped(), 2, 4, seed=0), 1, seed=0)
    x = torch.randn(8, 5, 2, generator=torch.Generator().manual_seed(0))
    target = x.mean((1, 2)).unsqueeze(-1)
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    ll.save(model, tmp_path / "model.longlag")
    again = ll.load(tmp_path / "model.longlag", cells=[Clipped])
    assert torch.equal(again(x), model(x))
