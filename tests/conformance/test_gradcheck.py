"""G2: gradients and second derivatives against finite differences, with no nondeterminism."""

import pytest
import torch
from tests.scan import cases
from torch.autograd import gradcheck, gradgradcheck

from longlag import cells
from longlag.scan import Weights, scan

# A truncated gradient is by intention not the slope of the function: see test_own_cells and
# cells/test_lstm1997.
CELLS = {
    name: cell
    for name, cell in cases.CELLS.items()
    if not any(wire.truncated for wire in cell.recurrence.wires)
    and not any(getattr(gate.wiring, "truncated", False) for gate in cell.recurrence.gates)
} | {"LSTM1997 without recurrence": cells.LSTM1997(recurrent=False)}
SCHEDULES = {
    "plain": {},
    "all": {
        "lengths": torch.tensor([2, 3]),
        "resets": torch.tensor([[False, True, True], [False, False, True]]),
        "mask": torch.tensor([[1.6, 0.0, 1.6], [0.0, 1.6, 1.6]], dtype=torch.float64),
    },
}
PAIRS = [(cell, backend) for cell, backend in cases.PAIRS if cell in CELLS]
PAIRS += [
    (name, backend) for name in CELLS.keys() - cases.CELLS.keys() for backend in cases.BACKENDS
]


def unit_of(recurrence, number, hidden):
    """A unit parameter, inside its interval where it has one."""
    interval = recurrence.unit_parameters[recurrence.units[number]].interval
    value = cases.random(1, hidden, seed=number + 9)
    return (
        value if interval is None else interval[0] + (interval[1] - interval[0]) * value.sigmoid()
    )


def function_of(cell, schedule, backend):
    """Results of a scan as a function of drive, matrix, initial states and unit parameters."""
    recurrence = cell.recurrence
    gates, wires, hidden = len(recurrence.gates), len(recurrence.wires), cases.hidden_of(cell, 2)
    if "mask" in schedule:
        schedule = {**schedule, "mask": schedule["mask"].repeat(1, 2)[:, :hidden]}
    inputs = [cases.random(2, 3, hidden * gates, seed=1)]
    inputs += [cases.random(2, hidden, seed=n + 5) for n in range(len(recurrence.states))]
    inputs += [unit_of(recurrence, n, hidden) for n in range(len(recurrence.units))]
    if wires:
        inputs.append(cases.random(hidden * wires, hidden, seed=2))
    states = len(recurrence.states)

    def function(drive, *numbers):
        initial, units = numbers[:states], numbers[states : states + len(recurrence.units)]
        if recurrence.timed:  # of which there is no derivative
            initial = (*initial, torch.tensor([[5.0], [0.0]], dtype=torch.float64))
        weights = Weights(numbers[-1] if wires else None, units)
        result = scan(recurrence, drive, weights, initial, backend=backend, **schedule)
        return (result.output, *result.state[:states])

    return function, tuple(tensor.requires_grad_() for tensor in inputs)


@pytest.mark.every_cell
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(("name", "backend"), PAIRS)
def test_gradients(name, schedule, backend):
    function, inputs = function_of(CELLS[name], schedule, backend)
    assert gradcheck(function, inputs, nondet_tol=0.0)


@pytest.mark.slow
@pytest.mark.every_cell
@pytest.mark.parametrize(("name", "backend"), PAIRS)
def test_second_derivatives(name, backend):
    function, inputs = function_of(CELLS[name], SCHEDULES["all"], backend)
    assert gradgradcheck(function, inputs, nondet_tol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"), [(cell, backend) for cell, backend in cases.PAIRS if cell not in CELLS]
)
def test_a_truncated_gradient_is_not_the_slope(name, backend):
    function, inputs = function_of(cases.CELLS[name], {}, backend)
    assert not gradcheck(function, inputs, raise_exception=False)
