import inspect
from dataclasses import fields

import pytest
import torch

import longlag as ll
from longlag import cells
from longlag.layers import families

NAMES = families.__all__


@pytest.mark.parametrize("name", NAMES)
def test_a_family_is_its_cell_with_sizes(name):
    """Every field of the cell is an argument, with the same default, or follows `bias`."""
    family, cell = getattr(ll, name), getattr(cells, name)
    given = inspect.signature(family.__init__).parameters
    for field in fields(cell):
        assert field.name in given
        assert given[field.name].default in (field.default, None)
    assert family(2, 3).cell == cell()


@pytest.mark.parametrize("name", NAMES)
def test_it_equals_the_plain_layer_of_its_cell(name):
    one = getattr(ll, name)(2, 3, seed=0)
    other = ll.Recurrent(getattr(cells, name)(), 2, 3, seed=0)
    x = torch.randn(2, 4, 2)
    assert torch.equal(one(x)[0], other(x)[0])


@pytest.mark.parametrize(
    ("make", "cell"),
    [
        (lambda: ll.Elman(2, 3, activation="relu"), cells.Elman("relu")),
        (
            lambda: ll.Leaky(2, 1, leak=[0.5], train_leak=True, shared_leak=True, recurrent=False),
            cells.Leaky((0.5,), True, True, False),
        ),
        (lambda: ll.Leaky(2, 3, leak=1, activation="relu"), cells.Leaky(1.0, activation="relu")),
        (lambda: ll.LSTM(2, 3, forget_bias=2.0, peepholes=True), cells.LSTM(2.0, True)),
        (
            lambda: ll.LSTM1997(
                2, 3, output_gate=False, recurrent=False, cell_input="tanh", cell_output="relu"
            ),
            cells.LSTM1997(False, False, "tanh", "relu"),
        ),
        (lambda: ll.GRU(2, 3, recurrent_bias=False), cells.GRU(False)),
        (
            lambda: ll.IndRNN(2, 3, activation="tanh", initial_low=-1.0, initial_high=0.5),
            cells.IndRNN("tanh", -1.0, 0.5),
        ),
    ],
)
def test_every_argument_reaches_the_cell(make, cell):
    assert make().cell == cell


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (lambda: ll.Elman(15, 16), 16 * (15 + 16 + 1)),
        (lambda: ll.LSTM(15, 16), 4 * 16 * (15 + 16 + 1)),
        (lambda: ll.LSTM(15, 16, peepholes=True), 4 * 16 * (15 + 16 + 1) + 3 * 16),
        (lambda: ll.GRU(15, 16), 3 * 16 * (15 + 16 + 1) + 16),
        (lambda: ll.LSTM1997(15, 16), 3 * 16 * (15 + 16 + 1)),
        (lambda: ll.IndRNN(15, 16), 16 * (15 + 1 + 1)),
        (lambda: ll.Leaky(15, 16, recurrent=False), 16 * (15 + 1)),
        (lambda: ll.Leaky(15, 16, train_leak=True), 16 * (15 + 16 + 1 + 1)),
        (lambda: ll.Leaky(15, 16, train_leak=True, shared_leak=True), 16 * (15 + 16 + 1) + 1),
    ],
)
def test_one_bias_a_gate(layer, count):
    assert sum(p.numel() for p in layer().parameters()) == count
