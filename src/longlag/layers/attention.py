"""One vector of a sequence: a mean over its steps, weighted by what is in them."""

import math

import torch
from torch import Tensor, nn

from longlag.layers.init import as_generator


def counted(values: Tensor, lengths: Tensor) -> Tensor:
    """Which steps of (..., N, T, C) are before the end of their sequence: (..., N, T, 1)."""
    steps = torch.arange(values.shape[-2], device=values.device)
    return (steps < lengths.unsqueeze(-1)).unsqueeze(-1)


class Attention(nn.Module):
    r"""How much each step counts in the mean over the steps of a sequence.

    .. math:: a_t = \frac{\exp(v \cdot \tanh(A h_t + c))}{\sum_s \exp(v \cdot \tanh(A h_s + c))},
        \qquad r = \sum_t a_t h_t

    over the steps s of the sequence, its padding left out. v begins at 0, so that an untrained one
    is the mean; A is uniform in ±1/sqrt(H), c zero.

    Args:
        size: H, width of h.
        replicas, seed, device, dtype: as for :class:`~longlag.Recurrent`.

    Parameters: weight, A (H, H); bias, c (H,); vector, v (H,); with R replicas R of each.

    Cost: H (H + 3) multiply-adds a step, and as many numbers as h has, kept for the gradient.

    Source: D. Bahdanau, K. Cho and Y. Bengio, Neural machine translation by jointly learning to
    align and translate, ICLR 2015; Z. Yang et al., Hierarchical attention networks for document
    classification, NAACL 2016 (v of the model's own in the place of another state).

    Example:
        >>> attention, h = Attention(2, seed=0), torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
        >>> weights = attention(h)
        >>> weights[..., 0].tolist(), (weights * h).sum(-2).tolist()
        ([[0.5, 0.5]], [[2.0, 0.0]])
    """

    def __init__(
        self,
        size: int,
        *,
        replicas: int | None = None,
        seed: int | torch.Generator | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.size, self.replicas = size, replicas
        front = () if replicas is None else (replicas,)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty((*front, *shape), device=device, dtype=dtype))

        self.weight, self.bias, self.vector = (
            parameter(size, size),
            parameter(size),
            parameter(size),
        )
        self.reset_parameters(seed)

    @torch.no_grad()
    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:
        """Draw the initial parameters anew."""
        if self.weight.is_meta:
            return  # there is nothing to draw into
        bound, generator = 1 / math.sqrt(max(1, self.size)), as_generator(seed, "attention")
        for block in self.weight.view(-1, self.size, self.size):
            drawn = torch.empty(block.shape, dtype=torch.promote_types(block.dtype, torch.float))
            block.copy_(drawn.uniform_(-bound, bound, generator=generator))
        self.bias.zero_()
        self.vector.zero_()

    def forward(self, h: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The weight of each step: h (..., N, T, H) and lengths (..., N) to a (..., N, T, 1).

        They sum to 1; of a sequence without a step all are 0.
        """
        front = () if self.replicas is None else (self.replicas, 1)
        seen = torch.tanh(h @ self.weight.mT.unsqueeze(-3) + self.bias.view(*front, 1, self.size))
        score = seen @ self.vector.view(*front, self.size, 1)
        if lengths is None:
            return score.softmax(-2)
        counts = counted(h, lengths)
        score = score.masked_fill(~counts, torch.finfo(score.dtype).min)
        return score.softmax(-2).masked_fill(~counts, 0.0)
