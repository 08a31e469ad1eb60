import copy
import inspect
import re
import runpy
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import longlag as ll
from longlag import cells

NAMES = cells.__all__


@pytest.mark.parametrize("name", NAMES)
def test_a_family_is_its_cell_with_sizes(name):
    """Every field of the cell is an argument, with the same default, or follows `bias`."""
    family, cell = getattr(ll, name), getattr(cells, name)
    given = inspect.signature(family.__init__).parameters
    for field in fields(cell):
        assert field.name in given
        assert given[field.name].default in (field.default, None)
    assert family(2, 4).cell == cell()


@pytest.mark.parametrize("name", NAMES)
def test_it_equals_the_plain_layer_of_its_cell(name):
    one = getattr(ll, name)(2, 4, seed=0)
    other = ll.Recurrent(getattr(cells, name)(), 2, 4, seed=0)
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


@pytest.mark.parametrize("name", NAMES)
def test_signature_and_docstring_are_those_of_cell_and_layer(name):
    family, cell = getattr(ll, name), getattr(cells, name)
    signature = inspect.signature(family)
    options = [
        parameter.name
        for parameter in inspect.signature(ll.Recurrent).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    own = [field.name for field in fields(cell)]
    assert list(signature.parameters) == ["input_size", "hidden_size", *own, *options]
    keyword = list(signature.parameters.values())[2:]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in keyword)
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in keyword)
    head = inspect.getdoc(cell).split("Args:")[0].rstrip()
    assert inspect.getdoc(family).startswith(head)
    for argument in signature.parameters:
        assert re.search(
            rf"^    (\w+, )*{argument}(, \w+)*: ", inspect.getdoc(family), re.MULTILINE
        )
    assert f"{name}({', '.join(own)}" not in inspect.getdoc(family)


def test_wrong_arguments_are_refused_as_by_any_class():
    with pytest.raises(
        TypeError, match=r"LSTM.__init__\(\) missing 1 required positional argument"
    ):
        ll.LSTM(2)
    with pytest.raises(TypeError, match=r"LSTM.__init__\(\) takes 3 positional arguments but 4"):
        ll.LSTM(2, 3, 1.0)
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'forgot_bias'"):
        ll.LSTM(2, 3, forgot_bias=1.0)


@pytest.mark.parametrize("bias", [True, False])
def test_the_second_bias_of_a_gru_is_there_as_the_first_unless_told(bias):
    assert ("bias_hn" in ll.GRU(2, 3, bias=bias).recurrence.units) == bias
    other = ll.GRU(2, 3, bias=bias, recurrent_bias=not bias)
    assert ("bias_hn" in other.recurrence.units) != bias


def test_it_can_be_derived_from_and_copied():
    class Deep(ll.Elman):
        def __init__(self, size):
            super().__init__(size, size, activation="relu", seed=0)

    layer = Deep(3)
    assert isinstance(layer, ll.Elman)
    assert isinstance(layer, ll.Recurrent)
    assert not isinstance(layer, ll.LSTM)
    assert repr(copy.deepcopy(layer)) == "Deep(3, 3, activation='relu')"


def test_what_type_checkers_read_is_in_step():
    script = Path(__file__).parents[2] / "tools" / "stubs.py"
    for file, text in runpy.run_path(str(script))["stubs"]().items():
        assert file.read_text("utf-8") == text, "run: python tools/stubs.py"
