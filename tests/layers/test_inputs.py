"""Inputs: which steps count, and the first sequences."""

import torch

from longlag.layers.inputs import Inputs


def test_the_steps_that_count():
    x = torch.zeros(3, 4, 2)
    assert Inputs(x).ends.tolist() == [4, 4, 4]
    ragged = Inputs(x, lengths=[4, 2, 0])
    assert ragged.ends.tolist() == [4, 2, 0]
    assert ragged.remaining.tolist() == [[3, 2, 1, 0], [1, 0, -1, -2], [-1, -2, -3, -4]]
    assert Inputs(torch.zeros(2, 3, 4, 1)).ends.shape == (2, 3)  # of replicas


def test_the_first_sequences_with_all_that_belongs_to_them():
    x, state = torch.arange(6.0).view(3, 2, 1), (torch.zeros(3, 5), torch.ones(3, 5))
    first = Inputs(x, torch.tensor([2, 1, 0]), torch.ones(3, 2, dtype=torch.bool), state).first(2)
    assert torch.equal(first.x, x[:2])
    assert first.lengths.tolist() == [2, 1]
    assert first.resets.shape == (2, 2)
    assert [part.shape for part in first.state] == [(2, 5), (2, 5)]
