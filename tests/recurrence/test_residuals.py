"""What the forward pass keeps: activations, and no more numbers than there are drives."""

import pytest
import torch
from tests.scan import cases

from longlag.recurrence import derive_adjoint
from longlag.recurrence.lowered import lower
from longlag.scan.programs import TORCH, run_program


@pytest.mark.parametrize("name", cases.CELLS)
def test_the_backward_step_is_the_adjoint(name):
    """From the kept values it gives bit for bit what the adjoint gives from the drives."""
    lowered = lower(cases.CELLS[name].recurrence)
    recurrence = lowered.core
    kept, adjoint = lowered.residuals, derive_adjoint(recurrence)
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.rand(5, dtype=torch.float64, generator=generator) + 0.1 for _ in recurrence.inputs
    ]
    forward = recurrence.forward
    values = forward.values(TORCH, given)
    now = [values[output] for output in forward.outputs]
    deltas = [torch.randn(5, dtype=torch.float64, generator=generator) for _ in now]
    drives = len(recurrence.drive_symbols)
    expected = run_program(adjoint, [*given, *now, *deltas])
    rest = [*given[drives:], *now, *deltas]
    found = run_program(kept.program, [*(values[n] for n in kept.values), *rest])
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "count"),
    [("Elman", 0), ("IndRNN tanh", 0), ("Leaky", 1), ("LSTM", 4), ("GRU", 4), ("Mixed", 8)],
)
def test_how_many_numbers_are_kept(name, count):
    assert len(lower(cases.CELLS[name].recurrence).residuals.values) <= count


def test_an_activation_is_not_computed_twice():
    """Of the LSTM only tanh(c) is, which is a function of a state that is stored."""
    program = lower(cases.CELLS["LSTM"].recurrence).residuals.program
    dear = [op for op in program.operations if op.name in ("tanh", "sigmoid")]
    assert [op.name for op in dear] == ["tanh"]
    assert program.inputs[dear[0].arguments[0]] == "now.c"
