import pytest
import torch
from tests.scan import cases

from longlag import cells
from longlag.scan import Schedule, Weights
from longlag.scan.inputs import ScanInputs
from longlag.scan.reference import Reference


def test_time_stands_first():
    recurrence = cells.Elman().recurrence
    drive, w, h = cases.random(5, 2, 3), cases.random(3, 3, seed=1), cases.random(2, 3, seed=2)
    output, (final,) = Reference().run(ScanInputs(recurrence, drive, Weights(w, ()), (h,)))
    for t in range(5):
        h = torch.tanh(drive[t] + h @ w.T)
        torch.testing.assert_close(output[t], h, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(final, h, rtol=1e-14, atol=1e-15)


def test_the_mask_is_on_what_w_reads_and_on_nothing_else():
    recurrence = cells.Leaky(leak=0.25).recurrence
    drive, w, h = cases.random(4, 2, 3), cases.random(3, 3, seed=1), cases.random(2, 3, seed=2)
    mask = torch.tensor([[2.0, 0.0, 2.0], [0.0, 2.0, 2.0]], dtype=torch.float64)
    leak = torch.full((1, 3), 0.25, dtype=torch.float64)
    output, _ = Reference().run(
        ScanInputs(recurrence, drive, Weights(w, (leak,)), (h,), Schedule(mask=mask))
    )
    for t in range(4):
        h = 0.75 * h + 0.25 * torch.tanh(drive[t] + (mask * h) @ w.T)
        torch.testing.assert_close(output[t], h, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("part", ["active", "keep"])
def test_a_schedule_leaves_what_it_is_given_unchanged(part):
    recurrence = cells.Elman().recurrence
    drive, w, h = cases.random(4, 2, 3), cases.random(3, 3, seed=1), cases.random(2, 3, seed=2)
    copies = [tensor.clone() for tensor in (drive, w, h)]
    schedule = Schedule(**{part: torch.tensor([[[True], [False]]] * 4)})
    Reference().run(ScanInputs(recurrence, drive, Weights(w, ()), (h,), schedule))
    assert all(torch.equal(a, b) for a, b in zip((drive, w, h), copies, strict=True))
