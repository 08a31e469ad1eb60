"""The size of a gradient."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The Euclidean norm of all gradients in `.grad` together, sparse ones too; 0 without any.

    >>> parameter = nn.Parameter(torch.zeros(2))
    >>> parameter.grad = torch.tensor([3.0, 4.0])
    >>> gradient_norm([parameter])
    tensor(5.)
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    dense = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    norms = [torch.linalg.vector_norm(g) for g in dense]
    if not norms:
        return torch.zeros(())
    # Weights may lie on several devices, and some in half precision.
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0]) for norm in norms]))
