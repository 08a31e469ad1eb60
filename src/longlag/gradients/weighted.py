"""What the places of a batch count for: by their class or label, and by their sequence."""

from dataclasses import dataclass

import torch
from torch import Tensor

from longlag.batch import Batch
from longlag.gradients.losses import WeightedCrossEntropy, WeightedLogistic, due, is_built_in
from longlag.gradients.method import Loss


@dataclass(frozen=True, eq=False)
class OfWeightedSequences:
    r"""A loss of one batch whose sequences have weights.

    .. math:: E = \sum_n w_n c_n E_n \,/\, \sum_n w_n c_n

    with :math:`E_n` the loss of sequence n alone, and :math:`c_n` what the places of it count for
    where an error is due. So each error counts as if its sequence were there w_n times.

    Args:
        loss: a mean over such places, of tensors without their first axis too. One's own is called
            for each sequence, so that it may branch and select as it likes.
        weights: (N,), >= 0.

    Raises:
        ValueError: when called: outputs and targets are not of N sequences.

    >>> from longlag.gradients.losses import mae
    >>> loss = OfWeightedSequences(mae, torch.tensor([1.0, 3.0]))
    >>> loss(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [2.0, float("nan")]]))
    tensor(1.6000)
    """

    loss: Loss
    weights: Tensor

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean over the places where an error is due."""
        count = len(self.weights)
        if output.ndim == 0 or len(output) != count or len(target) != count:
            raise ValueError(
                f"weights: there are {count}, and the model's output has shape "
                f"{tuple(output.shape)}; expected one for each of its sequences, the first axis"
            )
        if is_built_in(self.loss):
            each = torch.vmap(self.loss)(output, target)
        else:
            each = torch.stack([self.loss(y, t) for y, t in zip(output, target, strict=True)])
        places = self.of(target).reshape(count, -1).sum(1).to(each.dtype)
        each = torch.where(places > 0, each, 0.0)  # a mean over no place may be NaN
        return (each * places).sum() / places.sum().clamp(min=torch.finfo(each.dtype).tiny)

    def of(self, target: Tensor) -> Tensor:
        """What each place counts for; 0 where no error is due."""
        weights = self.weights.view(-1, *[1] * (target.ndim - 1))
        return weights * weights_due(self.loss, target)


def loss_of(loss: Loss, batch: Batch[Tensor]) -> Loss:
    """The loss of one batch, whose sequences may have weights."""
    return loss if batch.weights is None else OfWeightedSequences(loss, batch.weights)


def weights_due(loss: Loss, target: Tensor) -> Tensor:
    """What each place counts for in a loss, a mean of such places; 0 where no error is due.

    >>> weights_due(WeightedCrossEntropy((1, 3)), torch.tensor([0, 1, -100])).tolist()
    [1.0, 3.0, 0.0]
    """
    if isinstance(loss, OfWeightedSequences | WeightedLogistic):
        return loss.of(target)
    if isinstance(loss, WeightedCrossEntropy):
        return loss.of(target, torch.tensor(loss.weights, device=target.device))
    return due(target)
