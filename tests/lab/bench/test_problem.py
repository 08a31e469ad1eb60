"""The right answer is that of the reference backend, whole and in float64."""

import copy

import pytest
import torch

from longlag.lab.bench.problem import Problem
from longlag.lab.bench.rows import CELLS, Row


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "own"])
def test_the_reference_in_stretches_is_that_of_the_whole(cell, ragged):
    problem = Problem(Row(cell, 3, 530, 2, 3, ragged=ragged))
    layer = copy.deepcopy(problem.layer).double()
    layer.backend = "reference"
    output = layer(problem.x.double(), lengths=problem.lengths)[0]
    if ragged:
        assert problem.lengths is not None
        steps = torch.arange(530) < problem.lengths.unsqueeze(-1)
        loss = (output * problem.error)[steps].sum()
        assert problem.sequence_steps == int(steps.sum()) < 3 * 530
    else:
        loss = (output * problem.error).sum()
        assert problem.sequence_steps == 3 * 530
    names, parameters = zip(*layer.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    right = problem.reference
    assert set(right) == {"output", *names}
    torch.testing.assert_close(right["output"], output.detach(), rtol=1e-12, atol=1e-14)
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(right[name], gradient, rtol=1e-7, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_biases_are_not_zero_and_a_seed_gives_the_same_problem(cell):
    first, second = (Problem(Row(cell, 2, 5, 3, 4)) for _ in range(2))
    assert bool((first.layer.get_parameter("bias") != 0).all())
    assert torch.equal(first.x, second.x)
    pairs = zip(first.layer.parameters(), second.layer.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(
    "row",
    [
        Row("elman", 4, 9, 2, 3),
        Row("elman", 4, 9, 2, 3, ragged=True),
        Row("elman", 2, 9, 2, 3, replicas=5),
    ],
    ids=lambda row: row.name,
)
def test_the_error_is_a_share_of_the_steps_that_count_and_zero_in_the_padding(row):
    problem = Problem(row)
    error = problem.error
    assert error.shape == (*problem.x.shape[:-1], row.hidden)
    assert error.dtype == torch.float32
    assert error.is_contiguous()
    assert torch.equal(error, Problem(row).error)
    counts = (error != 0).all(-1)
    assert int(counts.sum()) == problem.sequence_steps
    assert torch.equal(problem.masked(error), error)
    assert 0.7 < float(error[counts].std()) * problem.sequence_steps < 1.3
    if row.ragged:
        assert problem.lengths is not None
        assert torch.equal(counts, torch.arange(9) < problem.lengths.unsqueeze(-1))
        assert not counts.all()
