"""Traces: where the head is, what the tape holds, what the units do; the picture."""

import numpy as np
import pytest

import longlag as ll
from longlag.turing import TuringMachine

from .cases import BEAVERS


@pytest.mark.parametrize("form", ["compact", "real-time"])
def test_a_trace_has_every_cell_of_every_step(form):
    text = [*BEAVERS][3]
    machine = TuringMachine.parse(text)
    net = ll.turing.compile(machine, form)
    trace = net.trace(steps=1000)
    steps, updates = 107, net.construction.updates
    assert trace.activity.shape == (steps * updates + 1, len(net.units))
    cells, first = trace.cells()
    # The same by a table of rules and a dictionary.
    tape, head, state = {}, 0, "A"
    for step in range(steps + 1):
        assert trace.heads[step] == head
        assert cells[step].tolist() == [tape.get(first + k, 0) for k in range(cells.shape[1])]
        if step < steps:
            assert trace.activity[step * updates].max() == 1.0
            rule = text.split("_")["ABCD".index(state)][3 * tape.get(head, 0) :][:3]
            tape[head] = int(rule[0])
            head += 1 if rule[1] == "R" else -1
            state = rule[2]
    assert state == "H"
    np.testing.assert_array_equal(trace.activity, net.trace(steps=1000, exact=True).activity)
    assert str(trace).splitlines()[-1] == "107  H: 1[0]111111111111"


def test_the_picture_shows_tape_head_and_units():
    net = ll.turing.compile(TuringMachine.parse("1RB2LA1RA_2LA0RB1RZ"))
    figure = net.trace("12", 30).plot()
    tape, units, colours = figure.axes
    assert (tape.get_ylabel(), tape.get_xlabel()) == ("step of the machine", "cell")
    assert units.get_title() == "units of the network, 2 updates a step"
    assert [label.get_text() for label in units.get_xticklabels()] == list(net.units)
    assert {"A sees 0", "A sees >=1", "A sees 2", "L top >=1", "L top 2"} <= set(net.units)
    assert colours.get_ylabel() == "activity"
