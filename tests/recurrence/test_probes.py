"""The probed recurrence: same values, and the error of every state in the gradient of its gate."""

import pytest
import torch
from tests.scan.cases import CELLS, hidden_of, layer_of, random

from longlag.recurrence import Cell, Dense, sigmoid, tanh
from longlag.recurrence.lowered import lower
from longlag.recurrence.probes import probed
from longlag.scan import Weights, scan
from longlag.scan.programs import run_program
from longlag.scan.step import torch_step


class Chain(Cell):
    """Three states, of which each reads the new value of the one before; the last two ways."""

    state = ("a", "b", "c")
    output = "c"
    gates = ("candidate", "gate")
    wiring = {"candidate": Dense("b")}

    def update(self, pre, state, unit):
        a = tanh(pre.candidate) + 0.5 * state.a
        b = sigmoid(pre.gate) * tanh(a) + 0.3 * state.b
        return {"a": a, "b": b, "c": tanh(b) * a + 0.1 * state.c}


MANY = {name: cell for name, cell in CELLS.items() if not lower(cell.recurrence).inner}
MANY["Chain"] = Chain()
"""Cells of one stage; for the others see the tests of :func:`longlag.state_errors`."""


def steps_of(layer, drive, joint):
    """States of a plain loop over the reference step, and its outputs.

    With `joint`, what the next step and the loss read are copies: the same step's states do not
    read them. Without, they are the numbers that the step itself goes on with.
    """
    recurrence = layer.recurrence
    step = torch_step(recurrence)
    units = tuple(layer.unit(name).unsqueeze(-2) for name in recurrence.units)
    blocks = step.blocks(Weights(layer.weight_hh, units))
    shape = (len(drive), layer.hidden_size)
    states = [drive.new_zeros(shape).requires_grad_() for _ in recurrence.states]
    visited, outputs = [], []
    for t, a in enumerate(drive.unbind(1)):
        clock = [drive.new_full((len(drive), 1), t)] if recurrence.timed else []
        inputs = [*step.drives(a, states, blocks, None), *states, *units, *clock]
        new = run_program(recurrence.forward, inputs)
        states, seen = list(new), []
        for name in recurrence.dependency_order:
            place = recurrence.states.index(name)
            # Where h_t is c_t, or the h of before, it still has an error of its own.
            own = not recurrence.equations[name].is_Atom
            own = own and not any(new[place] is other for other in seen)
            if joint or not own:
                states[place] = new[place].clone()
            seen.append(new[place])
        for state in states:
            state.requires_grad_().retain_grad()
        visited.append(states)
        outputs.append(states[step.output])
    return visited, torch.stack(outputs, 1)


def probed_drive(drive, recurrence, hidden):
    """The drive with z = 0 beside it."""
    zeros = drive.new_zeros((*drive.shape[:-1], len(recurrence.states) * hidden))
    return torch.cat([drive, zeros], -1).detach().requires_grad_()


@pytest.mark.slow
@pytest.mark.every_cell
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("name", MANY)
def test_values_stay_and_gradients_are_the_errors(name, joint):
    """On every backend, against the errors that autograd gives in a plain loop."""
    cell = MANY[name]
    layer = layer_of(cell, 3, hidden_of(cell, 4))
    hidden, recurrence = layer.hidden_size, layer.recurrence
    x, weights = random(2, 6, 3), random(2, 6, hidden, seed=1)
    drive = torch.nn.functional.linear(x, layer.weight_ih, layer.bias)
    visited, output = steps_of(layer, drive, joint)
    loss = (output * weights).sum()
    loss.backward()
    units = tuple(layer.unit(unit).unsqueeze(-2) for unit in recurrence.units)
    probing = probed(recurrence, joint)
    for backend in ("reference", "derived", "cpu"):
        given = probed_drive(drive, recurrence, hidden)
        found = scan(probing, given, Weights(layer.weight_hh, units), backend=backend)
        torch.testing.assert_close(found.output, output, rtol=0, atol=1e-13)
        (by,) = torch.autograd.grad((found.output * weights).sum(), given)
        errors = by[..., len(recurrence.gates) * hidden :].split(hidden, -1)
        for number, error in enumerate(errors):
            for t in range(6):
                expected = visited[t][number].grad
                if expected is None:
                    expected = torch.zeros_like(error[:, t])
                torch.testing.assert_close(
                    error[:, t], expected, rtol=0, atol=1e-12, msg=f"{backend} {number} {t}"
                )


@pytest.mark.parametrize("joint", [False, True])
def test_what_other_states_read(joint):
    """A moved c moves the h of the same step, unless each state is held for itself."""
    recurrence = MANY["LSTM"].recurrence
    probing = probed(recurrence, joint)
    probe_c = probing.gates[-1].from_input
    assert (probe_c in probing.equations["h"].free_symbols) == (not joint)
    assert probe_c in probing.equations["c"].free_symbols
    a, b, c = (gate.from_input for gate in probed(Chain().recurrence, joint).gates[2:])
    read = {
        name: {a, b, c} & equation.free_symbols
        for name, equation in probed(Chain().recurrence, joint).equations.items()
    }
    if joint:
        assert read == {"a": {a}, "b": {b}, "c": {c}}
    else:
        assert read == {"a": {a}, "b": {a, b}, "c": {a, b, c}}


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("name", MANY)
def test_gates_and_states(name, joint):
    recurrence = MANY[name].recurrence
    probing = probed(recurrence, joint)
    assert probing.states == recurrence.states
    assert probing.gates[: len(recurrence.gates)] == recurrence.gates
    assert [g.name for g in probing.gates[len(recurrence.gates) :]] == [
        f"probe.{state}" for state in recurrence.states
    ]
    assert probing.wires == recurrence.wires
    assert probing.units == recurrence.units
    assert tuple(probing.equations) == tuple(recurrence.equations)


def test_it_is_made_once_for_each_kind():
    recurrence = MANY["LSTM"].recurrence
    assert probed(recurrence) is probed(recurrence)
    assert probed(recurrence, joint=True) is probed(recurrence, True)
    kinds = {recurrence.key, probed(recurrence).key, probed(recurrence, joint=True).key}
    assert len(kinds) == 3


def test_it_has_latex():
    from longlag.recurrence import latex

    assert r"\zeta^{c}}_t" in latex.render(probed(MANY["LSTM"].recurrence))
