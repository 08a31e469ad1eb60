"""Inputs: which steps count, and the first sequences; modules without dropout."""

import doctest
import sys

import pytest
import torch
from torch import nn

from longlag.layers.inputs import Inputs
from longlag.memory.measures.inputs import evaluation_mode, last_step


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


def test_the_last_marked_step_is_the_nearest_to_an_end():
    remaining = Inputs(torch.zeros(2, 4, 1), lengths=torch.tensor([4, 2])).remaining
    marked = torch.tensor([[True, True, False, False], [True, False, True, True]])
    assert last_step(marked, remaining) == -2  # the second sequence's first step
    assert last_step(marked[:1], remaining[:1]) == -3
    padding = torch.tensor([[False, False, True, True]])
    assert last_step(padding, remaining[1:]) is None


def test_each_module_gets_its_own_mode_back_after_a_failure_too():
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5).eval())

    def failing():
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules())
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        failing()
    assert [module.training for module in model.modules()] == [True, True, False]


def test_docstrings():
    assert not doctest.testmod(sys.modules[Inputs.__module__]).failed
