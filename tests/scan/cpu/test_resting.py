"""Groups of units that rest, which kernels leave out: equal to the reference, which does not."""

import pytest
import torch

import longlag as ll
from longlag.layers import readout
from longlag.recurrence import Cell, Dense, block_triangular, sigmoid, tanh
from longlag.scan.cpu import backend, shape


class Gated(Cell):
    """Two states, a pattern, and a gate without one."""

    state = ("h", "c")
    gates = ("i", "f")
    wiring = {"i": Dense(pattern=block_triangular(4))}
    periods = (1, 2, 3, 8)

    def update(self, pre, state, unit):
        c = sigmoid(pre.f) * state.c + tanh(pre.i)
        return {"h": tanh(c), "c": c}


class Staged(Cell):
    """Two stages, a delay, a unit parameter and the step itself."""

    state = ("h", "z")
    gates = ("a", "b")
    wiring = {"a": Dense("h"), "b": (Dense("z", delay=0), Dense("h", delay=3))}
    unit_parameters = {"k": ll.UnitParameter(0.3)}
    periods = (2, 1, 5, 3)

    def update(self, pre, state, unit):
        return {
            "z": tanh(pre.a) + unit.k * state.z,
            "h": tanh(pre.b) + 0.1 * state.h * sigmoid(state.t / 9),
        }


class Many(Cell):
    """More groups than a word has bits, and none that takes every step."""

    gates = ("a",)
    periods = tuple(range(2, 42))

    def update(self, pre, state, unit):
        return {"h": tanh(pre.a)}


class Paired(Cell):
    """Two gates that read one state: what rests is left out of their sums, there and back."""

    state = ("h", "c")
    gates = ("i", "f")
    wiring = {
        "i": Dense("h", pattern=block_triangular(4)),
        "f": Dense("h", pattern=block_triangular(4)),
    }
    periods = (2, 3, 4, 9)

    def update(self, pre, state, unit):
        c = sigmoid(pre.f) * state.c + tanh(pre.i)
        return {"h": tanh(c), "c": c}


DOUBLE = torch.float64


def results(layer, units, lengths=None, resets=None):
    """Output, final states, and all gradients, for states and clocks of each row's own."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, dtype=DOUBLE, generator=generator)

    x, error = random(5, 17, 3).requires_grad_(), random(5, 17, units)
    clock = torch.tensor([[0.0], [0.0], [7.0], [7.0], [7.0]], dtype=DOUBLE)
    initial = [random(5, units).requires_grad_() for _ in layer.recurrence.states]
    output, state = layer(x, (*initial, clock), lengths=lengths, resets=resets)
    loss = (output * error).sum() + sum((part * (n + 1)).sum() for n, part in enumerate(state[:-1]))
    inputs = [x, *initial, *layer.parameters()]
    return [output, *state, *torch.autograd.grad(loss, inputs)]


def check(cell, units, change=None, **options):
    lengths, resets = torch.tensor([17, 3, 17, 0, 9]), torch.zeros(5, 17, dtype=torch.bool)
    resets[0, 4] = resets[2, 9] = resets[2, 10] = True
    for schedule in ({}, {"lengths": lengths, "resets": resets}):
        pair = []
        for name in ("cpu", "reference"):
            layer = ll.Recurrent(cell, 3, units, dtype=DOUBLE, seed=1, backend=name, **options)
            if change is not None:
                change(layer)
            pair.append(results(layer, units, **schedule))
        for ours, theirs in zip(*pair, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("cell", "units"),
    [
        (Gated(), 32),
        (Gated(), 64),  # blocks of one vector there, of two back
        (Staged(), 16),
        (ll.cells.Clockwork((1, 2, 4, 8)), 12),
        (ll.cells.Clockwork((1, 2, 4, 8)), 64),
        (Paired(), 32),
    ],
)
def test_a_cell_of_ones_own_equals_the_reference(cell, units):
    check(cell, units)


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_over_rests_that_fill_their_panels_equal_the_reference(threads, monkeypatch):
    monkeypatch.setattr(shape, "SMALL", 0)
    monkeypatch.setattr(shape, "LEAST_ROWS", 8)
    generator, pair = torch.Generator().manual_seed(0), []
    x = torch.randn(32, 40, 3, dtype=DOUBLE, generator=generator).requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name in ("cpu", "reference"):
            layer = ll.Clockwork(3, 64, periods=(1, 2, 4, 8), dtype=DOUBLE, seed=1, backend=name)
            output, state = layer(x)
            loss = output.square().sum() + state.h.sum()
            pair.append([output, *torch.autograd.grad(loss, [x, *layer.parameters()])])
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip(*pair, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_sums_over_rests_go_on_from_piece_to_piece(monkeypatch):
    monkeypatch.setattr(shape, "LEAST_ROWS", 8)
    monkeypatch.setattr(readout, "STRETCH", 3)
    layer = ll.Clockwork(3, 32, periods=(1, 2, 4, 8), dtype=DOUBLE, seed=1)
    model, generator = (
        ll.SequenceModel(layer, 2, reduce=None, seed=2),
        torch.Generator().manual_seed(0),
    )
    x, target = (torch.randn(3, 30, size, dtype=DOUBLE, generator=generator) for size in (3, 2))
    pieces, whole = (
        method.gradients(model, x, target, torch.nn.functional.mse_loss)
        for method in (ll.CheckpointedBPTT(4), ll.BPTT())
    )
    for name, gradient in whole.items():
        assert torch.equal(pieces[name], gradient), name


@pytest.mark.slow
def test_many_groups_and_sparse_matrices_equal_the_reference():
    check(Many(), 80)
    check(Staged(), 16, density=0.4)


def test_sums_over_rests_go_on_where_activations_are_computed_again(monkeypatch):
    monkeypatch.setattr(backend, "RESIDUALS", 1)
    check(Paired(), 32)


def test_periods_that_were_changed_are_those_that_count():
    def change(layer):
        layer.period.copy_(torch.tensor([[2.0, 3.0] * 4], dtype=DOUBLE).view_as(layer.period))

    check(ll.cells.Clockwork((1, 4)), 8, change)
