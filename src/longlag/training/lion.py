"""The optimizer Lion, which torch does not have."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lion(Optimizer):
    r"""Steps of one size in each weight, by the sign of a running mean of gradients.

    .. math::
        u = \beta_1 m + (1 - \beta_1) g,\quad
        \theta \leftarrow (1 - \eta \lambda) \theta - \eta\, \mathrm{sign}(u),\quad
        m \leftarrow \beta_2 m + (1 - \beta_2) g

    Args:
        params: tensors, or parameter groups.
        lr: the learning rate eta > 0: about a tenth of Adam's, as every weight moves by all of it.
        betas: beta_1 and beta_2, each in [0, 1).
        weight_decay: lambda >= 0: about ten times AdamW's, so that eta lambda is the same.

    Raises:
        ValueError: a setting is out of range; of complex weights.

    Cost: one number a weight is kept, where Adam keeps two.

    Source: X. Chen et al. (2023), "Symbolic discovery of optimization algorithms", algorithm 2.

    >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    >>> weight.grad = torch.tensor([0.3, -4.0])
    >>> _ = Lion([weight], lr=0.5).step()
    >>> weight.tolist()
    [0.5, -1.5]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        if not lr > 0:
            raise ValueError(f"lr is {lr}; expected a number > 0")
        if not all(0 <= beta < 1 for beta in betas) or len(betas) != 2:
            raise ValueError(f"betas are {betas}; expected two numbers in [0, 1)")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay is {weight_decay}; expected a number >= 0")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every weight that has a gradient.

        Args:
            closure: gives the loss anew, with gradients, as for any optimizer of torch.

        Returns:
            What the closure gave.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate, decay, (first, second) = group["lr"], group["weight_decay"], group["betas"]
            for weight in group["params"]:
                gradient: Tensor | None = weight.grad
                if gradient is None:
                    continue
                if weight.is_complex():
                    raise ValueError("Lion: got complex weights; expected real ones")
                state = self.state[weight]
                if not state:
                    state["exp_avg"] = torch.zeros_like(weight)
                mean = state["exp_avg"]
                way = mean.mul(first).add_(gradient, alpha=1 - first).sign_()
                weight.mul_(1 - rate * decay).sub_(way.mul_(rate))
                mean.mul_(second).add_(gradient, alpha=1 - second)
        return loss
