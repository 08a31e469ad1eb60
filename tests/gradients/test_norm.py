"""gradient_norm: of all gradients together."""

import torch
from torch import nn

from longlag.gradients import norm


def test_all_gradients_count_as_one_vector():
    dense, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    table = nn.Embedding(5, 1, sparse=True)
    dense.grad = torch.tensor([2.0, -3.0])
    table(torch.tensor([1, 1, 4])).sum().backward()  # 2 and 1
    assert table.weight.grad.is_sparse
    found = norm.gradient_norm([dense, unused, table.weight])
    torch.testing.assert_close(found, torch.tensor(18.0).sqrt())
