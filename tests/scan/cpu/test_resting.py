"""Groups of units that rest, which kernels leave out: equal to the reference, which does not."""

import pytest
import torch

import longlag as ll
from longlag.recurrence import Cell, Dense, block_triangular, sigmoid, tanh


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
        for backend in ("cpu", "reference"):
            layer = ll.Recurrent(cell, 3, units, dtype=DOUBLE, seed=1, backend=backend, **options)
            if change is not None:
                change(layer)
            pair.append(results(layer, units, **schedule))
        for ours, theirs in zip(*pair, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("cell", "units"), [(Gated(), 32), (Staged(), 16), (ll.cells.Clockwork((1, 2, 4, 8)), 12)]
)
def test_a_cell_of_ones_own_equals_the_reference(cell, units):
    check(cell, units)


@pytest.mark.slow
def test_many_groups_and_sparse_matrices_equal_the_reference():
    check(Many(), 80)
    check(Staged(), 16, density=0.4)


def test_periods_that_were_changed_are_those_that_count():
    def change(layer):
        layer.period.copy_(torch.tensor([[2.0, 3.0] * 4], dtype=DOUBLE).view_as(layer.period))

    check(ll.cells.Clockwork((1, 4)), 8, change)
