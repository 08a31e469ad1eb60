import pytest

from longlag import cells
from longlag.recurrence import Cell, DeclarationError, Recurrence, tanh


class Plain(Cell):
    gates = ("candidate",)

    def update(self, pre, state, unit):
        return {"h": tanh(pre.candidate)}


def test_what_a_cell_is_by_default():
    cell = Plain()
    assert cell.state == ("h",)
    assert cell.output == "h"
    for part in (cell.wiring, cell.unit_parameters, cell.initial_bias, cell.keeping_gates):
        assert part == {}


def test_a_cell_must_say_its_update():
    with pytest.raises(TypeError, match="update"):
        type("Empty", (Cell,), {"gates": ("a",)})()


def test_the_error_comes_at_the_first_use_not_before():
    cell = type("Late", (Plain,), {"gates": ("wrong",)})()
    with pytest.raises(DeclarationError, match="no gate 'candidate' is declared"):
        _ = cell.recurrence


def test_a_recurrence_is_traced_once_for_each_cell():
    cell, other = Plain(), Plain()
    assert isinstance(cell.recurrence, Recurrence)
    assert cell.recurrence is cell.recurrence
    assert cell.recurrence is not other.recurrence


def test_cells_are_values():
    assert cells.Elman("relu") == cells.Elman("relu") != cells.Elman("tanh")
    assert len({cells.LSTM(), cells.LSTM(1.0), cells.LSTM(2.0)}) == 2
    assert repr(cells.GRU()) == "GRU(recurrent_bias=True, reset_after=True)"
    _ = cells.GRU().recurrence
    assert cells.GRU() == cells.GRU()


def test_a_cell_of_ones_own_prints_as_it_is_made():
    """Without the place in memory: models and reports that show it are the same anywhere."""
    cell = Plain()
    assert repr(cell) == "Plain()"
    cell.rate = 0.5
    _ = cell.recurrence
    assert repr(cell) == "Plain(rate=0.5)"
